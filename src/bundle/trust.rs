//! Keys and signatures, in the formats of [minisign](https://jedisct1.github.io/minisign/): the `minisign` program reads
//! and writes the same files.

use std::{fmt, io::Cursor, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use minisign::{KeyPair, PublicKeyBox, SecretKeyBox, SignatureBox};

/// Longest key or signature file that is read, in bytes: they have a few hundred.
pub const KEY_MAX_BYTES: usize = 16 * 1024;

/// What stands in the first line of a signature, for people.
const UNTRUSTED: &str = "signature of a wharf bundle's contents";
/// What stands in its third line, and is signed too. No time: the same contents are signed in the same words.
const TRUSTED: &str = "wharf-bundle.json";
/// What stands in the first line of a secret key.
const SECRET: &str = "wharf secret key";

/// The bytes that an Ed25519 key of minisign begins with.
const ED25519: &[u8] = b"Ed";

/// How the bytes of a secret key begin that no password protects: Ed25519, no derivation, BLAKE2b.
const UNENCRYPTED: &[u8] = b"Ed\0\0B2";
/// How the base64 of one begins that a password protects: Ed25519, scrypt, BLAKE2b.
const ENCRYPTED: &str = "RWRTY0Iy";
/// Bytes of a secret key, and of the checksum at their end.
const SECRET_BYTES: usize = 158;
const CHECKSUM_BYTES: usize = 32;
/// Bytes of a signature, and of one behind its algorithm and the number of its key.
const SIGNATURE_BYTES: usize = 64;
const KEYED_SIGNATURE_BYTES: usize = 2 + 8 + SIGNATURE_BYTES;

/// A key that signs.
#[derive(Clone)]
pub struct SecretKey(minisign::SecretKey);

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(minisign::PublicKey);

/// Why a text is no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No public key of minisign.
    #[error("not a public key: write the line that begins with RW, or the file that has it")]
    Public,
    /// No secret key of minisign.
    #[error("not a secret key as wharf key new and minisign -G write it")]
    Secret,
    /// Encrypted, and no password was given.
    #[error("the secret key is encrypted, and needs its password")]
    Encrypted,
    /// Another password, or a damaged file.
    #[error("the password is not that of this secret key, or the file is damaged")]
    Password,
    /// The system has no random numbers, or signing failed.
    #[error("no key could be made or used: the system gives no random numbers")]
    Random,
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signature file of minisign, or one that an old minisign made without hashing first.
    #[error("the signature is not one that wharf or minisign -S writes")]
    Form,
    /// Made by none of the keys.
    #[error("the signature is by key {0}, which is none of those trusted here")]
    Unknown(String),
    /// By a known key, of something else.
    #[error("the signature by key {0} is not of these contents: they were changed, or it was")]
    Wrong(String),
}

impl SecretKey {
    /// Makes a key: the text of its file, encrypted if there is a `password`, and the public key that belongs to it.
    ///
    /// With a password this takes a second and about 1 GiB of memory, as minisign has it.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(password: Option<&str>) -> Result<(String, PublicKey), KeyError> {
        let pair = match password {
            Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
            None => KeyPair::generate_unencrypted_keypair(),
        };
        let KeyPair { pk, sk } = pair.map_err(|_| KeyError::Random)?;
        let text = sk.to_box(Some(SECRET)).map_err(|_| KeyError::Random)?;
        Ok((text.into_string(), PublicKey(pk)))
    }

    /// Reads the text of a secret key's file.
    ///
    /// # Errors
    /// [`KeyError::Encrypted`] when it needs a password and there is none, and when it is no secret key.
    pub fn parse(text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        if text.len() > KEY_MAX_BYTES {
            return Err(KeyError::Secret);
        }
        let boxed = || SecretKeyBox::from_string(text).map_err(|_| KeyError::Secret);
        if let Ok(key) = boxed()?.into_unencrypted_secret_key() {
            return Self::checked(key);
        }
        let line = text.lines().nth(1).unwrap_or_default().trim();
        if let Some(key) = without_checksum(line) {
            return Self::checked(key);
        }
        // What is neither is not decrypted: the wrong file is told from the wrong password.
        if !line.starts_with(ENCRYPTED) {
            return Err(KeyError::Secret);
        }
        let password = password.ok_or(KeyError::Encrypted)?;
        let key = boxed()?.into_secret_key(Some(password.to_owned()));
        Self::checked(key.map_err(|_| KeyError::Password)?)
    }

    /// The key, if it is one of Ed25519 and its two halves belong together.
    fn checked(key: minisign::SecretKey) -> Result<Self, KeyError> {
        let public = minisign::PublicKey::from_secret_key(&key).map_err(|_| KeyError::Secret)?;
        let signed = minisign::sign(Some(&public), &key, Cursor::new([]), Some(""), Some(""));
        let is_whole = signed.is_ok() && key.to_bytes().starts_with(ED25519);
        if is_whole { Ok(Self(key)) } else { Err(KeyError::Secret) }
    }

    /// The public key that belongs to it.
    ///
    /// # Errors
    /// When the secret key does not hold it.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        minisign::PublicKey::from_secret_key(&self.0).map(PublicKey).map_err(|_| KeyError::Secret)
    }

    /// The text of the signature file of `bytes`. Of the same length each time, but not of the same bytes: signing
    /// takes in random numbers, so that a fault of the machine does not give the key away.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign(&self, bytes: &[u8]) -> Result<String, KeyError> {
        let signed =
            minisign::sign(None, &self.0, Cursor::new(bytes), Some(TRUSTED), Some(UNTRUSTED));
        Ok(signed.map_err(|_| KeyError::Random)?.into_string())
    }
}

impl fmt::Debug for SecretKey {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl PublicKey {
    /// The key's number, which signatures name: 16 hex digits, as minisign prints them.
    pub fn id(&self) -> String {
        key_id(self.0.keynum())
    }

    /// The text of its file.
    pub fn to_file(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{self}\n", self.id())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a public key's file, or the line of it that matters.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_MAX_BYTES {
            return Err(KeyError::Public);
        }
        let text = text.trim();
        let key = match text.lines().count() {
            1 => minisign::PublicKey::from_base64(text),
            _ => PublicKeyBox::from_string(text).and_then(PublicKeyBox::into_public_key),
        };
        let key = key.map_err(|_| KeyError::Public)?;
        if key.to_bytes().starts_with(ED25519) { Ok(Self(key)) } else { Err(KeyError::Public) }
    }
}

impl fmt::Display for PublicKey {
    /// The one line that says it all, `RW…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which of `keys` made `signature`, the text of a signature file, of `bytes`.
///
/// # Errors
/// When none of them did.
pub fn verify<'k>(
    keys: &'k [PublicKey],
    bytes: &[u8],
    signature: &str,
) -> Result<&'k PublicKey, SignatureError> {
    if signature.len() > KEY_MAX_BYTES {
        return Err(SignatureError::Form);
    }
    if !is_whole(signature) {
        return Err(SignatureError::Form);
    }
    let signature = SignatureBox::from_string(signature).map_err(|_| SignatureError::Form)?;
    if !signature.is_prehashed() {
        return Err(SignatureError::Form);
    }
    let by = signature.keynum();
    let mut error = SignatureError::Unknown(key_id(by));
    // Two keys may bear the same number: whoever makes a key chooses it.
    for key in keys.iter().filter(|key| key.0.keynum() == by) {
        match minisign::verify(&key.0, &signature, Cursor::new(bytes), true, false, false) {
            Ok(()) => return Ok(key),
            Err(_) => error = SignatureError::Wrong(key_id(by)),
        }
    }
    Err(error)
}

/// Whether both signatures in the text of a signature file have their length: minisign reads the second beyond its end, and
/// heeds nothing behind either.
fn is_whole(signature: &str) -> bool {
    let bytes = |line| {
        let line: &str = signature.lines().nth(line)?;
        BASE64_STANDARD.decode(line.trim()).ok().map(|bytes| bytes.len())
    };
    (bytes(1), bytes(3)) == (Some(KEYED_SIGNATURE_BYTES), Some(SIGNATURE_BYTES))
}

fn key_id(number: &[u8]) -> String {
    number.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// A key that `minisign -W` wrote: not encrypted, with zeros where there would be a checksum.
fn without_checksum(line: &str) -> Option<minisign::SecretKey> {
    let bytes = BASE64_STANDARD.decode(line).ok()?;
    let checksum = bytes.get(SECRET_BYTES - CHECKSUM_BYTES..SECRET_BYTES)?;
    let is_one = bytes.len() == SECRET_BYTES
        && bytes.starts_with(UNENCRYPTED)
        && checksum.iter().all(|byte| *byte == 0);
    if is_one { minisign::SecretKey::from_bytes(&bytes).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key pair that nobody uses, and a signature of `hello\n`, as minisign 0.11 makes them.
    const PUBLIC: &str = "RWTPbYBtZ6RaEB89bqtoyJMm2uh+Rtpg5Yxhhm8WWmUrm0ye2byrqcPm";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUTPbYBtZ6RaEANVldN6I14hW9HkltE8uCNDiuw8qcrobrt3VyKNEhzO4dTKGf0lW1ZCmm9gQHE5ey0YY1qLXO9sOQbTw1K3iwQ=\n\
        trusted comment: test\n\
        ko2Gcx9HCW5DZLlABh7Boty0UxoDy7kv5kRW5XrfuJSlU5FNyf6vmIiefmTs1DIbjorQZqXrt3mc19l/eP4pCA==\n";
    const UNPROTECTED: &str = "untrusted comment: minisign encrypted secret key\n\
        RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAz22AbWekWhBma/RdPQAdE2WuZhGrYe8zXmlcjGhQ0/tkUc45grNRix89bqtoyJMm2uh+Rtpg5Yxhhm8WWmUrm0ye2byrqcPmAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    fn pair() -> (SecretKey, PublicKey) {
        let (text, public) = SecretKey::generate(None).expect("random numbers");
        (SecretKey::parse(&text, None).expect("a key"), public)
    }

    #[test]
    fn who_has_the_public_key_knows_what_the_secret_one_signed() {
        let ((secret, public), (other, stranger)) = (pair(), pair());
        assert_eq!(secret.public(), Ok(public.clone()));
        let signature = secret.sign(b"contents").expect("signed");
        let keys = [stranger, public.clone()];
        assert_eq!(verify(&keys, b"contents", &signature), Ok(&public));
        let wrong = Err(SignatureError::Wrong(public.id()));
        assert_eq!(verify(&keys, b"contentz", &signature), wrong);
        let unknown = Err(SignatureError::Unknown(public.id()));
        assert_eq!(verify(&keys[..1], b"contents", &signature), unknown);
        assert_eq!(verify(&[], b"contents", &signature), unknown);
        let theirs = other.sign(b"contents").expect("signed");
        assert_eq!(theirs.len(), signature.len());
        // Every byte of what is signed counts, that of the trusted comment too.
        let forged = signature.replace(TRUSTED, "wharf-bundle.jsox");
        assert_eq!(verify(&keys, b"contents", &forged), wrong);
        for (cut, text) in [signature.lines().next(), None].iter().enumerate() {
            let text = text.unwrap_or("");
            assert_eq!(verify(&keys, b"contents", text), Err(SignatureError::Form), "{cut}");
        }
    }

    #[test]
    fn a_signature_that_is_cut_short_or_goes_on_is_none() {
        let keys: [PublicKey; 1] = [PUBLIC.parse().expect("a key")];
        for line in [1, 3] {
            let mut lines: Vec<String> = SIGNATURE.lines().map(ToOwned::to_owned).collect();
            let whole = BASE64_STANDARD.decode(&lines[line]).expect("base64");
            for other in [&whole[..whole.len() - 1], &[&whole[..], &[0]].concat(), &[]] {
                lines[line] = BASE64_STANDARD.encode(other);
                let refused = verify(&keys, b"hello\n", &lines.join("\n"));
                assert_eq!(refused, Err(SignatureError::Form), "{line}: {}", other.len());
            }
        }
    }

    #[test]
    fn what_the_minisign_program_signed_is_accepted() {
        let public: PublicKey = PUBLIC.parse().expect("a key");
        assert_eq!(verify(std::slice::from_ref(&public), b"hello\n", SIGNATURE), Ok(&public));
        assert!(verify(&[public], b"hello", SIGNATURE).is_err());
    }

    #[test]
    fn what_the_minisign_program_keeps_without_a_password_signs() {
        let public: PublicKey = PUBLIC.parse().expect("a key");
        let secret = SecretKey::parse(UNPROTECTED, None).expect("a key");
        assert_eq!(secret.public(), Ok(public.clone()));
        let signature = secret.sign(b"contents").expect("signed");
        assert_eq!(verify(std::slice::from_ref(&public), b"contents", &signature), Ok(&public));
        // It has no checksum, but two halves.
        let damaged = UNPROTECTED.replace("RdPQAdE2", "RdPQAdE3");
        assert_ne!(damaged, UNPROTECTED);
        assert!(matches!(SecretKey::parse(&damaged, None), Err(KeyError::Secret)));
    }

    #[test]
    fn a_public_key_is_read_from_its_file_and_from_its_line() {
        let (_, public) = pair();
        assert_eq!(public.to_file().parse(), Ok(public.clone()));
        assert_eq!(public.to_string().parse(), Ok(public.clone()));
        assert!(public.to_string().starts_with("RW"));
        assert_eq!(public.id().len(), 16);
        let line = public.to_string();
        for bad in ["", "RW", &line[1..], &line.replace("RW", "XX"), "a\nb\n", &"x".repeat(99_999)]
        {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Public), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_key_is_told_from_what_is_none() {
        let (text, public) = SecretKey::generate(None).expect("random numbers");
        assert!(SecretKey::parse(&text, Some("a password too many")).is_ok());
        let broken = text.replace("RWQAAEIy", "RWQAAEIz");
        assert_ne!(broken, text);
        let (file, half) = (public.to_file(), text[..text.len() / 2].to_owned());
        for bad in ["", "x", &file, &half, &"x\n".repeat(99_999)] {
            assert!(matches!(SecretKey::parse(bad, None), Err(KeyError::Secret)), "{bad:?}");
        }
        let shown = format!("{:?}", SecretKey::parse(&text, None).expect("a key"));
        assert_eq!(shown, "SecretKey");
    }
}
