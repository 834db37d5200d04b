//! A disk that dies at any operation, and what the next start makes of that.

use std::{
    fs, io,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{Join, State, Volumes};
use crate::{
    clock::Clock,
    oci::{Algorithm, Digest},
    store::{Config, Disk, Error, Limits, Share, Store, Touch, Watch},
};

const SIZE: usize = 100_000;
const PARTS: [(u32, Range<usize>); 3] = [(2, 40_000..70_000), (1, 0..40_000), (3, 70_000..SIZE)];

/// Takes so many operations, and none after them; and remembers what was written into cut blobs.
#[derive(Debug)]
struct Mortal {
    left: AtomicUsize,
    written: Mutex<Vec<Range<u64>>>,
}

impl Mortal {
    fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(usize::MAX), written: Mutex::default() })
    }
}

impl Watch for Mortal {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        let used = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            if left == usize::MAX { Some(left) } else { left.checked_sub(1) }
        });
        used.map_err(|_| io::Error::other("dead"))?;
        if let Touch::Write { path, at, bytes } = touch {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("sha256-") {
                let written = at..at + bytes.len() as u64;
                self.written.lock().expect("whole").push(written);
            }
        }
        Ok(usize::MAX)
    }
}

fn content() -> Bytes {
    (0..SIZE).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()
}

fn open(dir: &Path, watch: &Arc<Mortal>) -> Store {
    let watch: Arc<dyn Watch> = watch.clone();
    let limits = Limits { max_size: Share::Bytes(1 << 30), min_free: Share::Bytes(0) };
    let config = Config { limits, disk: Disk::watched(watch), ..Config::at(dir) };
    Store::open(&config, &Clock::system()).expect("a usable directory")
}

/// The set that waits, or a new one.
async fn set(store: &Store) -> Result<Volumes, Error> {
    let document = Bytes::from_static(b"contents");
    match store.volume_sets().await.pop() {
        Some((volumes, found)) => {
            assert_eq!(found, document);
            Ok(volumes)
        }
        None => store.begin_volumes(&Digest::sha256(&document), document, 3).await,
    }
}

/// Brings all volumes of the blob, of which those that were kept are added to `kept`.
async fn bring(store: &Store, kept: &mut Vec<Range<u64>>) -> Result<Volumes, Error> {
    let (content, mut volumes) = (content(), set(store).await?);
    let digest = Digest::sha256(&content);
    volumes.resume(3, 7)?;
    for (number, range) in PARTS {
        let places = range.start as u64..range.end as u64;
        let is_here = store.sizes(vec![digest]).await? == [Some(SIZE as u64)];
        let lacking = volumes.lacking(&digest, places.clone()).expect("few");
        if !is_here && lacking > 0 {
            let room = store.room(lacking).await?;
            let mut part = volumes.begin(&digest, places.clone(), room)?;
            for piece in content[range].chunks(9_999) {
                if let Err(error) = part.write(piece) {
                    volumes.give_up(part);
                    return Err(error);
                }
            }
            volumes.keep(part, number)?;
            kept.push(places);
        }
        if volumes.has_all(&digest, SIZE as u64) {
            assert_eq!(volumes.join(&digest, SIZE as u64, || true)?, Join::Kept);
        }
        volumes.taken(number)?;
    }
    Ok(volumes)
}

#[tokio::test]
async fn whenever_the_disk_dies_the_next_start_goes_on_and_writes_nothing_again() {
    let content = content();
    let digest = Digest::sha256(&content);
    let mut died = 0;
    for operations in 0.. {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mortal = Mortal::new();
        let store = open(dir.path(), &mortal);
        mortal.left.store(operations, Ordering::Relaxed);
        let mut kept = Vec::new();
        let brought = bring(&store, &mut kept).await;
        let is_over = brought.is_ok();
        drop(brought);
        store.close().await;
        drop(store);
        died += usize::from(!is_over);

        let watch = Mortal::new();
        let store = open(dir.path(), &watch);
        let volumes = bring(&store, &mut Vec::new()).await.expect("the disk is well");
        let written = watch.written.lock().expect("whole").clone();
        for before in &kept {
            let again = written.iter().any(|now| now.start < before.end && before.start < now.end);
            assert!(!again, "{operations}: {before:?} again: {written:?}");
        }
        assert_eq!(fs::read(store.layout.blob(&digest)).expect("it is here"), content);
        assert_eq!((volumes.here(), volumes.missing().count()), (3, 0), "{operations}");
        let usage = store.usage();
        assert_eq!(usage.bytes - usage.partial, SIZE as u64, "{operations}");
        volumes.delete();
        assert_eq!(store.usage().partial, 0, "{operations}");
        let left = fs::read_dir(dir.path().join("wharf/volumes")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{operations}");
        store.close().await;
        if is_over {
            break;
        }
    }
    assert!(died > 40, "it died {died} times");
}

#[tokio::test]
async fn what_is_no_set_is_deleted_at_the_start_and_what_is_lost_of_one_is_not_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let watch = Mortal::new();
    let content = content();
    let digest = Digest::sha256(&content);
    let store = open(dir.path(), &watch);
    let mut volumes = set(&store).await.expect("begun");
    let room = store.room(40_000).await.expect("room");
    let mut part = volumes.begin(&digest, 0..40_000, room).expect("begun");
    part.write(&content[..40_000]).expect("written");
    volumes.keep(part, 1).expect("kept");
    volumes.taken(1).expect("kept");
    let at = volumes.dir();
    store.close().await;
    drop((store, volumes));
    let name = format!("{}-{}", Algorithm::Sha256.as_str(), digest.encoded());
    let others = at.parent().expect("a directory");
    for (dir, file) in [("nothing", "x"), (&*"0".repeat(64), "state.json")] {
        fs::create_dir(others.join(dir)).expect("made");
        fs::write(others.join(dir).join(file), "{}").expect("written");
    }
    fs::write(at.join(format!("sha256-{}", "0".repeat(64))), "stray").expect("written");
    // A power cut, behind what was synced.
    let file = fs::OpenOptions::new().write(true).open(at.join(&name)).expect("there");
    file.set_len(50_000).expect("longer");

    let store = open(dir.path(), &watch);
    let sets = store.volume_sets().await;
    let [(volumes, _)] = sets.as_slice() else { panic!("one set: {sets:?}") };
    assert_eq!((volumes.part_bytes(), volumes.here()), (40_000, 1));
    assert_eq!(fs::metadata(at.join(&name)).expect("there").len(), 40_000);
    assert_eq!(fs::read_dir(others).expect("there").count(), 1);
    assert_eq!(fs::read_dir(&at).expect("there").count(), 3);
    store.close().await;
    drop((store, sets));

    // What the disk has lost of it is brought again.
    file.set_len(30_000).expect("shorter");
    let store = open(dir.path(), &watch);
    let mut volumes = store.volume_sets().await.pop().expect("one set").0;
    assert_eq!(volumes.part_bytes(), 0);
    assert!(!at.join(&name).exists());
    volumes.recall().expect("written");
    assert_eq!(volumes.missing().collect::<Vec<_>>(), [1, 2, 3]);
    store.close().await;
}

#[test]
fn a_state_that_tells_of_volumes_that_there_are_not_is_of_no_set() {
    let state = |of: u32, taken: &str, volumes: &str| {
        let digest = Digest::sha256(b"");
        let cut = format!(r#"{{"{digest}":{{"bytes":[[0,9]],"volumes":{volumes}}}}}"#);
        format!(r#"{{"form":1,"of":{of},"touched":7,"taken":{taken},"cut":{cut}}}"#)
    };
    let is_read = |text: String| State::read(text.as_bytes()).is_some();
    assert!(is_read(state(3, "[[1,2]]", "[[1,4]]")));
    // Each would be gone through, one by one.
    let all = format!("[[1,{}]]", u64::MAX);
    for (taken, volumes) in [("[]", &*all), (&*all, "[]"), ("[[1,5]]", "[]"), ("[]", "[[0,4]]")] {
        assert!(!is_read(state(3, taken, volumes)), "{taken} {volumes}");
    }
    assert!(!is_read(state(u32::MAX, "[[1,2]]", "[]")), "more than any set has");
}
