//! Whose account a registry sees.

use std::{fmt, str::FromStr};

use super::in_quotes;
use crate::upstream::HelperName;

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

/// `credential_helper`.
#[derive(Clone, Debug)]
pub(in crate::config) struct CredentialHelper(pub(in crate::config) HelperName);

impl FromStr for CredentialHelper {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|problem: &str| format!("\"{text}\" is {problem}"))
    }
}

impl fmt::Display for CredentialHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

in_quotes! {
    CredentialHelper: "a credential helper in quotes, such as \"ecr-login\"";
    AuthWord: "\"wharf\" or \"client\"";
}
