//! Durations and counts, each with its bounds.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use super::{in_quotes, unwrapped};

/// Longer than any wait or memory makes sense, short enough that adding it to a time cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A time to wait: longer than nothing.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Wait(pub(in crate::config) Duration);

/// A time that may be nothing.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Age(pub(in crate::config) Duration);

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Count<const MIN: u32, const MAX: u32>(pub(in crate::config) u32);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).map_err(|_| {
            format!(
                "\"{text}\" is not a duration: write numbers with units, such as \"30s\" or \"1h 30m\""
            )
        })?;
        if duration > LONGEST {
            return Err(format!("\"{text}\" is too long: write at most \"365days\""));
        }
        Ok(Self(duration))
    }
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Age>()? {
            Age(Duration::ZERO) => {
                Err(format!("\"{text}\" leaves no time at all: write a duration such as \"10s\""))
            }
            Age(duration) => Ok(Self(duration)),
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Age(self.0).fmt(f)
    }
}

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The number, for showing it: `number` came from a value of this type, or is a default.
    pub(in crate::config) fn of(number: impl TryInto<u32>) -> Self {
        Self(number.try_into().unwrap_or(MAX))
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u32, const MAX: u32>;
        impl<const MIN: u32, const MAX: u32> Visitor<'_> for Number<MIN, MAX> {
            type Value = Count<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}, without quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let fits = u32::try_from(number).ok().filter(|n| (MIN..=MAX).contains(n));
                fits.map(Count).ok_or_else(|| {
                    let problem =
                        format!("{number} will not do: write a number from {MIN} to {MAX}");
                    E::custom(problem)
                })
            }
        }
        deserializer.deserialize_i64(Number::<MIN, MAX>)
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for usize {
    fn from(count: Count<MIN, MAX>) -> Self {
        // A u32 fits the usize of every platform that tokio runs on.
        Self::try_from(count.0).unwrap_or(Self::MAX)
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u64 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0.into()
    }
}

in_quotes! {
    Age: "a duration in quotes, such as \"30s\"";
    Wait: "a duration in quotes, such as \"30s\"";
}

unwrapped! {
    Age => Duration;
    Wait => Duration;
}
