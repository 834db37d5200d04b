//! The slow check finds what rots, whenever wharf runs, and has it fetched again.

use std::{fs, time::Duration};

use super::{KEPT, REPO, Two, flip, is_right};
use crate::support::{Challenge, FakeHub, Fault, Gate, On, Wharf, blob_path};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LAYERS: [usize; 6] = [40_000; 6];

async fn site(period: Option<Duration>) -> (FakeHub, Wharf, Vec<wharf::oci::Digest>) {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| config.pull.scrub = period).await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &LAYERS);
    wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
    for blob in std::iter::once(&image.config).chain(&image.layers) {
        wharf.get(&blob_path(REPO, &blob.digest)).await.expect(&blob.bytes);
    }
    wharf.quiet().await;
    (hub, wharf, image.layers.iter().map(|layer| layer.digest).collect())
}

/// Blobs read in this round, and what was bad.
async fn status(wharf: &Wharf) -> (u64, u64) {
    let scrub = wharf.pull.status().await.scrub.expect("it is on");
    (scrub.blobs, scrub.bad)
}

#[tokio::test]
async fn all_is_read_once_in_a_period_little_by_little() {
    let (_hub, wharf, _) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    assert_eq!(status(&wharf).await.0, 0, "nothing is due at once");
    let mut seen = Vec::new();
    for _ in 0..10 {
        wharf.clock.advance(DAY);
        wharf.pull.scrub().await;
        seen.push(status(&wharf).await.0);
    }
    assert!(seen[..9].is_sorted() && seen[0] >= 1 && seen[0] <= 3, "{seen:?}");
    assert_eq!(seen[7], 8, "manifest, config and layers, before the period is over: {seen:?}");
    let scrub = wharf.pull.status().await.scrub.expect("it is on");
    assert!(scrub.finished.is_some());
    // The tenth day begins the next round.
    assert_eq!(seen[9], 0, "{seen:?}");
    wharf.end().await;
}

#[tokio::test]
async fn what_rots_is_found_put_aside_and_fetched_again() {
    let (hub, wharf, layers) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    flip(&wharf, &layers[3], 98_762);
    hub.clear_log();
    for _ in 0..9 {
        wharf.clock.advance(DAY);
        wharf.pull.scrub().await;
    }
    wharf.quiet().await;
    assert_eq!((status(&wharf).await.1, wharf.metric(KEPT)), (1, 1.0));
    assert!(layers.iter().all(|layer| is_right(&wharf, layer)));
    assert_eq!(hub.blob_bytes_sent(&layers[3]), 40_000);
    wharf.end().await;
}

#[tokio::test]
async fn without_the_registry_it_is_asked_for_again_when_there_is_one() {
    let (mut hub, wharf, layers) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    hub.stop().await;
    flip(&wharf, &layers[0], 98_762);
    for _ in 0..9 {
        wharf.clock.advance(DAY);
        wharf.pull.scrub().await;
    }
    assert_eq!(status(&wharf).await.1, 1);
    assert!(!wharf.blob_file(&layers[0]).exists(), "it is served no more");
    hub.resume();
    wharf.clock.advance(Duration::from_secs(3601));
    wharf.pull.scrub().await;
    wharf.quiet().await;
    assert!(is_right(&wharf, &layers[0]));
    wharf.end().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let (_hub, wharf, _) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    wharf.clock.advance(4 * DAY);
    wharf.pull.scrub().await;
    let before = wharf.pull.status().await.scrub.expect("it is on");
    assert!((3..8).contains(&before.blobs), "{before:?}");
    wharf.pull.write_down().await;
    let wharf = wharf.restart().await;
    assert_eq!(wharf.pull.status().await.scrub.expect("it is on"), before);
    // Off for days: what is due is read at once.
    wharf.clock.advance(9 * DAY);
    wharf.pull.scrub().await;
    let after = wharf.pull.status().await.scrub.expect("it is on");
    assert_eq!((after.blobs, after.finished.is_some()), (8, true), "{after:?}");
    wharf.end().await;
}

#[tokio::test]
async fn a_clock_that_starts_in_the_past_costs_no_round() {
    let (_hub, wharf, _) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    wharf.clock.advance(4 * DAY);
    wharf.pull.scrub().await;
    wharf.pull.write_down().await;
    // A box without a clock of its own, until it hears the time; and one that never does.
    let path = wharf.cache().join("wharf/scrub.json");
    let written = fs::read_to_string(&path).expect("written");
    let mut round: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    round["since"] = (round["since"].as_u64().expect("a time") + 400 * DAY.as_secs()).into();
    fs::write(&path, round.to_string()).expect("written");
    let wharf = wharf.restart().await;
    let before = wharf.pull.status().await.scrub.expect("it is on");
    assert!(before.blobs >= 3, "{before:?}");
    wharf.pull.scrub().await;
    wharf.clock.advance(DAY / 2);
    wharf.pull.scrub().await;
    assert_eq!(wharf.pull.status().await.scrub.expect("it is on"), before, "it goes on from there");
    wharf.clock.advance(DAY);
    wharf.pull.scrub().await;
    let anew = wharf.pull.status().await.scrub.expect("it is on");
    assert!(anew.since < before.since && anew.blobs == 0, "{anew:?}");
    wharf.end().await;
}

#[tokio::test]
async fn it_reads_nothing_while_a_client_downloads() {
    let (hub, wharf, _) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    let other = hub.push_single(REPO, "other", ("linux", "arm64", None), &[100_000]);
    wharf.get(&format!("/v2/{REPO}/manifests/other")).await.bytes();
    let gate = Gate::after(1000);
    hub.fault(On::Blob(other.layers[0].digest), Fault::Gate(gate.clone()));
    let client = wharf.open(&blob_path(REPO, &other.layers[0].digest), &[]).await;
    gate.halted(1).await;
    wharf.clock.advance(9 * DAY);
    let pull = wharf.pull.clone();
    let scrubbing = tokio::spawn(async move { pull.scrub().await });
    turns().await;
    assert_eq!(status(&wharf).await.0, 0);
    gate.open();
    client.expect(&other.layers[0].bytes).await;
    scrubbing.await.expect("done");
    assert!(status(&wharf).await.0 >= 8);
    wharf.end().await;
}

#[tokio::test]
async fn it_reads_nothing_when_it_is_off() {
    let (_hub, wharf, layers) = site(Some(10 * DAY)).await;
    wharf.pull.scrub().await;
    wharf.pull.set_scrub(None);
    flip(&wharf, &layers[0], 98_762);
    for _ in 0..30 {
        wharf.clock.advance(DAY);
        wharf.pull.scrub().await;
    }
    turns().await;
    assert!(wharf.pull.status().await.scrub.is_none());
    assert_eq!(wharf.metric(KEPT), 0.0);
    assert!(wharf.blob_file(&layers[0]).exists());
    // On again, it finds what there is to find.
    wharf.pull.set_scrub(Some(DAY));
    wharf.clock.advance(DAY);
    wharf.pull.scrub().await;
    wharf.quiet().await;
    assert_eq!(wharf.metric(KEPT), 1.0);
    wharf.end().await;
}

/// Lets everything that runs go on for long enough to read all that is kept here many times over.
async fn turns() {
    for _ in 0..500 {
        tokio::task::spawn_blocking(|| ()).await.expect("no panic");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_registry_that_is_down_keeps_no_other_from_sending_what_was_damaged() {
    let mut two = Two::start(|config| config.pull.scrub = Some(10 * DAY)).await;
    two.wharf.pull.scrub().await;
    two.damage();
    two.hub.stop().await;
    for _ in 0..9 {
        two.wharf.clock.advance(DAY);
        two.wharf.pull.scrub().await;
    }
    two.wharf.quiet().await;
    assert_eq!(status(&two.wharf).await.1, 6);
    let of_lan = &two.of_lan.layers;
    assert!(of_lan.iter().all(|layer| is_right(&two.wharf, &layer.digest)));
    let of_hub = &two.of_hub.layers;
    assert!(of_hub.iter().all(|layer| !two.wharf.blob_file(&layer.digest).exists()));
    two.end().await;
}
