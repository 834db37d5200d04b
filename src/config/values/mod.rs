//! Types of single values: each refuses what cannot be meant, and says what to write instead.

mod address;
mod log;
mod number;
mod tls;

use std::{fmt, path::PathBuf, str::FromStr};

pub use address::parse_address;
pub(super) use address::{AdminListen, Endpoint, Listen, Realm, first_repeated};
pub(super) use log::Filter;
pub use log::LogFormat;
pub(super) use number::{Age, Count, Wait};
pub(super) use tls::ClientAuth;

/// A path that is not empty.
#[derive(Clone, Debug)]
pub(in crate::config) struct FilePath(pub(in crate::config) PathBuf);

impl FromStr for FilePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("an empty path names nothing: write a path, or leave the key out");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A value that the file writes as a string: read by `FromStr`, written by `Display`.
macro_rules! in_quotes {
    ($($name:ty: $form:literal;)*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($form)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

use in_quotes;

/// What a value is once it is checked.
macro_rules! unwrapped {
    ($($name:ty => $inner:ty;)*) => {$(
        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}

use unwrapped;

in_quotes! {
    FilePath: "a path in quotes";
}

unwrapped! {
    FilePath => PathBuf;
}
