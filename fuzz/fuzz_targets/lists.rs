//! Tag lists as registries send them, and indexes of referrers as they are filtered. The first byte is a number of tags; up to
//! the end of its line stands a tag, or a type of artifacts; behind it, the document.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wharf::oci::{ImageIndex, Manifest, MediaType, Tag, media_type};

static INDEX: LazyLock<MediaType> =
    LazyLock::new(|| media_type::OCI_INDEX.parse().expect("a media type"));

/// The page is what lies behind `last`, in the registry's order, and no more of it than was asked for.
fn tags(document: &[u8], known: Option<&Value>, n: u32, last: Option<&str>) {
    let Some((tags, is_cut)) = wharf::upstream::fuzzing::tags(document, n, last) else { return };
    assert!(tags.len() <= n as usize);
    let Some(Value::Object(known)) = known else { return };
    let all = known.get("tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let behind =
        all.iter().rposition(|tag| tag.as_str() == last && last.is_some()).map_or(0, |at| at + 1);
    let rest: Vec<Tag> =
        all[behind..].iter().filter_map(|tag| tag.as_str()?.parse().ok()).collect();
    assert_eq!(tags, rest[..rest.len().min(n as usize)]);
    assert_eq!(is_cut, rest.len() > n as usize);
}

fn index(document: &[u8]) -> Option<ImageIndex> {
    match Manifest::parse(&INDEX, document) {
        Ok(Manifest::Index(index)) => Some(index),
        _ => None,
    }
}

/// What is left is shorter, of that type alone, of what was there, and to clients as much of an index as that was.
fn referrers(document: &[u8], known: Option<&Value>, artifact_type: &str) {
    let Some(left) = wharf::server::fuzzing::referrers(document, artifact_type) else { return };
    assert!(left.len() <= document.len());
    assert_eq!(wharf::server::fuzzing::referrers(&left, artifact_type).as_ref(), Some(&left));
    if let Some(before) = index(document) {
        let after = index(&left).expect("an index still");
        let mut before = before.entries.iter();
        assert!(
            after.entries.iter().all(|entry| before.any(|other| other == entry)),
            "some of them, in their order"
        );
    }
    let Some(Value::Object(known)) = known else { return };
    let left: Value = serde_json::from_slice(&left).expect("JSON still");
    for (key, value) in known {
        let Some(before) = value.as_array().filter(|_| key == "manifests") else {
            assert_eq!(left.get(key), Some(value));
            continue;
        };
        let mut before = before.iter();
        for entry in left[key].as_array().expect("a list still") {
            assert_eq!(entry["artifactType"], artifact_type);
            assert!(before.any(|other| other == entry), "some of them, in their order");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((n, rest)) = input.split_first() else { return };
    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (word, document) = (&rest[..line], rest.get(line + 1..).unwrap_or_default());
    let Ok(word) = std::str::from_utf8(word) else { return };
    // What it is to another reader, unless that one refuses it.
    let known: Option<Value> = serde_json::from_slice(document).ok();
    tags(document, known.as_ref(), u32::from(*n), Some(word).filter(|word| !word.is_empty()));
    referrers(document, known.as_ref(), word);
});
