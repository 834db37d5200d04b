//! Which repositories of a registry are served.

use std::{fmt, str::FromStr};

use crate::oci::{Glob, RepositoryName};

/// `allow` and `deny` of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryRules {
    /// What may be served; empty: everything.
    pub allow: Vec<RepositoryGlob>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<RepositoryGlob>,
}

/// A pattern of repository names, such as `library/*` or `team/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryGlob(Glob);

impl RepositoryRules {
    /// Whether `name` may be served, from the cache as well.
    pub fn permit(&self, name: &RepositoryName) -> bool {
        let named = |globs: &[RepositoryGlob]| globs.iter().any(|pattern| pattern.matches(name));
        (self.allow.is_empty() || named(&self.allow)) && !named(&self.deny)
    }
}

impl RepositoryGlob {
    fn matches(&self, name: &RepositoryName) -> bool {
        self.0.matches(name.as_str())
    }

    /// Whether it can match a name of several components.
    pub fn spans_components(&self) -> bool {
        self.0.as_str().contains('/') || self.0.as_str().contains("**")
    }
}

impl FromStr for RepositoryGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_names =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*?[]!".contains(c);
        if text.is_empty() || !text.chars().all(of_names) {
            return Err(format!(
                "\"{text}\" matches no repository: write a name in lower case without its registry, such as \
                 \"library/nginx\", \"library/*\", or \"team/**\""
            ));
        }
        let pattern = text.parse().map(Self);
        pattern.map_err(|problem| format!("\"{text}\" is not a pattern: {problem}"))
    }
}

impl fmt::Display for RepositoryGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(list: &[&str]) -> Vec<RepositoryGlob> {
        list.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn says_what_is_served() {
        let none: &[&str] = &[];
        for (allow, deny, served, refused) in [
            (none, none, &["a", "library/a", "a/b/c"][..], &[][..]),
            (&["library/*"], none, &["library/a"], &["a", "library/a/b", "xlibrary/a"]),
            (&["team/**"], none, &["team/a", "team/a/b"], &["team", "other/a"]),
            (&["**"], &["team/secret*"], &["a", "team/a"], &["team/secret", "team/secrets"]),
            (none, &["team/**"], &["a", "other/b"], &["team/a", "team/a/b"]),
            (&["a/b", "c?"], &["cx"], &["a/b", "cy"], &["a", "a/bc", "cx", "c"]),
        ] {
            let rules = RepositoryRules { allow: globs(allow), deny: globs(deny) };
            let permit = |name: &&str| rules.permit(&name.parse().expect("a name"));
            for name in served {
                assert!(permit(name), "{name} by {rules:?}");
            }
            for name in refused {
                assert!(!permit(name), "{name} by {rules:?}");
            }
        }
    }

    #[test]
    fn refuses_what_can_match_nothing() {
        for text in ["", "Team/*", "docker.io:5000/a", "a b", "a\\b", "a/***", "[a"] {
            let error = text.parse::<RepositoryGlob>().expect_err(text);
            assert!(error.starts_with(&format!("\"{text}\"")), "{error}");
        }
    }
}
