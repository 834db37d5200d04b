//! A cache that is full goes on (bug class: it grows without bound, loses one layer of an image that it still calls whole,
//! or throws out what is being pulled).

mod soak;

use std::{fs, path::Path, time::Duration};

use wharf::{
    oci::ImageName,
    pull::{Error, KeptImage},
    store::{Limits, Share},
};

use crate::support::{
    Blob, FakeHub, Fault, Gate, On, PushedManifest, Wharf, blob_path, client, deadline,
};

const REPO: &str = "library/busybox";
const KIB: usize = 1024;
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// So many bytes, whatever is free.
fn bytes(max_size: usize) -> Limits {
    Limits { max_size: Share::Bytes(max_size as u64), min_free: Share::Bytes(0) }
}

async fn start(hub: &FakeHub, max_size: usize) -> Wharf {
    Wharf::start_with(hub, |config| config.store.limits = bytes(max_size)).await
}

fn push(hub: &FakeHub, tag: &str, layers: &[usize]) -> PushedManifest {
    hub.push_single(REPO, tag, ARM64, layers)
}

fn parts(image: &PushedManifest) -> impl Iterator<Item = &Blob> {
    image.layers.iter().chain([&image.config])
}

/// Pulls the image as a client does, a second after whatever came before; how its parts were answered.
async fn pull(wharf: &Wharf, tag: &str, image: &PushedManifest) -> Vec<String> {
    wharf.clock.advance(Duration::from_secs(1));
    let answer = wharf.get(&format!("/v2/{REPO}/manifests/{tag}")).await;
    assert_eq!(answer.bytes(), &image.manifest.bytes, "{tag}");
    let mut outcomes = vec![answer.cache().to_owned()];
    for part in parts(image) {
        let answer = wharf.get(&blob_path(REPO, &part.digest)).await;
        assert!(answer.bytes() == &part.bytes, "{tag}: {}", part.digest);
        outcomes.push(answer.cache().to_owned());
        wharf.quiet().await;
    }
    outcomes
}

async fn all(wharf: &Wharf, tag: &str, image: &PushedManifest, outcome: &str) {
    let outcomes = pull(wharf, tag, image).await;
    assert!(outcomes.iter().all(|found| found == outcome), "{tag}: {outcomes:?}");
}

async fn listed(wharf: &Wharf) -> Vec<KeptImage> {
    let pull = wharf.pull.clone();
    tokio::spawn(async move { pull.images().await }).await.expect("no panic").expect("listed")
}

/// The tags of images that are listed, each of which is whole.
async fn kept(wharf: &Wharf) -> Vec<String> {
    let images = listed(wharf).await;
    for image in &images {
        assert!(image.platforms.iter().all(|platform| platform.whole), "{image:?}");
    }
    images.into_iter().map(|image| image.name.rsplit(':').next().expect("a tag").into()).collect()
}

fn name(tag: &str) -> ImageName {
    format!("{REPO}:{tag}").parse().expect("a name")
}

/// Bytes of all blobs, finished and not, as they lie on the disk.
fn on_disk(cache: &Path) -> u64 {
    let dirs = ["blobs/sha256", "blobs/sha512", "wharf/partial", "wharf/quarantine"];
    let files = dirs.iter().filter_map(|dir| fs::read_dir(cache.join(dir)).ok()).flatten();
    let blobs = files.filter_map(Result::ok).filter(|file| {
        // Documents on their way, and where downloads come from.
        let name = file.file_name().to_string_lossy().into_owned();
        !name.starts_with(".new-") && !name.ends_with(".json")
    });
    blobs.filter_map(|blob| Some(blob.metadata().ok()?.len())).sum()
}

fn account(wharf: &Wharf) -> [u64; 3] {
    let metric = |name| wharf.metric(name) as u64;
    [
        metric("wharf_cache_bytes"),
        metric("wharf_cache_reserved_bytes"),
        metric("wharf_evictions_total"),
    ]
}

async fn readiness(wharf: &Wharf) -> String {
    let answer = client::get(wharf.admin, "/readyz", &[]).await;
    String::from_utf8(answer.bytes().to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn the_image_pulled_longest_ago_goes_as_a_whole() {
    let mut hub = FakeHub::start().await;
    let images = ["a", "b", "c", "d"].map(|tag| (tag, push(&hub, tag, &[60 * KIB, 40 * KIB])));
    let wharf = start(&hub, 320 * KIB).await;
    for (tag, image) in &images[..3] {
        all(&wharf, tag, image, "miss").await;
    }
    assert_eq!(kept(&wharf).await, ["a", "b", "c"]);
    assert_eq!(account(&wharf), [on_disk(wharf.cache()), 0, 0]);
    all(&wharf, "a", &images[0].1, "hit").await;
    all(&wharf, "d", &images[3].1, "miss").await;
    assert_eq!(kept(&wharf).await, ["a", "c", "d"]);
    let evicted = parts(&images[1].1).chain([&images[1].1.manifest]);
    for blob in evicted {
        assert!(!wharf.blob_file(&blob.digest).exists(), "the whole image goes");
    }
    assert_eq!(account(&wharf), [on_disk(wharf.cache()), 0, 1]);
    let size = 100 * KIB + images[1].1.config.bytes.len() + images[1].1.manifest.bytes.len();
    assert_eq!(wharf.metric("wharf_evicted_bytes_total") as usize, size);
    assert_eq!(wharf.metric("wharf_cache_limit_bytes") as usize, 320 * KIB);
    assert_eq!(readiness(&wharf).await, "ok\n");
    // What was evicted comes back, under its name, and stays across a restart.
    all(&wharf, "b", &images[1].1, "miss").await;
    assert_eq!(kept(&wharf).await, ["a", "b", "d"]);
    let wharf = wharf.restart().await;
    hub.stop().await;
    for n in [0, 1, 3] {
        let (tag, image) = &images[n];
        let outcomes = pull(&wharf, tag, image).await;
        assert_eq!((outcomes[0].as_str(), outcomes[1].as_str()), ("stale", "hit"), "{tag}");
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_shared_layer_stays_with_the_image_that_needs_it() {
    let hub = FakeHub::start().await;
    let first = push(&hub, "first", &[100 * KIB, 50 * KIB]);
    // Another image on the same base.
    let second = json_image(&hub, "second", &first.layers[0], 50 * KIB);
    let third = push(&hub, "third", &[60 * KIB]);
    let wharf = start(&hub, 240 * KIB).await;
    all(&wharf, "first", &first, "miss").await;
    assert_eq!(pull(&wharf, "second", &second).await[1], "hit", "the base is here");
    all(&wharf, "third", &third, "miss").await;
    assert_eq!(kept(&wharf).await, ["second", "third"]);
    assert!(wharf.blob_file(&first.layers[0].digest).exists());
    assert!(!wharf.blob_file(&first.layers[1].digest).exists());
    wharf.end().await;
}

/// An image of `base` and one more layer.
fn json_image(hub: &FakeHub, tag: &str, base: &Blob, more: usize) -> PushedManifest {
    let alone = push(hub, &format!("{tag}-alone"), &[more]);
    let descriptor = |blob: &Blob| serde_json::json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let layers = vec![base.clone(), alone.layers[0].clone()];
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": alone.manifest.media_type,
        "config": descriptor(&alone.config),
        "layers": layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    let bytes = document.to_string();
    let digest = wharf::oci::Digest::sha256(bytes.as_bytes());
    hub.put_manifest(REPO, Some(tag), alone.manifest.media_type, bytes.clone());
    let manifest = Blob { digest, media_type: alone.manifest.media_type, bytes: bytes.into() };
    PushedManifest { manifest, layers, ..alone }
}

#[tokio::test]
async fn what_is_pinned_stays_and_what_has_no_room_is_passed_on() {
    let hub = FakeHub::start().await;
    let images = ["a", "b", "c"].map(|tag| (tag, push(&hub, tag, &[100 * KIB])));
    let wharf = start(&hub, 220 * KIB).await;
    for (tag, image) in &images[..2] {
        all(&wharf, tag, image, "miss").await;
    }
    assert!(wharf.pull.pin(&name("a"), true).await.expect("pinned"));
    assert!(!wharf.pull.pin(&name("a"), true).await.expect("it was"));
    assert!(matches!(wharf.pull.pin(&name("c"), true).await, Err(Error::NotKept(_))));
    assert!(matches!(wharf.pull.remove(&name("a")).await, Err(Error::Pinned(_))));
    all(&wharf, "c", &images[2].1, "miss").await;
    assert_eq!(kept(&wharf).await, ["a", "c"], "pulled last, but pinned");
    assert!(listed(&wharf).await[0].pinned);
    assert!(wharf.pull.pin(&name("c"), true).await.expect("pinned"));

    // Pins outlive the tables.
    let wharf = wharf
        .restart_after(|cache| fs::remove_dir_all(cache.join("wharf/index.sled")).expect("deleted"))
        .await;
    let outcomes = pull(&wharf, "b", &images[1].1).await;
    assert_eq!(outcomes, ["miss", "relay", "miss"], "the manifest and config have room");
    assert_eq!(readiness(&wharf).await, "ok\n", "that there is no room is no failure");
    assert!(wharf.metric("wharf_no_room_total") >= 1.0);
    assert_eq!(wharf.metric("wharf_store_failures_total"), 0.0);
    assert_eq!(account(&wharf)[1], 0, "nothing stays reserved");
    assert!(wharf.pull.pin(&name("c"), false).await.expect("unpinned"));
    wharf.clock.advance(Duration::from_secs(1));
    assert_eq!(pull(&wharf, "b", &images[1].1).await[1], "miss");
    assert_eq!(kept(&wharf).await, ["a", "b"]);
    wharf.end().await;
}

#[tokio::test]
async fn an_image_larger_than_the_budget_is_passed_on_and_nothing_goes_for_it() {
    let hub = FakeHub::start().await;
    let small = push(&hub, "small", &[100 * KIB]);
    let large = push(&hub, "large", &[90 * KIB, 91 * KIB, 92 * KIB]);
    let huge = push(&hub, "huge", &[600 * KIB]);
    let wharf = start(&hub, 200 * KIB).await;
    all(&wharf, "small", &small, "miss").await;
    for (tag, image) in [("large", &large), ("huge", &huge), ("large", &large)] {
        all(&wharf, tag, image, "relay").await;
        assert_eq!(kept(&wharf).await, ["small"]);
        assert_eq!(account(&wharf), [on_disk(wharf.cache()), 0, 0]);
    }
    assert_eq!(readiness(&wharf).await, "ok\n");
    // Nor when its operator asks for it.
    hub.clear_log();
    let (events, _told) = tokio::sync::mpsc::channel(100);
    let (pull, image) = (wharf.pull.clone(), name("large"));
    let bringing = tokio::spawn(async move { pull.bring(&image, &[], &events).await });
    let brought = deadline("the end of a pull", bringing).await.expect("no panic");
    brought.expect_err("it has no room");
    assert_eq!(kept(&wharf).await, ["small"]);
    assert!(large.layers.iter().all(|layer| hub.blob_gets(&layer.digest).is_empty()));
    // Those who pull it at the same time share one stream, though nothing of it has room.
    hub.clear_log();
    let layer = &huge.layers[0];
    let gate = Gate::after(50_000);
    hub.fault_next(1, On::Blobs, Fault::Gate(gate.clone()));
    let path = blob_path(REPO, &layer.digest);
    let readers = [wharf.open(&path, &[]).await, wharf.open(&path, &[]).await];
    gate.open();
    for reader in futures_util::future::join_all(readers.map(|reader| reader.rest())).await {
        reader.expect(&layer.bytes);
    }
    wharf.quiet().await;
    assert!(hub.blob_bytes_sent(&layer.digest) <= 601 * KIB as u64, "two readers, one stream");
    wharf.end().await;
}

#[tokio::test]
async fn who_reads_a_blob_that_is_evicted_reads_it_to_its_end() {
    let hub = FakeHub::start().await;
    let old = push(&hub, "old", &[8 << 20]);
    let new = push(&hub, "new", &[6 << 20]);
    let wharf = start(&hub, 10 << 20).await;
    all(&wharf, "old", &old, "miss").await;
    let layer = &old.layers[0];
    let mut reader = wharf.open(&blob_path(REPO, &layer.digest), &[]).await;
    let begin = reader.read(1000).await;
    all(&wharf, "new", &new, "miss").await;
    assert!(!wharf.blob_file(&layer.digest).exists());
    let rest = reader.rest().await;
    assert!(begin == layer.bytes[..begin.len()] && rest.bytes() == &layer.bytes[begin.len()..]);
    wharf.end().await;
}

#[tokio::test]
async fn what_is_being_downloaded_stays_with_its_image() {
    let hub = FakeHub::start().await;
    let running = push(&hub, "running", &[100 * KIB, 60 * KIB]);
    let other = push(&hub, "other", &[100 * KIB]);
    let wharf = start(&hub, 240 * KIB).await;
    let tag = format!("/v2/{REPO}/manifests/running");
    assert_eq!(wharf.get(&tag).await.status, 200);
    let [first, second] = &running.layers[..] else { panic!("two layers") };
    assert_eq!(wharf.get(&blob_path(REPO, &first.digest)).await.cache(), "miss");
    wharf.quiet().await;
    let gate = Gate::after(10_000);
    hub.fault_next(1, On::Blob(second.digest), Fault::Gate(gate.clone()));
    let reader = wharf.open(&blob_path(REPO, &second.digest), &[]).await;
    gate.halted(1).await;
    // It was pulled longer ago, but part of it is on its way, and what that needs is promised.
    wharf.clock.advance(Duration::from_secs(60));
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/other")).await.status, 200);
    let answer = wharf.get(&blob_path(REPO, &other.layers[0].digest)).await;
    assert_eq!(answer.cache(), "relay");
    answer.expect(&other.layers[0].bytes);
    assert!(wharf.blob_file(&first.digest).exists());
    gate.open();
    reader.expect(&second.bytes).await;
    wharf.quiet().await;
    let outcomes = pull(&wharf, "running", &running).await;
    assert_eq!(
        outcomes,
        ["hit", "hit", "hit", "miss"],
        "all but the config, which nobody asked for"
    );
    assert_eq!(account(&wharf)[1], 0);
    wharf.end().await;
}

#[tokio::test]
async fn removed_images_are_gone_and_come_back() {
    let hub = FakeHub::start().await;
    let image = push(&hub, "latest", &[50 * KIB]);
    hub.move_tag(REPO, "again", image.manifest.digest);
    let wharf = Wharf::start(&hub).await;
    all(&wharf, "latest", &image, "miss").await;
    assert_eq!(pull(&wharf, "again", &image).await[1], "hit");
    assert_eq!(kept(&wharf).await, ["again", "latest"]);
    let removed = wharf.pull.remove(&name("latest")).await.expect("removed");
    assert_eq!((removed.blobs, removed.freed), (0, 0), "the other name needs all of it");
    assert!(matches!(wharf.pull.remove(&name("latest")).await, Err(Error::NotKept(_))));
    assert_eq!(kept(&wharf).await, ["again"]);
    all(&wharf, "latest", &image, "hit").await;
    assert_eq!(kept(&wharf).await, ["again", "latest"], "the name is back");
    wharf.pull.remove(&name("latest")).await.expect("removed");
    let removed = wharf.pull.remove(&name("again")).await.expect("removed");
    assert_eq!(removed.blobs, 3);
    assert_eq!(on_disk(wharf.cache()), 0);
    let head = wharf.head(&blob_path(REPO, &image.layers[0].digest)).await;
    assert_eq!((head.status.as_u16(), head.header("wharf-cache")), (200, Some("miss")));
    all(&wharf, "latest", &image, "miss").await;
    assert_eq!(kept(&wharf).await, ["latest"]);
    let wharf = wharf.restart().await;
    assert_eq!(kept(&wharf).await, ["latest"]);
    wharf.end().await;
}

#[tokio::test]
async fn a_smaller_budget_is_met_and_gc_sweeps_what_nobody_needs() {
    let hub = FakeHub::start().await;
    let images = ["a", "b", "c"].map(|tag| (tag, push(&hub, tag, &[100 * KIB])));
    let wharf = Wharf::start(&hub).await;
    for (tag, image) in &images {
        all(&wharf, tag, image, "miss").await;
    }
    let wharf = wharf.restart_with(|config| config.store.limits = bytes(220 * KIB)).await;
    deadline("the budget to be met", async {
        while on_disk(wharf.cache()) > 220 * KIB as u64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    wharf.pull.keep_to_budget().await;
    assert_eq!(kept(&wharf).await, ["b", "c"]);
    let orphan = wharf::oci::Digest::sha256(b"orphan");
    fs::write(wharf.blob_file(&orphan), b"orphan").expect("written");
    let partial = wharf.cache().join(format!("wharf/partial/sha256-{}", orphan.encoded()));
    fs::write(&partial, b"half").expect("written");
    wharf.pull.recount().await;
    assert_eq!(wharf.pull.status().await.cache.blobs, 7);
    let collected = wharf.pull.collect().await.expect("collected");
    assert_eq!((collected.swept, collected.images.len()), (2, 0), "{collected:?}");
    assert!(!partial.exists() && !wharf.blob_file(&orphan).exists());
    let status = wharf.pull.status().await.cache;
    assert_eq!((status.bytes, status.blobs, status.images), (collected.bytes, 6, 2));
    assert_eq!(status.bytes, on_disk(wharf.cache()));
    assert_eq!((status.limit, status.reserved, status.partial), (220 * KIB as u64, 0, 0));
    wharf.end().await;
}

#[tokio::test]
async fn who_asks_for_an_image_that_has_no_room_is_told_so_at_once() {
    let hub = FakeHub::start().await;
    let (pinned, image) = (push(&hub, "pinned", &[100 * KIB]), push(&hub, "a", &[4 << 20]));
    let huge = push(&hub, "huge", &[3 << 20, 4 << 20]);
    let wharf = start(&hub, (4 << 20) + 50 * KIB).await;
    all(&wharf, "pinned", &pinned, "miss").await;
    assert!(wharf.pull.pin(&name("pinned"), true).await.expect("pinned"));
    for tag in ["a", "huge", "a"] {
        let (events, mut told) = tokio::sync::mpsc::channel(100);
        let (pull, image) = (wharf.pull.clone(), name(tag));
        let bringing = tokio::spawn(async move { pull.bring(&image, &[], &events).await });
        let brought = deadline("the end of a pull", bringing).await.expect("no panic");
        let error = brought.expect_err("there is no room");
        assert!(error.to_string().contains("[cache] max_size and min_free"), "{error}");
        told.close();
        wharf.quiet().await;
        assert_eq!(account(&wharf)[1..], [0, 0]);
    }
    assert_eq!(readiness(&wharf).await, "ok\n");
    drop((image, huge));
    assert!(wharf.pull.pin(&name("pinned"), false).await.expect("unpinned"));
    let (events, _told) = tokio::sync::mpsc::channel(100);
    let pull = wharf.pull.clone();
    let bringing = tokio::spawn(async move { pull.bring(&name("a"), &[], &events).await });
    deadline("the end of a pull", bringing).await.expect("no panic").expect("brought");
    assert_eq!(kept(&wharf).await, ["a"]);
    wharf.end().await;
}
