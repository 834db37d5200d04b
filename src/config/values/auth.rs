//! Whose account a registry sees.

use std::{fmt, str::FromStr};

use super::in_quotes;

/// `[[upstream]] auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum AuthWord {
    /// wharf's own account, or nobody's.
    Wharf,
    /// Each client's own.
    Client,
}

impl FromStr for AuthWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wharf" => Ok(Self::Wharf),
            "client" => Ok(Self::Client),
            _ => Err(format!(
                "\"{text}\" is nobody's account: write \"wharf\" for the one configured here, if any, or \
                 \"client\" for that of each client"
            )),
        }
    }
}

impl fmt::Display for AuthWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wharf => "wharf",
            Self::Client => "client",
        })
    }
}

in_quotes! {
    AuthWord: "\"wharf\" or \"client\"";
}
