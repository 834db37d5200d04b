//! How fast, how often, and when in the day.

use std::{fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;

use super::{Age, in_quotes, unwrapped};
use crate::pull;

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Rate(pub(in crate::config) u64);

/// A time between two questions to a registry.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Every(pub(in crate::config) Duration);

/// A part of each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Window(pub(in crate::config) pull::Window);

/// Slower than this, one piece of a download takes as long as a download may stand still.
const SLOWEST: u64 = 4 * bytesize::KIB;

/// What a rate is shown in: the largest unit that leaves no fraction.
const UNITS: [(&str, u64); 6] = [
    ("GiB", bytesize::GIB),
    ("GB", bytesize::GB),
    ("MiB", bytesize::MIB),
    ("MB", bytesize::MB),
    ("KiB", bytesize::KIB),
    ("kB", bytesize::KB),
];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not a rate: write bytes per second with a capital B, such as \
                 \"2MiB/s\" or \"500kB/s\""
            )
        };
        // "2Mb/s" means bits to everyone but the parser.
        let size = text.strip_suffix("/s").filter(|size| !size.contains('b')).ok_or_else(wrong)?;
        let ByteSize(rate) = size.trim().parse().map_err(|_| wrong())?;
        if rate < SLOWEST {
            return Err(format!(
                "\"{text}\" is too slow: write at least \"4KiB/s\", or leave the key out for no limit"
            ));
        }
        Ok(Self(rate))
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
        let whole = UNITS.iter().find(|(_, factor)| self.0 % factor == 0);
        let (unit, factor) = whole.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}/s", self.0 / factor)
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Age(self.0).fmt(f)
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
    Every: "a duration in quotes, such as \"6h\"";
    Window: "two times of the day in quotes, such as \"01:00-05:00\"";
}

unwrapped! {
    Every => Duration;
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
