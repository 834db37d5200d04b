//! What there is to evict: the images, what each leads to, and the files that nothing leads to.
//!
//! Long, because one picture is made of the files and of six tables.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::UNIX_EPOCH,
};

use crate::{
    oci::{Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag},
    store::{Fact, disk::is_damage, index::Index, layout::Layout},
};

/// How many indexes lead to an image, one in the other: none that is known has more than two.
const DEPTH_MAX: usize = 8;

/// What kept documents name. They do not change: each is read once.
pub(in crate::store) type Names = HashMap<Digest, Arc<[Digest]>>;

/// All that the cache holds, at one moment.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Whole blobs: how long they are in bytes, and when they came, in seconds since 1970.
    files: HashMap<Digest, (u64, u64)>,
    pub(super) units: Vec<Unit>,
    /// The repositories of which a manifest is kept.
    records: HashMap<Digest, Vec<Arc<Repository>>>,
    /// The manifests of a repository.
    of: HashMap<Arc<Repository>, HashSet<Digest>>,
    /// What kept documents name.
    names: Names,
    /// Documents that are not here, or damaged: what they name is not known.
    unsure: HashSet<Digest>,
    /// Lists of referrers: of which subject in which repository.
    lists: HashMap<Digest, Vec<(Arc<Repository>, Digest)>>,
    /// Blobs that nothing but a link leads to.
    loose: HashMap<Digest, Vec<Arc<Repository>>>,
    /// How many units lead to a digest.
    leads: HashMap<Digest, usize>,
    /// Files that nobody refers to.
    pub(super) orphans: Vec<Digest>,
    /// Downloads that are not finished: bytes on disk, and when the last came, in seconds since 1970.
    pub(super) partials: Vec<(Digest, u64, u64)>,
    /// Blobs that were put aside, and how long they are in bytes.
    pub(super) aside: Vec<(PathBuf, u64)>,
}

/// What is evicted as a whole.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) what: What,
    pub(super) root: Digest,
    /// Every digest that it leads to, its own among them, kept or not.
    pub(super) reach: Vec<Digest>,
    /// When it was last pulled; if never, when it came. Seconds since 1970.
    pub(super) used: u64,
    /// It may not go.
    pub(super) stays: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A blob that only registries' words link.
    Blob(Digest),
    /// A manifest that no tag and no kept index leads to.
    Manifest(Arc<Repository>, Digest),
    Tag(Arc<Repository>, Tag),
}

impl What {
    /// Whose image it is.
    const fn repository(&self) -> Option<&Arc<Repository>> {
        match self {
            Self::Blob(_) => None,
            Self::Manifest(repository, _) | Self::Tag(repository, _) => Some(repository),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "{digest}"),
            Self::Manifest(repository, digest) => write!(f, "{repository}@{digest}"),
            Self::Tag(repository, tag) => write!(f, "{repository}:{tag}"),
        }
    }
}

/// What says that something stays, and when things were pulled, beside the tables.
pub(super) struct Said<'a> {
    pub(super) pinned: &'a [(Repository, Tag)],
    pub(super) held: HashSet<Digest>,
    /// Pulls that are not written down.
    pub(super) pulled: &'a [Fact],
}

impl World {
    /// Looks at everything; blocks.
    ///
    /// The files first: what is named while this looks is not among them, or is in the tables, or was touched.
    /// `known` names are not read again.
    pub(super) fn survey(
        layout: &Layout,
        index: &Index,
        known: &Names,
        said: &Said<'_>,
    ) -> io::Result<Self> {
        let mut world = Self::default();
        world.look_at_files(layout)?;
        let mut shared: HashMap<Repository, Arc<Repository>> = HashMap::new();
        let mut share = |repository: Repository| {
            Arc::clone(shared.entry(repository).or_insert_with_key(|key| Arc::new(key.clone())))
        };
        for (repository, key, _) in index.records(b'm') {
            let Some(digest) = Digest::from_bytes(&key) else { continue };
            let repository = share(repository);
            if let Entry::Vacant(names) = world.names.entry(digest) {
                let is_here = world.files.contains_key(&digest);
                let named = match (known.get(&digest), index.read_link(&repository, &digest)) {
                    (Some(known), _) if is_here => Some(Arc::clone(known)),
                    (_, Some(manifest)) if is_here => named(layout, &manifest)?,
                    _ => None,
                };
                if named.is_none() {
                    world.unsure.insert(digest);
                }
                names.insert(named.unwrap_or_default());
            }
            world.records.entry(digest).or_default().push(Arc::clone(&repository));
            world.of.entry(repository).or_default().insert(digest);
        }
        for (repository, key, value) in index.records(b'r') {
            let list = serde_json::from_slice::<Descriptor>(&value).ok();
            if let (Some(subject), Some(list)) = (Digest::from_bytes(&key), list) {
                world.lists.entry(subject).or_default().push((share(repository), list.digest));
            }
        }
        let mut used: HashMap<Digest, u64> = HashMap::new();
        let mut use_at = |digest: Digest, at: u64| {
            let latest = used.entry(digest).or_default();
            *latest = at.max(*latest);
        };
        for (_, key, value) in index.records(b'u') {
            let at = value.as_ref().try_into().map(u64::from_le_bytes);
            if let (Some(digest), Ok(at)) = (Digest::from_bytes(&key), at) {
                use_at(digest, at);
            }
        }
        for fact in said.pulled {
            if let Fact::Pulled { manifest, at, .. } = fact {
                use_at(*manifest, *at);
            }
        }
        let mut pinned = HashSet::new();
        for (repository, key, _) in index.records(b'k') {
            let reference = std::str::from_utf8(&key).ok().and_then(|text| text.parse().ok());
            pinned.extend(reference.map(|reference: Reference| (share(repository), reference)));
        }
        for (repository, tag) in said.pinned {
            pinned.insert((share(repository.clone()), tag.clone().into()));
        }
        for (repository, key, value) in index.records(b't') {
            let tag = std::str::from_utf8(&key).ok().and_then(|tag| tag.parse().ok());
            let meant = serde_json::from_slice::<(Descriptor, u64)>(&value).ok();
            let (Some(tag), Some((manifest, at))) = (tag, meant) else { continue };
            world.add(What::Tag(share(repository), tag), manifest.digest, at);
        }
        world.add_lone();
        world.add_loose(index, &mut share);
        if index.has_failed() {
            // What seems to be needed by nobody may be named by a record that was not found.
            return Err(io::Error::other("the look-up tables cannot be read"));
        }
        let is_pinned = |repository: &Arc<Repository>, reference: Reference| {
            pinned.contains(&(Arc::clone(repository), reference))
        };
        let pinned_digests: HashSet<&Digest> = pinned
            .iter()
            .filter_map(|(_, reference)| match reference {
                Reference::Digest(digest) => Some(digest),
                Reference::Tag(_) => None,
            })
            .collect();
        for unit in &mut world.units {
            let pulled = unit.reach.iter().filter_map(|digest| used.get(digest)).max();
            unit.used = unit.used.max(pulled.copied().unwrap_or(0));
            unit.stays = match &unit.what {
                What::Tag(repository, tag) => is_pinned(repository, tag.clone().into()),
                What::Manifest(..) | What::Blob(_) => false,
            };
            unit.stays |= unit
                .reach
                .iter()
                .any(|digest| said.held.contains(digest) || pinned_digests.contains(digest));
        }
        Ok(world)
    }

    /// What is sure of what documents name.
    pub(super) fn sure(&self) -> Names {
        let sure = self.names.iter().filter(|(digest, _)| !self.unsure.contains(*digest));
        sure.map(|(digest, names)| (*digest, Arc::clone(names))).collect()
    }

    /// The units that may go, the first to go first.
    pub(super) fn candidates(&self) -> Vec<usize> {
        let may_go = |n: &usize| !self.units[*n].stays;
        let mut order: Vec<usize> = (0..self.units.len()).filter(may_go).collect();
        order.sort_by_key(|n| (self.units[*n].used, &self.units[*n].what));
        order
    }

    /// Which units to evict for `need` bytes to go, in this order: the least recently pulled, as few as do; and of those
    /// only what frees anything. `None` when all together do not.
    pub(super) fn plan(&self, need: u64) -> Option<Vec<usize>> {
        let mut leads = self.leads.clone();
        let (mut chosen, mut freed) = (Vec::new(), 0_u64);
        for n in self.candidates() {
            if freed >= need {
                break;
            }
            for digest in &self.units[n].reach {
                let left = leads.get_mut(digest).map_or(0, |left| {
                    *left -= 1;
                    *left
                });
                if left == 0 {
                    freed = freed.saturating_add(self.size(digest));
                }
            }
            chosen.push(n);
        }
        chosen.retain(|n| {
            let goes = |digest: &Digest| leads.get(digest) == Some(&0) && self.size(digest) > 0;
            self.units[*n].reach.iter().any(goes)
        });
        (freed >= need).then_some(chosen)
    }

    /// A blob's bytes on disk.
    pub(super) fn size(&self, digest: &Digest) -> u64 {
        self.files.get(digest).map_or(0, |(size, _)| *size)
    }

    fn came(&self, digest: &Digest) -> u64 {
        self.files.get(digest).map_or(0, |(_, came)| *came)
    }

    /// All that a document leads to, itself among it.
    pub(super) fn below(&self, digest: &Digest) -> HashSet<Digest> {
        let mut reach = HashSet::from([*digest]);
        let mut waiting = vec![(*digest, 0)];
        while let Some((digest, depth)) = waiting.pop() {
            let named = self.names.get(&digest).into_iter().flat_map(|names| names.iter());
            let lists = self.lists.get(&digest).into_iter().flatten().map(|(_, list)| list);
            for next in named.chain(lists) {
                if reach.insert(*next) && depth < DEPTH_MAX {
                    waiting.push((*next, depth + 1));
                }
            }
        }
        reach
    }

    /// Whether it is a document that leads to others.
    pub(super) fn is_document(&self, digest: &Digest) -> bool {
        self.names.contains_key(digest)
    }

    /// What only this unit leads to.
    pub(super) fn alone(&self, n: usize) -> Vec<Digest> {
        let reach = self.units[n].reach.iter();
        reach.filter(|digest| self.leads.get(digest) == Some(&1)).copied().collect()
    }

    /// The documents that its repository has because of this unit alone, though units of others lead to them as well: their
    /// files stay, and are no longer that repository's to show.
    pub(super) fn lost(&self, n: usize) -> HashSet<Digest> {
        let unit = &self.units[n];
        let Some(repository) = unit.what.repository() else { return HashSet::new() };
        let Some(of) = self.of.get(repository) else { return HashSet::new() };
        let shared = |digest: &&Digest| self.leads.get(*digest).is_some_and(|leads| *leads > 1);
        let shared = unit.reach.iter().filter(|digest| of.contains(*digest)).filter(shared);
        let mut lost: HashSet<Digest> = shared.copied().collect();
        let others = self.units.iter().enumerate().filter(|(other, _)| *other != n);
        for unit in others.map(|(_, other)| other) {
            if lost.is_empty() {
                break;
            }
            let Some(of) = unit.what.repository() else { continue };
            // A composed image is shown as its parts' repositories have it.
            let has_its_own = |digest| self.records.get(digest).is_some_and(|own| own.contains(of));
            for digest in &unit.reach {
                if lost.contains(digest) && (of == repository || !has_its_own(digest)) {
                    lost.remove(digest);
                }
            }
        }
        lost
    }

    /// What is to be written down when the unit goes, of what it alone leads to what `gone` has, and what its repository has
    /// `lost`: whatever the repositories showed because of it alone is known no more, but for what was `touched` since.
    pub(super) fn facts(
        &self,
        n: usize,
        (gone, lost): (&HashSet<Digest>, &HashSet<Digest>),
        touched: impl Fn(&Digest) -> bool,
        at: u64,
    ) -> Vec<Fact> {
        let mut removed: BTreeMap<Arc<Repository>, (Vec<Tag>, HashSet<Digest>)> = BTreeMap::new();
        if let What::Tag(repository, tag) = &self.units[n].what {
            removed.entry(Arc::clone(repository)).or_default().0.push(tag.clone());
        }
        let own = self.units[n].what.repository();
        for (repository, digest) in
            own.into_iter().flat_map(|own| lost.iter().map(move |digest| (own, digest)))
        {
            let digests = &mut removed.entry(Arc::clone(repository)).or_default().1;
            digests.insert(*digest);
            digests.extend(self.names.get(digest).into_iter().flat_map(|names| names.iter()));
        }
        for digest in gone {
            for repository in self.records.get(digest).into_iter().flatten() {
                let digests = &mut removed.entry(Arc::clone(repository)).or_default().1;
                digests.insert(*digest);
                digests.extend(self.names.get(digest).into_iter().flat_map(|names| names.iter()));
            }
            let lists = self.lists.get(digest).into_iter().flatten().map(|(of, _)| of);
            for repository in lists.chain(self.loose.get(digest).into_iter().flatten()) {
                removed.entry(Arc::clone(repository)).or_default().1.insert(*digest);
            }
        }
        let fact = |(repository, (tags, mut digests)): (Arc<Repository>, (_, HashSet<Digest>))| {
            if let Some(kept) = self.of.get(&repository).filter(|_| !digests.is_empty()) {
                // What a manifest that stays is, or names, is shown because of it.
                let is_lost = |kept: &Digest| own == Some(&repository) && lost.contains(kept);
                for stays in kept.iter().filter(|kept| !gone.contains(*kept) && !is_lost(kept)) {
                    digests.remove(stays);
                    for named in self.names.get(stays).into_iter().flat_map(|names| names.iter()) {
                        digests.remove(named);
                    }
                }
            }
            let mut digests: Vec<Digest> =
                digests.into_iter().filter(|digest| !touched(digest)).collect();
            digests.sort_unstable();
            Fact::Removed { repository: (*repository).clone(), tags, digests, at }
        };
        removed.into_iter().map(fact).collect()
    }

    /// The unit went, `gone` of what it alone led to, and what its repository has `lost`.
    pub(super) fn went(&mut self, n: usize, gone: &HashSet<Digest>, lost: &HashSet<Digest>) {
        let unit = &mut self.units[n];
        if let Some(repository) = unit.what.repository() {
            for digest in lost {
                if let Some(records) = self.records.get_mut(digest) {
                    records.retain(|record| record != repository);
                }
                if let Some(kept) = self.of.get_mut(repository) {
                    kept.remove(digest);
                }
            }
        }
        unit.stays = true;
        for digest in std::mem::take(&mut unit.reach) {
            if let Some(left) = self.leads.get_mut(&digest) {
                *left = left.saturating_sub(1);
            }
        }
        for digest in gone {
            self.files.remove(digest);
            for repository in self.records.remove(digest).into_iter().flatten() {
                if let Some(kept) = self.of.get_mut(&repository) {
                    kept.remove(digest);
                }
            }
        }
    }

    fn look_at_files(&mut self, layout: &Layout) -> io::Result<()> {
        for algorithm in Algorithm::ALL {
            for entry in layout.disk().list(&layout.blobs(algorithm))? {
                let entry = entry?;
                let Some(digest) = layout.named(algorithm, &entry.file_name()) else { continue };
                match entry.metadata() {
                    Ok(file) => drop(self.files.insert(digest, (file.len(), seconds(&file)))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // One bad sector keeps nobody else's room.
                    Err(error) if is_damage(&error) => {
                        tracing::warn!(%digest, %error, "a blob cannot be looked at");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for entry in layout.disk().list(&layout.partials())? {
            let entry = entry?;
            let Some(digest) = layout.begun(&entry.file_name()) else { continue };
            if let Ok(metadata) = entry.metadata() {
                self.partials.push((digest, metadata.len(), seconds(&metadata)));
            }
        }
        for entry in layout.disk().list(&layout.quarantine_dir())? {
            let entry = entry?;
            let path = entry.path();
            // The notes count for nothing.
            let is_note = path.extension().is_some_and(|extension| extension == "json");
            let len = if is_note { 0 } else { entry.metadata().map_or(0, |file| file.len()) };
            self.aside.push((path, len));
        }
        Ok(())
    }

    fn add(&mut self, what: What, root: Digest, used: u64) {
        let reach = self.below(&root);
        for digest in &reach {
            *self.leads.entry(*digest).or_default() += 1;
        }
        let reach = reach.into_iter().collect();
        self.units.push(Unit { what, root, reach, used, stays: false });
    }

    /// Manifests that no tag leads to: those that no other of them leads to.
    fn add_lone(&mut self) {
        let records = self.records.keys();
        let lone = records.filter(|digest| !self.leads.contains_key(*digest));
        let lone: HashSet<Digest> = lone.copied().collect();
        let names = lone.iter().filter_map(|digest| self.names.get(digest));
        let below: HashSet<Digest> = names.flat_map(|names| names.iter().copied()).collect();
        let mut roots: Vec<Digest> = lone.difference(&below).copied().collect();
        roots.sort_unstable();
        for root in roots {
            let repositories = self.records.get(&root).into_iter().flatten();
            let Some(repository) = repositories.min().cloned() else { continue };
            self.add(What::Manifest(repository, root), root, self.came(&root));
        }
        // What refers to a manifest that is not kept is kept for nobody else.
        let lists = self.lists.keys().filter(|subject| !self.leads.contains_key(*subject));
        let mut alone: Vec<Digest> = lists.copied().collect();
        alone.sort_unstable();
        for subject in alone {
            self.add(What::Blob(subject), subject, 0);
        }
    }

    /// Blobs that nothing but links lead to, and those that nothing at all leads to.
    fn add_loose(&mut self, index: &Index, share: &mut impl FnMut(Repository) -> Arc<Repository>) {
        for (repository, key, _) in index.records(b'l') {
            let Some(digest) = Digest::from_bytes(&key) else { continue };
            if self.files.contains_key(&digest) && !self.leads.contains_key(&digest) {
                self.loose.entry(digest).or_default().push(share(repository));
            }
        }
        let mut loose: Vec<Digest> = self.loose.keys().copied().collect();
        loose.sort_unstable();
        for digest in loose {
            self.add(What::Blob(digest), digest, self.came(&digest));
        }
        let lost = self.files.keys().filter(|digest| !self.leads.contains_key(*digest));
        self.orphans = lost.copied().collect();
    }
}

/// What a kept document names; `None` when it is not what it was, or lost by the disk: what it named is then held by its
/// links alone, until it is repaired. One that cannot be read may name anything: nothing is evicted then.
fn named(layout: &Layout, manifest: &Descriptor) -> io::Result<Option<Arc<[Digest]>>> {
    let bytes = match layout.disk().read(&layout.blob(&manifest.digest)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_damage(&error) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if Digest::of(manifest.digest.algorithm(), &bytes) != manifest.digest {
        return Ok(None);
    }
    let document = Manifest::parse(&manifest.media_type, &bytes).unwrap_or(Manifest::Opaque);
    Ok(Some(document.references().into_iter().map(|named| named.digest).collect()))
}

fn seconds(file: &std::fs::Metadata) -> u64 {
    let modified = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |at| at.as_secs())
}

#[cfg(test)]
impl World {
    /// Blobs of these sizes, and units that lead to some of them by number.
    pub(super) fn of(sizes: &[u64], units: &[(Vec<usize>, u64, bool)]) -> Self {
        let digest = |n: usize| Digest::sha256(&n.to_be_bytes());
        let files = sizes.iter().enumerate().map(|(n, size)| (digest(n), (*size, 0)));
        let mut world = Self { files: files.collect(), ..Self::default() };
        for (n, (reach, used, stays)) in units.iter().enumerate() {
            let what = What::Blob(digest(1000 + n));
            let reach: Vec<Digest> = reach.iter().map(|n| digest(*n)).collect();
            for digest in &reach {
                *world.leads.entry(*digest).or_default() += 1;
            }
            let root = digest(1000 + n);
            world.units.push(Unit { what, root, reach, used: *used, stays: *stays });
        }
        world
    }
}
