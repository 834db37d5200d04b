//! Keys that signatures are checked with.

use std::{fmt, str::FromStr};

use super::{Item, in_quotes, unwrapped};
use crate::bundle::PublicKey;

/// A public key of minisign, as the one line that says it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct TrustedKey(pub(in crate::config) PublicKey);

impl Item for TrustedKey {
    const LIST: &'static str = "a list of public keys, such as [\"RW…\"]";
}

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("\"{text}\" is {error}"))
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

in_quotes! {
    TrustedKey: "a public key in quotes, the line of its file that begins with RW";
}

unwrapped! {
    TrustedKey => PublicKey;
}
