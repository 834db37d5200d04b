//! [`nests_within`]: how deep a JSON document may be nested.

/// How deep a document may be nested where nothing else is said. The specifications' own need five levels.
pub const NESTED_MAX: u32 = 64;

/// Whether no place in the document `json` is inside more than `depth` arrays and objects; of what is no JSON, anything.
///
/// wharf's own reading takes no stack for what nobody looks at. Clients get the same bytes, and some of their parsers recurse.
pub fn nests_within(json: &[u8], depth: u32) -> bool {
    let (mut inside, mut in_text, mut escaped) = (0_u32, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' if inside == depth => return false,
            b'{' | b'[' => inside += 1,
            b'}' | b']' => inside = inside.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn depth(value: &Value) -> u32 {
        match value {
            Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            Value::Object(values) => 1 + values.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = r#"[\[\]{}"\\a]{0,6}"#;
        let leaf = prop_oneof![Just(json!(null)), text.prop_map(Value::from)];
        leaf.prop_recursive(8, 64, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map(text, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn is_what_a_parser_sees(value in any_value(), pretty: bool) {
            let deep = depth(&value);
            let json = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert!(nests_within(json.as_bytes(), deep), "{}", json);
            prop_assert!(deep == 0 || !nests_within(json.as_bytes(), deep - 1), "{}", json);
        }
    }

    #[test]
    fn what_is_no_json_is_looked_through_as_well() {
        for text in ["", "]]]]", "\"[[[[", "\\[", "text"] {
            assert!(nests_within(text.as_bytes(), 1), "{text}");
        }
        assert!(!nests_within(&[b'['; 100], 99));
    }
}
