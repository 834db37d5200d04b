//! The look-up tables: what a request must find at once, made from the files and remade when in doubt.
//!
//! Kept in sled, which may lose its last half second on `kill -9`, more on a power cut, and may not open
//! at all: so no fact lives here alone. The table says up to where in which journal it was made; whatever
//! follows there is applied again at start-up.
//!
//! Keys begin with a letter for the table: `t` tags, `l` links (which repository may show which digest),
//! `m` manifests that were taken into a repository, with links to all they name, `c` children (how an index lists a
//! manifest), `k` pins, `r` referrers lists, `u` the last use of a manifest, `v` vouchers (under which repositories their registries
//! themselves showed a blob), `p` the position, with the form of the tables, `s` the sum of all other records, by which a loss that
//! sled itself does not notice is found.
//!
//! Long, because it is sled's only home.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Error,
    facts::Fact,
    links::{Link, Listed},
    memo::{Memo, Shown},
};
use crate::oci::{Descriptor, Digest, Reference, Repository, Tag};

/// What sled may keep of pages: a look-up beyond it reads the disk. It counts them as they lie on the disk, not in memory,
/// where they take about twice that, and looks at its count late: see [`ACCESS_EVERY`].
const PAGE_CACHE_BYTES: u64 = 2 * 1024 * 1024;

/// Of so many records that are read one after the other, one is looked up. sled (0.34) notices that it keeps too much only
/// after 64 look-ups in one of 256 parts of its cache, and one page after the other is read with one look-up for each:
/// without these, 16,384 pages would stay, some 70 MiB.
const ACCESS_EVERY: usize = 4;

/// The form of the tables; those of another are made anew. The first had neither a number nor `c` and `u`, the second no
/// `k`, the third no `v`.
const FORM: u8 = 4;

/// How often tables that are locked are tried again, and after which pause: a second in all.
const LOCK_PAUSES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

const POSITION: &[u8] = b"p";
const SUM: &[u8] = b"s";

/// How far the tables go: which journal, and how many of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

/// The look-up tables. Clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct Index {
    db: Arc<RwLock<sled::Db>>,
    /// A record could not be read.
    has_failed: Arc<AtomicBool>,
    memo: Arc<Memo>,
}

impl Index {
    /// Opens the tables at `path`; what cannot be opened is deleted and begun anew, with position `None`. Only that many
    /// records are read meanwhile: whether all are there [`Index::is_whole`] tells of larger tables.
    pub(super) fn open(path: &Path, at_once: usize) -> Result<(Self, Option<Position>), Error> {
        if let Some(db) = try_open(path, at_once) {
            let position = db.get(POSITION).ok().flatten().and_then(|bytes| read_position(&bytes));
            return Ok((Self::over(db), position));
        }
        Ok((Self::anew(path)?, None))
    }

    /// Whether every record that was written is there; reads them all.
    pub(super) fn is_whole(&self) -> bool {
        let db = self.db();
        let looked = catch_unwind(AssertUnwindSafe(|| sums_up(&db, usize::MAX)));
        matches!(looked, Ok(Ok(true)))
    }

    /// Empty tables at `path`, whatever is there.
    pub(super) fn anew(path: &Path) -> Result<Self, Error> {
        Ok(Self::over(open_anew(path)?))
    }

    /// Goes on with the tables of `other`, in all clones.
    pub(super) fn replace(&self, other: &Self) {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *db, other.db());
        self.has_failed.store(false, Ordering::Release);
        self.memo.changed();
        drop(db);
        // Its closing takes a while; nobody is to wait for the lock meanwhile.
        drop(old);
    }

    fn over(db: sled::Db) -> Self {
        Self { db: Arc::new(RwLock::new(db)), has_failed: Arc::default(), memo: Arc::default() }
    }

    /// Whether a record could not be read, so that what was found may be less than there is.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    fn failed(&self, error: &sled::Error) {
        if !self.has_failed.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the look-up tables cannot be read; they are remade from the files");
        }
    }

    /// Records whose keys begin like this, up to one that cannot be read: sled would give that again and again.
    fn scan<'a>(
        &'a self,
        prefix: &[u8],
    ) -> impl Iterator<Item = (sled::IVec, sled::IVec)> + use<'a> {
        let records = self.db().scan_prefix(prefix);
        records.map_while(|record| record.inspect_err(|error| self.failed(error)).ok())
    }

    fn db(&self) -> sled::Db {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops every record, to be made again from the files.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let cleared = self.db().clear().map_err(failed);
        self.memo.changed();
        cleared
    }

    /// Takes in `facts`, and `links`: what repositories may show because of them; of two that speak of one manifest, the
    /// later counts. A [`Fact::Removed`] among the facts counts first, whatever its place: what follows is known again.
    /// All or nothing, with the position; without one the tables count as unfinished until one is set.
    pub(super) fn apply(
        &self,
        facts: &[Fact],
        links: &[Link],
        position: Option<Position>,
    ) -> Result<(), Error> {
        let mut changes = Changes { index: self, records: BTreeMap::new() };
        for fact in facts {
            if let Fact::Removed { repository, tags, digests, .. } = fact {
                changes.remove(repository, tags, digests);
            }
        }
        for Link { repository, shown, listed } in links {
            // What the registry said of a manifest when it sent it stays, whatever a list says of it later.
            if changes.get(&key(b'm', repository, shown.digest.as_bytes())).is_none() {
                changes.set(link_key(repository, &shown.digest), link_value(shown));
            }
            if let Some(listed) = listed {
                let key = key(b'c', repository, shown.digest.as_bytes());
                changes.set(key, listed.to_bytes());
            }
        }
        facts.iter().for_each(|fact| changes.take_in(fact));
        let mut batch = sled::Batch::default();
        let mut sum = self.read(SUM).map_or(0, |sum| read_sum(&sum));
        for (key, value) in changes.records {
            let before = self.read(&key).map_or(0, |before| record_sum(&key, &before));
            sum = sum.wrapping_sub(before);
            match value {
                Some(value) => {
                    sum = sum.wrapping_add(record_sum(&key, &value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        batch.insert(SUM, &sum.to_le_bytes());
        if let Some(position) = position {
            batch.insert(POSITION, write_position(position));
        }
        let applied = self.db().apply_batch(batch).map_err(failed);
        self.memo.changed();
        applied
    }

    /// The manifests of the repository of which one of these indexes says how it is listed.
    pub(super) fn listed_by(&self, repository: &Repository, indexes: &[Digest]) -> Vec<Digest> {
        let prefix = key(b'c', repository, b"");
        let listed = self.scan(&prefix).filter_map(|(key, value)| {
            let listed = Listed::from_bytes(&value)?;
            indexes.contains(&listed.index).then(|| Digest::from_bytes(&key[prefix.len()..]))?
        });
        listed.collect()
    }

    /// The manifests that were taken into the repository.
    pub(super) fn manifests(&self, repository: &Repository) -> Vec<Digest> {
        let prefix = key(b'm', repository, b"");
        let keys = self.scan(&prefix).map(|(key, _)| key);
        keys.filter_map(|key| Digest::from_bytes(&key[prefix.len()..])).collect()
    }

    /// Whether somebody said that the image stays.
    pub(super) fn is_pinned(&self, repository: &Repository, reference: &Reference) -> bool {
        self.read(&pin_key(repository, reference)).is_some()
    }

    /// What the repository may show under `digest`, with the type and length that it named.
    pub(super) fn link(&self, repository: &Repository, digest: &Digest) -> Option<Descriptor> {
        self.shown(repository, digest).map(|shown| shown.link.clone())
    }

    /// How often the tables were changed.
    pub(super) fn edition(&self) -> u64 {
        self.memo.edition()
    }

    /// All that is known of what the repository may show under `digest`.
    pub(super) fn shown(&self, repository: &Repository, digest: &Digest) -> Option<Arc<Shown>> {
        self.memo.shown(repository, digest, || {
            let link = self.read_link(repository, digest)?;
            let is_taken = self.read_is_taken(repository, digest);
            let listed = self.read_listed(repository, digest);
            Some(Shown { link, is_taken, listed })
        })
    }

    /// As [`Index::link`], without remembering it: for those who look at all there is.
    pub(super) fn read_link(&self, repository: &Repository, digest: &Digest) -> Option<Descriptor> {
        let value = self.read(&link_key(repository, digest))?;
        let (size, media_type) = value.split_at_checked(8)?;
        Some(Descriptor {
            media_type: std::str::from_utf8(media_type).ok()?.parse().ok()?,
            digest: *digest,
            size: u64::from_le_bytes(size.try_into().ok()?),
        })
    }

    /// How an index of the repository lists the manifest.
    pub(super) fn listed(&self, repository: &Repository, manifest: &Digest) -> Option<Listed> {
        match self.shown(repository, manifest) {
            Some(shown) => shown.listed.clone(),
            None => self.read_listed(repository, manifest),
        }
    }

    /// Under which repositories a registry itself has shown the blob: by its bytes, or by its word.
    pub(super) fn vouchers(&self, digest: &Digest) -> Vec<Repository> {
        let prefix = vouchers_key(digest);
        let named = self.scan(&prefix).filter_map(|(key, _)| {
            std::str::from_utf8(key.get(prefix.len()..)?).ok()?.parse().ok()
        });
        named.collect()
    }

    /// When the manifest was last pulled, in seconds since 1970, as far as that is written down.
    pub(super) fn pulled(&self, repository: &Repository, manifest: &Digest) -> Option<u64> {
        read_time(&self.read(&key(b'u', repository, manifest.as_bytes()))?)
    }

    /// Whether the manifest was taken into the repository itself, so that all it names is linked, too.
    pub(super) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        match self.shown(repository, digest) {
            Some(shown) => shown.is_taken,
            None => self.read_is_taken(repository, digest),
        }
    }

    fn read_is_taken(&self, repository: &Repository, digest: &Digest) -> bool {
        self.read(&key(b'm', repository, digest.as_bytes())).is_some()
    }

    fn read_listed(&self, repository: &Repository, manifest: &Digest) -> Option<Listed> {
        Listed::from_bytes(&self.read(&key(b'c', repository, manifest.as_bytes()))?)
    }

    /// What a tag means and when (seconds since 1970) that was confirmed.
    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> Option<(Descriptor, u64)> {
        let value = self.read(&key(b't', repository, tag.as_str().as_bytes()))?;
        serde_json::from_slice(&value).ok()
    }

    /// The tags of a repository, in order.
    pub(super) fn tags(&self, repository: &Repository) -> Vec<Tag> {
        let prefix = key(b't', repository, b"");
        let keys = self.scan(&prefix).map(|(key, _)| key);
        keys.filter_map(|key| std::str::from_utf8(&key[prefix.len()..]).ok()?.parse().ok())
            .collect()
    }

    /// Up to `n` repositories that have a tag, in order, that come after `last`.
    pub(super) fn repositories(&self, last: Option<&str>, n: usize) -> Vec<Repository> {
        let mut found = Vec::new();
        // 0x01 sorts behind the separator 0x00: past all tags of that repository.
        let mut from =
            last.map_or_else(|| b"t".to_vec(), |last| format!("t{last}\x01").into_bytes());
        while found.len() < n {
            let Some(next) = self.db().range(from..b"u".to_vec()).next() else { break };
            let Ok((key, _)) = next.inspect_err(|error| self.failed(error)) else { break };
            let name = key[1..].split(|&b| b == 0).next().unwrap_or_default();
            let Ok(name) = std::str::from_utf8(name) else { break };
            from = format!("t{name}\x01").into_bytes();
            found.extend(name.parse::<Repository>().ok());
        }
        found
    }

    /// How many tags are kept.
    pub(super) fn tag_count(&self) -> u64 {
        self.scan(b"t").count() as u64
    }

    /// The kept list of what refers to `subject`.
    pub(super) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Option<Descriptor> {
        serde_json::from_slice(&self.read(&key(b'r', repository, subject.as_bytes()))?).ok()
    }

    /// All records of one table: whose, the rest of the key, the value. When one cannot be read, it ends there, and
    /// [`Index::has_failed`] says so.
    pub(super) fn records(
        &self,
        table: u8,
    ) -> impl Iterator<Item = (Repository, sled::IVec, sled::IVec)> {
        self.scan(&[table]).filter_map(|(key, value)| {
            let end = key.iter().position(|&b| b == 0)?;
            let repository = std::str::from_utf8(&key[1..end]).ok()?.parse().ok()?;
            Some((repository, key.subslice(end + 1, key.len() - end - 1), value))
        })
    }

    /// Hands everything to the disk; blocks.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db().flush().map(drop).map_err(failed)
    }

    /// Loses the links, as a page that never reached the disk would.
    #[cfg(test)]
    pub(super) fn lose_links(&self) {
        let db = self.db();
        for record in db.scan_prefix(b"l") {
            db.remove(record.expect("readable").0).expect("removed");
        }
        self.memo.changed();
    }

    /// A record; one that cannot be read counts as missing, since the files can give it back.
    fn read(&self, key: &[u8]) -> Option<sled::IVec> {
        self.db().get(key).unwrap_or_else(|error| {
            self.failed(&error);
            None
        })
    }
}

/// Records to be written together, over those that are.
struct Changes<'a> {
    index: &'a Index,
    /// `None`: to be deleted.
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.records.get(key) {
            Some(record) => record.clone(),
            None => self.index.read(key).map(|value| value.to_vec()),
        }
    }

    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.records.insert(key, Some(value));
    }

    fn remove(&mut self, repository: &Repository, tags: &[Tag], digests: &[Digest]) {
        for tag in tags {
            self.records.insert(key(b't', repository, tag.as_str().as_bytes()), None);
            self.records.insert(pin_key(repository, &tag.clone().into()), None);
        }
        for digest in digests {
            for table in *b"clmru" {
                self.records.insert(key(table, repository, digest.as_bytes()), None);
            }
            self.records.insert(pin_key(repository, &(*digest).into()), None);
            self.records.insert(voucher_key(repository, digest), None);
        }
        for child in self.index.listed_by(repository, digests) {
            self.records.insert(key(b'c', repository, child.as_bytes()), None);
        }
    }

    fn take_in(&mut self, fact: &Fact) {
        if let Fact::Manifest { repository, manifest } = fact {
            self.set(key(b'm', repository, manifest.digest.as_bytes()), Vec::new());
        }
        if let Fact::Blob { repository, blob } = fact {
            self.set(voucher_key(repository, &blob.digest), Vec::new());
        }
        match fact {
            Fact::Blob { repository, blob: shown }
            | Fact::Manifest { repository, manifest: shown } => {
                self.set(link_key(repository, &shown.digest), link_value(shown));
            }
            Fact::Pinned { repository, reference, pinned } => {
                self.records.insert(pin_key(repository, reference), pinned.then(Vec::new));
            }
            Fact::Pulled { repository, manifest, at } => {
                // Of what is not kept there is nothing to tell.
                if self.get(&key(b'm', repository, manifest.as_bytes())).is_some() {
                    let key = key(b'u', repository, manifest.as_bytes());
                    let before = self.get(&key).and_then(|value| read_time(&value));
                    self.set(key, before.unwrap_or(0).max(*at).to_le_bytes().to_vec());
                }
            }
            Fact::Referrers { repository, subject, index } => {
                self.set(key(b'r', repository, subject.as_bytes()), json(index));
            }
            Fact::Removed { .. } => {}
            Fact::Tag { repository, tag, manifest, at } => {
                let value = json(&(manifest, at));
                self.set(key(b't', repository, tag.as_str().as_bytes()), value);
            }
        }
    }
}

/// Opens the tables if they are what was written: sled looks at most pages only when they are asked for, and a
/// damaged one would be found when nobody is left to ask. It has reports of panics, which count as errors.
fn try_open(path: &Path, at_once: usize) -> Option<sled::Db> {
    let config = sled::Config::new().path(path).cache_capacity(PAGE_CACHE_BYTES);
    let open = || {
        #[expect(
            clippy::disallowed_methods,
            reason = "tables are opened by threads that may block"
        )]
        let db = open_unlocked(&config, || thread::sleep(LOCK_PAUSE))?;
        Ok::<_, sled::Error>(sums_up(&db, at_once)?.then_some(db))
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(Some(db))) => Some(db),
        Ok(Ok(None)) => {
            tracing::warn!("the look-up tables lack records; they are remade from the files");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the look-up tables do not open; they are remade from the files");
            None
        }
        Err(_) => {
            tracing::warn!(
                "the look-up tables do not open (a panic); they are remade from the files"
            );
            None
        }
    }
}

/// Opens the tables once nobody has them locked: a program that is just being started has all that is open here, for a moment, and
/// what is locked with it. The directory is this process's own, so nobody else has them for long.
fn open_unlocked(config: &sled::Config, mut pause: impl FnMut()) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_PAUSES {
        match config.open() {
            // So sled calls a lock that it does not get.
            Err(sled::Error::Io(error)) if error.kind() == io::ErrorKind::Other => pause(),
            opened => return opened,
        }
    }
    config.open()
}

/// Whether the records are those that were written, as far as `most` of them tell.
fn sums_up(db: &sled::Db, most: usize) -> sled::Result<bool> {
    let (mut sum, mut told) = (0_u64, 0);
    for (read, record) in db.iter().enumerate() {
        if read >= most {
            return Ok(true);
        }
        let record = record?;
        if read % ACCESS_EVERY == 0 {
            db.get(&record.0)?;
        }
        match record {
            (key, value) if key == SUM => told = read_sum(&value),
            (key, _) if key == POSITION => {}
            (key, value) => sum = sum.wrapping_add(record_sum(&key, &value)),
        }
    }
    Ok(sum == told)
}

fn open_anew(path: &Path) -> Result<sled::Db, Error> {
    let kept = |source: io::Error| Error::Open {
        what: "be cleared",
        dir: path.into(),
        source: source.into(),
    };
    if path.is_dir() {
        fs::remove_dir_all(path).map_err(kept)?;
    } else if path.exists() {
        fs::remove_file(path).map_err(kept)?;
    }
    sled::Config::new().path(path).cache_capacity(PAGE_CACHE_BYTES).open().map_err(failed)
}

fn failed(error: sled::Error) -> Error {
    Error::Index(error.to_string())
}

fn key(table: u8, repository: &Repository, rest: &[u8]) -> Vec<u8> {
    let name = repository.to_string();
    let mut key = Vec::with_capacity(2 + name.len() + rest.len());
    key.push(table);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

fn pin_key(repository: &Repository, reference: &Reference) -> Vec<u8> {
    key(b'k', repository, reference.to_string().as_bytes())
}

fn read_time(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

fn link_key(repository: &Repository, digest: &Digest) -> Vec<u8> {
    key(b'l', repository, digest.as_bytes())
}

/// By digest first, so that all vouchers of one stand together; digests of one algorithm are of one length.
fn vouchers_key(digest: &Digest) -> Vec<u8> {
    let digest = digest.as_bytes();
    let mut key = Vec::with_capacity(2 + digest.len() + 64);
    // At most 64 bytes.
    key.extend([b'v', digest.len() as u8]);
    key.extend_from_slice(digest);
    key
}

fn voucher_key(repository: &Repository, digest: &Digest) -> Vec<u8> {
    let mut key = vouchers_key(digest);
    key.extend_from_slice(repository.to_string().as_bytes());
    key
}

fn link_value(descriptor: &Descriptor) -> Vec<u8> {
    let mut value = descriptor.size.to_le_bytes().to_vec();
    value.extend_from_slice(descriptor.media_type.as_str().as_bytes());
    value
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers serialise")
}

fn write_position(position: Position) -> Vec<u8> {
    let numbers = [position.generation.to_le_bytes(), position.offset.to_le_bytes()];
    [&numbers.concat()[..], &[FORM]].concat()
}

/// The position, if the tables have the form of today.
fn read_position(bytes: &[u8]) -> Option<Position> {
    let (generation, offset) = bytes.strip_suffix(&[FORM])?.split_at_checked(8)?;
    Some(Position {
        generation: u64::from_le_bytes(generation.try_into().ok()?),
        offset: u64::from_le_bytes(offset.try_into().ok()?),
    })
}

/// What a record adds to the sum. A wharf that was built with another hash makes the tables anew.
fn record_sum(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

fn read_sum(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Makes the tables at `path` those of a build whose tables had no form, and neither children nor uses.
#[cfg(test)]
pub(super) fn age_tables(path: &Path) {
    let db = try_open(path, usize::MAX).expect("whole tables");
    let mut sum = 0_u64;
    for record in db.iter() {
        let (key, value) = record.expect("readable");
        match key.first() {
            Some(b'c' | b'u') => drop(db.remove(key).expect("written")),
            Some(b'p') => drop(db.insert(key, &value[..16]).expect("written")),
            Some(b's') => {}
            _ => sum = sum.wrapping_add(record_sum(&key, &value)),
        }
    }
    db.insert(SUM, &sum.to_le_bytes()).expect("written");
    db.flush().expect("written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{RegistryName, media_type};

    #[test]
    fn a_lost_record_of_how_a_child_is_listed_is_noticed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("tables");
        let repository = Repository::new(RegistryName::docker_hub(), "alpine").expect("a name");
        let child = Descriptor {
            media_type: media_type::OCI_MANIFEST.parse().expect("a media type"),
            digest: Digest::sha256(b"child"),
            size: 1,
        };
        let record = key(b'c', &repository, child.digest.as_bytes());
        let listed = Listed { index: Digest::sha256(b"index"), platform: None, attests: None };
        let link = Link { repository, shown: child, listed: Some(listed) };
        let position = Position { generation: 3, offset: 500 };
        let index = Index::anew(&path).expect("new tables");
        index.apply(&[], &[link], Some(position)).expect("taken in");
        let (index, found) = reopened(&index, &path, &dir.path().join("second"));
        assert_eq!(found, Some(position));
        index.db().remove(record).expect("written").expect("was there");
        let again = reopened(&index, &dir.path().join("second"), &dir.path().join("third"));
        assert_eq!(again.1, None, "the tables count as whole");
    }

    #[test]
    fn tables_that_are_locked_for_a_moment_are_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let index = Index::anew(&first).expect("new tables");
        index.apply(&[], &[], Some(Position { generation: 1, offset: 2 })).expect("taken in");
        index.flush().expect("written");
        copy(&first, &second);
        let config = sled::Config::new().path(&second);
        let file = fs::File::open(second.join("db")).expect("sled's file");
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        let mut pauses = 0;
        let opened = open_unlocked(&config, || pauses += 1);
        assert!(opened.is_err(), "it is locked");
        assert_eq!(pauses, LOCK_PAUSES);
        let mut file = Some(file);
        let unlock = || {
            file.take();
            // Another test's program that is just being started may have it for a moment longer.
            let again = fs::File::open(second.join("db")).expect("sled's file");
            rustix::fs::flock(&again, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        };
        let opened = open_unlocked(&config, unlock).expect("it is locked no more");
        assert!(opened.get(POSITION).expect("read").is_some());
    }

    /// The tables as they are found at `from`, opened at `to`: sled's own lock stays for as long as its threads like.
    fn reopened(index: &Index, from: &Path, to: &Path) -> (Index, Option<Position>) {
        index.flush().expect("written");
        copy(from, to);
        Index::open(to, usize::MAX).expect("opened")
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("writable");
        for entry in fs::read_dir(from).expect("there") {
            let entry = entry.expect("readable");
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            match from.is_dir() {
                true => copy(&from, &to),
                false => drop(fs::copy(from, to).expect("copied")),
            }
        }
    }
}
