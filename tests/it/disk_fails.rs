//! A cache that cannot write relays (bug class: a full or failing disk fails the pull, passes for a good one, or is
//! still avoided when it is well again).

use std::fs;

use futures_util::future::join_all;
use wharf::oci::Digest;

use crate::support::{
    Blob, FakeHub, Fault, Gate, On, Program, PushedManifest, Seen, Wharf, blob_path,
    client::{self, Answer, Stream},
    deadline, partials,
};

const REPO: &str = "library/busybox";
const MIB: usize = 1 << 20;
const STORE_FAILURES: &str = "wharf_store_failures_total";
const RELAY_FAILURES: &str = r#"wharf_verify_failures_total{stage="relay"}"#;
const DOWNLOADS: &str = "wharf_downloads_in_flight";

/// An image of one layer, which lies at the second path; the manifest lies at the first.
type Pushed = (PushedManifest, Blob, [String; 2]);

fn push(hub: &FakeHub, tag: &str, size: usize) -> Pushed {
    let image = hub.push_single(REPO, tag, ("linux", "arm64", None), &[size]);
    let manifest = format!("/v2/{REPO}/manifests/{}", image.manifest.digest);
    let layer = image.layers[0].clone();
    let paths = [manifest, blob_path(REPO, &layer.digest)];
    (image, layer, paths)
}

fn how(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status.as_u16(), answer.header("wharf-cache"))
}

/// Takes the directory of downloads away, so that nothing new can be kept: not even root writes below a file.
fn break_disk(wharf: &Wharf) {
    let partial = wharf.cache().join("wharf/partial");
    fs::remove_dir(&partial).expect("nothing is in it");
    fs::write(partial, "").expect("the rest of the directory works");
}

fn mend_disk(wharf: &Wharf) {
    let partial = wharf.cache().join("wharf/partial");
    fs::remove_file(&partial).expect("it is there");
    fs::create_dir(partial).expect("the rest of the directory works");
}

fn assert_degraded(said: &str) {
    assert!(said.starts_with("degraded: the cache could not be written: "), "{said}");
}

async fn readiness(wharf: &Wharf) -> String {
    let answer = client::get(wharf.admin, "/readyz", &[]).await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.bytes().to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_digest_that_nobody_has_costs_no_file() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start(&hub).await;
    // It would be noticed.
    break_disk(&wharf);
    for n in 0..3_u8 {
        let answer = wharf.get(&blob_path(REPO, &Digest::sha256(&[n]))).await;
        assert_eq!(answer.status, 404);
    }
    assert_eq!(readiness(&wharf).await, "ok\n");
    mend_disk(&wharf);
    wharf.stop().await;
}

/// That the disk takes nothing is found when its registry has begun to send it.
#[tokio::test]
async fn a_blob_that_no_manifest_names_is_asked_for_once_past_the_disk() {
    let hub = FakeHub::start().await;
    let lone = hub.put_blob(REPO, "a blob that no manifest names");
    let wharf = Wharf::start(&hub).await;
    break_disk(&wharf);
    let answer = wharf.get(&blob_path(REPO, &lone)).await;
    assert_eq!(
        (how(&answer), &answer.bytes()[..]),
        ((200, Some("relay")), &b"a blob that no manifest names"[..])
    );
    assert_eq!(hub.blob_gets(&lone).len(), 1);
    mend_disk(&wharf);
    wharf.end().await;
}

#[tokio::test]
async fn pulls_go_on_as_relays_until_the_directory_is_well_again() {
    let hub = FakeHub::start().await;
    let (image, layer, paths) = push(&hub, "latest", 500_000);
    let lone = blob_path(REPO, &hub.put_blob(REPO, "a blob that no manifest names"));
    let unknown = blob_path(REPO, &Digest::sha256(b"no such blob"));
    let wharf = Wharf::start(&hub).await;
    assert_eq!(readiness(&wharf).await, "ok\n");
    break_disk(&wharf);

    assert_eq!(wharf.get(&unknown).await.status, 404);
    for _ in 0..2 {
        for (path, part) in paths.iter().zip([&image.manifest, &layer]) {
            let answer = wharf.get(path).await;
            assert_eq!(how(&answer), (200, Some("relay")));
            answer.expect(&part.bytes);
            assert!(!wharf.blob_file(&part.digest).exists());
        }
        let part = wharf.open(&paths[1], &[("range", "bytes=100000-399999")]).await;
        assert_eq!(part.header("content-range"), Some("bytes 100000-399999/500000"));
        part.expect(&layer.bytes.slice(100_000..400_000)).await;
    }
    assert_eq!(hub.blob_gets(&layer.digest).len(), 4, "each client has its own");
    assert!(wharf.metric(STORE_FAILURES) >= 6.0);
    // What this leads to, a few bytes in the journal, can be written.
    assert_eq!(wharf.get(&lone).await.bytes(), "a blob that no manifest names");
    wharf.quiet().await;
    assert_degraded(&readiness(&wharf).await);

    mend_disk(&wharf);
    for outcome in ["miss", "hit"] {
        for path in &paths {
            assert_eq!(how(&wharf.get(path).await), (200, Some(outcome)));
            wharf.quiet().await;
        }
    }
    assert_eq!(readiness(&wharf).await, "ok\n");
    hub.clear_log();
    wharf.get(&paths[1]).await.expect(&layer.bytes);
    assert_eq!(hub.count(|_| true), 0, "{:?}", hub.log());
    wharf.end().await;
}

#[tokio::test]
async fn those_who_pull_at_the_same_time_share_one_stream_past_the_disk() {
    let hub = FakeHub::start().await;
    let (_, layer, [manifest, path]) = push(&hub, "latest", 4 * MIB);
    let wharf = Wharf::start(&hub).await;
    wharf.get(&manifest).await;
    break_disk(&wharf);
    let gate = Gate::after(100_000);
    hub.fault_next(1, On::Blobs, Fault::Gate(gate.clone()));
    let mut readers = Vec::new();
    for _ in 0..10 {
        let mut reader = wharf.open(&path, &[]).await;
        let begin = reader.read(50_000).await;
        assert!(layer.bytes.starts_with(&begin), "no later than the others");
        readers.push((reader, begin.len()));
    }
    let mut part = wharf.open(&path, &[("range", "bytes=200000-299999")]).await;
    gate.open();
    let part = part.read(100_000);
    let whole = readers.into_iter().map(async |(reader, from)| {
        assert!(reader.rest().await.bytes() == &layer.bytes[from..]);
    });
    let (_, part) = tokio::join!(join_all(whole), part);
    assert!(part == layer.bytes[200_000..300_000]);
    wharf.quiet().await;
    let sent = hub.blob_bytes_sent(&layer.digest);
    assert!(sent <= 5 * MIB as u64, "sent {sent} bytes for eleven readers of {}", 4 * MIB);

    // A byte that is wrong is found for all of them.
    hub.fault(On::Blob(layer.digest), Fault::FlipByte(3 * MIB as u64));
    let gate = Gate::after(100_000);
    hub.fault_next(1, On::Blobs, Fault::Gate(gate.clone()));
    let opened = [wharf.open(&path, &[]).await, wharf.open(&path, &[]).await];
    gate.open();
    for answer in join_all(opened.map(async |reader| reader.rest().await)).await {
        assert!(answer.cut().len() < 4 * MIB);
    }
    wharf.quiet().await;
    mend_disk(&wharf);
    wharf.end().await;
}

#[tokio::test]
async fn what_is_kept_is_served_by_a_cache_that_cannot_write() {
    let mut hub = FakeHub::start().await;
    let (image, layer, paths) = push(&hub, "latest", 200_000);
    let wharf = Wharf::start(&hub).await;
    for path in &paths {
        wharf.get(path).await;
    }
    wharf.quiet().await;
    break_disk(&wharf);
    hub.stop().await;
    for (path, part) in paths.iter().zip([&image.manifest, &layer]) {
        let answer = wharf.get(path).await;
        assert_eq!(how(&answer), (200, Some("hit")));
        answer.expect(&part.bytes);
    }
    mend_disk(&wharf);
    wharf.end().await;
}

#[tokio::test]
async fn a_relay_that_carries_a_wrong_byte_is_cut() {
    let hub = FakeHub::start().await;
    let (_, layer, [_, path]) = push(&hub, "latest", 300_000);
    let wharf = Wharf::start(&hub).await;
    break_disk(&wharf);
    for (at, failures) in [(0, 1.0), (299_999, 2.0)] {
        hub.fault(On::Blob(layer.digest), Fault::FlipByte(at));
        let answer = wharf.get(&path).await;
        assert_eq!(how(&answer), (200, Some("relay")));
        assert!(answer.cut().len() < 300_000);
        assert_eq!(wharf.metric(RELAY_FAILURES), failures);
        hub.clear_faults();
    }
    hub.fault(On::Blob(layer.digest), Fault::CutAfter(100_000));
    hub.clear_log();
    wharf.get(&path).await.expect(&layer.bytes);
    assert_eq!(hub.blob_bytes_sent(&layer.digest), 300_000, "a relay resumes, too");
    mend_disk(&wharf);
    wharf.end().await;
}

/// Pulls the manifest and the layer; how each was answered.
async fn pull(wharf: &Program, (image, layer, paths): &Pushed) -> [String; 2] {
    let mut outcomes = [const { String::new() }; 2];
    for (n, part) in [&image.manifest, layer].into_iter().enumerate() {
        let answer = client::get(wharf.addr, &paths[n], &[]).await;
        answer.expect(&part.bytes);
        outcomes[n] = answer.header("wharf-cache").unwrap_or_default().to_owned();
        wharf.until_zero(DOWNLOADS).await;
    }
    outcomes
}

async fn open(wharf: &Program, path: &str, headers: client::Headers<'_>) -> Stream {
    client::open("GET", wharf.addr, path, headers).await.expect("an answer begins")
}

#[tokio::test]
async fn readers_go_on_past_a_disk_that_fills_under_a_download() {
    let (size, room) = (16 * MIB, 5 * MIB + 12_345);
    let hub = FakeHub::start().await;
    let (_, layer, [manifest, path]) = push(&hub, "latest", size);
    let (blob, digest) = (layer.bytes, layer.digest);
    let wharf = Program::start(&hub).await;
    client::get(wharf.addr, &manifest, &[]).await;
    let gate = Gate::after(MIB as u64);
    hub.fault_next(1, On::Blobs, Fault::Gate(gate.clone()));

    let mut readers = Vec::new();
    let late = [3 * MIB..size, size - 10..size, 9 * MIB..10 * MIB];
    for range in late.into_iter().chain([0..size, 4 * MIB..7 * MIB, 0..MIB]) {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        readers.push((open(&wharf, &path, &[("range", &header)]).await, range));
    }
    gate.halted(1).await;
    wharf.limit_files(Some(room as u64));
    gate.open();
    let reading = readers.into_iter().map(async |(reader, range)| {
        assert_eq!(reader.status, 206);
        reader.expect(&blob.slice(range)).await;
    });
    join_all(reading).await;
    wharf.until_zero(DOWNLOADS).await;
    assert!(wharf.metric(STORE_FAILURES).await >= 1.0);
    assert_degraded(&wharf.admin("/readyz").await);
    let gets = hub.blob_gets(&digest);
    let behind = format!("bytes={room}-");
    let went_on = |seen: &&Seen| seen.range.as_ref() == Some(&behind);
    assert_eq!(
        gets.iter().filter(went_on).count(),
        1,
        "for all three from where the disk was full"
    );
    assert_eq!(
        gets.len(),
        1 + 1 + 2,
        "and one for each of the two who want only what is far ahead"
    );

    // The next download begins well on the same disk, which proves nothing.
    let gate = Gate::after(MIB as u64);
    hub.fault_next(1, On::Blobs, Fault::Gate(gate.clone()));
    let reader = open(&wharf, &path, &[]).await;
    gate.halted(1).await;
    assert_degraded(&wharf.admin("/readyz").await);
    gate.open();
    reader.expect(&blob).await;
    wharf.until_zero(DOWNLOADS).await;

    wharf.limit_files(None);
    for outcome in ["miss", "hit"] {
        let reader = open(&wharf, &path, &[]).await;
        assert_eq!(reader.header("wharf-cache"), Some(outcome));
        reader.expect(&blob).await;
        wharf.until_zero(DOWNLOADS).await;
    }
    assert_eq!(wharf.admin("/readyz").await, "ok\n");
    wharf.end().await;
}

#[tokio::test]
async fn a_wrong_byte_that_the_disk_took_is_found_by_those_who_go_on_without_it() {
    let hub = FakeHub::start().await;
    let (_, layer, [manifest, path]) = push(&hub, "latest", 8 * MIB);
    let wharf = Program::start(&hub).await;
    client::get(wharf.addr, &manifest, &[]).await;
    wharf.limit_files(Some(2 << 20));
    hub.fault(On::Blob(layer.digest), Fault::FlipByte(1 << 20));
    let answer = client::get(wharf.addr, &path, &[]).await;
    assert!(answer.cut().len() < 8 * MIB);
    assert_eq!(wharf.metric(RELAY_FAILURES).await, 1.0);
    hub.clear_faults();
    client::get(wharf.addr, &path, &[]).await.expect(&layer.bytes);
    wharf.end().await;
}

#[tokio::test]
async fn a_disk_without_room_for_one_byte_costs_nothing_but_the_keeping() {
    let mut hub = FakeHub::start().await;
    let images = ["kept", "first", "second"].map(|tag| push(&hub, tag, 100_000));
    let wharf = Program::start(&hub).await;
    let pull = async |n: usize| pull(&wharf, &images[n]).await;
    assert_eq!(pull(0).await, ["miss", "miss"]);
    wharf.limit_files(Some(0));
    assert_eq!(pull(1).await, ["relay", "relay"]);
    assert_eq!(pull(0).await, ["hit", "hit"]);
    assert_degraded(&wharf.admin("/readyz").await);
    assert_eq!(partials(&wharf.cache()), [""; 0]);

    wharf.limit_files(None);
    for n in [1, 2] {
        assert_eq!(pull(n).await, ["miss", "miss"]);
    }
    assert_eq!(wharf.admin("/readyz").await, "ok\n");
    hub.stop().await;
    for n in 0..3 {
        assert_eq!(pull(n).await, ["hit", "hit"]);
    }
    wharf.end().await;
}

#[tokio::test]
async fn look_up_tables_that_could_not_be_written_are_remade_when_the_disk_is_well_again() {
    let mut hub = FakeHub::start().await;
    // Links are in the tables, and of the files only in this manifest: so that the tables outgrow the journal.
    let large = hub.push_single(REPO, "large", ("linux", "arm64", None), &[16; 2000]).manifest;
    let small = push(&hub, "small", 100_000);
    let wharf = Program::start(&hub).await;
    let large_path = format!("/v2/{REPO}/manifests/{}", large.digest);
    client::get(wharf.addr, &large_path, &[]).await.expect(&large.bytes);
    wharf.limit_files(Some(100_000));
    // Every blob that no manifest names is a record.
    let record_until = async |ready: &str| {
        let mut n = 0;
        while !wharf.admin("/readyz").await.starts_with(ready) {
            let blob = blob_path(REPO, &hub.put_blob(REPO, format!("{ready} {n}")));
            assert_eq!(client::get(wharf.addr, &blob, &[]).await.status, 200);
            n += 1;
        }
    };
    deadline("the tables to take no more", record_until("degraded")).await;
    wharf.limit_files(None);
    deadline("the tables to be remade", record_until("ok")).await;
    assert_eq!(pull(&wharf, &small).await, ["miss", "miss"]);
    assert_eq!(wharf.admin("/readyz").await, "ok\n");
    hub.stop().await;
    assert_eq!(pull(&wharf, &small).await, ["hit", "hit"]);
    client::get(wharf.addr, &large_path, &[]).await.expect(&large.bytes);
    wharf.end().await;
}
