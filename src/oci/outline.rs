//! [`Outline`]: the top of a document under `manifests/`, and whether all clients would take it for the same.
//!
//! Nothing of a document is copied here, and what nobody looks at is passed over without being held: a document of 4 MiB
//! may consist of two million numbers.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{ManifestError, MediaType};

/// Most descriptors of one document: the lists of the largest public images have some fifty entries, and no host stacks
/// more than a few hundred layers. Of some 400 bytes each in memory, so many take not twice what the longest document does.
pub const DESCRIPTORS_MAX: usize = 16_384;

/// The keys by which clients tell what a document is.
const KEYS: [&str; 7] =
    ["schemaVersion", "mediaType", "manifests", "config", "layers", "subject", "fsLayers"];

/// What stands under the keys by which clients tell what a document is; `None`: nothing, or `null`.
#[derive(Default)]
pub(super) struct Outline<'a> {
    values: [Option<&'a RawValue>; KEYS.len()],
    /// One of the keys comes twice, or in another case: Go takes the last that is alike, others the first, or the one
    /// that is the same.
    is_torn: bool,
}

/// A list in a document, of which no more than [`DESCRIPTORS_MAX`] entries are read.
pub(super) struct Listed<T> {
    /// Those that can be verified, in their order.
    entries: Vec<T>,
    /// How many there are, those that cannot be verified included.
    count: usize,
}

/// What stands in lists.
pub(super) trait Entry<'de>: Sized {
    /// Its form in a document.
    type Raw: Deserialize<'de>;

    /// The entry, if its digest can be verified.
    fn verifiable(raw: Self::Raw) -> Option<Self>;
}

impl<'a> Outline<'a> {
    /// The outline of the document `bytes`, which was served as `media_type`.
    ///
    /// # Errors
    /// `Form` when it is no JSON object; else when one client could take it for something else than another does.
    pub(super) fn read(media_type: &MediaType, bytes: &'a [u8]) -> Result<Self, ManifestError> {
        let outline: Self = serde_json::from_slice(bytes).map_err(|_| ManifestError::Form)?;
        if outline.is_torn {
            return Err(ManifestError::Keys);
        }
        let has = |key| outline.value(key).is_some();
        let is_image = has("config") || has("layers");
        if has("manifests") && is_image || has("fsLayers") && (has("manifests") || is_image) {
            return Err(ManifestError::Ambiguous);
        }
        let said = outline.value("mediaType").map(|raw| text(raw).ok_or(ManifestError::OtherType));
        match said.transpose()? {
            // Go's clients write an empty one where they mean none.
            Some(said) if !said.is_empty() && said != media_type.as_str() => {
                Err(ManifestError::OtherType)
            }
            _ => Ok(outline),
        }
    }

    /// What stands under `key`, which is one of [`KEYS`].
    fn value(&self, key: &str) -> Option<&'a RawValue> {
        self.values.iter().zip(KEYS).find_map(|(value, known)| value.filter(|_| known == key))
    }

    /// What stands under `key`, read.
    ///
    /// # Errors
    /// `Form` when it is of another form.
    pub(super) fn get<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, ManifestError> {
        let value = self.value(key).map(|raw| serde_json::from_str(raw.get()));
        value.transpose().map_err(|_| ManifestError::Form)
    }

    /// The list under `key`, of at most `most` entries; no more than [`DESCRIPTORS_MAX`] are ever taken.
    ///
    /// # Errors
    /// `Form` when it is none, and `TooMany`.
    pub(super) fn list<T: Entry<'a>>(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Option<Vec<T>>, ManifestError> {
        let most = most.min(DESCRIPTORS_MAX);
        match self.get::<Listed<T>>(key)? {
            Some(listed) if listed.count > most => Err(ManifestError::TooMany(most)),
            listed => Ok(listed.map(|listed| listed.entries)),
        }
    }
}

/// The text that a value is, if it is one.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    /// A `Cow` by itself copies.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(raw.get()).ok().map(|Text(text)| text)
}

impl<'de> Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Outline<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut outline, mut seen) = (Outline::default(), [false; KEYS.len()]);
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Known(at) => {
                            outline.is_torn |= std::mem::replace(&mut seen[at], true);
                            outline.values[at] = map.next_value()?;
                        }
                        Key::Alike | Key::Other => {
                            outline.is_torn |= key == Key::Alike;
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(outline)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// A key at the top of a document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Of [`KEYS`], by its place.
    Known(usize),
    /// What Go's clients take for one of [`KEYS`].
    Alike,
    Other,
}

impl Key {
    fn of(name: &str) -> Self {
        if let Some(at) = KEYS.iter().position(|key| *key == name) {
            return Self::Known(at);
        }
        let is_alike = |key: &&str| name.chars().map(folded).eq(key.chars().map(folded));
        if KEYS.iter().any(is_alike) { Self::Alike } else { Self::Other }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(Key::of(name))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

/// What Go's encoding/json takes for the same letter: the two letters beyond ASCII that fold into it, too.
const fn folded(letter: char) -> char {
    match letter {
        'ſ' => 's',
        '\u{212A}' => 'k',
        letter => letter.to_ascii_lowercase(),
    }
}

impl<'de, T: Entry<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Entry<'de>> Visitor<'de> for Reader<T> {
            type Value = Listed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                for count in 0..DESCRIPTORS_MAX {
                    let Some(raw) = list.next_element()? else {
                        return Ok(Listed { entries, count });
                    };
                    entries.extend(T::verifiable(raw));
                }
                let mut count = DESCRIPTORS_MAX;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Listed { entries, count })
            }
        }

        deserializer.deserialize_seq(Reader(PhantomData))
    }
}
