//! A download that goes on: from the last byte that something vouches for, whatever happened to file and lines.

use super::*;
use crate::store::origin::CHECKPOINT_BYTES;

const BEYOND: usize = 100_000;

fn point(n: usize) -> usize {
    n * usize::try_from(CHECKPOINT_BYTES).expect("few bytes")
}

/// Noise that is longer than what the tests download of it.
fn whole() -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..point(6)).map(next).collect()
}

/// Changes the bytes and the lines of a download that was killed at `point(4) + BEYOND`.
type Damage = fn(&mut Vec<u8>, &mut Vec<u8>);

/// Each with the byte from which the download must go on.
fn damages() -> [(&'static str, Damage, usize); 11] {
    [
        ("killed", |_, _| {}, point(4)),
        ("its tail is garbage", |bytes, _| bytes[point(4) - 10..].fill(7), point(3)),
        ("zeros in the middle", |bytes, _| bytes[point(2) + 5..point(2) + 4096].fill(0), point(2)),
        ("cut off", |bytes, _| bytes.truncate(point(1) + 1), point(1)),
        ("empty", |bytes, _| bytes.clear(), 0),
        ("longer than the blob", |bytes, _| bytes.resize(point(7), 9), point(4)),
        ("a torn line", |_, lines| lines.truncate(lines.len() - 9), point(3)),
        (
            "zeros among the lines",
            |_, lines| {
                let ends: Vec<_> = (0..lines.len()).filter(|at| lines[*at] == b'\n').collect();
                lines[ends[2] + 3..].fill(0);
            },
            point(2),
        ),
        ("of the first form", |_, lines| lines.truncate(first_line(lines)), point(4) + BEYOND),
        ("nothing but an origin", |_, lines| lines.truncate(first_line(lines) + 1), 0),
        ("no lines", |_, lines| lines.clear(), 0),
    ]
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|&b| b == b'\n').expect("a line")
}

#[tokio::test]
async fn a_download_goes_on_from_the_last_byte_that_is_vouched_for() {
    let whole = whole();
    let size = Some(whole.len() as u64);
    for algorithm in Algorithm::ALL {
        let (dir, alpine) =
            (tempfile::tempdir().expect("a temporary directory"), repository("alpine"));
        let digest = Digest::of(algorithm, &whole);
        let path = dir.path().join(format!("wharf/partial/{digest}").replace(':', "-"));
        for (what, damage, expected) in damages() {
            let store = open(dir.path(), u64::MAX);
            let mut begun = store.begin(&digest, &alpine, size, true).await.expect("begun");
            assert_eq!(begun.written(), 0, "{what}");
            for piece in whole[..point(4) + BEYOND].chunks(70_001) {
                let appended;
                (begun, appended) = begun.append(vec![Bytes::copy_from_slice(piece)]).await;
                appended.expect("appended");
            }
            let mut lines = fs::read(path.with_extension("json")).expect("readable");
            drop(begun);
            let begun = store.begin(&digest, &alpine, size, true).await.expect("begun");
            assert_eq!(begun.written(), (point(4) + BEYOND) as u64, "set aside, not killed");
            drop(begun);
            store.close().await;
            drop(store);
            let mut bytes = fs::read(&path).expect("readable");
            damage(&mut bytes, &mut lines);
            fs::write(&path, bytes).expect("writable");
            fs::write(path.with_extension("json"), lines).expect("writable");
            if what == "no lines" {
                fs::remove_file(path.with_extension("json")).expect("removed");
            }

            let store = open(dir.path(), u64::MAX);
            let begun = store.begin(&digest, &alpine, size, true).await.expect("begun");
            assert_eq!(begun.written(), expected as u64, "{algorithm:?}: {what}");
            assert_eq!(fs::metadata(&path).expect("there").len(), expected as u64, "{what}");
            // Nothing of what was forgotten is left between what comes now.
            let (begun, appended) =
                begun.append(vec![Bytes::copy_from_slice(&whole[expected..point(5)])]).await;
            appended.expect("appended");
            drop(begun);
            let begun = store.begin(&digest, &alpine, size, true).await.expect("begun");
            assert_eq!(begun.written(), point(5) as u64, "{what}");
            let (begun, appended) =
                begun.append(vec![Bytes::copy_from_slice(&whole[point(5)..])]).await;
            appended.expect("appended");
            let verified = begun.verify().await.unwrap_or_else(|| panic!("{what}: other bytes"));
            verified.commit().await.expect("committed");
            let blob = dir.path().join("blobs").join(algorithm.as_str()).join(digest.encoded());
            assert!(fs::read(&blob).expect("kept") == whole, "{what}");
            assert_eq!(fs::read_dir(dir.path().join("wharf/partial")).expect("there").count(), 0);
            fs::remove_file(blob).expect("removed");
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_a_kept_blobs_as_well_is_not_written_to() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path(), u64::MAX);
    let (digest, alpine) = (Digest::sha256(b"whole"), repository("alpine"));
    let begun = store.begin(&digest, &alpine, None, true).await.expect("begun");
    let (begun, appended) = begun.append(vec![Bytes::from_static(b"whole")]).await;
    appended.expect("appended");
    let path = dir.path().join(format!("wharf/partial/sha256-{}", digest.encoded()));
    let lines = fs::read(path.with_extension("json")).expect("readable");
    begun.verify().await.expect("the bytes").commit().await.expect("committed");
    store.close().await;
    drop(store);
    // The power went after the new name was durable, and before the old one was gone.
    let blob = dir.path().join("blobs/sha256").join(digest.encoded());
    fs::hard_link(&blob, &path).expect("linked");
    fs::write(path.with_extension("json"), lines).expect("written");
    let store = open(dir.path(), u64::MAX);
    assert_eq!(fs::read_dir(dir.path().join("wharf/partial")).expect("there").count(), 0);
    assert_eq!(fs::read(blob).expect("kept"), b"whole");
    store.close().await;
}
