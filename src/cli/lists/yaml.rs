//! YAML documents as trees in which every value knows its line.
//!
//! The parser tells events and expands nothing. An alias is the same node once more, not a copy, and whoever walks a tree counts
//! his steps ([`Steps`]): a document of aliases of aliases is refused instead of walked.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Parser};

/// Values of one file: the largest sets of manifests have some hundred thousand.
const NODES_MAX: usize = 1_000_000;

/// How deep they may lie in each other.
const DEPTH_MAX: usize = 128;

/// A value, and the line where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// As it is written, without its quotes.
    Text(String),
    List(Vec<Rc<Node>>),
    Table(Vec<(Rc<Node>, Rc<Node>)>),
}

/// What is wrong, and in which line.
pub(super) type Wrong = (usize, String);

/// Counts down how much of a file may still be looked at.
pub(super) struct Steps(usize);

/// A list or table that is not at its end.
struct Open {
    line: usize,
    anchor: usize,
    /// Of a table: keys and values in turn.
    items: Vec<Rc<Node>>,
    is_table: bool,
}

impl Node {
    /// The value of `key`, also if the table has it from another one by `<<`.
    pub(super) fn get(&self, key: &str) -> Option<&Rc<Self>> {
        self.find(key, 0)
    }

    fn find(&self, key: &str, depth: usize) -> Option<&Rc<Self>> {
        let Value::Table(entries) = &self.value else { return None };
        let named =
            |key: &str| entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, v)| v);
        named(key).or_else(|| {
            let merged = named("<<").filter(|_| depth < DEPTH_MAX)?;
            match &merged.value {
                Value::List(tables) => tables.iter().find_map(|table| table.find(key, DEPTH_MAX)),
                _ => merged.find(key, depth + 1),
            }
        })
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> &[(Rc<Self>, Rc<Self>)] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Rc<Self>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

impl Steps {
    pub(super) const fn new() -> Self {
        Self(NODES_MAX)
    }

    /// One more value is looked at.
    ///
    /// # Errors
    /// When these are too many.
    pub(super) fn take(&mut self, node: &Node) -> Result<(), Wrong> {
        let left = self.0.checked_sub(1);
        self.0 = left.ok_or_else(|| (node.line, "its aliases make it too large".to_owned()))?;
        Ok(())
    }
}

/// The documents in `text`, those that are empty left out.
///
/// # Errors
/// When it is no YAML, or is too large or too deep.
pub(super) fn read(text: &str) -> Result<Vec<Rc<Node>>, Wrong> {
    let (mut documents, mut open) = (Vec::new(), Vec::<Open>::new());
    let mut anchors = HashMap::new();
    let mut nodes = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            (error.marker().line(), format!("this is no YAML: {}", error.info()))
        })?;
        let line = span.start.line();
        nodes += 1;
        if nodes > NODES_MAX {
            return Err((
                line,
                format!("more than {NODES_MAX} values: is this a file of manifests?"),
            ));
        }
        let mut begin = |anchor, is_table| {
            if open.len() >= DEPTH_MAX {
                return Err((line, format!("more than {DEPTH_MAX} values within each other")));
            }
            open.push(Open { line, anchor, items: Vec::new(), is_table });
            Ok(())
        };
        let node = match event {
            Event::Scalar(text, _, anchor, _) => {
                let node = Rc::new(Node { line, value: Value::Text(text.into_owned()) });
                anchors.insert(anchor, Rc::clone(&node));
                node
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => Rc::clone(node),
                None => return Err((line, "an alias of what it is part of".to_owned())),
            },
            Event::SequenceStart(anchor, _) => {
                begin(anchor, false)?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                begin(anchor, true)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, anchor, items, is_table }) = open.pop() else { continue };
                let value = if is_table { table(items) } else { Value::List(items) };
                let node = Rc::new(Node { line, value });
                anchors.insert(anchor, Rc::clone(&node));
                node
            }
            Event::DocumentStart(_) => {
                anchors.clear();
                continue;
            }
            _ => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.items.push(node),
            None => documents.push(node),
        }
    }
    documents.retain(|document| document.text().is_none_or(|text| !text.is_empty()));
    Ok(documents)
}

fn table(items: Vec<Rc<Node>>) -> Value {
    let mut items = items.into_iter();
    let mut entries = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        entries.push((key, value));
    }
    Value::Table(entries)
}
