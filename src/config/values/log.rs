//! What is logged, and in which form.

use std::{fmt, str::FromStr};

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{in_quotes, unwrapped};

/// What to log.
#[derive(Clone, Debug)]
pub(in crate::config) struct Filter(pub(in crate::config) String);

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `Targets` reads a lone word that is no level as a target: a slip would switch the log off.
        let misspelt = |part: &str| !part.contains('=') && LevelFilter::from_str(part).is_err();
        if text.split(',').any(misspelt) || Targets::from_str(text).is_err() {
            return Err(format!(
                "\"{text}\" is not a log level: write error, warn, info, debug, trace or off, or \
                 directives such as \"info,wharf::upstream=debug\""
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("\"{text}\" is not a log format: write \"text\" or \"json\"")),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

in_quotes! {
    Filter: "a log level in quotes, such as \"info\"";
    LogFormat: "\"text\" or \"json\"";
}

unwrapped! {
    Filter => String;
}
