//! How fast, how often, and when in the day.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    Age, in_quotes,
    size::{read_bytes, show_bytes},
    unwrapped,
};
use crate::pull;

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Rate(pub(in crate::config) u64);

/// Bytes per second below which a registry's body is given up; `None`: none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct LeastRate(pub(in crate::config) Option<u64>);

/// A time between two questions to a registry.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Every(pub(in crate::config) Duration);

/// A time in which everything is read once; `None`: never.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Scrub(pub(in crate::config) Option<Duration>);

/// A part of each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Window(pub(in crate::config) pull::Window);

/// Slower than this, one piece of a download takes as long as a download may stand still.
const SLOWEST: u64 = 4 * bytesize::KIB;

/// More is more than many a line has.
const LEAST_RATE_MAX: u64 = bytesize::MIB;

/// A disk that is read more often does nothing else.
const SHORTEST_SCRUB: Duration = Duration::from_secs(60 * 60);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not a rate: write bytes per second with a capital B, such as \
                 \"2MiB/s\" or \"500kB/s\""
            )
        };
        let rate = text.strip_suffix("/s").and_then(read_bytes).ok_or_else(wrong)?;
        if rate < SLOWEST {
            return Err(format!(
                "\"{text}\" is too slow: write at least \"4KiB/s\", or leave the key out for no limit"
            ));
        }
        Ok(Self(rate))
    }
}

impl FromStr for LeastRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let rate = text.strip_suffix("/s").and_then(read_bytes);
        match rate {
            Some(1..=LEAST_RATE_MAX) => Ok(Self(rate)),
            _ => Err(format!(
                "\"{text}\" is no least rate: write bytes per second with a capital B, \"1B/s\" to \"1MiB/s\", or \"off\""
            )),
        }
    }
}

impl fmt::Display for LeastRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => Rate(rate).fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Age(every) = text.parse()?;
        if every < Duration::from_secs(60) {
            return Err(format!("\"{text}\" is too often: write at least \"1m\""));
        }
        Ok(Self(every))
    }
}

impl FromStr for Scrub {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let Age(period) = text.parse().map_err(|_| {
            format!(
                "\"{text}\" is not a duration: write the time in which all is read once, such as \"30d\", or \
                 \"off\""
            )
        })?;
        match period {
            Duration::ZERO => Ok(Self(None)),
            period if period < SHORTEST_SCRUB => Err(format!(
                "\"{text}\" keeps the disk busy: write at least \"1h\", or run `wharf verify`"
            )),
            period => Ok(Self(Some(period))),
        }
    }
}

/// Bytes per second, as the command line takes them: `20MiB/s`.
///
/// # Errors
/// What to write instead.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    text.parse().map(|Rate(rate)| rate)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once('-');
        let ends = ends.and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (from, to) = ends.ok_or_else(|| {
            format!(
                "\"{text}\" is not a part of the day: write two times from 00:00 to 23:59, such as \
                 \"01:00-05:00\""
            )
        })?;
        if from == to {
            return Err(format!(
                "\"{text}\" ends where it begins: write two different times, or leave the key out \
                 for the whole day"
            ));
        }
        Ok(Self(pull::Window { from, to }))
    }
}

/// The minute of the day that `HH:MM` means.
fn minute(text: &str) -> Option<u16> {
    let number = |text: &str, below: u16| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| digits && *number < below)
    };
    let (hour, minute) = text.split_once(':')?;
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", show_bytes(self.0))
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Age(self.0).fmt(f)
    }
}

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => Age(period).fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pull::Window { from, to } = self.0;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

in_quotes! {
    Rate: "bytes per second in quotes, such as \"2MiB/s\"";
    LeastRate: "bytes per second in quotes, such as \"1KiB/s\", or \"off\"";
    Every: "a duration in quotes, such as \"6h\"";
    Scrub: "a duration in quotes, such as \"30d\", or \"off\"";
    Window: "two times of the day in quotes, such as \"01:00-05:00\"";
}

unwrapped! {
    LeastRate => Option<u64>;
    Every => Duration;
    Scrub => Option<Duration>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_rate_is_shown_as_it_is_read(rate in SLOWEST.., zeros in 0_u32..7) {
            for rate in [rate, (rate % 1_000_000 + SLOWEST) * 1000_u64.pow(zeros.min(3)), 1 << (12 + zeros)] {
                let shown = Rate(rate).to_string();
                prop_assert_eq!(shown.parse(), Ok(Rate(rate)), "{}", shown);
            }
        }

        #[test]
        fn a_window_is_shown_as_it_is_read(from in 0_u16..1440, to in 0_u16..1440) {
            prop_assume!(from != to);
            let window = Window(pull::Window { from, to });
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }

        #[test]
        fn no_text_is_a_window_that_cannot_be(text in "[0-9]{1,2}:[0-9]{1,2}-[0-9]{1,2}:[0-9]{1,2}") {
            if let Ok(Window(pull::Window { from, to })) = text.parse() {
                prop_assert!(from < 1440 && to < 1440 && from != to);
                prop_assert_eq!(Window(pull::Window { from, to }).to_string(), text);
            }
        }
    }

    #[test]
    fn a_least_rate_is_shown_as_it_is_read_and_never_nothing() {
        for (text, rate) in [("off", None), ("1B/s", Some(1)), ("1KiB/s", Some(1024))] {
            assert_eq!(text.parse(), Ok(LeastRate(rate)), "{text}");
            assert_eq!(LeastRate(rate).to_string(), text);
        }
        for wrong in ["", "0", "0B/s", "1KiB", "2MiB/s", "1kb/s", "Off"] {
            let refused = wrong.parse::<LeastRate>().expect_err(wrong);
            assert!(refused.contains("\"off\""), "{refused}");
        }
    }

    #[test]
    fn rates_are_read_in_bytes() {
        for (text, rate) in [
            ("2MiB/s", 2 << 20),
            ("2 MiB/s", 2 << 20),
            ("5.5KiB/s", 5632),
            ("500kB/s", 500_000),
            ("500KB/s", 500_000),
            ("2M/s", 2_000_000),
            ("4096/s", 4096),
        ] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
    }
}
