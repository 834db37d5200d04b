//! Types of single values: each refuses what cannot be meant, and says what to write instead.

mod address;
mod auth;
mod client;
mod image;
mod key;
mod log;
mod mode;
mod number;
mod pace;
mod patterns;
mod platform;
mod repository;
mod size;
mod tls;

use std::{fmt, marker::PhantomData, path::PathBuf, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

pub use address::parse_address;
pub(super) use address::{AdminListen, Endpoint, Listen, Realm, first_repeated};
pub(super) use auth::{AuthWord, CredentialHelper};
pub(super) use client::{HostName, Listener, Network, Subject};
pub(super) use image::{Image, Images};
pub(super) use key::TrustedKey;
pub(super) use log::Filter;
pub use log::LogFormat;
pub(super) use mode::ModeWord;
pub(super) use number::{Age, Count, Wait};
pub use pace::parse_rate;
pub(super) use pace::{Every, LeastRate, Rate, Scrub, Window};
pub(super) use patterns::{ImageGlob, NameGlob};
pub(super) use platform::{AnswerWord, OthersWord, PlatformName, Preference};
pub(super) use repository::Pattern;
pub use size::parse_size;
pub(super) use size::{
    DocumentBytes, DocumentRoom, ErrorBytes, HeadBytes, MaxSize, Memory, MinFree, SendBuffer,
};
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

/// A list in which nothing comes twice.
#[derive(Clone, Debug)]
pub(in crate::config) struct Distinct<T>(pub(in crate::config) Vec<T>);

/// What a [`Distinct`] may hold.
pub(in crate::config) trait Item: fmt::Display + PartialEq {
    /// What a list of them looks like.
    const LIST: &'static str;
}

impl<T: Serialize> Serialize for Distinct<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Item + Deserialize<'de>> Deserialize<'de> for Distinct<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Item + Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Distinct<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::LIST)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Distinct<T>, A::Error> {
                distinct(list).map(Distinct)
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

impl<T, U: From<T>> From<Distinct<T>> for Vec<U> {
    fn from(list: Distinct<T>) -> Self {
        list.0.into_iter().map(U::from).collect()
    }
}

/// The items of `list`, none twice.
fn distinct<'de, T: Item + Deserialize<'de>, A: SeqAccess<'de>>(
    mut list: A,
) -> Result<Vec<T>, A::Error> {
    let mut items = Vec::new();
    while let Some(item) = list.next_element()? {
        if items.contains(&item) {
            return Err(de::Error::custom(format!("{item} is given twice: write it once")));
        }
        items.push(item);
    }
    Ok(items)
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
