//! A partial file is gone on with as far as something vouches for its bytes, whatever became of the rest.

use std::{fs, io::Write as _, path::PathBuf};

use super::*;

const KIB: usize = 1024;

/// Where pieces of 48 KiB have their checkpoints.
const FIRST: u64 = 11 * 48 * 1024;
const SECOND: u64 = 2 * FIRST;

/// What becomes of a file's bytes.
type Damage = fn(&mut Vec<u8>);

/// A blob of two mebibytes, and its download that was killed after `written` bytes.
struct Killed {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Killed {
    async fn after(written: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bytes: Vec<u8> = (0..2048 * KIB).map(|n| (n * n % 251) as u8).collect();
        let killed = Self { dir, digest: Digest::sha256(&bytes), bytes };
        let store = open(killed.dir.path(), u64::MAX);
        let mut partial = killed.begin(&store).await;
        for chunk in killed.bytes[..written].chunks(48 * KIB) {
            let appended;
            (partial, appended) = partial.append(vec![Bytes::copy_from_slice(chunk)]).await;
            appended.expect("appended");
        }
        partial.kill();
        store.close().await;
        killed
    }

    async fn begin(&self, store: &Store) -> PartialBlob {
        let size = Some(self.bytes.len() as u64);
        store.begin(&self.digest, &repository("alpine"), size, true).await.expect("begun")
    }

    fn partial(&self) -> PathBuf {
        let name = self.digest.to_string().replace(':', "-");
        self.dir.path().join("wharf/partial").join(name)
    }

    fn sidecar(&self) -> PathBuf {
        self.partial().with_extension("json")
    }

    /// Where the download goes on; the rest is then appended, and the blob must be right.
    async fn goes_on_at(&self) -> u64 {
        let store = open(self.dir.path(), u64::MAX);
        let partial = self.begin(&store).await;
        let at = partial.written();
        let rest = &self.bytes[usize::try_from(at).expect("in memory")..];
        let (partial, appended) = partial.append(vec![Bytes::copy_from_slice(rest)]).await;
        appended.expect("appended");
        let blob = partial.verify().await.expect("right").commit().await.expect("committed");
        assert_eq!(blob.size(), self.bytes.len() as u64);
        assert_eq!(fs::read_dir(self.dir.path().join("wharf/partial")).expect("there").count(), 0);
        store.close().await;
        at
    }
}

#[tokio::test]
async fn a_killed_download_loses_less_than_a_mebibyte() {
    for written in [0, 1, 511 * KIB, 513 * KIB, 1500 * KIB, 2047 * KIB] {
        let at = Killed::after(written).await.goes_on_at().await;
        assert!(at <= written as u64, "{at} of {written}");
        assert!(written as u64 - at < 600 * 1024, "{at} of {written}");
    }
}

#[tokio::test]
async fn a_download_that_is_left_loses_nothing() {
    let killed = Killed::after(700 * KIB).await;
    let store = open(killed.dir.path(), u64::MAX);
    let partial = killed.begin(&store).await;
    let at = usize::try_from(partial.written()).expect("in memory");
    let more = Bytes::copy_from_slice(&killed.bytes[at..at + 5]);
    let (partial, appended) = partial.append(vec![more]).await;
    appended.expect("appended");
    partial.leave().await;
    store.close().await;
    drop(store);
    assert_eq!(killed.goes_on_at().await, at as u64 + 5);
}

#[tokio::test]
async fn what_a_power_cut_made_of_the_bytes_is_fetched_again() {
    let damage: [(&str, Damage, u64); 5] = [
        ("zeros at the end", |bytes| bytes[1_100_000..].fill(0), SECOND),
        ("zeros in the middle", |bytes| bytes[600_000..604_096].fill(0), FIRST),
        ("the first page", |bytes| bytes[..4096].fill(0), 0),
        ("the end is missing", |bytes| bytes.truncate(1_090_000), SECOND),
        ("more than there was", |bytes| bytes.resize(3_000_000, 7), SECOND),
    ];
    for (what, damage, expected) in damage {
        let killed = Killed::after(1500 * KIB).await;
        let mut bytes = fs::read(killed.partial()).expect("readable");
        damage(&mut bytes);
        fs::write(killed.partial(), bytes).expect("writable");
        let at = killed.goes_on_at().await;
        assert_eq!(at, expected, "{what}");
    }
}

#[tokio::test]
async fn what_a_power_cut_made_of_the_checkpoints_costs_no_more_than_they_vouched_for() {
    let killed = Killed::after(1500 * KIB).await;
    let text = fs::read_to_string(killed.sidecar()).expect("readable");
    fs::write(killed.sidecar(), &text[..text.len() - 20]).expect("writable");
    let at = killed.goes_on_at().await;
    assert_eq!(at, FIRST, "the last line is torn");

    let killed = Killed::after(1500 * KIB).await;
    let mut file = fs::File::options().append(true).open(killed.sidecar()).expect("there");
    file.write_all(&[0; 512]).expect("written");
    let at = killed.goes_on_at().await;
    assert_eq!(at, SECOND, "zeros behind the last line");

    let killed = Killed::after(1500 * KIB).await;
    fs::write(killed.sidecar(), text.lines().next().expect("a line")).expect("writable");
    assert_eq!(killed.goes_on_at().await, 0, "an older wharf wrote no checkpoints");

    for lost in ["", "\0\0\0\0", "{}\n{}\n", "\n"] {
        let killed = Killed::after(1500 * KIB).await;
        fs::write(killed.sidecar(), lost).expect("writable");
        assert_eq!(killed.goes_on_at().await, 0, "{lost:?}");
    }
    let killed = Killed::after(1500 * KIB).await;
    fs::remove_file(killed.sidecar()).expect("deleted");
    assert_eq!(killed.goes_on_at().await, 0, "nothing vouches for it");
}

#[tokio::test]
async fn checkpoints_of_another_attempt_vouch_for_nothing() {
    let killed = Killed::after(1500 * KIB).await;
    let store = open(killed.dir.path(), u64::MAX);
    let (partial, restarted) = killed.begin(&store).await.restart().await;
    restarted.expect("emptied");
    let (partial, appended) =
        partial.append(vec![Bytes::copy_from_slice(&killed.bytes[..9])]).await;
    appended.expect("appended");
    partial.kill();
    store.close().await;
    drop(store);
    assert_eq!(killed.goes_on_at().await, 0);
}

#[tokio::test]
async fn what_a_power_cut_leaves_of_a_name_is_no_download() {
    let whole = Killed::after(2048 * KIB).await;
    let lines = fs::read(whole.sidecar()).expect("readable");
    assert!(whole.goes_on_at().await > 0);
    // The new name reached the disk, and that the old one is gone did not.
    let blob = whole.dir.path().join("blobs/sha256").join(whole.digest.encoded());
    fs::hard_link(&blob, whole.partial()).expect("linked");
    fs::write(whole.sidecar(), lines).expect("written");
    // The file beside another download is lost.
    let other = whole.partial().with_file_name(format!("sha256-{}", "a".repeat(64)));
    fs::write(&other, "bytes that nothing vouches for").expect("written");
    for _ in 0..2 {
        let store = open(whole.dir.path(), u64::MAX);
        assert!(!whole.partial().exists() && !other.exists());
        assert_eq!(store.usage().partial, 0);
        store.close().await;
        drop(store);
    }
    assert!(!whole.sidecar().exists());
    assert!(fs::read(blob).expect("kept") == whole.bytes);
}

#[tokio::test]
async fn a_blob_whose_last_byte_may_be_given_away_is_whole_after_a_kill() {
    let killed = Killed::after(2047 * KIB).await;
    let store = open(killed.dir.path(), u64::MAX);
    let partial = killed.begin(&store).await;
    let at = usize::try_from(partial.written()).expect("in memory");
    let rest = Bytes::copy_from_slice(&killed.bytes[at..]);
    let (partial, appended) = partial.append(vec![rest]).await;
    appended.expect("appended");
    partial.verify().await.expect("right").kill();
    store.close().await;
    drop(store);
    assert_eq!(killed.goes_on_at().await, killed.bytes.len() as u64);
}
