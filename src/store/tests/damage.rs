//! Blobs that are not what their names say: found, put aside, and never a right one in their stead.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::*;
use crate::oci::Algorithm;

/// More than two pieces of a check.
const LONG: usize = 2 * 1024 * 1024 + 77;

/// A disk that does not give one file, by inode; 0: none.
#[derive(Debug, Default)]
struct BadSector(AtomicU64);

impl BadSector {
    fn hit(&self, path: &Path) {
        self.0.store(fs::metadata(path).expect("there").ino(), Ordering::Relaxed);
    }
}

impl Watch for BadSector {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        let bad = self.0.load(Ordering::Relaxed);
        match touch {
            Touch::Read(path) if bad > 0 && fs::metadata(path).is_ok_and(|it| it.ino() == bad) => {
                Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
            }
            _ => Ok(usize::MAX),
        }
    }
}

/// A disk from which nothing can be put aside.
#[derive(Debug, Default)]
struct Stuck;

impl Watch for Stuck {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        match touch {
            Touch::Rename { to, .. }
                if to.parent().is_some_and(|dir| dir.ends_with("quarantine")) =>
            {
                Err(io::ErrorKind::ReadOnlyFilesystem.into())
            }
            _ => Ok(usize::MAX),
        }
    }
}

struct Site {
    dir: tempfile::TempDir,
    disk: Arc<BadSector>,
    store: Store,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = Arc::new(BadSector::default());
        let store = Self::open(dir.path(), &disk);
        Self { dir, disk, store }
    }

    fn open(dir: &Path, disk: &Arc<BadSector>) -> Store {
        let config = Config { disk: Disk::watched(disk.clone()), ..Config::at(dir) };
        Store::open(&config, &Clock::system()).expect("the store opens")
    }

    async fn reopen(self) -> Self {
        let Self { dir, disk, store } = self;
        store.close().await;
        drop(store);
        let store = Self::open(dir.path(), &disk);
        Self { dir, disk, store }
    }

    async fn keep(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        commit(&self.store, &digest, bytes).await;
        digest
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("blobs/sha256").join(digest.encoded())
    }

    fn aside(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("wharf/quarantine").join(format!("sha256-{}", digest.encoded()))
    }

    async fn check(&self, digest: &Digest) -> Checked {
        self.store.check(digest, async |_| ()).await.expect("checked")
    }

    async fn quarantined(&self) -> Vec<Digest> {
        self.store.quarantined().await.expect("listed")
    }
}

async fn commit(store: &Store, digest: &Digest, bytes: &[u8]) {
    let size = Some(bytes.len() as u64);
    let begun = store.begin(digest, &repository("alpine"), size, true).await.expect("begun");
    let (partial, appended) = begun.append(vec![Bytes::copy_from_slice(bytes)]).await;
    appended.expect("appended");
    partial.verify().await.expect("right").commit().await.expect("committed");
}

/// Spoils the file of a blob.
type Damage = fn(&Site, &Path);

fn wrong(checked: Checked) -> (u64, String, Option<Seen>) {
    match checked {
        Checked::Wrong { size, why, seen } => (size, why, seen),
        right => panic!("{right:?}"),
    }
}

#[tokio::test]
async fn all_blobs_are_listed_once_in_the_order_of_their_digests() {
    let site = Site::new();
    let mut kept = Vec::new();
    for n in 0..23_u32 {
        let bytes = vec![7; n as usize];
        kept.push((site.keep(&bytes).await, u64::from(n)));
    }
    let long = Digest::of(Algorithm::Sha512, b"long");
    commit(&site.store, &long, b"long").await;
    kept.push((long, 4));
    kept.sort_unstable();
    for junk in ["README", ".new-7", &"0".repeat(63)] {
        fs::write(site.dir.path().join("blobs/sha256").join(junk), "junk").expect("written");
    }
    for n in [1, 5, 24, 100] {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let page = site.store.blobs_after(last.as_ref(), n).await.expect("listed");
            assert!(page.len() <= n);
            let Some((digest, _)) = page.last() else { break };
            last = Some(*digest);
            found.extend(page);
        }
        assert_eq!(found, kept, "{n} at once");
    }
    assert_eq!(site.store.blobs_after(None, 0).await.expect("listed"), []);
}

#[tokio::test]
async fn a_check_reads_all_of_a_blob_at_the_pace_that_it_is_given() {
    let site = Site::new();
    for len in [0, 1, LONG] {
        let digest = site.keep(&vec![9; len]).await;
        let mut pieces = Vec::new();
        let checked = site.store.check(&digest, async |piece| pieces.push(piece)).await;
        assert_eq!(checked.expect("checked"), Checked::Right(len as u64));
        assert_eq!(pieces.iter().sum::<u64>(), len as u64);
        assert!(pieces.iter().all(|piece| (1..=1 << 20).contains(piece)), "{pieces:?}");
    }
    assert_eq!(site.check(&Digest::sha256(b"never kept")).await, Checked::Missing);
}

#[tokio::test]
async fn a_check_can_be_a_task_of_its_own() {
    let Site { dir: _dir, disk: _, store } = Site::new();
    let digest = Digest::sha256(b"blob");
    commit(&store, &digest, b"blob").await;
    let checking = tokio::spawn(async move {
        store.check(&digest, async |_| tokio::task::yield_now().await).await.expect("checked")
    });
    assert_eq!(checking.await.expect("no panic"), Checked::Right(4));
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_put_aside() {
    let kinds: [(&str, Damage); 4] = [
        ("its bytes do not match", |_, blob| {
            let mut bytes = fs::read(blob).expect("there");
            bytes[LONG - 1] ^= 1;
            fs::write(blob, bytes).expect("written");
        }),
        ("its bytes do not match", |_, blob| {
            let file = File::options().write(true).open(blob).expect("there");
            file.set_len(LONG as u64 - 1).expect("cut off");
        }),
        ("its bytes do not match", |_, blob| fs::write(blob, "").expect("written")),
        ("it cannot be read: Input/output error", |site, blob| site.disk.hit(blob)),
    ];
    for (n, (expected, damage)) in kinds.into_iter().enumerate() {
        let bytes = vec![u8::try_from(n).expect("few"); LONG];
        let site = Site::new();
        let digest = site.keep(&bytes).await;
        damage(&site, &site.blob(&digest));
        let (size, why, seen) = wrong(site.check(&digest).await);
        assert!(why.starts_with(expected), "{n}: {why}");
        assert!(site.store.quarantine(&digest, seen, &why).await.expect("moved"), "{why}");
        assert_eq!(site.check(&digest).await, Checked::Missing);
        assert_eq!(site.store.sizes(vec![digest]).await.expect("read"), [None]);
        assert!(site.store.blob(&digest).await.expect("readable").is_none());
        assert_eq!(site.quarantined().await, [digest]);
        if n < 3 {
            assert_eq!(site.store.quarantine_holds(), size);
        }
        let note = fs::read(site.aside(&digest).with_extension("json")).expect("a note");
        let note: serde_json::Value = serde_json::from_slice(&note).expect("JSON");
        assert_eq!(note["why"], *why);
        assert!(note["at"].as_u64().expect("a time") > 1_700_000_000);
        site.store.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_put_aside_counts_as_missing_until_it_is_kept_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config { disk: Disk::watched(Arc::new(Stuck)), ..Config::at(dir.path()) };
    let store = Store::open(&config, &Clock::system()).expect("the store opens");
    let (digest, other) = (Digest::sha256(b"bytes"), Digest::sha256(b"other"));
    commit(&store, &digest, b"bytes").await;
    commit(&store, &other, b"other").await;
    let path = dir.path().join("blobs/sha256").join(digest.encoded());
    fs::write(&path, "wrong").expect("written");
    let check = async || store.check(&digest, async |_| ()).await.expect("checked");
    let (_, why, seen) = wrong(check().await);
    store.quarantine(&digest, seen, &why).await.expect_err("it stays where it is");
    assert!(path.exists() && store.is_condemned(&digest) && !store.is_condemned(&other));
    assert!(store.blob(&digest).await.expect("looked").is_none(), "nobody is served of it");
    assert_eq!(store.manifest(&digest).await.expect("looked"), None);
    assert_eq!(store.sizes(vec![digest, other]).await.expect("looked"), [None, Some(5)]);
    assert_eq!(store.quarantined().await.expect("listed"), [digest], "it is fetched again");
    wrong(check().await);
    commit(&store, &digest, b"bytes").await;
    assert_eq!(check().await, Checked::Right(5));
    assert!(!store.is_condemned(&digest));
    assert_eq!(store.sizes(vec![digest]).await.expect("looked"), [Some(5)]);
    assert_eq!(store.quarantined().await.expect("listed"), []);
    store.close().await;
}

#[tokio::test]
async fn one_manifest_that_the_disk_lost_keeps_no_other_image_from_going() {
    let site = Site::new();
    let alpine = repository("alpine");
    let images = [image(1), image(2)];
    for (n, image) in images.iter().enumerate() {
        keep(&site.store, &alpine, image, &[tag(&format!("v{n}"))]).await;
    }
    let site = site.reopen().await;
    site.disk.hit(&site.blob(&images[0].child.0.digest));
    site.store.set_limits(Limits { max_size: Share::Bytes(1), min_free: Share::Bytes(0) });
    site.store.keep_to_budget().await.expect("evicted");
    assert_eq!(site.store.tags(&alpine), []);
    site.store.close().await;
}

#[tokio::test]
async fn a_list_of_referrers_that_was_put_aside_is_kept_again() {
    let site = Site::new();
    let (alpine, subject) = (repository("alpine"), Digest::sha256(b"subject"));
    let list = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
    let index = descriptor(media_type::OCI_INDEX, &list);
    let keep = async || site.store.keep_referrers(&alpine, &subject, &index, &list).await;
    keep().await.expect("kept");
    fs::write(site.blob(&index.digest), "wrong").expect("written");
    let (_, why, seen) = wrong(site.check(&index.digest).await);
    assert!(site.store.quarantine(&index.digest, seen, &why).await.expect("moved"));
    keep().await.expect("kept again");
    assert_eq!(site.check(&index.digest).await, Checked::Right(list.len() as u64));
    site.store.close().await;
}

#[tokio::test]
async fn what_the_system_does_not_let_be_read_is_told_and_stays() {
    let site = Site::new();
    let digest = site.keep(b"bytes").await;
    fs::remove_file(site.blob(&digest)).expect("there");
    fs::create_dir(site.blob(&digest)).expect("made");
    let Checked::Unreadable(why) = site.check(&digest).await else { panic!("a directory") };
    assert_eq!(why, "it cannot be read: Is a directory (os error 21)");
    assert!(site.blob(&digest).exists());
}

#[tokio::test]
async fn a_blob_that_was_replaced_since_the_look_stays() {
    let site = Site::new();
    let digest = site.keep(b"bytes").await;
    fs::write(site.blob(&digest), "wrong").expect("written");
    let (_, why, seen) = wrong(site.check(&digest).await);
    commit(&site.store, &digest, b"bytes").await;
    assert!(!site.store.quarantine(&digest, seen, &why).await.expect("looked"));
    // One that can be opened is not put aside as one that cannot.
    assert!(!site.store.quarantine(&digest, None, &why).await.expect("looked"));
    assert_eq!(site.check(&digest).await, Checked::Right(5));
    let never = Digest::sha256(b"never kept");
    assert!(!site.store.quarantine(&never, None, &why).await.expect("looked"));
    assert_eq!((site.quarantined().await, site.store.quarantine_holds()), (Vec::new(), 0));
}

/// Between the look at this file and its move, lets somebody else run, and waits until he is done; not for long, because
/// whoever waits for the lock is not.
#[derive(Debug)]
struct Between(Mutex<Option<Turn>>);

/// The file, whose turn it is, and when that is over.
type Turn = (PathBuf, oneshot::Sender<()>, std::sync::mpsc::Receiver<()>);

impl Watch for Between {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        if let Touch::Rename { from, .. } = touch {
            // Not locked for longer: the other renames, too.
            let between = {
                let mut between = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                between.take_if(|(path, ..)| path == from)
            };
            if let Some((_, go, done)) = between {
                go.send(()).expect("somebody waits");
                let _ = done.recv_timeout(Duration::from_millis(300));
            }
        }
        Ok(usize::MAX)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_blob_that_comes_at_the_same_moment_is_not_put_aside() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let watch = Arc::new(Between(Mutex::new(None)));
    let config = Config { disk: Disk::watched(watch.clone()), ..Config::at(dir.path()) };
    let store = Store::open(&config, &Clock::system()).expect("the store opens");
    let digest = Digest::sha256(b"bytes");
    commit(&store, &digest, b"bytes").await;
    let path = dir.path().join("blobs/sha256").join(digest.encoded());
    fs::write(&path, "wrong").expect("written");
    let checked = store.check(&digest, async |_| ()).await.expect("checked");
    let (_, why, seen) = wrong(checked);

    let begun = store.begin(&digest, &repository("alpine"), Some(5), true).await.expect("begun");
    let (partial, appended) = begun.append(vec![Bytes::from_static(b"bytes")]).await;
    appended.expect("appended");
    let right = partial.verify().await.expect("right");
    let ((go, gone), (done, is_done)) = (oneshot::channel(), std::sync::mpsc::channel());
    *watch.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((path, go, is_done));
    let committing = tokio::spawn(async move {
        gone.await.expect("the other is between look and move");
        right.commit().await.expect("committed");
        // Nobody waits any more, if the lock was waited for.
        let _ = done.send(());
    });
    assert!(store.quarantine(&digest, seen, &why).await.expect("moved"));
    committing.await.expect("no panic");
    let checked = store.check(&digest, async |_| ()).await.expect("checked");
    assert_eq!(checked, Checked::Right(5));
    assert_eq!(store.quarantined().await.expect("listed"), []);
    assert_eq!(fs::read_dir(dir.path().join("wharf/quarantine")).expect("there").count(), 0);
    assert_eq!(store.quarantine_holds(), 0);
}

#[tokio::test]
async fn the_quarantine_outlives_a_start_and_ends_when_the_blob_is_kept_again() {
    let site = Site::new();
    let (first, second) = (site.keep(b"first").await, site.keep(b"second").await);
    for digest in [first, second] {
        fs::write(site.blob(&digest), "wrong").expect("written");
        let (_, why, seen) = wrong(site.check(&digest).await);
        assert!(site.store.quarantine(&digest, seen, &why).await.expect("moved"));
    }
    let orphan = site.aside(&Digest::sha256(b"gone")).with_extension("json");
    fs::write(&orphan, "{}").expect("written");
    let site = site.reopen().await;
    let mut both = [first, second];
    both.sort_unstable();
    assert_eq!((site.quarantined().await, site.store.quarantine_holds()), (both.to_vec(), 10));
    assert!(!orphan.exists(), "a note on nothing");

    commit(&site.store, &first, b"first").await;
    assert_eq!((site.quarantined().await, site.store.quarantine_holds()), (vec![second], 5));
    assert!(!site.aside(&first).exists() && !site.aside(&first).with_extension("json").exists());
    // Killed between the rename of the right one and the removal of the other.
    fs::write(site.blob(&second), "second").expect("written");
    let site = site.reopen().await;
    assert_eq!((site.quarantined().await, site.store.quarantine_holds()), (Vec::new(), 0));
    let left = fs::read_dir(site.dir.path().join("wharf/quarantine")).expect("there").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_damaged_manifest_is_told_of_once_and_kept_again() {
    for bad_sector in [false, true] {
        let (alpine, image) = (repository("alpine"), image(1));
        let site = Site::new();
        keep(&site.store, &alpine, &image, &[tag("latest")]).await;
        let digest = image.index.0.digest;
        let site = site.reopen().await;
        if bad_sector {
            site.disk.hit(&site.blob(&digest));
        } else {
            let damaged = String::from_utf8_lossy(&image.index.1).replace('2', "3");
            fs::write(site.blob(&digest), damaged).expect("written");
        }
        let read = site.store.manifest(&digest).await;
        let is_told = matches!(&read, Err(Error::Damaged { digest: told, .. }) if *told == digest);
        assert!(is_told, "{read:?}");
        assert_eq!(site.store.manifest(&digest).await.expect("missing"), None);
        assert_eq!(site.quarantined().await, [digest]);
        keep(&site.store, &alpine, &image, &[tag("latest")]).await;
        assert_keeps(&site.store, &alpine, &image, &tag("latest")).await;
        assert_eq!(site.quarantined().await, []);
        site.store.close().await;
    }
}

#[tokio::test]
async fn a_manifest_in_memory_goes_with_its_file_and_a_long_blob_is_no_damaged_manifest() {
    let (alpine, image) = (repository("alpine"), image(1));
    let site = Site::new();
    keep(&site.store, &alpine, &image, &[]).await;
    let digest = image.child.0.digest;
    let blob = site.store.blob(&digest).await.expect("readable").expect("kept");
    let seen = blob.file().seen();
    assert!(site.store.quarantine(&digest, seen, "a test").await.expect("moved"));
    assert_eq!(site.store.manifest(&digest).await.expect("missing"), None);

    let long = site.keep(&vec![1; MANIFEST_MAX_BYTES + 1]).await;
    assert_eq!(site.store.manifest(&long).await.expect("no manifest"), None);
    assert!(site.store.blob(&long).await.expect("readable").is_some());
}
