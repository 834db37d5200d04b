//! A pull that ends before its end: what is here is kept, and the next goes on from it.

use std::fs;

use serde_json::json;

use super::{BOTH, PLATFORMS, REPO, Said, Site, event, whole_size};
use crate::support::{FakeHub, Fault, Gate, On, PushedManifest, deadline, partials};

const SIZE: usize = 3_000_000;
const HALF: u64 = 2_000_000;

/// A hub with an image of one layer that it sends half of.
async fn held() -> (FakeHub, PushedManifest, Gate) {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "1", PLATFORMS[1], &[SIZE]);
    let gate = Gate::after(HALF);
    hub.fault_next(1, On::Blob(image.layers[0].digest), Fault::Gate(gate.clone()));
    (hub, image, gate)
}

/// Waits until so much of the image's layer is on disk that something vouches for it.
async fn begun(site: &Site, image: &PushedManifest) {
    let name = image.layers[0].digest.to_string().replace(':', "-");
    let partial = site.cache().join("wharf/partial").join(name);
    let some = async {
        while fs::metadata(&partial).map_or(0, |file| file.len()) < 1 << 20 {
            tokio::task::yield_now().await;
        }
    };
    deadline("bytes and a checkpoint to be on disk", some).await;
}

/// Another pull, which asks for no byte that is here.
async fn goes_on(site: &Site, hub: &FakeHub, image: &PushedManifest) {
    let steps = site.pull(&["busybox:1"]).await;
    assert!(site.is_whole(image));
    let gets = hub.blob_gets(&image.layers[0].digest);
    let last = gets.last().expect("asked").range.clone().expect("a range");
    let begin = last.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let begin: u64 = begin.and_then(|begin| begin.parse().ok()).expect("from a byte to the end");
    assert!(begin > 0 && begin <= HALF, "{last}");
    let done = steps.last().expect("an end");
    let rest = SIZE as u64 - begin;
    let fetched = done["fetched"].as_u64().expect("a number");
    assert!((rest..rest + 2000).contains(&fetched), "only what came now: {done}, {last}");
    assert_eq!(done["size"], whole_size(image));
    // It is told at once how much is here.
    let here = |step: &&serde_json::Value| event(step) == "blob" && step["size"] == json!(SIZE);
    assert_eq!(steps.iter().find(here).expect("a blob")["here"], begin);
}

#[tokio::test]
async fn an_interrupted_pull_is_gone_on_with_by_the_next() {
    for signal in ["INT", "TERM"] {
        let (hub, image, gate) = held().await;
        let site = Site::start(&hub, false).await;
        let pull = site.begin(&["pull", "busybox:1"]);
        gate.halted(1).await;
        begun(&site, &image).await;
        pull.signal(signal);
        let said = pull.ended().await;
        assert_eq!(said.sentence(), "interrupted; what is here so far is kept");
        assert_eq!(said.out.lines().count(), 1, "what it resolved to: {said:?}");
        gate.left().await;
        assert!(!site.keeps(&image.layers[0]));
        assert_eq!(partials(&site.cache()).len(), 2, "the bytes, and where they come from");
        goes_on(&site, &hub, &image).await;
        assert_eq!(partials(&site.cache()), [""; 0]);
        site.end().await;
    }
}

#[tokio::test]
async fn what_is_interrupted_says_so_before_anything_has_come() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
    let gate = Gate::after(0);
    hub.fault(On::Manifests, Fault::Hold(gate.clone()));
    for command in ["pull", "inspect", "explain"] {
        for daemon in BOTH {
            let site = Site::start(&hub, daemon).await;
            let gate = Gate::after(0);
            hub.clear_faults();
            hub.fault(On::Manifests, Fault::Hold(gate.clone()));
            let running = site.begin(&[command, "busybox:1"]);
            gate.halted(1).await;
            running.signal("INT");
            let said = running.ended().await;
            assert_eq!(said.sentence(), "interrupted; what is here so far is kept");
            // Not before: the daemon would go on with what nobody waits for, and be ended in the middle of it.
            site.end().await;
            gate.open();
        }
    }
}

#[tokio::test]
async fn who_hangs_up_on_the_daemon_stops_nothing() {
    for signal in ["KILL", "INT"] {
        let (hub, image, gate) = held().await;
        let site = Site::start(&hub, true).await;
        let pull = site.begin(&["pull", "busybox:1"]);
        gate.halted(1).await;
        pull.signal(signal);
        let Said { code, .. } = pull.ended().await;
        assert_eq!(code, if signal == "INT" { Some(1) } else { None });
        gate.open();
        // The same pull, asked for again, follows the download that runs.
        let steps = site.pull(&["busybox:1"]).await;
        assert_eq!(event(steps.last().expect("an end")), "done");
        assert!(site.is_whole(&image));
        assert_eq!(hub.blob_gets(&image.layers[0].digest).len(), 1);
        site.end().await;
    }
}

#[tokio::test]
async fn an_image_of_a_pull_that_nobody_listens_to_becomes_whole() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "1", PLATFORMS[1], &[400_000; 8]);
    let gate = Gate::after(100_000);
    hub.fault(On::Blobs, Fault::Gate(gate.clone()));
    let site = Site::start(&hub, true).await;
    let pull = site.begin(&["pull", "busybox:1"]);
    // As many as run at a time: most of the image has not been asked for.
    gate.halted(3).await;
    drop(pull);
    gate.open();
    let whole = async {
        while !site.is_whole(&image) {
            tokio::task::yield_now().await;
        }
    };
    deadline("the image to be whole", whole).await;
    site.end().await;
}

#[tokio::test]
async fn a_daemon_that_stops_ends_the_pull_with_a_sentence() {
    let (hub, image, gate) = held().await;
    let mut site = Site::start(&hub, true).await;
    let pull = site.begin(&["pull", "--json", "busybox:1"]);
    gate.halted(1).await;
    begun(&site, &image).await;
    site.restart().await;
    let said = pull.ended().await;
    let why = "wharf is stopping; what is here is kept, and another pull goes on from it";
    assert_eq!(said.sentence(), format!("docker.io/library/busybox:1: {why}"));
    let steps = said.steps();
    let last = steps.last().expect("an end");
    assert_eq!((event(last), &last["why"]), ("failed", &json!(why)), "{steps:?}");
    goes_on(&site, &hub, &image).await;
    site.end().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_ends_the_pull_with_a_sentence() {
    let (hub, image, gate) = held().await;
    let mut site = Site::start(&hub, true).await;
    let pull = site.begin(&["pull", "busybox:1"]);
    gate.halted(1).await;
    begun(&site, &image).await;
    drop(site.daemon.take());
    let said = pull.ended().await;
    assert!(
        said.sentence().starts_with("docker.io/library/busybox:1: wharf broke off"),
        "{said:?}"
    );
    // Nobody has it open now.
    goes_on(&site, &hub, &image).await;
    site.end().await;
}
