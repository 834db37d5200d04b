//! Whether registries are asked.

use std::{fmt, str::FromStr};

use super::{in_quotes, unwrapped};
use crate::upstream::Mode;

/// `[server] mode`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct ModeWord(pub(in crate::config) Mode);

impl FromStr for ModeWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Mode::ALL.into_iter().find(|mode| mode.as_str() == text).map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is not a mode: write \"auto\", \"online\" (ask for each tag that is due, even while nobody \
                 answers) or \"offline\" (never ask anybody)"
            )
        })
    }
}

impl fmt::Display for ModeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

in_quotes! {
    ModeWord: "\"auto\", \"online\" or \"offline\"";
}

unwrapped! {
    ModeWord => Mode;
}
