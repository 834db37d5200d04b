//! [`Digest`]: the name of a blob, and [`Hasher`], which finds it.

use std::{fmt, hash::Hash, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// A content digest in a registered algorithm that wharf can verify
/// ([image-spec, "Digests"](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests)).
///
/// Always well formed: lower-case hex of the algorithm's exact length. An algorithm that cannot be
/// verified here (`blake3`, `md5`, …) does not parse, so an unverifiable blob is never asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(Bytes);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bytes {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Bytes of the longest digest.
const LONGEST_BYTES: usize = 64;

/// A digest algorithm of the image specification that wharf verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

/// Why a string is not a [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:encoded` form.
    #[error("a digest is written algorithm:hex, such as sha256:0123…")]
    Form,
    /// An algorithm other than sha256 and sha512.
    #[error("only sha256 and sha512 digests can be verified")]
    Algorithm,
    /// Not the algorithm's number of lower-case hex digits.
    #[error("the digest is not {0} lower-case hex digits")]
    Encoded(usize),
}

impl Digest {
    /// Bytes of the longest one's text.
    pub const LONGEST_TEXT: usize = "sha512:".len() + 2 * LONGEST_BYTES;

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The digest of `bytes` in `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm this digest was made with.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Bytes::Sha256(_) => Algorithm::Sha256,
            Bytes::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The part behind the colon: lower-case hex.
    pub fn encoded(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// Puts `algorithm:hex` behind what `text` has.
    pub fn append_to(&self, text: &mut String) {
        let mut digits = [0; 2 * LONGEST_BYTES];
        text.push_str(self.algorithm().as_str());
        text.push(':');
        text.push_str(self.hex(&mut digits));
    }

    fn hex<'a>(&self, digits: &'a mut [u8; 2 * LONGEST_BYTES]) -> &'a str {
        let digits = &mut digits[..2 * self.as_bytes().len()];
        hex::encode_to_slice(self.as_bytes(), digits).expect("as many digits as there is room for");
        std::str::from_utf8(digits).expect("hex digits are ASCII")
    }

    /// The raw digest, 32 or 64 bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Sha256(bytes) => bytes,
            Bytes::Sha512(bytes) => bytes,
        }
    }

    /// The digest whose raw bytes these are; `None` if the length fits no algorithm.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(bytes) = bytes.try_into() {
            return Some(Self(Bytes::Sha256(bytes)));
        }
        bytes.try_into().ok().map(|bytes| Self(Bytes::Sha512(bytes)))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let wrong = DigestError::Encoded(algorithm.encoded_len());
        if !encoded.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong);
        }
        let mut bytes = [0; LONGEST_BYTES];
        let bytes = bytes.get_mut(..encoded.len() / 2).ok_or(wrong)?;
        hex::decode_to_slice(encoded, bytes).map_err(|_| wrong)?;
        Self::from_bytes(bytes).filter(|digest| digest.algorithm() == algorithm).ok_or(wrong)
    }
}

impl Hash for Digest {
    /// In one piece: digests are most of what is looked up. How long they are tells their algorithms apart.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Printed several times for each request: neither allocated nor made digit by digit.
        let mut digits = [0; 2 * LONGEST_BYTES];
        f.write_str(self.algorithm().as_str())?;
        f.write_str(":")?;
        f.write_str(self.hex(&mut digits))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Algorithm {
    /// Every algorithm, in the order in which directories are listed.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The identifier before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits follow the colon.
    pub const fn encoded_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            "" => Err(DigestError::Form),
            _ => Err(DigestError::Algorithm),
        }
    }
}

/// Finds the digest of bytes that pass by. A clone goes on from the same point.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(sha2::Sha512::new())),
        })
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Bytes::Sha256(state.finalize().into()),
            State::Sha512(state) => Bytes::Sha512(state.finalize().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_the_published_digests_of_nothing() {
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(
            Digest::of(Algorithm::Sha512, b"").to_string().starts_with("sha512:cf83e1357eefb8bd")
        );
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let hex = "0".repeat(64);
        for (text, why) in [
            (String::new(), DigestError::Form),
            ("sha256".into(), DigestError::Form),
            (format!(":{hex}"), DigestError::Form),
            (format!("md5:{hex}"), DigestError::Algorithm),
            (format!("SHA256:{hex}"), DigestError::Algorithm),
            (format!("sha256:{}", "0".repeat(63)), DigestError::Encoded(64)),
            (format!("sha256:{hex}0"), DigestError::Encoded(64)),
            (format!("sha256:{}", "A".repeat(64)), DigestError::Encoded(64)),
            (format!("sha256:{}", "g".repeat(64)), DigestError::Encoded(64)),
            (format!("sha256:{}", "0".repeat(128)), DigestError::Encoded(64)),
            (format!("sha512:{hex}"), DigestError::Encoded(128)),
            (format!("sha256:../../../{}", "0".repeat(55)), DigestError::Encoded(64)),
            (format!("sha256:{hex} "), DigestError::Encoded(64)),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_parsed(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 32),
            proptest::collection::vec(any::<u8>(), 64),
        ]) {
            let digest = Digest::from_bytes(&bytes).expect("32 or 64 bytes");
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn never_panics_on_any_text(text in ".{0,200}") {
            let _ = text.parse::<Digest>();
        }

        #[test]
        fn hashes_the_same_in_any_pieces(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0usize..2000,
        ) {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(a);
            hasher.clone().update(b"a clone changes nothing here");
            hasher.update(b);
            prop_assert_eq!(hasher.finish(), Digest::sha256(&bytes));
        }
    }
}
