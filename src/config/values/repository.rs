//! Which repositories are meant.

use std::{fmt, str::FromStr};

use super::{Item, in_quotes, unwrapped};
use crate::upstream::RepositoryGlob;

/// A pattern of repository names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Pattern(pub(in crate::config) RepositoryGlob);

impl Item for Pattern {
    const LIST: &'static str = "a list of repositories, such as [\"library/*\"]";
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

in_quotes! {
    Pattern: "a repository in quotes, such as \"library/*\"";
}

unwrapped! {
    Pattern => RepositoryGlob;
}
