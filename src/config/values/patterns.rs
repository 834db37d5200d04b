//! Patterns: of images, and of those who pull them.

use std::{fmt, str::FromStr};

use super::{Item, in_quotes, unwrapped};
use crate::oci::Glob;

/// A pattern of `<registry>/<repository>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct ImageGlob(pub(in crate::config) Glob);

/// A pattern of the names of users, or of the names in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct NameGlob(pub(in crate::config) Glob);

impl Item for ImageGlob {
    const LIST: &'static str =
        "a list of registries and repositories, such as [\"docker.io/library/*\"]";
}

impl FromStr for ImageGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_names =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*?[]!:".contains(c);
        let has_both =
            text == "**" || text.split_once('/').is_some_and(|(_, rest)| !rest.is_empty());
        // Behind the registry a colon would begin a tag.
        let has_tag = text.split_once('/').is_some_and(|(_, rest)| rest.contains(':'));
        if !has_both || has_tag || !text.chars().all(of_names) {
            return Err(format!(
                "\"{text}\" matches no repository: write a registry and a name in lower case without a tag, such as \
                 \"docker.io/library/nginx\", \"docker.io/library/*\", \"ghcr.io/team/**\", or \"**\" for all"
            ));
        }
        let pattern = text.parse().map(Self);
        pattern.map_err(|problem| format!("\"{text}\" is not a pattern: {problem}"))
    }
}

impl FromStr for NameGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err(
                "an empty name is nobody's: write one, or a pattern such as \"pi-*\"".to_owned()
            );
        }
        let pattern = text.parse().map(Self);
        pattern.map_err(|problem| format!("\"{text}\" is not a pattern: {problem}"))
    }
}

impl fmt::Display for ImageGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

in_quotes! {
    ImageGlob: "a registry and a repository in quotes, such as \"docker.io/library/*\"";
    NameGlob: "a name in quotes, such as \"pi-7\" or \"pi-*\"";
}

unwrapped! {
    ImageGlob => Glob;
    NameGlob => Glob;
}
