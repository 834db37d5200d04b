//! Tag lists: of what a registry sends at once, which may be all that it has, no more is held than a page.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Error;
use crate::oci::Tag;

/// The part of a registry's answer that was asked for.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// In the registry's order.
    pub(super) tags: Vec<Tag>,
    /// Whether it sent more of them.
    pub(super) is_cut: bool,
}

/// Reads the first `n` of the tags in `document`, all if that is `None`, behind the tag `last` where that is among them:
/// some registries heed neither.
///
/// # Errors
/// `Protocol` when it is no tag list.
pub(super) fn read(document: &[u8], n: Option<u32>, last: Option<&str>) -> Result<Page, Error> {
    let n = n.map_or(usize::MAX, |n| n as usize);
    let mut document = serde_json::Deserializer::from_slice(document);
    let page = document.deserialize_map(List(Tags { n, last }));
    let page = page.and_then(|page| document.end().map(|()| page));
    page.map_err(|_| Error::protocol("the tag list is not one"))
}

/// The document.
struct List<'a>(Tags<'a>);

/// What is wanted of its list; `null` at some registries when there are none.
#[derive(Clone, Copy)]
struct Tags<'a> {
    n: usize,
    last: Option<&'a str>,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == "tags" {
                page = map.next_value_seed(self.0)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(page)
    }
}

impl<'de> DeserializeSeed<'de> for Tags<'_> {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Page, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tags<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_unit<E>(self) -> Result<Page, E> {
        Ok(Page::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(tag) = list.next_element::<String>()? {
            if self.last == Some(tag.as_str()) {
                page = Page::default();
                continue;
            }
            // What is not a tag could not be pulled either.
            let Ok(tag) = tag.parse() else { continue };
            if page.tags.len() < self.n {
                page.tags.push(tag);
            } else {
                page.is_cut = true;
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_a_page() {
        let million = format!(r#"{{"tags":["a",{}"z"]}}"#, r#""b","#.repeat(1_000_000));
        let page = read(million.as_bytes(), Some(1000), None).expect("a list");
        assert!(page.tags.len() == 1000 && page.tags.capacity() <= 2000 && page.is_cut);
        let page = read(million.as_bytes(), Some(1000), Some("a")).expect("a list");
        assert!(page.tags.len() == 1000 && page.tags[0].as_str() == "b" && page.is_cut);
        let page = read(million.as_bytes(), Some(1000), Some("z")).expect("a list");
        assert!(page.tags.is_empty() && !page.is_cut);
    }

    #[test]
    fn what_is_no_list_is_told() {
        for bad in ["", "[]", "null", "{", r#"{"tags":3}"#, r#"{"tags":[1]}"#, "{}{}"] {
            assert!(
                matches!(read(bad.as_bytes(), None, None), Err(Error::Protocol { .. })),
                "{bad}"
            );
        }
        for none in ["{}", r#"{"tags":null}"#, r#"{"tags":[],"x":[[]]}"#, r#"{"tags":["a b"]}"#] {
            assert!(read(none.as_bytes(), None, None).expect(none).tags.is_empty());
        }
    }
}
