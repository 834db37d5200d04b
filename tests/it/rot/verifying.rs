//! `wharf verify` names what is damaged, exactly that, and repairs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use tokio::sync::mpsc;
use wharf::{
    oci::Digest,
    pull::{Verify, VerifyEvent},
};

use super::{KEPT, REPO, Two, flip};
use crate::support::{Challenge, FakeHub, PushedManifest, Wharf, blob_path};

const REPAIR: Verify = Verify { repair: true, rate: None };

/// A wharf that keeps many images of a few layers each.
pub(super) struct Fleet {
    hub: FakeHub,
    pub(super) wharf: Wharf,
    images: Vec<PushedManifest>,
}

impl Fleet {
    pub(super) async fn start(images: usize) -> Self {
        let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
        // The scrub would repair some of it by itself.
        let wharf = Wharf::start_with(&hub, |config| config.pull.scrub = None).await;
        let push = |n: usize| {
            hub.push_single(REPO, &format!("v{n}"), ("linux", "arm64", None), &[3000 + n, 500])
        };
        let images: Vec<_> = (0..images).map(push).collect();
        let fleet = Self { hub, wharf, images };
        for n in 0..images_of(&fleet) {
            fleet.pull(n).await;
        }
        fleet.wharf.quiet().await;
        fleet
    }

    /// Pulls an image as a client would, which checks what it gets; whether each answer was a hit.
    async fn pull(&self, n: usize) -> bool {
        let image = &self.images[n];
        let manifest = self.wharf.get(&format!("/v2/{REPO}/manifests/v{n}")).await;
        let mut hit = manifest.cache() == "hit";
        assert_eq!(manifest.bytes(), &image.manifest.bytes);
        for blob in std::iter::once(&image.config).chain(&image.layers) {
            let answer = self.wharf.get(&blob_path(REPO, &blob.digest)).await;
            hit &= answer.cache() == "hit";
            assert_eq!(answer.bytes(), &blob.bytes);
        }
        hit
    }

    /// All blobs of an image, its manifest first.
    pub(super) fn blobs(&self, n: usize) -> Vec<Digest> {
        let image = &self.images[n];
        let rest = std::iter::once(&image.config).chain(&image.layers);
        std::iter::once(&image.manifest).chain(rest).map(|blob| blob.digest).collect()
    }

    fn flip(&self, digest: &Digest, bit: usize) {
        flip(&self.wharf, digest, bit);
    }

    pub(super) async fn verify(&self, how: Verify) -> Vec<VerifyEvent> {
        verify(&self.wharf, how).await
    }

    async fn restart(self) -> Self {
        let Self { hub, wharf, images } = self;
        Self { hub, wharf: wharf.restart().await, images }
    }
}

async fn verify(wharf: &Wharf, how: Verify) -> Vec<VerifyEvent> {
    let (sender, mut receiver) = mpsc::channel(4);
    let reading = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let verifying = async {
        wharf.pull.verify(how, &sender).await.expect("readable");
        drop(sender);
    };
    tokio::join!(verifying, reading).1
}

fn images_of(fleet: &Fleet) -> usize {
    fleet.images.len()
}

/// What was found bad, and the images that it was told of.
fn bad(events: &[VerifyEvent]) -> BTreeMap<Digest, Vec<String>> {
    let bad = events.iter().filter_map(|event| match event {
        VerifyEvent::Bad { digest, images, .. } => Some((*digest, images.clone())),
        _ => None,
    });
    bad.collect()
}

fn repaired(events: &[VerifyEvent]) -> BTreeSet<Digest> {
    let repaired = events.iter().filter_map(|event| match event {
        VerifyEvent::Repaired { digest, .. } => Some(*digest),
        _ => None,
    });
    repaired.collect()
}

/// Blobs, bad, repaired, lost.
pub(super) fn done(events: &[VerifyEvent]) -> (u64, u64, u64, u64) {
    match events.last() {
        Some(VerifyEvent::Done { blobs, bad, repaired, lost, .. }) => {
            (*blobs, *bad, *repaired, *lost)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_bit_in_each_of_fifty_blobs_is_found_and_repaired() {
    let fleet = Fleet::start(40).await;
    let all = 40 * 4;
    assert_eq!(done(&fleet.verify(Verify::default()).await), (all, 0, 0, 0));
    // Manifests, configs and layers; of the other images nothing.
    let flipped: BTreeMap<Digest, Vec<String>> = (0..25)
        .flat_map(|n| {
            let blobs = fleet.blobs(n);
            let name = format!("docker.io/{REPO}:v{n}");
            [blobs[n % 4], blobs[(n + 1) % 4]].map(|digest| (digest, vec![name.clone()]))
        })
        .collect();
    assert_eq!(flipped.len(), 50);
    for (n, digest) in flipped.keys().enumerate() {
        fleet.flip(digest, n * 2999);
    }
    fleet.hub.clear_log();
    let events = fleet.verify(Verify::default()).await;
    let found = bad(&events);
    assert_eq!(found, flipped);
    assert_eq!(done(&events), (all, 50, 0, 25));
    assert_eq!(fleet.wharf.metric(KEPT), 50.0);
    assert_eq!(fleet.hub.log().len(), 0, "nothing is fetched unasked");

    let events = fleet.verify(REPAIR).await;
    assert_eq!(repaired(&events), flipped.keys().copied().collect());
    assert_eq!(done(&events), (all - 50, 0, 50, 0));
    let events = fleet.verify(Verify::default()).await;
    assert_eq!(done(&events), (all, 0, 0, 0));
    let Fleet { mut hub, wharf, images } = fleet;
    hub.stop().await;
    let fleet = Fleet { hub, wharf, images };
    for n in 0..images_of(&fleet) {
        assert!(fleet.pull(n).await, "v{n} is here");
    }
    let aside = fleet.wharf.cache().join("wharf/quarantine");
    assert_eq!(fs::read_dir(aside).expect("there").count(), 0);
    fleet.wharf.end().await;
}

#[tokio::test]
async fn what_was_damaged_and_not_looked_at_yet_is_never_a_whole_image_to_a_client_that_checks() {
    let fleet = Fleet::start(1).await;
    let [manifest, config, layer] = fleet.blobs(0)[..3] else { panic!("four blobs") };
    for digest in [manifest, config, layer] {
        fleet.flip(&digest, 77);
    }
    // A manifest is hashed whenever it is read from the disk, which it is after a start.
    let Fleet { hub, wharf, images } = fleet;
    let fleet = Fleet { hub, wharf: wharf.restart().await, images };
    let answer = fleet.wharf.get(&format!("/v2/{REPO}/manifests/v0")).await;
    assert_eq!(answer.bytes(), &fleet.images[0].manifest.bytes);
    // A blob of the right length is not: it has the digest of another, which the client sees.
    let answer = fleet.wharf.get(&blob_path(REPO, &layer)).await;
    assert_eq!((answer.cache(), Digest::sha256(answer.bytes()) == layer), ("hit", false));
    fleet.verify(Verify::default()).await;
    assert!(!fleet.pull(0).await, "it is fetched anew");
    fleet.wharf.quiet().await;
    assert!(fleet.pull(0).await);
    fleet.wharf.end().await;
}

#[tokio::test]
async fn without_the_registry_what_is_lost_is_told_and_the_rest_is_right() {
    let Fleet { mut hub, wharf, images } = Fleet::start(6).await;
    hub.stop().await;
    let fleet = Fleet { hub, wharf, images };
    let lost: Vec<_> = (0..4).map(|n| fleet.blobs(n)[2]).collect();
    lost.iter().for_each(|digest| fleet.flip(digest, 1234));
    let events = fleet.verify(REPAIR).await;
    assert_eq!(done(&events), (24, 4, 0, 4));
    let unrepaired: BTreeSet<_> = events
        .iter()
        .filter_map(|event| match event {
            VerifyEvent::Unrepaired { digest, .. } => Some(*digest),
            _ => None,
        })
        .collect();
    assert_eq!(unrepaired, lost.iter().copied().collect());
    let told = events
        .iter()
        .filter(|event| matches!(event, VerifyEvent::Incomplete { missing: 1, lost: true, .. }));
    assert_eq!(told.count(), 4);
    let Fleet { mut hub, wharf, images } = fleet;
    hub.resume();
    let fleet = Fleet { hub, wharf, images };
    assert_eq!(done(&fleet.verify(REPAIR).await), (20, 0, 4, 0));
    fleet.wharf.end().await;
}

#[tokio::test]
async fn a_blob_that_somebody_deleted_is_missed_and_fetched_again() {
    let fleet = Fleet::start(3).await;
    let [manifest, _, layer] = fleet.blobs(1)[..3] else { panic!("four blobs") };
    fs::remove_file(fleet.wharf.blob_file(&layer)).expect("kept");
    let events = fleet.verify(Verify::default()).await;
    let incomplete = |event: &VerifyEvent| match event {
        VerifyEvent::Incomplete { name, missing, .. } => Some((name.clone(), *missing)),
        _ => None,
    };
    let told: Vec<_> = events.iter().filter_map(incomplete).collect();
    assert_eq!(told, [(format!("docker.io/{REPO}:v1"), 1)]);
    let events = fleet.verify(REPAIR).await;
    assert_eq!(repaired(&events), BTreeSet::from([layer]));
    // So is a manifest, after a start, and it is known to be lost.
    fs::remove_file(fleet.wharf.blob_file(&manifest)).expect("kept");
    let Fleet { hub, wharf, images } = fleet;
    let fleet = Fleet { hub, wharf: wharf.restart().await, images };
    assert_eq!(done(&fleet.verify(Verify::default()).await).3, 1);
    let events = fleet.verify(REPAIR).await;
    assert_eq!((repaired(&events), done(&events).3), (BTreeSet::from([manifest]), 0));
    fleet.wharf.end().await;
}

#[tokio::test]
async fn an_image_that_was_pulled_by_digest_is_looked_at_and_repaired_too() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| {
        (config.pull.prefetch.on_pull, config.pull.scrub) = (false, None);
    })
    .await;
    let platforms = [("linux", "arm64", None), ("linux", "amd64", None)];
    let image = hub.push_image(REPO, "latest", &platforms, &[5000]);
    let child = image.child("linux/arm64");
    for digest in [&image.index.digest, &child.manifest.digest] {
        wharf.get(&format!("/v2/{REPO}/manifests/{digest}")).await.bytes();
    }
    let blobs = [child.config.digest, child.layers[0].digest];
    for digest in &blobs {
        wharf.get(&blob_path(REPO, digest)).await.bytes();
    }
    wharf.quiet().await;
    let fleet = Fleet { hub, wharf, images: vec![child.clone()] };
    let flipped = [image.index.digest, child.manifest.digest, blobs[1]];
    flipped.iter().for_each(|digest| fleet.flip(digest, 99));
    let Fleet { hub, wharf, images } = fleet;
    let fleet = Fleet { hub, wharf: wharf.restart().await, images };
    let events = fleet.verify(Verify::default()).await;
    assert_eq!(bad(&events).len(), 3);
    let name = format!("docker.io/{REPO}@{}", image.index.digest);
    assert!(bad(&events)[&image.index.digest].contains(&name), "{events:?}");
    let events = fleet.verify(REPAIR).await;
    assert_eq!(repaired(&events), flipped.into_iter().collect(), "{events:?}");
    assert_eq!(done(&fleet.verify(Verify::default()).await).3, 0);
    fleet.wharf.end().await;
}

#[tokio::test]
async fn who_hangs_up_ends_it() {
    let fleet = Fleet::start(3).await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    fleet.wharf.pull.verify(Verify::default(), &sender).await.expect("ended");
    assert_eq!(done(&fleet.verify(Verify::default()).await), (12, 0, 0, 0));
    fleet.wharf.end().await;
}

#[tokio::test]
async fn a_registry_that_is_down_keeps_no_other_from_repairing() {
    // Its image comes first.
    let mut two = Two::start(|config| config.pull.scrub = None).await;
    two.damage();
    two.hub.stop().await;
    let events = verify(&two.wharf, REPAIR).await;
    let of_lan = two.of_lan.layers.iter().map(|layer| layer.digest).collect();
    assert_eq!(repaired(&events), of_lan, "{events:?}");
    assert_eq!(done(&events), (10, 6, 3, 1));
    two.hub.resume();
    assert_eq!(done(&verify(&two.wharf, REPAIR).await), (7, 0, 3, 0));
    two.end().await;
}

#[tokio::test]
async fn what_one_registry_does_not_give_another_may() {
    let mut two = Two::start(|config| config.pull.scrub = None).await;
    let same = two.lan.push_single(REPO, "hub", ("linux", "arm64", None), &[4000, 5000, 6000]);
    assert_eq!(same.manifest.bytes, two.of_hub.manifest.bytes);
    let of_lan = format!("/v2/{REPO}/manifests/hub?ns=registry.lan:5000");
    assert_eq!(two.wharf.get(&of_lan).await.bytes(), &same.manifest.bytes);
    two.wharf.quiet().await;
    flip(&two.wharf, &same.layers[1].digest, 77);
    two.hub.stop().await;
    let events = verify(&two.wharf, REPAIR).await;
    assert_eq!(repaired(&events), BTreeSet::from([same.layers[1].digest]), "{events:?}");
    let is_in_vain = |event: &VerifyEvent| matches!(event, VerifyEvent::Unrepaired { .. });
    assert!(!events.iter().any(is_in_vain), "{events:?}");
    two.end().await;
}

#[tokio::test]
async fn an_image_that_goes_meanwhile_is_not_missed_nor_brought_back() {
    let fleet = Fleet::start(4).await;
    for n in 0..4 {
        fleet.flip(&fleet.blobs(n)[2], 7);
    }
    let (sender, mut receiver) = mpsc::channel(1);
    let pull = fleet.wharf.pull.clone();
    let reading = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            let is_first = matches!(event, VerifyEvent::Bad { .. }) && bad(&events).is_empty();
            events.push(event);
            if is_first {
                for n in 1..4 {
                    let name = format!("{REPO}:v{n}").parse().expect("a name");
                    pull.remove(&name).await.expect("removed");
                }
            }
        }
        events
    };
    let verifying = async {
        fleet.wharf.pull.verify(REPAIR, &sender).await.expect("readable");
        drop(sender);
    };
    let ((), events) = tokio::join!(verifying, reading);
    assert_eq!(repaired(&events), BTreeSet::from([fleet.blobs(0)[2]]), "{events:?}");
    let is_lost = |event: &VerifyEvent| matches!(event, VerifyEvent::Incomplete { .. });
    assert!(!events.iter().any(is_lost), "{events:?}");
    for n in 1..4 {
        assert!(fleet.blobs(n).iter().all(|digest| !fleet.wharf.blob_file(digest).exists()));
    }
    fleet.wharf.end().await;
}

#[tokio::test]
async fn a_blob_whose_manifest_is_damaged_as_well_is_one_of_that_image() {
    let fleet = Fleet::start(3).await;
    let [manifest, _, layer] = fleet.blobs(1)[..3] else { panic!("four blobs") };
    // Of the manifest that is read, nothing is in memory after a start.
    let fleet = fleet.restart().await;
    [manifest, layer].iter().for_each(|digest| fleet.flip(digest, 5));
    let events = fleet.verify(Verify::default()).await;
    let images = vec![format!("docker.io/{REPO}:v1")];
    assert_eq!(bad(&events), [(manifest, images.clone()), (layer, images)].into());
    assert_eq!(done(&events), (11, 2, 0, 1));
    assert_eq!(done(&fleet.verify(REPAIR).await), (10, 0, 2, 0));
    fleet.wharf.end().await;
}

#[tokio::test]
async fn what_no_image_needs_is_put_aside_and_that_is_all() {
    let fleet = Fleet::start(1).await;
    let loose = fleet.hub.put_blob(REPO, "of no manifest");
    fleet.wharf.get(&blob_path(REPO, &loose)).await.bytes();
    fleet.wharf.quiet().await;
    fleet.flip(&loose, 3);
    fleet.hub.clear_log();
    let events = fleet.verify(REPAIR).await;
    assert_eq!(bad(&events), [(loose, Vec::new())].into());
    assert_eq!(done(&events), (5, 1, 0, 0));
    let fetched = |event: &VerifyEvent| {
        matches!(event, VerifyEvent::Unrepaired { .. } | VerifyEvent::Incomplete { .. })
    };
    assert!(!events.iter().any(fetched), "{events:?}");
    assert_eq!(fleet.hub.log().len(), 0);
    assert!(!fleet.wharf.blob_file(&loose).exists());
    fleet.wharf.end().await;
}

#[tokio::test]
async fn platforms_of_a_list_that_were_never_kept_are_not_missed() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| config.pull.scrub = None).await;
    let platforms = [("linux", "arm64", None), ("linux", "amd64", None)];
    let image = hub.push_image(REPO, "latest", &platforms, &[5000]);
    let child = image.child("linux/arm64");
    wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
    wharf.get(&format!("/v2/{REPO}/manifests/{}", child.manifest.digest)).await.bytes();
    for blob in [&child.config, &child.layers[0]] {
        wharf.get(&blob_path(REPO, &blob.digest)).await.bytes();
    }
    wharf.quiet().await;
    hub.clear_log();
    let events = verify(&wharf, REPAIR).await;
    let incomplete = |event: &VerifyEvent| matches!(event, VerifyEvent::Incomplete { .. });
    assert!(!events.iter().any(incomplete), "{events:?}");
    assert_eq!((done(&events), hub.log().len()), ((4, 0, 0, 0), 0));
    wharf.end().await;
}
