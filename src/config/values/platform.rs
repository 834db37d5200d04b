//! Platforms, and what is done with them.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::{Item, distinct, in_quotes, unwrapped};
use crate::{
    oci::{Platform, PlatformError},
    pull::{AnswerWith, Others},
};

/// A platform that images are built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct PlatformName(pub(in crate::config) Platform);

/// `platform` of a client: one, or several in the order of preference, none twice.
#[derive(Clone, Debug)]
pub(in crate::config) struct Preference(pub(in crate::config) Vec<PlatformName>);

/// `[platforms] others`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct OthersWord(pub(in crate::config) Others);

/// `[platforms] answer`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct AnswerWord(pub(in crate::config) AnswerWith);

impl Item for PlatformName {
    const LIST: &'static str = "a list of platforms, such as [\"linux/arm64\", \"linux/arm/v7\"]";
}

impl FromStr for PlatformName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |problem: PlatformError| format!("\"{text}\" is not a platform: {problem}");
        text.parse().map(Self).map_err(refused)
    }
}

impl FromStr for OthersWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "relay" => Ok(Self(Others::Relay)),
            "keep" => Ok(Self(Others::Keep)),
            "refuse" => Ok(Self(Others::Refuse)),
            _ => Err(format!(
                "\"{text}\" is nothing to do with other platforms: write \"relay\" (pass them on, \
                 do not keep them), \"keep\" or \"refuse\""
            )),
        }
    }
}

impl FromStr for AnswerWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "index" => Ok(Self(AnswerWith::Index)),
            "manifest" => Ok(Self(AnswerWith::Manifest)),
            _ => Err(format!(
                "\"{text}\" is nothing to answer a tag with: write \"index\", or \"manifest\" for \
                 that of the client's platform"
            )),
        }
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OthersWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Others::Relay => "relay",
            Others::Keep => "keep",
            Others::Refuse => "refuse",
        })
    }
}

impl fmt::Display for AnswerWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AnswerWith::Index => "index",
            AnswerWith::Manifest => "manifest",
        })
    }
}

in_quotes! {
    PlatformName: "a platform in quotes, such as \"linux/arm64\"";
    OthersWord: "\"relay\", \"keep\" or \"refuse\"";
    AnswerWord: "\"index\" or \"manifest\"";
}

unwrapped! {
    PlatformName => Platform;
    OthersWord => Others;
    AnswerWord => AnswerWith;
}

impl Serialize for Preference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            several => serializer.collect_seq(several),
        }
    }
}

impl<'de> Deserialize<'de> for Preference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Preference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a platform in quotes, such as \"linux/arm/v7\", or a list of them, the most \
                     wanted first",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Preference, E> {
                text.parse().map(|one| Preference(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Preference, A::Error> {
                let platforms = distinct(list)?;
                if platforms.is_empty() {
                    let problem = "no platform: write at least one, such as \"linux/arm/v7\"";
                    return Err(de::Error::custom(problem));
                }
                Ok(Preference(platforms))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}
