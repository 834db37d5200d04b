//! The recorder: the one thread that writes facts down, in the order in which files must learn of them.
//!
//! A fact goes to the journal, is synced, and only then reaches the look-up tables and whoever waits: so a tag that
//! was answered is a tag that survives. Facts that arrive together are synced together.
//!
//! Long, because the order of these writes, and what is found when one was the last, are to be read in one place.

use std::{
    collections::HashMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Error, catalog,
    facts::{Fact, Facts},
    index::{Index, Position},
    journal::Journal,
    layout::Layout,
    links::Link,
    recovery,
};
use crate::oci::{Digest, Reference, Repository};

/// Facts that wait for the recorder; more make their senders wait.
const QUEUE: usize = 256;

/// A journal longer than this, and than half of `index.json`, is folded into it: so the two together are
/// written a constant number of times over, however many images come to be kept.
pub(super) const FOLD_BYTES: u64 = 16 * 1024;

/// How long the tables are left alone after making them anew failed: a disk that is full stays so for a while.
const REMAKE_PAUSE: Duration = Duration::from_secs(2);

/// How much is written to see whether it is worth while before that.
const TRIAL_BYTES: usize = 64 * 1024;

/// Records of look-up tables that are read before the first answer, to see whether any is lost: a moment's work. Of
/// larger tables that is found out behind it.
const CHECKED_AT_ONCE: usize = 10_000;

/// Records of look-up tables that are made anew at one time: what they take in memory meanwhile.
const REBUILD_RECORDS: usize = 2000;

/// Facts to write down together, and what follows from them.
pub(super) struct Entry {
    pub(super) facts: Vec<Fact>,
    /// What repositories may show because of the facts; found again from the files if lost.
    pub(super) links: Vec<Link>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// Facts that the tables take in at once; if some of them remove anything, all of them are of one entry.
struct Group {
    facts: Vec<Fact>,
    links: Vec<Link>,
}

/// The recorder's state; lives on its thread.
struct Recorder {
    index: Index,
    journal: Journal,
    generation: u64,
    /// The next journal, when a fold failed such that it is not known whether `index.json` names it.
    unsettled: Option<Journal>,
    fold_bytes: u64,
    /// Bytes of the journal that there is no point in folding: facts that a fold put there because they have no
    /// place in `index.json`, and those before a fold that failed.
    carried: u64,
    /// The tables lack something of the files: until they are made anew, nothing is recorded, nor looked for what may go.
    is_stale: bool,
    /// When the tables may be made anew once more, after that failed.
    remake_after: Instant,
    /// Where the next look-up tables are made, should those in use fail; theirs is the other place.
    spare: PathBuf,
    /// Last: the directory's lock ends when the tables are closed.
    layout: Arc<Layout>,
}

/// Brings the look-up tables up to date with the files and starts the thread, which ends when every
/// sender of the returned channel is gone. A journal beyond `fold_bytes`, and beyond half of `index.json`,
/// is folded into it.
pub(super) fn start(
    layout: &Arc<Layout>,
    fold_bytes: u64,
) -> Result<(Index, mpsc::Sender<Entry>, thread::JoinHandle<()>), Error> {
    let mut recorder = Recorder::open(Arc::clone(layout), fold_bytes)?;
    if recorder.is_due() || recorder.index_json_len() == 0 {
        recorder.fold_or_say_why_not();
    }
    let index = recorder.index.clone();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let thread = thread::Builder::new()
        .name("wharf-recorder".to_owned())
        .spawn(move || recorder.run(receiver))
        .map_err(Error::write)?;
    Ok((index, sender, thread))
}

impl Recorder {
    fn open(layout: Arc<Layout>, fold_bytes: u64) -> Result<Self, Error> {
        let (main, spare) = (layout.sled(), layout.spare_sled());
        if spare.exists() && !main.exists() {
            fs::rename(&spare, &main).map_err(Error::write)?;
        }
        let (index, position) = Index::open(&main, CHECKED_AT_ONCE)?;
        if spare.exists() {
            fs::remove_dir_all(&spare).map_err(Error::write)?;
        }
        let named = catalog::read(&layout).map_err(Error::write)?;
        let is_lost = named.is_none();
        let (mut facts, generation) = match named {
            Some(named) => named,
            None => {
                let generation = join_journals(&layout, position).map_err(Error::write)?;
                (Facts::default(), generation)
            }
        };
        remove_other_journals(&layout, generation).map_err(Error::write)?;
        let path = layout.journal(generation);
        let found = layout.disk().len(&path).map_err(Error::write)?;
        let in_journal = found.unwrap_or(0);
        let caught_up = position
            .filter(|position| position.generation == generation && position.offset <= in_journal);
        let from = caught_up.map_or(0, |position| position.offset);
        let (journal, newer) = Journal::open(layout.disk(), &path, from).map_err(Error::write)?;
        if found.is_none() {
            // What is written into it is lost with its name.
            layout.disk().sync_parent(&path).map_err(Error::write)?;
        }
        let now = Position { generation, offset: journal.len() };
        if caught_up.is_some() {
            for (facts, position) in replayed(&newer, now) {
                let relisted = relisted(&layout, &index, facts);
                index.apply(facts, &[relisted, links(&layout, facts)].concat(), position)?;
            }
            if is_lost {
                if let Err(error) = recover(&layout, &index, generation) {
                    tracing::warn!(%error, "index.json could not be written anew; the look-up tables still know it");
                }
            }
        } else {
            newer.into_iter().for_each(|fact| facts.apply(fact));
            rebuild(&layout, &index, facts, now)?;
        }
        Ok(Self {
            layout,
            index,
            journal,
            generation,
            unsettled: None,
            fold_bytes,
            carried: 0,
            is_stale: false,
            remake_after: Instant::now(),
            spare,
        })
    }

    fn run(mut self, mut receiver: mpsc::Receiver<Entry>) {
        self.check();
        let mut entries = Vec::new();
        while receiver.blocking_recv_many(&mut entries, QUEUE) > 0 {
            let mut groups: Vec<Group> = Vec::new();
            for entry in &entries {
                let (facts, links) = (entry.facts.clone(), entry.links.clone());
                match groups.last_mut() {
                    Some(group) if !facts.iter().any(Fact::removes) => {
                        group.facts.extend(facts);
                        group.links.extend(links);
                    }
                    _ => groups.push(Group { facts, links }),
                }
            }
            let recorded = self.record(&groups);
            for entry in entries.drain(..) {
                // Whoever asked may have gone; the fact stays written.
                let _ = entry.done.send(recorded.clone());
            }
            if self.is_due() {
                self.fold_or_say_why_not();
            }
        }
        if self.journal.len() > self.carried {
            // Whoever reads the directory of a stopped wharf as an OCI layout finds everything in it.
            self.fold_or_say_why_not();
        }
        if let Err(error) = self.index.flush() {
            tracing::warn!(%error, "the look-up tables will be remade at the next start");
        }
    }

    /// Looks whether the tables have lost records that sled itself does not miss; if so they are made anew.
    fn check(&mut self) {
        if !self.index.is_whole() {
            tracing::warn!("the look-up tables lack records; they are remade from the files");
            self.is_stale = true;
            if let Err(error) = self.remake() {
                tracing::error!(%error, "the look-up tables could not be made anew");
            }
        }
    }

    fn is_due(&self) -> bool {
        let index = self.index_json_len();
        self.journal.len() - self.carried > self.fold_bytes.max(index / 2)
    }

    fn index_json_len(&self) -> u64 {
        self.layout.disk().len(&self.layout.index_json()).ok().flatten().unwrap_or(0)
    }

    fn record(&mut self, groups: &[Group]) -> Result<(), Error> {
        let facts: Vec<Fact> = groups.iter().flat_map(|group| group.facts.clone()).collect();
        if !facts.is_empty() {
            self.settle().map_err(Error::write)?;
            self.journal.append(&facts).map_err(Error::write)?;
        }
        self.is_stale |= self.index.has_failed();
        if self.is_stale {
            let error = Error::Index("they lack records, and wait to be made anew".to_owned());
            return self.remake_if_worthwhile(error);
        }
        if facts.is_empty() {
            return Ok(());
        }
        // sled has reports of panics; one must not end this thread.
        let applied = catch_unwind(AssertUnwindSafe(|| self.apply(groups)));
        let applied = applied.unwrap_or_else(|_| Err(Error::Index("it panicked".to_owned())));
        applied.or_else(|error| {
            self.is_stale = true;
            self.remake_if_worthwhile(error)
        })
    }

    /// Makes the tables anew because of `error`, unless that failed a moment ago for a reason that is still there.
    fn remake_if_worthwhile(&mut self, error: Error) -> Result<(), Error> {
        // A disk that has room again need not be waited for.
        let is_ill = || self.layout.try_write(&[0; TRIAL_BYTES]).is_err();
        if Instant::now() < self.remake_after && is_ill() {
            return Err(error);
        }
        tracing::error!(%error, "the look-up tables failed, and are made anew");
        let remade = catch_unwind(AssertUnwindSafe(|| self.remake()));
        let remade = remade.unwrap_or_else(|_| Err(Error::Index("it panicked".to_owned())));
        remade.inspect_err(|_| self.remake_after = Instant::now() + REMAKE_PAUSE)
    }

    fn apply(&self, groups: &[Group]) -> Result<(), Error> {
        for (n, Group { facts, links }) in groups.iter().enumerate() {
            // Only with the last: until then, the tables lack some of what the journal says.
            let position = (n + 1 == groups.len()).then(|| self.position());
            let relisted = relisted(&self.layout, &self.index, facts);
            self.index.apply(facts, &[&relisted[..], links].concat(), position)?;
        }
        Ok(())
    }

    /// Makes the look-up tables anew from the files, in another place: sled takes nothing more after its first
    /// failed write (a full disk), but what it knows is still read until the new ones are whole.
    fn remake(&mut self) -> Result<(), Error> {
        let facts = self.facts().map_err(Error::write)?;
        let fresh = Index::anew(&self.spare)?;
        rebuild(&self.layout, &fresh, facts, self.position())?;
        fresh.flush()?;
        self.index.replace(&fresh);
        self.is_stale = false;
        let first = self.layout.sled();
        self.spare = if self.spare == first { self.layout.spare_sled() } else { first };
        // At the next start the one that is there is the one that is right.
        if let Err(error) = fs::remove_dir_all(&self.spare) {
            tracing::warn!(%error, "look-up tables that failed could not be deleted");
        }
        Ok(())
    }

    /// All that the files say.
    fn facts(&self) -> io::Result<Facts> {
        let named = catalog::read(&self.layout)?.map(|(facts, _)| facts);
        let mut facts = named.unwrap_or_else(|| recovery::facts(&self.layout, &self.index));
        let (_, newer) =
            Journal::open(self.layout.disk(), &self.layout.journal(self.generation), 0)?;
        newer.into_iter().for_each(|fact| facts.apply(fact));
        Ok(facts)
    }

    const fn position(&self) -> Position {
        Position { generation: self.generation, offset: self.journal.len() }
    }

    fn fold_or_say_why_not(&mut self) {
        if let Err(error) = self.fold() {
            tracing::warn!(%error, "the journal could not be folded into index.json; it grows on");
            self.carried = self.journal.len();
        }
    }

    /// Writes what the files say into a new `index.json` and goes on in a new journal.
    ///
    /// `index.json` names its journal, so until it is replaced the old pair counts and after it the new one.
    fn fold(&mut self) -> io::Result<()> {
        self.settle()?;
        let mut facts = self.facts()?;
        // A link is worth something with its blob; of the others there is no end.
        facts.blobs.retain(|(_, digest), _| self.layout.has_blob(digest));
        let is_bare = |(repository, reference): &(Repository, Reference)| match reference {
            Reference::Digest(digest) => {
                !facts.manifests.contains_key(&(repository.clone(), *digest))
            }
            Reference::Tag(_) => false,
        };
        if facts.pinned.iter().any(is_bare) {
            // Known by its index alone, it would have no entry in which its pin could stand.
            catalog::expand(&self.layout, &mut facts);
        }
        let old = self.layout.journal(self.generation);
        let next = self.generation + 1;
        let path = self.layout.journal(next);
        let disk = self.layout.disk();
        if disk.len(&path)?.is_some() {
            disk.remove(&path)?;
        }
        let (mut journal, _) = Journal::open(disk, &path, 0)?;
        let blobs = facts.blobs.iter().map(|((repository, _), blob)| Fact::Blob {
            repository: repository.clone(),
            blob: blob.clone(),
        });
        journal.append(&blobs.collect::<Vec<_>>())?;
        self.layout.disk().sync_parent(&path)?;
        if let Err(error) = catalog::write(&self.layout, &facts, next) {
            // It may have failed behind the rename: the journal that goes on is the one that is named.
            self.unsettled = Some(journal);
            self.settle()?;
            return if self.generation == next { Ok(()) } else { Err(error) };
        }
        self.go_on_in(journal);
        self.layout.disk().remove(&old)
    }

    /// Finds out which journal `index.json` names, if that is not known: nothing may be written into the other.
    fn settle(&mut self) -> io::Result<()> {
        if self.unsettled.is_none() {
            return Ok(());
        }
        let named = catalog::read(&self.layout)?.map(|(_, named)| named);
        // What was renamed and not synced is seen, and may be gone after a power cut.
        self.layout.disk().sync_parent(&self.layout.index_json())?;
        let Some(journal) = self.unsettled.take() else { return Ok(()) };
        let (old, next) = (self.generation, self.generation + 1);
        let unused = if named == Some(next) {
            self.go_on_in(journal);
            old
        } else {
            next
        };
        if let Err(error) = self.layout.disk().remove(&self.layout.journal(unused)) {
            tracing::warn!(%error, "a journal that is not in use could not be deleted");
        }
        Ok(())
    }

    /// Goes on in the next generation's journal.
    fn go_on_in(&mut self, journal: Journal) {
        self.carried = journal.len();
        (self.journal, self.generation) = (journal, self.generation + 1);
        if self.is_stale {
            // Tables without all facts must not say that they have them.
            return;
        }
        if let Err(error) = self.index.apply(&[], &[], Some(self.position())) {
            tracing::warn!(%error, "the look-up tables will be remade at the next start");
        }
    }
}

/// The facts in groups of which none but the first fact removes anything, each with the position to be written with it.
fn replayed(facts: &[Fact], now: Position) -> impl Iterator<Item = (&[Fact], Option<Position>)> {
    let mut rest = Some(facts);
    std::iter::from_fn(move || {
        let facts = rest.take()?;
        let begins = facts.iter().skip(1).position(Fact::removes).map(|at| at + 1);
        let (group, behind) = begins.map_or((facts, None), |at| {
            let (group, behind) = facts.split_at(at);
            (group, Some(behind))
        });
        rest = behind;
        Some((group, behind.is_none().then_some(now)))
    })
}

/// How the indexes that stay list the manifests that were listed by those that `facts` remove.
fn relisted(layout: &Layout, index: &Index, facts: &[Fact]) -> Vec<Link> {
    let mut links = Vec::new();
    for fact in facts {
        let Fact::Removed { repository, digests, .. } = fact else { continue };
        let mut orphans = index.listed_by(repository, digests);
        orphans.retain(|orphan| !digests.contains(orphan));
        if orphans.is_empty() {
            continue;
        }
        let confirmed = index.tags(repository).into_iter().filter_map(|tag| {
            let (manifest, at) = index.tag(repository, &tag)?;
            Some((manifest.digest, at))
        });
        let mut latest: HashMap<Digest, u64> = HashMap::new();
        for (digest, at) in confirmed {
            let known = latest.entry(digest).or_default();
            *known = at.max(*known);
        }
        let mut kept = index.manifests(repository);
        kept.retain(|kept| !digests.contains(kept));
        // As when the tables are made anew: of several, the one whose tag was confirmed last comes last, and counts.
        kept.sort_by_key(|digest| (latest.get(digest).copied(), *digest));
        for digest in kept {
            let manifest = index.read_link(repository, &digest);
            let manifest = manifest.filter(|manifest| manifest.media_type.is_index());
            let Some(manifest) = manifest else { continue };
            let document = catalog::document(layout, &manifest);
            let all = document.iter().flat_map(|said| Link::all(repository, &digest, said));
            links.extend(all.filter(|link| orphans.contains(&link.shown.digest)));
        }
    }
    links
}

/// Writes `index.json` anew from the tables, if they hold anything.
fn recover(layout: &Layout, index: &Index, generation: u64) -> io::Result<()> {
    let facts = recovery::facts(layout, index);
    if facts == Facts::default() {
        return Ok(());
    }
    tracing::warn!(
        tags = facts.tags.len(),
        "index.json is missing; it is written anew from the look-up tables"
    );
    catalog::write(layout, &facts, generation)
}

/// What repositories may show because of `facts`, from the manifests that are kept.
fn links(layout: &Layout, facts: &[Fact]) -> Vec<Link> {
    let mut links = Vec::new();
    for fact in facts {
        if let Fact::Manifest { repository, manifest } = fact {
            let document = catalog::document(layout, manifest);
            links.extend(
                document
                    .iter()
                    .flat_map(|document| Link::all(repository, &manifest.digest, document)),
            );
        }
    }
    links
}

fn rebuild(layout: &Layout, index: &Index, mut facts: Facts, now: Position) -> Result<(), Error> {
    if facts != Facts::default() {
        tracing::info!(tags = facts.tags.len(), "making the look-up tables from the files");
    }
    catalog::expand(layout, &mut facts);
    index.clear()?;
    let mut confirmed: HashMap<(Repository, Digest), u64> = HashMap::new();
    for ((repository, _), (manifest, at)) in &facts.tags {
        let latest = confirmed.entry((repository.clone(), manifest.digest)).or_default();
        *latest = (*latest).max(*at);
    }
    // Of several indexes that list a manifest, the one whose tag was confirmed last comes last, and counts.
    let mut kept: Vec<_> = facts.manifests.into_iter().collect();
    kept.sort_by_key(|(key, _)| confirmed.get(key).copied());
    let pulled = kept.iter().filter(|(_, (_, at))| *at > 0);
    let pulled = pulled.map(|((repository, digest), (_, at))| Fact::Pulled {
        repository: repository.clone(),
        manifest: *digest,
        at: *at,
    });
    let pulled: Vec<Fact> = pulled.collect();
    // A manifest's own word on its type wins over what lists say of it, whichever comes first.
    let manifests = kept
        .into_iter()
        .map(|((repository, _), (manifest, _))| Fact::Manifest { repository, manifest });
    let (mut some, mut some_links) = (Vec::new(), Vec::new());
    for manifest in manifests {
        some_links.extend(links(layout, std::slice::from_ref(&manifest)));
        some.push(manifest);
        if some.len() + some_links.len() >= REBUILD_RECORDS {
            index.apply(&some, &some_links, None)?;
            (some, some_links) = (Vec::new(), Vec::new());
        }
    }
    index.apply(&some, &some_links, None)?;
    let tags = facts.tags.into_iter().map(|((repository, tag), (manifest, at))| Fact::Tag {
        repository,
        tag,
        manifest,
        at,
    });
    let referrers = facts
        .referrers
        .into_iter()
        .map(|((repository, subject), index)| Fact::Referrers { repository, subject, index });
    let blobs =
        facts.blobs.into_iter().map(|((repository, _), blob)| Fact::Blob { repository, blob });
    let pinned = facts.pinned.into_iter().map(|(repository, reference)| Fact::Pinned {
        repository,
        reference,
        pinned: true,
    });
    let others: Vec<Fact> =
        tags.chain(referrers).chain(blobs).chain(pinned).chain(pulled).collect();
    for some in others.chunks(REBUILD_RECORDS) {
        index.apply(some, &[], None)?;
    }
    index.apply(&[], &[], Some(now))
}

/// `index.json` is lost, or was never written: the journal to go on with, and in it all facts of those behind it. The first
/// is the one that the tables go on from, if it is there; what stands before it they know.
fn join_journals(layout: &Layout, position: Option<Position>) -> io::Result<u64> {
    let mut generations = layout.journals()?;
    generations.sort_unstable();
    let known = position.map(|position| position.generation).filter(|g| generations.contains(g));
    let Some(first) = known.or_else(|| generations.first().copied()) else { return Ok(0) };
    let mut later = Vec::new();
    for generation in generations.into_iter().filter(|generation| *generation > first) {
        later.extend(Journal::open(layout.disk(), &layout.journal(generation), 0)?.1);
    }
    if !later.is_empty() {
        Journal::open(layout.disk(), &layout.journal(first), 0)?.0.append(&later)?;
    }
    Ok(first)
}

/// A journal that `index.json` does not name was folded, or was never begun.
fn remove_other_journals(layout: &Layout, generation: u64) -> io::Result<()> {
    for other in layout.journals()?.into_iter().filter(|other| *other != generation) {
        layout.disk().remove(&layout.journal(other))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, RegistryName, media_type};
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::store::disk::{Disk, Touch, Watch};

    /// A disk that does not give `index.json`, or does not make its name durable.
    #[derive(Debug, Default)]
    struct Fails {
        read: AtomicBool,
        sync: AtomicBool,
    }

    impl Watch for Fails {
        fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
            let fails = match touch {
                Touch::Read(path) => {
                    path.ends_with("index.json") && self.read.load(Ordering::Relaxed)
                }
                Touch::SyncDir(path) => {
                    path.join("index.json").exists() && self.sync.load(Ordering::Relaxed)
                }
                _ => false,
            };
            if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(usize::MAX) }
        }
    }

    fn failing(dir: &std::path::Path) -> (Arc<Fails>, Recorder) {
        let disk = Arc::new(Fails::default());
        let layout = Layout::open(dir, Disk::watched(disk.clone())).expect("a new directory");
        let mut recorder = Recorder::open(Arc::new(layout), FOLD_BYTES).expect("a new store");
        recorder.fold().expect("written");
        (disk, recorder)
    }

    fn tag(n: u8) -> (Repository, crate::oci::Tag, Group) {
        let repository = Repository::new(RegistryName::docker_hub(), "alpine").expect("a name");
        let tag: crate::oci::Tag = format!("v{n}").parse().expect("a tag");
        let manifest = Descriptor {
            media_type: media_type::OCI_MANIFEST.parse().expect("a media type"),
            digest: Digest::sha256(&[n]),
            size: 1,
        };
        let fact = Fact::Tag { repository: repository.clone(), tag: tag.clone(), manifest, at: 1 };
        (repository, tag, Group { facts: vec![fact], links: Vec::new() })
    }

    #[test]
    fn tables_that_lack_records_and_cannot_be_remade_are_not_relied_on() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (disk, mut recorder) = failing(dir.path());
        let index = recorder.index.clone();
        let (repository, first, group) = tag(1);
        recorder.record(&[group]).expect("recorded");
        index.clear().expect("lost");
        disk.read.store(true, Ordering::Relaxed);
        recorder.is_stale = true;
        assert!(recorder.record(&[]).is_err(), "whoever looks for what may go waits for it");
        let (_, second, group) = tag(2);
        assert!(recorder.record(&[group]).is_err());
        disk.read.store(false, Ordering::Relaxed);
        recorder.record(&[]).expect("remade");
        for tag in [first, second] {
            assert!(index.tag(&repository, &tag).is_some(), "what the journal had is known");
        }
    }

    #[test]
    fn an_index_json_whose_name_is_not_durable_is_not_gone_on_from() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (disk, mut recorder) = failing(dir.path());
        let (repository, first, group) = tag(1);
        recorder.record(&[group]).expect("recorded");
        let old = recorder.layout.journal(recorder.generation);
        disk.sync.store(true, Ordering::Relaxed);
        recorder.fold().expect_err("it may be undone by a power cut");
        assert!(old.exists(), "and then the old journal is needed");
        let (_, second, group) = tag(2);
        assert!(recorder.record(&[group]).is_err(), "in neither journal would it be safe");
        disk.sync.store(false, Ordering::Relaxed);
        let (_, third, group) = tag(3);
        recorder.record(&[group]).expect("recorded");
        assert!(!old.exists());
        drop(recorder);
        let layout = Layout::open(dir.path(), Disk::default()).expect("the directory");
        let recorder = Recorder::open(Arc::new(layout), FOLD_BYTES).expect("the store");
        let knows = |tag| recorder.index.tag(&repository, tag).is_some();
        assert_eq!([&first, &second, &third].map(knows), [true, false, true]);
    }

    #[test]
    fn tables_that_failed_are_made_anew_as_often_as_it_takes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = Arc::new(Layout::open(dir.path(), Disk::default()).expect("a new directory"));
        let mut recorder = Recorder::open(layout, FOLD_BYTES).expect("a new store");
        let index = recorder.index.clone();
        let repository = Repository::new(RegistryName::docker_hub(), "alpine").expect("a name");
        let blob = |n: u8| Descriptor {
            media_type: media_type::OCTET_STREAM.parse().expect("a media type"),
            digest: Digest::sha256(&[n]),
            size: 1,
        };
        for n in 0..4 {
            let fact = Fact::Blob { repository: repository.clone(), blob: blob(n) };
            recorder.record(&[Group { facts: vec![fact], links: Vec::new() }]).expect("recorded");
            recorder.index.clear().expect("cleared");
            recorder.remake().expect("remade");
            for n in 0..=n {
                assert_eq!(index.link(&repository, &blob(n).digest), Some(blob(n)));
            }
        }
    }

    #[test]
    fn a_record_that_tables_lost_unnoticed_is_found_missing_behind_the_start() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = Arc::new(Layout::open(dir.path(), Disk::default()).expect("a new directory"));
        let mut recorder = Recorder::open(layout, FOLD_BYTES).expect("a new store");
        let index = recorder.index.clone();
        let repository = Repository::new(RegistryName::docker_hub(), "alpine").expect("a name");
        let blob = Descriptor {
            media_type: media_type::OCTET_STREAM.parse().expect("a media type"),
            digest: Digest::sha256(b"blob"),
            size: 1,
        };
        let fact = Fact::Blob { repository: repository.clone(), blob: blob.clone() };
        recorder.record(&[Group { facts: vec![fact], links: Vec::new() }]).expect("recorded");
        recorder.check();
        assert!(dir.path().join("wharf/index.sled").exists(), "whole tables stay where they are");
        index.lose_links();
        assert_eq!(index.link(&repository, &blob.digest), None);
        recorder.check();
        assert_eq!(index.link(&repository, &blob.digest), Some(blob.clone()));
        // What was found wrong is gone, and the next start takes what was made in its stead.
        drop((recorder, index));
        let layout = Arc::new(Layout::open(dir.path(), Disk::default()).expect("the directory"));
        let (index, position) = Index::open(&layout.spare_sled(), 0).expect("opened");
        assert!(position.is_some());
        drop(index);
        let recorder = Recorder::open(Arc::clone(&layout), FOLD_BYTES).expect("the store");
        assert!(layout.sled().exists() && !layout.spare_sled().exists());
        assert_eq!(recorder.index.link(&repository, &blob.digest), Some(blob));
    }
}
