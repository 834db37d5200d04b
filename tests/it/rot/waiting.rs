//! A check that takes its time says so, and ends with the one who asked.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use wharf::pull::{Verify, VerifyEvent};

use super::{
    REPO, is_right,
    verifying::{Fleet, done},
};
use crate::support::{Challenge, FakeHub, Wharf, blob_path};

#[tokio::test]
async fn a_rate_is_kept_and_it_is_told_all_the_while_how_far_it_is() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| config.pull.scrub = None).await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[900_000, 900_000]);
    wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
    for blob in std::iter::once(&image.config).chain(&image.layers) {
        wharf.get(&blob_path(REPO, &blob.digest)).await.bytes();
    }
    wharf.quiet().await;
    let bytes = wharf.pull.status().await.cache.bytes;
    // From here on, time passes when all wait for it.
    tokio::time::pause();
    let (sender, mut receiver) = mpsc::channel(4);
    let (begun, pull) = (Instant::now(), wharf.pull.clone());
    let verifying = tokio::spawn(async move {
        pull.verify(Verify { repair: false, rate: Some(20_000) }, &sender).await
    });
    let (mut last, mut longest) = (begun, Duration::ZERO);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        events.push(event);
    }
    verifying.await.expect("no panic").expect("readable");
    let seconds = begun.elapsed().as_secs_f64();
    tokio::time::resume();
    assert_eq!(done(&events), (4, 0, 0, 0));
    // A second's worth comes at once.
    let least = bytes as f64 / 20_000.0 - 1.0;
    assert!((least - 0.5..least + 2.0).contains(&seconds), "{bytes} bytes in {seconds} s");
    assert!(longest <= Duration::from_secs(6), "nothing was told for {longest:?}");
    wharf.end().await;
}

#[tokio::test]
async fn who_hangs_up_while_it_reads_ends_it_soon() {
    let fleet = Fleet::start(3).await;
    tokio::time::pause();
    let (sender, mut receiver) = mpsc::channel(1);
    let pull = fleet.wharf.pull.clone();
    // 10 KB, which would take three hours.
    let verifying =
        tokio::spawn(
            async move { pull.verify(Verify { repair: true, rate: Some(1) }, &sender).await },
        );
    let told = receiver.recv().await.expect("it goes on");
    assert!(matches!(told, VerifyEvent::Progress { .. }), "{told:?}");
    drop(receiver);
    let begun = Instant::now();
    verifying.await.expect("no panic").expect("ended");
    let took = begun.elapsed();
    tokio::time::resume();
    assert!(took <= Duration::from_secs(10), "{took:?}");
    assert_eq!(done(&fleet.verify(Verify::default()).await), (12, 0, 0, 0));
    assert!(fleet.blobs(0).iter().all(|digest| is_right(&fleet.wharf, digest)));
    fleet.wharf.end().await;
}
