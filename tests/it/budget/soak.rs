//! Many images through a small cache: `WHARF_SOAK=full` for 2 GiB through 200 MiB, `WHARF_SEED` for one order of pulls.

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use wharf::oci::{Digest, media_type};

use super::{bytes, listed, on_disk};
use crate::support::{FakeHub, Wharf, blob_path, client, noise};

const ARCHITECTURES: [&str; 2] = ["arm64", "amd64"];
/// Images on one base.
const FAMILY: usize = 5;
const IMAGES: usize = 40;
const CLIENTS: usize = 3;

/// Sizes in KiB: of the base of a family, and of an image's own layers.
struct Scale {
    budget: usize,
    base: usize,
    own: [usize; 2],
    steps: usize,
}

/// A tenth of the images fits.
const SMALL: Scale = Scale { budget: 4 << 10, base: 180, own: [350, 110], steps: 30 };
const FULL: Scale = Scale { budget: 200 << 10, base: 9600, own: [18_500, 5800], steps: 100 };

struct Image {
    repo: String,
    index: Bytes,
    children: Vec<Child>,
}

struct Child {
    manifest: Bytes,
    blobs: Vec<Bytes>,
}

/// Numbers that are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

fn descriptor(media_type: &str, bytes: &Bytes) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

/// Images whose layers are pieces of one sea of noise, each from a place of its own.
fn push_all(hub: &FakeHub, scale: &Scale) -> (Vec<Image>, usize) {
    let longest = scale.own[0].max(scale.base) << 10;
    let sea = noise("sea", longest + 4096 * IMAGES);
    let (mut at, mut total) = (0, 0);
    let mut piece = |kib: usize| {
        at += 128;
        total += kib << 10;
        sea.slice(at..at + (kib << 10))
    };
    let mut images = Vec::new();
    let mut bases: Vec<Bytes> = Vec::new();
    for n in 0..IMAGES {
        if n % FAMILY == 0 {
            bases = ARCHITECTURES.iter().map(|_| piece(scale.base)).collect();
        }
        // Families share a repository, and so their base's permission; their neighbours do not.
        let repo = format!("soak/family{}", n / FAMILY);
        let mut entries = Vec::new();
        let mut children = Vec::new();
        for (base, architecture) in bases.iter().zip(ARCHITECTURES) {
            let own = scale.own.map(&mut piece);
            let config = json!({ "os": "linux", "architecture": architecture, "n": n });
            let config = Bytes::from(config.to_string());
            let layers = [base.clone(), own[0].clone(), own[1].clone()];
            let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
                "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
                "layers": layers.iter().map(|bytes| descriptor(layer, bytes)).collect::<Vec<_>>(),
            });
            let manifest = Bytes::from(manifest.to_string());
            let mut entry = descriptor(media_type::OCI_MANIFEST, &manifest);
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
            hub.put_manifest(&repo, None, media_type::OCI_MANIFEST, manifest.clone());
            let blobs: Vec<Bytes> = [config].into_iter().chain(layers).collect();
            for blob in &blobs {
                hub.put_blob(&repo, blob.clone());
            }
            children.push(Child { manifest, blobs });
        }
        let index =
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
        let index = Bytes::from(index.to_string());
        hub.put_manifest(&repo, Some(&format!("v{n}")), media_type::OCI_INDEX, index.clone());
        images.push(Image { repo, index, children });
    }
    (images, total)
}

/// Pulls one platform of an image as a client does: every byte must be right.
async fn pull(wharf: &Wharf, n: usize, image: &Image, child: &Child) -> u64 {
    let tag = format!("/v2/{}/manifests/v{n}", image.repo);
    client::get(wharf.addr, &tag, &[]).await.expect(&image.index);
    let digest = Digest::sha256(&child.manifest);
    let manifest = format!("/v2/{}/manifests/{digest}", image.repo);
    client::get(wharf.addr, &manifest, &[]).await.expect(&child.manifest);
    let mut pulled = 0;
    for blob in &child.blobs {
        let path = blob_path(&image.repo, &Digest::sha256(blob));
        let answer = client::open("GET", wharf.addr, &path, &[]).await.expect("an answer begins");
        assert_eq!(answer.status, 200, "v{n}");
        answer.expect(blob).await;
        pulled += blob.len() as u64;
    }
    pulled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[expect(
    clippy::print_stderr,
    reason = "who sees it fail wants the seed, and who runs it, the figures"
)]
async fn what_is_called_whole_is_whole_however_much_goes_through_a_small_cache() {
    let is_full = env::var("WHARF_SOAK").is_ok_and(|value| value == "full");
    let scale = if is_full { FULL } else { SMALL };
    let seed = env::var("WHARF_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64)
    });
    eprintln!("WHARF_SEED={seed}");
    let mut random = Random(seed);
    let mut hub = FakeHub::start().await;
    let (images, total) = push_all(&hub, &scale);
    let budget = (scale.budget << 10) as u64;
    assert!(total as u64 >= 9 * budget);
    let wharf = Wharf::start_with(&hub, |config| {
        config.store.limits = bytes(scale.budget << 10);
        config.pull.prefetch.on_pull = true;
    })
    .await;

    // Looks all the time. A walk is no moment: what goes and comes meanwhile may be counted both ways.
    let in_flight = ((scale.base + scale.own[0]) << 10) as u64 * 2 * CLIENTS as u64;
    let (over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watcher = {
        let (over, peak, cache) = (Arc::clone(&over), Arc::clone(&peak), wharf.cache().to_owned());
        let pull = wharf.pull.clone();
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(on_disk(&cache), Ordering::Relaxed);
                let cache = pull.status().await.cache;
                assert!(cache.bytes + cache.reserved <= cache.limit, "{cache:?}");
                tokio::task::yield_now().await;
            }
        })
    };
    let (mut pulled, mut whole) = (0, 0);
    for step in 0..scale.steps {
        wharf.clock.advance(Duration::from_secs(3600));
        let chosen: Vec<(usize, usize)> = (0..CLIENTS)
            .map(|_| {
                // Some images are pulled more often than others.
                let n = random.below(IMAGES).min(random.below(IMAGES));
                (n, random.below(ARCHITECTURES.len()))
            })
            .collect();
        let pulls = chosen.iter().map(|(n, platform)| {
            let image = &images[*n];
            pull(&wharf, *n, image, &image.children[*platform])
        });
        pulled += join_all(pulls).await.into_iter().sum::<u64>();
        wharf.quiet().await;
        let used = on_disk(wharf.cache());
        assert!(used <= budget, "step {step}: {used} bytes of {budget}");
        let cache = wharf.pull.status().await.cache;
        assert_eq!((cache.bytes, cache.reserved), (used, 0), "step {step}");

        hub.stop().await;
        for kept in listed(&wharf).await {
            let n = kept.name.rsplit_once(":v").and_then(|(_, n)| n.parse::<usize>().ok());
            let n = n.expect("a name of ours");
            for platform in kept.platforms.iter().filter(|platform| platform.whole) {
                let is_it = |child: &&Child| Digest::sha256(&child.manifest) == platform.digest;
                let child = images[n].children.iter().find(is_it).expect("one of its platforms");
                pull(&wharf, n, &images[n], child).await;
                whole += 1;
            }
        }
        hub.resume();
    }
    over.store(true, Ordering::Relaxed);
    watcher.await.expect("never over the budget");
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak <= budget + in_flight, "{peak} bytes of {budget}");
    let evicted = wharf.metric("wharf_evictions_total");
    let passed_on = wharf.metric("wharf_no_room_total");
    assert!(evicted > 0.0, "nothing was evicted");
    assert!(whole >= scale.steps, "little was whole: {whole}");
    let left = fs::read_dir(wharf.cache().join("wharf/partial")).expect("there").count();
    assert_eq!(left, 0);
    eprintln!(
        "{} steps, {} MiB of images, {} MiB pulled, {evicted} evicted, {passed_on} without room, {whole} pulled \
         without an upstream, peak {} KiB of {} KiB",
        scale.steps,
        total >> 20,
        pulled >> 20,
        peak >> 10,
        budget >> 10
    );
    wharf.end().await;
}
