//! Public keys, secret keys and signatures, in the formats of minisign.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharf::bundle::{PublicKey, SecretKey, SignatureError, verify};

/// What is signed by `seeds/signature/signature`, and a key that nobody uses.
const SIGNED: &[u8] = b"hello\n";
const SIGNATURE: &str = include_str!("../seeds/signature/signature");
static KEYS: LazyLock<[PublicKey; 1]> =
    LazyLock::new(|| [include_str!("../seeds/signature/public").parse().expect("a key")]);

/// A key is written the same way as a line and as a file.
fn public(text: &str) {
    let Ok(key) = text.parse::<PublicKey>() else { return };
    assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
    assert_eq!(key.to_file().parse(), Ok(key));
}

/// A secret key that is taken signs, and it is its own signature.
fn secret(text: &str) {
    let Ok(key) = SecretKey::parse(text, None) else { return };
    let public = [key.public().expect("both halves")];
    let signature = key.sign(SIGNED).expect("random numbers");
    assert_eq!(verify(&public, SIGNED, &signature), Ok(&public[0]));
}

/// What is signed: the lines without what is for people, and without the spaces around each and around the comment.
fn what_counts(signature: &str) -> Vec<&str> {
    let words = |line| str::trim(str::strip_prefix(line, "trusted comment:").unwrap_or(line));
    signature.lines().skip(1).take(3).map(words).collect()
}

fuzz_target!(|text: &str| {
    public(text);
    secret(text);
    // Without keys, it is told whose a signature is, if it is one.
    match verify(&[], SIGNED, text) {
        Err(SignatureError::Form) => {
            assert_eq!(verify(&*KEYS, SIGNED, text), Err(SignatureError::Form));
        }
        Err(SignatureError::Unknown(id)) => {
            assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let is_good = verify(&*KEYS, SIGNED, text).is_ok();
            assert_eq!(is_good, what_counts(text) == what_counts(SIGNATURE), "of that text alone");
        }
        other => panic!("{other:?}"),
    }
});
