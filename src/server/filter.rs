//! A list of referrers without those of other artifact types
//! ([spec.md, "Listing Referrers"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers)).

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The index without the entries of other artifact types; every value that is left is what it was to the byte. `None` where
/// the index is no JSON object. Takes no more memory than the index is long.
pub(super) fn filtered(index: &[u8], artifact_type: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(index.len());
    let mut document = serde_json::Deserializer::from_slice(index);
    document.deserialize_map(Index { artifact_type, out: &mut out }).ok()?;
    document.end().ok()?;
    out.shrink_to_fit();
    Some(out)
}

/// Writes what is to be left of an index while it is read.
struct Index<'a> {
    artifact_type: &'a str,
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for Index<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { artifact_type, out } = self;
        let mut before = b'{';
        while let Some(key) = map.next_key::<String>()? {
            out.push(before);
            before = b',';
            serde_json::to_writer(&mut *out, &key).map_err(A::Error::custom)?;
            out.push(b':');
            let value = map.next_value::<&RawValue>()?.get();
            if key == "manifests" && value.starts_with('[') {
                let entries = Entries { artifact_type, out };
                let mut value = serde_json::Deserializer::from_str(value);
                entries.deserialize(&mut value).map_err(A::Error::custom)?;
            } else {
                out.extend_from_slice(value.as_bytes());
            }
        }
        if before == b'{' {
            out.push(before);
        }
        out.push(b'}');
        Ok(())
    }
}

/// The same for its list.
struct Entries<'a> {
    artifact_type: &'a str,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { artifact_type, out } = self;
        let mut before = b'[';
        while let Some(entry) = list.next_element::<&RawValue>()? {
            if is_of(entry, artifact_type) {
                out.push(before);
                before = b',';
                out.extend_from_slice(entry.get().as_bytes());
            }
        }
        if before == b'[' {
            out.push(before);
        }
        out.push(b']');
        Ok(())
    }
}

fn is_of(entry: &RawValue, artifact_type: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        #[serde(borrow)]
        artifact_type: Option<&'a RawValue>,
    }
    let entry = serde_json::from_str::<Entry<'_>>(entry.get()).ok();
    let said = entry.and_then(|entry| entry.artifact_type);
    let said = said.and_then(|said| serde_json::from_str::<String>(said.get()).ok());
    said.is_some_and(|said| said == artifact_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_of_that_type_are_left() {
        for (index, want) in [
            (r#"{"manifests":[]}"#, r#"{"manifests":[]}"#),
            (r#" { } "#, "{}"),
            (r#"{"manifests":null,"x":[1, 2]}"#, r#"{"manifests":null,"x":[1, 2]}"#),
            (
                r#"{"a\n":1.50,"manifests":[ {"artifactType":"b"}, {"artifactType":"a/b","size":1e1}, 3],"z":{}}"#,
                r#"{"a\n":1.50,"manifests":[{"artifactType":"a/b","size":1e1}],"z":{}}"#,
            ),
            (
                r#"{"manifests":[{"artifactType":"a\/b"},{"artifactType":["a/b"]},{"artifactType":null},{},[],"a/b",{"artifactType":"a/b"}]}"#,
                r#"{"manifests":[{"artifactType":"a\/b"},{"artifactType":"a/b"}]}"#,
            ),
        ] {
            let left = filtered(index.as_bytes(), "a/b").expect("an index");
            assert_eq!(String::from_utf8(left).expect("UTF-8"), want, "{index}");
        }
        for bad in ["", "[]", "null", "{", r#"{"manifests":[}"#, "{} {}"] {
            assert_eq!(filtered(bad.as_bytes(), "a/b"), None, "{bad}");
        }
    }

    #[test]
    fn what_is_left_is_no_longer_than_what_was_there() {
        let keys = r#""\u00e4\/":0,"#.repeat(1000);
        for part in ["[", "{\"x\":"] {
            let (open, close) = (part.repeat(100_000), if part == "[" { "]" } else { "}" });
            let deep = format!("{open}0{}", close.repeat(100_000));
            let index = format!(r#"{{{keys}"x":{deep},"manifests":[{deep}]}}"#);
            let left = filtered(index.as_bytes(), "a/b").expect("an index");
            assert!(left.len() < index.len());
        }
    }
}
