//! Patterns of names: the one language of every key that takes them.

use std::{fmt, str::FromStr};

use glob::{MatchOptions, Pattern};

/// `*` and `?` stay within one component of a name, `**` does not.
const COMPONENTS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A pattern of names whose components are parted by `/`. `*` and `?` stand for characters of one component, `[…]` for one of
/// those in it, and `**`, as a whole component, for any number of components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Pattern);

impl Glob {
    /// Whether all of `name` is one that is meant.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches_with(name, COMPONENTS)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Glob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Pattern::new(text).map(Self).map_err(|error| error.msg)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
