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
        // `Targets` takes more than it can mean: a slip would switch the log off, or change all of it.
        let is_part = |part: &str| match part.split_once('=') {
            None => LevelFilter::from_str(part).is_ok(),
            Some((target, level)) => {
                let is_name =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
                let is_target = !target.is_empty() && target.bytes().all(is_name);
                is_target && !level.is_empty() && LevelFilter::from_str(level).is_ok()
            }
        };
        let parts: Vec<&str> = text.split(',').filter(|part| !part.is_empty()).collect();
        let text = parts.join(",");
        if !parts.iter().all(|part| is_part(part)) || Targets::from_str(&text).is_err() {
            return Err(format!(
                "\"{text}\" is not a log level: write error, warn, info, debug, trace or off, or \
                 directives such as \"info,wharf::upstream=debug\""
            ));
        }
        Ok(Self(text))
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
