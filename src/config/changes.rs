//! What a configuration that is read again changes: at once, or at the next start.

use std::{collections::BTreeSet, iter, time::SystemTime};

use toml::{Table, Value};

use super::{Config, DoorFiles, Listener, raw::Raw};
use crate::server::Door;

/// What changes without a restart, besides `pinned` in `[[prefetch.image]]`, `[[access]]`, and what stands in `[server] tls` and `users`.
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
                _ if section == "access" && self.access_waits(new) => {
                    changes.at_start.push("[[access]]".to_owned());
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

    /// A list of revoked certificates of `new` that has run out by `now`, where a newer one counts: it is not to be adopted.
    pub fn has_better_list(&self, new: &Self, now: SystemTime) -> Option<String> {
        let of = |listener: &Listener| {
            new.listeners.iter().find(|new| is_same(listener, new)).map(|new| &new.door)
        };
        let own = self.listeners.iter().filter_map(|old| Some((&old.door, of(old)?)));
        let mut doors = iter::once((&self.server.door, &new.server.door)).chain(own);
        doors.find_map(|(old, new)| old.tls.as_ref()?.has_better_list(new.tls.as_ref()?, now))
    }

    /// Takes over from `new` what changes at once, and nothing else.
    pub fn adopt(&mut self, new: &Self) {
        self.mode = new.mode;
        self.store.limits = new.store.limits;
        self.store.pinned.clone_from(&new.store.pinned);
        self.pull.scrub = new.pull.scrub;
        self.log.level.clone_from(&new.log.level);
        // What serves by these has them at once.
        if !self.access_waits(new) {
            self.server.access.adopt(&new.server.access);
        }
        adopt(&self.server.door, &mut self.door_files, (&new.server.door, &new.door_files));
        for listener in &mut self.listeners {
            if let Some(new) = new.listeners.iter().find(|new| is_same(listener, new)) {
                adopt(&listener.door, &mut listener.files, (&new.door, &new.files));
            }
        }
    }

    /// Whether what `new` says in `[[access]]` would lend an account to everybody, because what takes its place waits for the
    /// next start itself.
    fn access_waits(&self, new: &Self) -> bool {
        let mut lent = self.upstreams.iter().filter(|upstream| {
            upstream.has_account() && !upstream.public && upstream.rules.allow.is_empty()
        });
        lent.any(|upstream| self.open_to_all(&upstream.registry, &new.server.access).is_some())
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

/// Whether both are the same address in the same words: what is said in another way waits for the next start, all of it.
fn is_same(old: &Listener, new: &Listener) -> bool {
    new.address == old.address && new.files == old.files
}

/// Has a door ask what the files say now.
fn adopt(door: &Door, files: &mut DoorFiles, (new, new_files): (&Door, &DoorFiles)) {
    if let (Some(tls), Some(new)) = (&door.tls, &new.tls) {
        tls.adopt(new);
        files.tls.clone_from(&new_files.tls);
    }
    if let (Some(users), Some(new)) = (&door.users, &new.users) {
        users.adopt(new);
        if let (Some(file), Some(new)) = (&mut files.users, &new_files.users) {
            file.path.clone_from(&new.path);
        }
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
        if let ("server.users", Some(_), Some(new)) = (key, old, new) {
            self.at_once.push((key.to_owned(), new.as_str().unwrap_or_default().to_owned()));
            return;
        }
        if key == "access" {
            let rules = new.and_then(Value::as_array).map_or(0, Vec::len);
            let said = if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
            self.at_once.push((format!("[[{key}]]"), said));
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
