//! A file system of which the power may be cut: what is durable, what is not yet, and what may come of that.
//!
//! Data: a page of 4 KiB that was written since its file was last synced is found as it was, as any write since left it,
//! as zeros (where nothing durable was), or half of it so; the file's length is any that it has had since. Names: under
//! [`Keep::InOrder`] changes to directories reach the disk in the order in which they were made, all of them (ext4, xfs,
//! f2fs, btrfs), under [`Keep::ByDirectory`] each directory's for itself, so that a rename may have taken place in the
//! one and not in the other. A synced directory has all its own; of a synced file, the name may still be lost.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

const PAGE: usize = 4096;

/// One operation that changes something, with names relative to the world's root.
#[derive(Debug)]
pub(super) enum Op {
    MakeDir(PathBuf),
    Open(PathBuf),
    Write { path: PathBuf, at: u64, bytes: Vec<u8> },
    SetLen { path: PathBuf, len: u64 },
    Sync(PathBuf),
    SyncDir(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
}

/// What of all that is not durable is found after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    All,
    Nothing,
    InOrder,
    ByDirectory,
}

/// A file or directory, whatever its names.
type Id = usize;

#[derive(Clone, Debug)]
enum Change {
    Data(u64, Vec<u8>),
    Len(u64),
}

#[derive(Debug, Default)]
struct File {
    /// As of its last sync.
    durable: Vec<u8>,
    /// Since.
    changes: Vec<Change>,
}

/// A change to one entry of a directory.
#[derive(Clone, Debug)]
struct Entry {
    /// Which operation it belongs to.
    number: usize,
    dir: Id,
    name: PathBuf,
    /// `None`: it is gone.
    now: Option<Id>,
}

#[derive(Debug)]
enum Node {
    Dir,
    File(File),
}

/// Everything below a root, which is node 0.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Nodes behind the root, by `id - 1`.
    nodes: Vec<Node>,
    /// All changes to directories, in order.
    entries: Vec<Entry>,
    /// What each directory holds now.
    now: BTreeMap<(Id, PathBuf), Id>,
    /// By directory: how many of `entries` were there when it was last synced.
    synced: BTreeMap<Id, usize>,
    /// Open files go on under the name that they were opened under.
    open: BTreeMap<PathBuf, Id>,
    numbers: usize,
}

impl World {
    pub(super) fn apply(&mut self, op: &Op) {
        self.numbers += 1;
        match op {
            Op::MakeDir(path) => {
                let id = self.add(Node::Dir);
                self.enter(path, Some(id));
            }
            Op::Open(path) => {
                let id = self.find(path).unwrap_or_else(|| {
                    let id = self.add(Node::File(File::default()));
                    self.enter(path, Some(id));
                    id
                });
                self.open.insert(path.clone(), id);
            }
            Op::Write { path, at, bytes } => {
                self.opened(path).changes.push(Change::Data(*at, bytes.clone()));
            }
            Op::SetLen { path, len } => self.opened(path).changes.push(Change::Len(*len)),
            Op::Sync(path) => {
                let file = self.opened(path);
                let changes = std::mem::take(&mut file.changes);
                changes.iter().for_each(|change| change.apply(&mut file.durable));
            }
            Op::SyncDir(path) => {
                let dir = self.find(path).expect("a directory that is there");
                self.synced.insert(dir, self.entries.len());
            }
            Op::Rename { from, to } => {
                let id = self.find(from).expect("a file that is there");
                self.enter(to, Some(id));
                self.enter(from, None);
            }
            Op::Remove(path) => self.enter(path, None),
        }
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len()
    }

    fn find(&self, path: &Path) -> Option<Id> {
        path.iter().try_fold(0, |dir, name| self.now.get(&(dir, name.into())).copied())
    }

    fn enter(&mut self, path: &Path, now: Option<Id>) {
        let dir = path.parent().and_then(|dir| self.find(dir)).expect("a directory that is there");
        let name = PathBuf::from(path.file_name().expect("a name"));
        match now {
            Some(id) => drop(self.now.insert((dir, name.clone()), id)),
            None => drop(self.now.remove(&(dir, name.clone()))),
        }
        self.entries.push(Entry { number: self.numbers, dir, name, now });
    }

    fn opened(&mut self, path: &Path) -> &mut File {
        let id = self.open[path];
        match &mut self.nodes[id - 1] {
            Node::File(file) => file,
            Node::Dir => panic!("{path:?} is a directory"),
        }
    }

    /// Writes into `root` what is found after the power was cut.
    pub(super) fn write_after(&self, keep: Keep, seed: u64, root: &Path) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut found: BTreeMap<Id, BTreeMap<&Path, Id>> = BTreeMap::new();
        for entry in self.surviving(keep, &mut random) {
            let dir = found.entry(entry.dir).or_default();
            match entry.now {
                Some(id) => dir.insert(&entry.name, id),
                None => dir.remove(entry.name.as_path()),
            };
        }
        self.write_dir(0, root, &found, keep, &mut random);
    }

    fn surviving(&self, keep: Keep, random: &mut Random) -> Vec<&Entry> {
        let synced = |dir: &Id| self.synced.get(dir).copied().unwrap_or(0);
        // Up to which operation the changes to a directory are found.
        let mut last: BTreeMap<Id, usize> = BTreeMap::new();
        let in_order = {
            let durable = self.synced.values().copied().max().unwrap_or(0);
            let number = |at: usize| at.checked_sub(1).map_or(0, |at| self.entries[at].number);
            random.between(number(durable), self.numbers)
        };
        for entry in &self.entries {
            last.entry(entry.dir).or_insert_with(|| match keep {
                Keep::All => usize::MAX,
                Keep::Nothing => 0,
                Keep::InOrder => in_order,
                Keep::ByDirectory => random.between(0, self.numbers),
            });
        }
        let survives = |(at, entry): &(usize, &Entry)| {
            *at < synced(&entry.dir) || entry.number <= last[&entry.dir]
        };
        self.entries.iter().enumerate().filter(survives).map(|(_, entry)| entry).collect()
    }

    fn write_dir(
        &self,
        id: Id,
        path: &Path,
        found: &BTreeMap<Id, BTreeMap<&Path, Id>>,
        keep: Keep,
        random: &mut Random,
    ) {
        fs::create_dir_all(path).expect("made");
        for (name, id) in found.get(&id).into_iter().flatten() {
            let path = path.join(name);
            match &self.nodes[id - 1] {
                Node::Dir => self.write_dir(*id, &path, found, keep, random),
                Node::File(file) => {
                    fs::write(path, file.found(keep, random)).expect("written");
                }
            }
        }
    }
}

impl File {
    fn found(&self, keep: Keep, random: &mut Random) -> Vec<u8> {
        let mut versions = vec![self.durable.clone()];
        for change in &self.changes {
            let mut next = versions.last().expect("the durable one").clone();
            change.apply(&mut next);
            versions.push(next);
        }
        match keep {
            Keep::All => return versions.pop().expect("the durable one"),
            Keep::Nothing => return self.durable.clone(),
            Keep::InOrder | Keep::ByDirectory => {}
        }
        let version = |random: &mut Random| random.between(0, versions.len() - 1);
        let mut found = vec![0; versions[version(random)].len()];
        for (number, page) in found.chunks_mut(PAGE).enumerate() {
            let at = number * PAGE;
            let (first, second) = (&versions[version(random)], &versions[version(random)]);
            let (first, second) = match random.between(0, 9) {
                // Torn in the middle.
                0 => (first, second),
                // Blocks that were never written to.
                1 if at >= self.durable.len() => continue,
                _ => (first, first),
            };
            for (half, from) in [first, second].into_iter().enumerate() {
                let (begin, end) = (half * PAGE / 2, ((half + 1) * PAGE / 2).min(page.len()));
                let end_there = from.len().clamp(at, at + end) - at;
                if begin < end_there {
                    let there = &from[at + begin..at + end_there];
                    page[begin..end_there].copy_from_slice(there);
                }
            }
        }
        found
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        let index = |at: u64| usize::try_from(at).expect("few bytes");
        match self {
            Self::Data(at, bytes) => {
                let (begin, end) = (index(*at), index(*at) + bytes.len());
                to.resize(to.len().max(end), 0);
                to[begin..end].copy_from_slice(bytes);
            }
            Self::Len(len) => to.resize(index(*len), 0),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, at, bytes } => write!(f, "write {path:?} {at} {}", bytes.len()),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    /// One of the numbers from `least` to `most`.
    fn between(&mut self, least: usize, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        least + usize::try_from(number).expect("31 bits") % (most - least + 1)
    }
}
