//! What a configuration that is read again changes: at once, or at the next start.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Config, raw::Raw};

/// What changes without a restart, besides `pinned` in `[[prefetch.image]]` and what stands in `[server] tls`.
const AT_ONCE: [&str; 5] =
    ["cache.max_size", "cache.min_free", "cache.scrub", "log.level", "server.mode"];

/// The differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Dotted keys that change at once, and what they say now.
    pub at_once: Vec<(String, String)>,
    /// Keys, or `[[tables]]`, that change at the next start.
    pub at_start: Vec<String>,
}

impl Config {
    /// How `new` differs from this one. What stands in files that it names, such as certificates, is not looked at.
    pub fn changes(&self, new: &Self) -> Changes {
        let (old, new_table) = (self.table(), new.table());
        let mut changes = Changes::default();
        for section in names(&old, &new_table) {
            match (old.get(section), new_table.get(section)) {
                (Some(Value::Table(old)), Some(Value::Table(new))) => {
                    for key in names(old, new) {
                        changes.compare(&format!("{section}.{key}"), old.get(key), new.get(key));
                    }
                }
                (old, new) => changes.compare(section, old, new),
            }
        }
        let pins = |config: &Self| -> BTreeSet<String> {
            config.store.pinned.iter().map(|(name, tag)| format!("{name}:{tag}")).collect()
        };
        let pinned = pins(new);
        if pins(self) != pinned {
            let pinned = pinned.into_iter().collect::<Vec<_>>().join(", ");
            let said = if pinned.is_empty() { "none".to_owned() } else { pinned };
            changes.at_once.push(("prefetch.image.pinned".to_owned(), said));
        }
        changes
    }

    /// Takes over from `new` what changes at once, and nothing else.
    pub fn adopt(&mut self, new: &Self) {
        self.mode = new.mode;
        self.store.limits = new.store.limits;
        self.store.pinned.clone_from(&new.store.pinned);
        self.pull.scrub = new.pull.scrub;
        self.log.level.clone_from(&new.log.level);
        if let (Some(tls), Some(new_tls)) = (&self.server.tls, &new.server.tls) {
            // What serves by it has it at once.
            tls.adopt(new_tls);
            self.tls_files.clone_from(&new.tls_files);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::try_from(Raw::from(self)).expect("plain tables, keys and values");
        // These are compared for themselves.
        let images = table.get_mut("prefetch").and_then(|prefetch| prefetch.get_mut("image"));
        for image in images.and_then(Value::as_array_mut).into_iter().flatten() {
            image.as_table_mut().and_then(|image| image.remove("pinned"));
        }
        table
    }
}

impl Changes {
    fn compare(&mut self, key: &str, old: Option<&Value>, new: Option<&Value>) {
        if old == new {
            return;
        }
        if let ("server.tls", Some(_), Some(new)) = (key, old, new) {
            let cert = new.get("cert").and_then(Value::as_str).unwrap_or_default();
            self.at_once.push((key.to_owned(), cert.to_owned()));
            return;
        }
        if AT_ONCE.contains(&key) {
            let said = new.and_then(Value::as_str).unwrap_or_default().to_owned();
            self.at_once.push((key.to_owned(), said));
            return;
        }
        let is_table = |value: &Value| {
            let first = value.as_array().and_then(|items| items.first());
            first.is_some_and(Value::is_table)
        };
        let tables = [old, new].into_iter().flatten().any(is_table);
        self.at_start.push(if tables { format!("[[{key}]]") } else { key.to_owned() });
    }
}

/// The keys of either.
fn names<'t>(old: &'t Table, new: &'t Table) -> BTreeSet<&'t String> {
    old.keys().chain(new.keys()).collect()
}
