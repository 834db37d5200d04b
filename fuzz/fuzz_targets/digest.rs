//! Digests: one way to write each, and nothing in it but a path may hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::oci::Digest;

fuzz_target!(|text: &str| {
    let Ok(digest) = text.parse::<Digest>() else { return };
    assert_eq!(digest.to_string(), text);
    assert!(digest.encoded().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    assert_eq!(Digest::from_bytes(digest.as_bytes()), Some(digest));
});
