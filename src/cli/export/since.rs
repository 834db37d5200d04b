//! What a site has already: an earlier bundle, its receipt, or an inventory.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use crate::{
    bundle::{CONTENTS, CONTENTS_MAX_BYTES, Contents},
    cli::Failure,
    oci::Digest,
};

/// How compressed archives begin ([RFC 8878 §3.1.1](https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1)).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Members of an archive that are looked at: what is looked for stands at its beginning.
const MEMBERS_MAX: usize = 6;

/// The most memory that a compressed archive may ask for, as a power of two: 128 MiB, what zstd itself allows.
const WINDOW_LOG_MAX: u32 = 27;

/// The blobs that a site has which took in what the file `path` tells of.
///
/// # Errors
/// When it is none of the three: nothing may be left out then.
pub(super) fn read(path: &Path) -> Result<HashSet<Digest>, Failure> {
    let name = path.display();
    let wrong = |why: String| Failure::Usage(format!("--since {name}: {why}"));
    let unreadable = |error: io::Error| wrong(error.to_string());
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let begin = file.fill_buf().map_err(unreadable)?;
    let is_archive = begin.starts_with(&ZSTD) || begin.get(257..262) == Some(b"ustar");
    let document = if is_archive {
        let found = member_of(file, CONTENTS, CONTENTS_MAX_BYTES).map_err(unreadable)?;
        let missing = || wrong("an archive, but none that wharf export wrote".to_owned());
        found.ok_or_else(missing)?
    } else {
        let mut bytes = Vec::new();
        let most = CONTENTS_MAX_BYTES as u64 + 1;
        file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
        bytes
    };
    if document.trim_ascii_start().starts_with(b"{") {
        let contents = Contents::parse(&document).map_err(|error| wrong(error.to_string()))?;
        let carried = contents.blobs.iter().map(|blob| blob.digest);
        // Who took it in had these before.
        return Ok(carried.chain(contents.base.iter().map(|base| base.digest)).collect());
    }
    inventory(&document).map_err(wrong)
}

/// The member `name` of the archive at `path`, of at most `most` bytes, if it stands at its beginning.
pub(super) fn member(path: &Path, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    member_of(BufReader::new(File::open(path)?), name, most)
}

fn member_of(mut file: impl BufRead, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    if file.fill_buf()?.starts_with(&ZSTD) {
        let mut inside = zstd::Decoder::with_buffer(file)?;
        inside.window_log_max(WINDOW_LOG_MAX)?;
        return find(inside, name, most);
    }
    find(file, name, most)
}

fn find(archive: impl Read, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    for member in archive.entries()?.take(MEMBERS_MAX) {
        let mut member = member?;
        if *member.path_bytes() == *name.as_bytes() {
            if member.size() > most as u64 {
                return Err(io::Error::other(format!("its {name} is too long")));
            }
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Reads lines of a digest and a length, as `wharf ls --digests` prints them.
fn inventory(bytes: &[u8]) -> Result<HashSet<Digest>, String> {
    if bytes.len() > CONTENTS_MAX_BYTES {
        return Err("longer than 64 MiB: is this an inventory?".to_owned());
    }
    let what = "neither a bundle, nor a receipt, nor what wharf ls --digests prints";
    let text = std::str::from_utf8(bytes).map_err(|_| what.to_owned())?;
    let mut have = HashSet::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let digest = words.next().and_then(|word| word.parse().ok());
        let size = words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(digest), Some(_), None) = (digest, size, words.next()) else {
            return Err(format!("line {number} is not \"DIGEST SIZE\": this is {what}"));
        };
        have.insert(digest);
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_read_line_by_line() {
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::sha256(bytes));
        let read = inventory(format!("{a} 1\r\n\n{b} 20\n").as_bytes());
        assert_eq!(read, Ok(HashSet::from([a, b])));
        assert_eq!(inventory(b""), Ok(HashSet::new()));
        for wrong in [format!("{a}\n"), format!("{a} x"), format!("{a} 1 2"), "alpine 3".into()] {
            assert!(
                inventory(wrong.as_bytes()).is_err_and(|why| why.contains("line 1")),
                "{wrong}"
            );
        }
        assert!(inventory(b"\xff\xfe").is_err());
    }
}
