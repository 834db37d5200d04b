//! What goes: nothing else with it, whatever becomes of the tables, and wherever a crash stops it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::oci::Reference;

/// All records of the tables, but the position and the sum.
fn records(store: &Store) -> BTreeMap<(u8, String, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for table in *b"cklmrtu" {
        for (repository, key, value) in store.index.records(table) {
            all.insert((table, repository.to_string(), key.to_vec()), value.to_vec());
        }
    }
    all
}

#[derive(Clone, Debug)]
enum Step {
    Keep { repository: bool, image: u32, tag: u8 },
    Name { repository: bool, image: u32, tag: u8 },
    Pull { repository: bool, image: u32 },
    Pin { repository: bool, tag: u8, pinned: bool },
    Remove { repository: bool, tag: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (repository, image, tag) = (any::<bool>(), 0..4_u32, 0..3_u8);
    let named = (repository, image.clone(), tag.clone());
    let step = prop_oneof![
        3 => named.clone().prop_map(|(repository, image, tag)| Step::Keep { repository, image, tag }),
        1 => named.prop_map(|(repository, image, tag)| Step::Name { repository, image, tag }),
        1 => (repository, image).prop_map(|(repository, image)| Step::Pull { repository, image }),
        1 => (repository, tag.clone(), any::<bool>())
            .prop_map(|(repository, tag, pinned)| Step::Pin { repository, tag, pinned }),
        2 => (repository, tag).prop_map(|(repository, tag)| Step::Remove { repository, tag }),
    ];
    proptest::collection::vec(step, 1..25)
}

fn of(repository: bool) -> Repository {
    super::repository(if repository { "alpine" } else { "busybox" })
}

fn name(number: u8) -> Tag {
    tag(&format!("v{number}"))
}

fn files(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.join("blobs/sha256")).expect("there");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Against a plain map: the files that are there are those of images that a tag means, or meant and no removal took;
    /// and the tables are those that the files give, folded or not.
    #[test]
    fn tables_that_were_kept_up_are_those_that_are_made_anew(steps in steps(), fold in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let fold_bytes = if fold { 700 } else { u64::MAX };
            let store = open(dir.path(), fold_bytes);
            let mut tags: BTreeMap<(bool, u8), u32> = BTreeMap::new();
            let mut kept: BTreeSet<u32> = BTreeSet::new();
            let mut taken: BTreeSet<(bool, u32)> = BTreeSet::new();
            for step in &steps {
                match step {
                    Step::Keep { repository, image: n, tag } => {
                        keep(&store, &of(*repository), &image(*n), &[name(*tag)]).await;
                        tags.insert((*repository, *tag), *n);
                        kept.insert(*n);
                        taken.insert((*repository, *n));
                    }
                    Step::Name { repository, image: n, tag } => {
                        let index = image(*n).index.0;
                        let named = store.keep_tag(&of(*repository), &name(*tag), &index).await;
                        let is_taken = taken.contains(&(*repository, *n));
                        assert_eq!(named.is_ok(), is_taken, "{named:?}");
                        if is_taken {
                            tags.insert((*repository, *tag), *n);
                        }
                    }
                    Step::Pull { repository, image: n } => {
                        store.pulled(&of(*repository), &image(*n).index.0.digest);
                        store.flush_pulled().await.expect("written down");
                    }
                    Step::Pin { repository, tag, pinned } => {
                        let reference = name(*tag).into();
                        let done = store.pin(&of(*repository), &reference, *pinned).await;
                        let is_kept = tags.contains_key(&(*repository, *tag));
                        assert_eq!(done.expect("written").is_some(), is_kept);
                        assert_eq!(store.is_pinned(&of(*repository), &reference), is_kept && *pinned);
                    }
                    Step::Remove { repository, tag } => {
                        let removed = store.remove(&of(*repository), &name(*tag).into()).await;
                        let was = tags.remove(&(*repository, *tag));
                        assert_eq!(removed.expect("removed").is_some(), was.is_some());
                        if let Some(n) = was {
                            // What no name of the repository means any more, it has no more, though others may.
                            let is_named = |(of, _): &(bool, u8), other: &u32| {
                                of == repository && *other == n
                            };
                            if !tags.iter().any(|(name, other)| is_named(name, other)) {
                                taken.remove(&(*repository, n));
                            }
                            if !tags.values().any(|other| *other == n) {
                                kept.remove(&n);
                                taken.retain(|(_, other)| *other != n);
                            }
                        }
                    }
                }
            }
            let digests = |n: &u32| {
                let image = image(*n);
                [image.index.0.digest.encoded(), image.child.0.digest.encoded()]
            };
            assert_eq!(files(dir.path()), kept.iter().flat_map(digests).collect());
            for ((repository, tag), n) in &tags {
                assert_keeps(&store, &of(*repository), &image(*n), &name(*tag)).await;
            }
            let usage = store.usage();
            assert_eq!((usage.blobs, usage.reserved), (2 * kept.len() as u64, 0));
            let kept_up = records(&store);
            store.close().await;
            drop(store);
            let replayed = open(dir.path(), fold_bytes);
            assert_eq!(records(&replayed), kept_up, "opened again");
            replayed.close().await;
            drop(replayed);
            fs::remove_dir_all(dir.path().join("wharf/index.sled")).expect("deleted");
            let anew = open(dir.path(), fold_bytes);
            assert_eq!(records(&anew), kept_up, "made anew");
            anew.close().await;
        });
    }
}

/// From one touch on, nothing is done any more: what a crash looks like from inside.
#[derive(Debug)]
struct Crash {
    at: usize,
    touches: AtomicUsize,
}

impl Watch for Crash {
    fn before(&self, _: Touch<'_>) -> io::Result<usize> {
        if self.touches.fetch_add(1, Ordering::Relaxed) >= self.at {
            return Err(io::Error::other("crashed"));
        }
        Ok(usize::MAX)
    }
}

pub(super) async fn put(store: &Store, bytes: &[u8]) {
    let (digest, alpine, size) = (Digest::sha256(bytes), repository("alpine"), bytes.len() as u64);
    let begun = store.begin(&digest, &alpine, Some(size), true).await.expect("begun");
    let (partial, appended) = begun.append(vec![Bytes::copy_from_slice(bytes)]).await;
    appended.expect("appended");
    partial.verify().await.expect("right").commit().await.expect("committed");
}

#[tokio::test]
async fn a_removal_that_is_cut_short_anywhere_leaves_no_name_without_its_files() {
    let origin = tempfile::tempdir().expect("a temporary directory");
    let (alpine, images) = (repository("alpine"), [image(1), image(2)]);
    let store = open(origin.path(), u64::MAX);
    for (n, image) in (1..=2_u32).zip(&images) {
        keep(&store, &alpine, image, &[name(n as u8)]).await;
        put(&store, &n.to_be_bytes()).await;
    }
    store.close().await;
    drop(store);
    let all = files(origin.path());
    let mut cut_short = 0;
    for at in 0.. {
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy(origin.path(), dir.path());
        // The start is not what is cut short.
        let started = AtomicUsize::new(0);
        let crash = Arc::new(Crash { at: usize::MAX, touches: started });
        let config = Config { disk: Disk::watched(crash.clone()), ..Config::at(dir.path()) };
        let store = Store::open(&config, &Clock::system()).expect("the store opens");
        let before = crash.touches.load(Ordering::Relaxed);
        store.close().await;
        drop(store);
        let crash = Arc::new(Crash { at: before + at, touches: AtomicUsize::new(0) });
        let config = Config { disk: Disk::watched(crash.clone()), ..Config::at(dir.path()) };
        let Ok(store) = Store::open(&config, &Clock::system()) else { continue };
        let removed = store.remove(&alpine, &name(1).into()).await;
        let is_cut = crash.touches.load(Ordering::Relaxed) > crash.at;
        store.close().await;
        drop(store);

        let store = open(dir.path(), u64::MAX);
        assert_keeps(&store, &alpine, &images[1], &name(2)).await;
        match store.tag(&alpine, &name(1)) {
            Some(_) => {
                assert_keeps(&store, &alpine, &images[0], &name(1)).await;
                assert_eq!(files(dir.path()), all);
                assert!(removed.is_err(), "{removed:?}");
            }
            None => assert_eq!(store.link(&alpine, &images[0].layer.digest), None),
        }
        // What it did not get to is swept.
        let is_kept = store.tag(&alpine, &name(1)).is_some();
        store.collect().await.expect("collected");
        let gone = [&images[0].index.0, &images[0].child.0, &images[0].layer];
        let gone: HashSet<String> = gone.iter().map(|gone| gone.digest.encoded()).collect();
        let left = all.iter().filter(|name| is_kept || !gone.contains(*name)).cloned();
        assert_eq!(files(dir.path()), left.collect());
        assert_eq!(store.usage().blobs, files(dir.path()).len() as u64);
        store.close().await;
        if !is_cut {
            break;
        }
        cut_short += 1;
    }
    assert!(cut_short > 8, "cut short {cut_short} times");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

#[tokio::test]
async fn how_a_manifest_is_listed_is_told_by_an_index_that_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let alpine = repository("alpine");
    let kept = image(1);
    let other = serde_json::json!({
        "schemaVersion": 2, "manifests": [kept.child.0], "annotations": { "n": "2" },
    });
    let other = Bytes::from(other.to_string());
    let other = Image {
        index: (descriptor(media_type::OCI_INDEX, &other), other),
        child: kept.child.clone(),
        layer: kept.layer.clone(),
    };
    let store = open(dir.path(), u64::MAX);
    keep(&store, &alpine, &other, &[name(2)]).await;
    keep(&store, &alpine, &kept, &[name(1)]).await;
    let by = |store: &Store| store.listed(&alpine, &kept.child.0.digest).map(|by| by.index);
    assert_eq!(by(&store), Some(kept.index.0.digest));
    let removed = store.remove(&alpine, &name(1).into()).await.expect("removed").expect("kept");
    assert_eq!(removed.blobs, 1, "the index alone: its child has another");
    assert_eq!(by(&store), Some(other.index.0.digest));
    assert_keeps(&store, &alpine, &other, &name(2)).await;
    let removed = store.remove(&alpine, &name(2).into()).await.expect("removed").expect("kept");
    assert_eq!((removed.blobs, by(&store)), (2, None));
    assert_eq!(records(&store), BTreeMap::new());
    store.close().await;
}

/// A cache of four images with a layer each, pulled in this order, in which little more has room.
async fn full(dir: &Path, clock: &Clock) -> Store {
    let config = Config {
        limits: Limits { max_size: Share::Bytes(1 << 20), min_free: Share::Bytes(0) },
        ..Config::at(dir)
    };
    let store = Store::open(&config, clock).expect("the store opens");
    for n in 1..=4_u32 {
        keep(&store, &repository("alpine"), &image(n), &[name(n as u8)]).await;
        put(&store, &n.to_be_bytes()).await;
        store.pulled(&repository("alpine"), &image(n).index.0.digest);
        clock.advance(std::time::Duration::from_secs(1));
    }
    let usage = store.usage();
    let limits = Limits { max_size: Share::Bytes(usage.bytes + 10), ..config.limits };
    store.set_limits(limits);
    store
}

#[tokio::test]
async fn what_happens_behind_a_look_at_everything_keeps_from_going_what_it_concerns() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (clock, alpine) = (Clock::system(), repository("alpine"));
    let store = full(dir.path(), &clock).await;
    let limit = store.usage().limit;
    // The first goes, and what was seen serves what follows.
    drop(store.promise(200, true).await.expect("room"));
    let left = || store.tags(&alpine).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(left(), ["v2", "v3", "v4"]);
    // Then: a name for the second, a pull of the third.
    store.keep_tag(&alpine, &tag("more"), &image(2).index.0).await.expect("named");
    store.pulled(&alpine, &image(3).index.0.digest);
    let free = limit - store.usage().bytes;
    drop(store.promise(free + 1, true).await.expect("room"));
    assert_eq!(left(), ["more", "v2", "v3"], "the fourth was pulled longer ago than the third");
    assert_keeps(&store, &alpine, &image(2), &name(2)).await;
    // A name that means something else by now is not taken for what it meant.
    let free = limit - store.usage().bytes;
    keep(&store, &alpine, &image(5), &[name(3)]).await;
    drop(store.promise(free, true).await.expect("room"));
    assert_eq!(store.tag(&alpine, &name(3)).map(|(meant, _)| meant), Some(image(5).index.0));
    assert_keeps(&store, &alpine, &image(5), &name(3)).await;
    assert_eq!(store.usage().reserved, 0);
    store.close().await;
}

/// A file system of which so many bytes are free.
#[derive(Debug)]
struct Free(AtomicUsize);

impl Watch for Free {
    fn before(&self, _: Touch<'_>) -> io::Result<usize> {
        Ok(usize::MAX)
    }

    fn space(&self) -> Option<Space> {
        Some(Space { size: 1 << 30, free: self.0.load(Ordering::Relaxed) as u64 })
    }
}

#[tokio::test]
async fn a_file_system_that_others_filled_is_told_of_until_there_is_room() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    full(dir.path(), &Clock::system()).await.close().await;
    let free = Arc::new(Free(AtomicUsize::new(1000)));
    let limits = Limits { max_size: Share::Percent(50), min_free: Share::Bytes(0) };
    let config = Config { limits, disk: Disk::watched(free.clone()), ..Config::at(dir.path()) };
    let store = Store::open(&config, &Clock::system()).expect("the store opens");
    assert!(store.promise(1 << 30, true).await.is_err(), "larger than the budget");
    assert!(store.promise(2 << 20, false).await.is_err(), "nothing is to go for it");
    assert_eq!(store.failing(), None, "neither says anything of the disk");
    let refused = store.promise(2 << 20, true).await;
    assert!(matches!(refused, Err(Error::NoRoom { .. })));
    let why = store.failing().expect("nothing can be kept, and that is to be known");
    assert!(
        why.starts_with("No space left for 2097152 bytes: ") && why.contains(" 1000 bytes free"),
        "{why}"
    );
    store.try_again().await;
    assert!(store.failing().is_some(), "as before");
    free.0.store(5 << 20, Ordering::Relaxed);
    store.try_again().await;
    assert_eq!(store.failing(), None);
    store.close().await;
}

#[tokio::test]
async fn a_pin_of_one_platform_outlives_the_tables() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, kept) = (repository("alpine"), image(1));
    let store = open(dir.path(), u64::MAX);
    keep(&store, &alpine, &kept, &[tag("3")]).await;
    store.close().await;
    drop(store);
    // By now, the child is known by its index alone.
    let child = Reference::Digest(kept.child.0.digest);
    let store = open(dir.path(), u64::MAX);
    assert_eq!(store.pin(&alpine, &child, true).await.expect("pinned"), Some(true));
    store.close().await;
    drop(store);
    for _ in 0..2 {
        fs::remove_dir_all(dir.path().join("wharf/index.sled")).expect("deleted");
        let store = open(dir.path(), u64::MAX);
        assert!(store.is_pinned(&alpine, &child));
        store.close().await;
    }
}

#[tokio::test]
async fn what_is_pinned_by_its_other_name_is_known() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, kept) = (repository("alpine"), image(1));
    let store = open(dir.path(), u64::MAX);
    keep(&store, &alpine, &kept, &[tag("3"), tag("3.20")]).await;
    let digest = Reference::Digest(kept.index.0.digest);
    assert_eq!(store.pinned_with(&alpine, &digest), None);
    assert_eq!(store.pin(&alpine, &tag("3").into(), true).await.expect("pinned"), Some(true));
    assert_eq!(store.pinned_with(&alpine, &digest), Some(tag("3").into()));
    assert_eq!(store.pinned_with(&alpine, &tag("3.20").into()), None, "it can go alone");
    assert_eq!(store.pin(&alpine, &digest, true).await.expect("pinned"), Some(true));
    assert_eq!(store.pinned_with(&alpine, &tag("3.20").into()), Some(digest));
    store.close().await;
}

#[tokio::test]
async fn what_cannot_be_swept_keeps_nothing_from_going() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = full(dir.path(), &Clock::system()).await;
    for obstacle in ["quarantine/.mine", "partial/mine"] {
        let obstacle = dir.path().join("wharf").join(obstacle);
        fs::create_dir_all(obstacle.join("something")).expect("made");
    }
    let before = store.tags(&repository("alpine")).len();
    store.set_limits(Limits { max_size: Share::Bytes(1), min_free: Share::Bytes(0) });
    store.keep_to_budget().await.expect("evicted");
    assert!(before > 1 && store.tags(&repository("alpine")).len() < before);
    store.collect().await.expect("collected");
    store.close().await;
}

#[tokio::test]
async fn only_what_is_kept_is_remembered_as_what_a_registry_has() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path(), u64::MAX);
    let (alpine, kept) = (repository("alpine"), image(1));
    let link = store.keep_link(&alpine, &kept.layer).await;
    assert!(matches!(link, Err(Error::Gone)));
    assert_eq!(store.link(&alpine, &kept.layer.digest), None);
    put(&store, &1_u32.to_be_bytes()).await;
    store.keep_link(&alpine, &kept.layer).await.expect("it is here");
    assert_eq!(store.link(&alpine, &kept.layer.digest).as_ref(), Some(&kept.layer));
    store.close().await;
    drop(store);
    // Of one that went, nothing is written down again.
    fs::remove_file(dir.path().join("blobs/sha256").join(kept.layer.digest.encoded()))
        .expect("there");
    let store = open(dir.path(), u64::MAX);
    keep(&store, &repository("other"), &image(2), &[tag("3")]).await;
    store.close().await;
    let journals = fs::read_dir(dir.path().join("wharf")).expect("there").filter_map(Result::ok);
    for file in journals.filter(|file| file.path().is_file()) {
        let text = fs::read(file.path()).expect("readable");
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains(&kept.layer.digest.encoded()), "{:?}", file.path());
    }
}

#[tokio::test]
async fn so_much_is_left_free_as_is_to_be_and_nothing_goes_in_vain() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    full(dir.path(), &Clock::system()).await.close().await;
    let free = Arc::new(Free(AtomicUsize::new(500 << 20)));
    let limits = Limits { max_size: Share::Percent(50), min_free: Share::Bytes(400 << 20) };
    let config = Config { limits, disk: Disk::watched(free.clone()), ..Config::at(dir.path()) };
    let store = Store::open(&config, &Clock::system()).expect("the store opens");
    let left = |store: &Store| store.tags(&repository("alpine")).len();
    assert_eq!(store.usage().limit, 512 << 20);
    let promise = store.promise(90 << 20, true).await.expect("room");
    let refused = store.promise(20 << 20, true).await;
    assert!(matches!(refused, Err(Error::NoRoom { .. })), "what is promised is not free");
    assert!(matches!(store.promise(1 << 30, true).await, Err(Error::NoRoom { .. })));
    drop(promise);
    assert_eq!((left(&store), store.usage().reserved), (4, 0), "all together is not enough");
    free.0.store((400 << 20) + 100, Ordering::Relaxed);
    assert!(matches!(store.promise(200, false).await, Err(Error::NoRoom { .. })), "not for this");
    drop(store.promise(200, true).await.expect("room"));
    assert_eq!(left(&store), 3);
    // Others filled the disk: that cannot be helped, and nothing goes for it.
    free.0.store(0, Ordering::Relaxed);
    store.keep_to_budget().await.expect("looked");
    assert_eq!(left(&store), 3);
    free.0.store((400 << 20) - 10, Ordering::Relaxed);
    store.keep_to_budget().await.expect("evicted");
    assert_eq!(left(&store), 2);
    // A budget that nothing meets is met as far as it goes: what is pinned stays.
    store.pin(&repository("alpine"), &name(3).into(), true).await.expect("pinned");
    store.set_limits(Limits { max_size: Share::Bytes(1), min_free: Share::Bytes(0) });
    let freed = store.keep_to_budget().await.expect("evicted");
    assert_eq!(
        (freed.images.as_slice(), left(&store)),
        (&["docker.io/library/alpine:v4".to_owned()][..], 1)
    );
    assert_eq!(store.take_evicted().images, 3);
    store.close().await;
}
