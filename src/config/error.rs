//! [`ConfigError`]: one sentence that says where, which key, and what to write instead.

use std::{fmt, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::raw::Document;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `wharf.toml:12`, or the environment variable.
    place: Option<String>,
    /// The dotted path of the key, such as `cache.tag_ttl`.
    key: Option<String>,
    problem: String,
}

impl ConfigError {
    /// Something is wrong with a whole file.
    pub(super) fn file(path: &Path, problem: String) -> Self {
        Self { place: Some(path.display().to_string()), key: None, problem }
    }

    /// Something is wrong with a key, whichever layer it came from.
    pub(super) fn key(key: &str, problem: String) -> Self {
        Self { place: None, key: Some(key.to_owned()), problem }
    }

    /// Something is wrong at `span` of a file.
    pub(super) fn at(document: &Document<'_>, span: Range<usize>, problem: String) -> Self {
        let before = document.text.get(..span.start).unwrap_or(document.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Self {
            place: Some(format!("{}:{line}", document.path.display())),
            key: key_at(document.text, &span),
            problem,
        }
    }

    /// A document that TOML, or the form of wharf's file, refuses.
    pub(super) fn toml(document: &Document<'_>, error: &toml::de::Error) -> Self {
        let problem = in_our_words(error.message());
        match error.span() {
            Some(span) => Self::at(document, span, problem),
            None => Self::file(document.path, problem),
        }
    }

    /// The same, for a value that came from the variable `name` and not from a file.
    pub(super) fn variable(name: &str, problem: &str) -> Self {
        Self { place: Some(name.to_owned()), key: None, problem: in_our_words(problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key].into_iter().flatten() {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// The dotted path of the innermost key that `span` lies in; `None` when the text is not TOML.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let mut path = Vec::new();
    descend(document.get_ref(), span, &mut path);
    (!path.is_empty()).then(|| path.join("."))
}

fn descend<'t>(table: &'t DeTable<'_>, span: &Range<usize>, path: &mut Vec<&'t str>) {
    let covers = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (key, value) in table {
        if covers(&key.span()) {
            path.push(key.get_ref());
            return;
        }
        match value.get_ref() {
            DeValue::Table(inner) => {
                let depth = path.len();
                path.push(key.get_ref());
                descend(inner, span, path);
                if path.len() > depth + 1 || covers(&value.span()) {
                    return;
                }
                path.truncate(depth);
            }
            DeValue::Array(items) => {
                let depth = path.len();
                path.push(key.get_ref());
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        descend(inner, span, path);
                    }
                    if path.len() > depth + 1 || covers(&item.span()) {
                        return;
                    }
                }
                if covers(&value.span()) {
                    return;
                }
                path.truncate(depth);
            }
            _ if covers(&value.span()) => {
                path.push(key.get_ref());
                return;
            }
            _ => {}
        }
    }
}

/// serde's sentences, said of keys and with what to write instead.
fn in_our_words(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line == "invalid type: map, expected a sequence" {
        return "this table may come several times: write its name in two pairs of brackets".into();
    }
    let mismatch = one_line.strip_prefix("invalid type: ");
    if let Some((found, wanted)) = mismatch.and_then(|types| types.rsplit_once(", expected ")) {
        let found = match found {
            "map" => "a table",
            "sequence" => "a list",
            other => other,
        };
        let wanted = if wanted == "a sequence" { "a list" } else { wanted };
        return format!("{found} will not do: write {wanted}").replace('`', "");
    }
    if one_line.starts_with("unknown field") {
        return unknown_key(&one_line);
    }
    one_line
}

/// From "unknown field `tag_tll`, expected one of `dir`, `tag_ttl`": every second piece is a name.
fn unknown_key(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(name) if likeness(name) > 0.8 => {
            format!("unknown key \"{unknown}\": did you mean \"{name}\"?")
        }
        _ => format!("unknown key \"{unknown}\": write one of {}", known.join(", ")),
    }
}
