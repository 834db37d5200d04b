//! Power cuts: every prefix of what a session does to the file system, with what was not synced lost, late or torn.
//!
//! `WHARF_POWER=20` replays twenty random outcomes of each prefix and model, instead of one of some model.

mod model;

use std::sync::{Mutex, PoisonError};

use model::{Keep, Op, World};

use super::*;
use crate::oci::Algorithm;

/// Writes down what is done to the file system.
#[derive(Debug, Default)]
struct Recorder {
    /// Whose names are told without this before them.
    above: PathBuf,
    ops: Mutex<Vec<Op>>,
    /// Nothing is renamed to this: with `index.json`, no journal is ever folded.
    refused: Option<&'static str>,
}

impl Watch for Recorder {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        if let (Touch::Rename { to, .. }, Some(refused)) = (touch, self.refused) {
            if to.ends_with(refused) {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let name = |path: &Path| {
            path.strip_prefix(&self.above).unwrap_or_else(|_| Path::new("")).to_owned()
        };
        let op = match touch {
            Touch::MakeDir(path) => Op::MakeDir(name(path)),
            Touch::Open(path) => Op::Open(name(path)),
            Touch::Write { path, at, bytes } => {
                Op::Write { path: name(path), at, bytes: bytes.to_vec() }
            }
            Touch::SetLen { path, len } => Op::SetLen { path: name(path), len },
            Touch::Sync(path) => Op::Sync(name(path)),
            Touch::SyncDir(path) => Op::SyncDir(name(path)),
            Touch::Rename { from, to } => Op::Rename { from: name(from), to: name(to) },
            Touch::Remove(path) => Op::Remove(name(path)),
            Touch::Read(_) | Touch::List(_) => return Ok(usize::MAX),
        };
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).push(op);
        Ok(usize::MAX)
    }
}

impl Recorder {
    fn count(&self) -> usize {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A tag that was said to mean a manifest, and the number of operations before which nobody was told so.
struct Promise {
    from: usize,
    tag: Tag,
    manifest: Digest,
}

/// What a session did and promised.
struct Session {
    ops: Vec<Op>,
    tags: Vec<Promise>,
    /// Blobs that were committed, and how many operations had been begun by then.
    blobs: Vec<(usize, Digest)>,
    /// Whole contents of all that was downloaded, finished or not.
    contents: Vec<Vec<u8>>,
    /// Look-up tables of some moments; sled syncs as it likes, so that any may be found at any time.
    tables: Vec<tempfile::TempDir>,
}

fn content(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7).wrapping_mul(usize::from(n) + 1) as u8 ^ (at % 251) as u8).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        if entry.file_type().expect("readable").is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            // sled may be about to delete one.
            let _ = fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
}

async fn append(begun: PartialBlob, bytes: &[u8]) -> PartialBlob {
    let mut begun = begun;
    for piece in bytes.chunks(200_003) {
        let appended;
        (begun, appended) = begun.append(vec![Bytes::copy_from_slice(piece)]).await;
        appended.expect("appended");
    }
    begun
}

/// Images kept, tags moved, blobs committed, given up, thrown away and gone on with, folds, and a stop in between.
async fn session(refused: Option<&'static str>) -> Session {
    let above = tempfile::tempdir().expect("a temporary directory");
    let dir = above.path().join("cache");
    let recorder =
        Arc::new(Recorder { above: above.path().to_owned(), refused, ..Recorder::default() });
    let mut config = Config::at(&dir);
    config.disk = Disk::watched(Arc::clone(&recorder) as Arc<dyn Watch>);
    let alpine = repository("alpine");
    let contents: Vec<_> = [900_000, 90_000, 700_000, 1_300_000, 5]
        .iter()
        .zip(0..)
        .map(|(len, n)| content(n, *len))
        .collect();
    let digests: Vec<_> = contents.iter().map(|content| Digest::sha256(content)).collect();
    let (mut tags, mut blobs, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    let mut promised = |recorder: &Recorder, name: &str, manifest: Digest| {
        tags.push(Promise { from: recorder.count(), tag: tag(name), manifest });
    };
    let mut snapshot = || {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_dir(&dir.join("wharf/index.sled"), copy.path());
        tables.push(copy);
    };
    for round in 0..2 {
        let store = Store::open_folding(&config, &Clock::system(), 1200).expect("opened");
        let begin = async |n: usize| {
            let size = Some(contents[n].len() as u64);
            store.begin(&digests[n], &alpine, size, true).await.expect("begun")
        };
        if round == 0 {
            // Left at 2 of 3: gone on with in the next round.
            drop(append(begin(3).await, &contents[3][..900_000]).await);
        }
        for n in [round, 2 + 2 * round] {
            let begun = append(begin(n).await, &contents[n]).await;
            begun.verify().await.expect("right").commit().await.expect("committed");
            blobs.push((recorder.count(), digests[n]));
        }
        let thrown = store.begin(&Digest::sha256(b"thrown"), &alpine, None, true).await;
        append(thrown.expect("begun"), b"away").await.discard().await;
        for n in 0..4 {
            let kept = image(10 * round as u32 + n);
            let names = [tag("latest"), tag(&format!("{round}-{n}"))];
            keep(&store, &alpine, &kept, &names).await;
            names.iter().for_each(|name| {
                promised(&recorder, name.as_str(), kept.index.0.digest);
            });
            store.pulled(&alpine, &kept.index.0.digest);
            if n == 1 {
                store.flush_pulled().await.expect("written");
                snapshot();
            }
            if n == 2 {
                store.keep_tag(&alpine, &tag("moved"), &kept.index.0).await.expect("kept");
                promised(&recorder, "moved", kept.index.0.digest);
            }
        }
        if round == 1 {
            let begun = begin(3).await;
            assert_eq!(begun.written(), 900_000);
            drop(append(begun, &contents[3][900_000..1_250_000]).await);
        }
        store.close().await;
        drop(store);
        snapshot();
    }
    let ops = std::mem::take(&mut *recorder.ops.lock().unwrap_or_else(PoisonError::into_inner));
    Session { ops, tags, blobs, contents, tables }
}

/// Every file under its digest is that blob.
fn assert_blobs_right(dir: &Path, when: &str) {
    for algorithm in Algorithm::ALL {
        let Ok(blobs) = fs::read_dir(dir.join("blobs").join(algorithm.as_str())) else { continue };
        for blob in blobs {
            let path = blob.expect("readable").path();
            let digest = Digest::of(algorithm, &fs::read(&path).expect("readable"));
            assert_eq!(
                Some(digest.encoded().as_str()),
                path.file_name().and_then(|n| n.to_str()),
                "{when}"
            );
        }
    }
}

async fn assert_survived(session: &Session, dir: &Path, cut: usize, when: &str) {
    assert_blobs_right(dir, when);
    let store = Store::open_folding(&Config::at(dir), &Clock::system(), 1200)
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    let alpine = repository("alpine");
    for (at, promise) in session.tags.iter().enumerate().filter(|(_, tag)| tag.from <= cut) {
        let (found, _) = store
            .tag(&alpine, &promise.tag)
            .unwrap_or_else(|| panic!("{when}: {} is not known", promise.tag.as_str()));
        let said = session.tags[at..].iter().filter(|later| later.tag == promise.tag);
        assert!(said.map(|later| later.manifest).any(|later| later == found.digest), "{when}");
        for digest in [found.digest, promise.manifest] {
            let manifest = store.manifest(&digest).await.expect("readable");
            assert!(manifest.is_some(), "{when}: a manifest of {} is lost", promise.tag.as_str());
            assert!(store.has_manifest(&alpine, &digest), "{when}");
        }
    }
    for (from, blob) in &session.blobs {
        let kept = store.blob(blob).await.expect("readable").is_some();
        assert!(kept || *from > cut, "{when}: {blob} is lost");
    }
    for content in &session.contents {
        let digest = Digest::sha256(content);
        if store.blob(&digest).await.expect("readable").is_some() {
            continue;
        }
        let size = Some(content.len() as u64);
        let begun = store.begin(&digest, &alpine, size, true).await.expect("begun");
        let from = usize::try_from(begun.written()).expect("few bytes");
        let verified = append(begun, &content[from..]).await.verify().await;
        let verified = verified.unwrap_or_else(|| panic!("{when}: wrong bytes before {from}"));
        verified.commit().await.expect("committed");
    }
    // What is kept now is durable in turn.
    keep(&store, &alpine, &image(99), &[tag("afterwards")]).await;
    store.close().await;
    drop(store);
    assert_blobs_right(dir, when);
    let store = open(dir, recorder::FOLD_BYTES);
    assert_keeps(&store, &alpine, &image(99), &tag("afterwards")).await;
    store.close().await;
}

#[tokio::test]
async fn a_power_cut_at_any_operation_loses_nothing_that_was_promised() {
    cut_everywhere(&session(None).await).await;
}

#[tokio::test]
async fn nor_where_no_journal_could_ever_be_folded() {
    cut_everywhere(&session(Some("index.json")).await).await;
}

#[expect(clippy::print_stderr, reason = "how much was tried is worth knowing")]
async fn cut_everywhere(session: &Session) {
    let rounds = std::env::var("WHARF_POWER").ok().and_then(|n| n.parse().ok()).unwrap_or(0u64);
    let (mut world, mut states) = (World::default(), 0);
    for cut in 0..=session.ops.len() {
        let last = cut.checked_sub(1).map(|last| &session.ops[last]);
        if let Some(op) = last {
            world.apply(op);
        }
        // Of what nothing happens to but by a sync, one look for each is enough.
        let synced = last.is_none_or(|op| matches!(op, Op::Sync(_) | Op::SyncDir(_)));
        let promised = session.tags.iter().map(|promise| promise.from);
        let mut promised = promised.chain(session.blobs.iter().map(|(from, _)| *from));
        let mut keeps = Vec::new();
        if synced || promised.any(|from| from == cut) {
            keeps.push((Keep::Nothing, 0));
        }
        if rounds == 0 {
            keeps.push((
                [Keep::All, Keep::InOrder, Keep::ByDirectory, Keep::ByDirectory][cut % 4],
                0,
            ));
        } else {
            keeps.push((Keep::All, 0));
            keeps.extend((0..rounds).flat_map(|n| [(Keep::InOrder, n), (Keep::ByDirectory, n)]));
        }
        for (keep, round) in keeps {
            let seed = cut as u64 * 1000 + round;
            let above = tempfile::tempdir().expect("a temporary directory");
            world.write_after(keep, seed, above.path());
            let dir = above.path().join("cache");
            let which = (cut + usize::try_from(round).expect("few")) % (session.tables.len() + 1);
            if let Some(copy) = session.tables.get(which).filter(|_| dir.join("wharf").exists()) {
                copy_dir(copy.path(), &dir.join("wharf/index.sled"));
            }
            let last = last.map(Op::to_string);
            let when = format!("{cut} {last:?}, {keep:?}, seed {seed}, tables {which}");
            assert_survived(session, &dir, cut, &when).await;
            states += 1;
        }
    }
    eprintln!("{} operations, {states} states after a power cut", session.ops.len());
}
