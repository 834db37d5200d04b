//! What fuzz targets call, which is nobody else's to see.

use super::{
    catalog,
    checkpoints::{self, Lines},
    journal,
    links::Listed,
    volumes,
};

/// The line of the journal that is written of the fact that a line says; `None`: it says none.
pub fn journal(line: &[u8]) -> Option<Vec<u8>> {
    journal::read_line(line).as_ref().map(journal::write_line)
}

/// A line of the journal with this text, and the sum that belongs to it.
pub fn journal_line(text: &[u8]) -> Vec<u8> {
    [journal::checksum(text).as_bytes(), b" ", text].concat()
}

/// The `index.json` that is written of what one says, if no manifest that it names is an index; `None`: it is damaged.
///
/// What tags, pins and lists of referrers it tells of is told by that one, too.
pub fn index_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let (facts, generation) = catalog::parse(bytes)?;
    let text = catalog::text(&facts, &catalog::tagged(&facts), generation);
    let (again, _) = catalog::parse(&text).expect("whole");
    assert_eq!(again.tags, facts.tags);
    assert_eq!(again.pinned, facts.pinned);
    assert_eq!(again.referrers, facts.referrers);
    assert!(again.manifests.keys().eq(facts.manifests.keys()));
    Some(text)
}

/// The lines that vouch for an unfinished download, as they are written; and how many bytes of `bytes` they take.
pub fn checkpoints(bytes: &[u8]) -> (Vec<u8>, u64) {
    let Lines { origin, checkpoints } = Lines::parse(bytes);
    let (mut text, mut end) = (Vec::new(), 0);
    if let Some((origin, behind)) = origin {
        text.extend(checkpoints::line(&origin));
        end = behind;
    }
    for (checkpoint, behind) in checkpoints {
        assert!(behind > end, "one behind the other");
        text.extend(checkpoints::line(&checkpoint));
        end = behind;
    }
    (text, end)
}

/// The record of how an index lists a manifest, as it is written.
pub fn listed(bytes: &[u8]) -> Option<Vec<u8>> {
    Listed::from_bytes(bytes).map(|listed| listed.to_bytes())
}

/// The state of a set of volumes, as it is written.
pub fn volumes(bytes: &[u8]) -> Option<Vec<u8>> {
    volumes::fuzzing::volumes(bytes)
}
