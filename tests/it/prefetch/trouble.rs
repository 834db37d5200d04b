//! What fails, stops, or has little left to spend: it is tried again, gone on with, or left, and no client notices.

use std::time::Duration;

use wharf::oci::media_type;

use super::{ARM64, prefetching, until_whole};
use crate::{
    platforms::{Client, OFFICIAL, REPO, asked, by_digest, by_tag, engine, is_whole},
    support::{FakeHub, Fault, Gate, On, Wharf, deadline},
};

#[tokio::test]
async fn what_fails_is_tried_again_and_no_client_notices() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let child = image.child(ARM64);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.retry_after = Duration::from_millis(20);
    })
    .await;
    hub.fault(On::Blob(child.layers[0].digest), Fault::status(503));
    let arm = Client::new(&wharf, &engine("arm64"));
    assert_eq!(arm.get(&by_tag("1")).await.bytes(), &image.index.bytes);
    deadline("a try to fail", async {
        while wharf.metric("wharf_prefetch_total{outcome=\"retried\"}") < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    hub.clear_faults();
    until_whole(&wharf, child).await;
    wharf.end().await;
}

#[tokio::test]
async fn an_image_that_is_asked_for_again_and_again_is_not_given_up() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let child = image.child(ARM64);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.retry_after = Duration::from_millis(1);
    })
    .await;
    hub.fault(On::Blob(child.layers[0].digest), Fault::status(503));
    let arm = Client::new(&wharf, &engine("arm64"));
    arm.get(&by_tag("1")).await;
    // More tries than one job has.
    for tries in 1..=20 {
        arm.get(&by_digest(&child.manifest.digest)).await;
        deadline("a try to fail", async {
            while wharf.metric("wharf_prefetch_total{outcome=\"retried\"}") < f64::from(tries) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"failed\"}"), 0.0);
    hub.clear_faults();
    until_whole(&wharf, child).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_definite_no_is_taken_for_one() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let wharf = prefetching(&hub).await;
    hub.fault(On::Blob(image.child(ARM64).layers[0].digest), Fault::status(404));
    Client::new(&wharf, &engine("arm64")).get(&by_tag("1")).await;
    wharf.quiet().await;
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"retried\"}"), 0.0);
    wharf.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_with_it() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[400_000, 1000]);
    let child = image.child(ARM64);
    let wharf = prefetching(&hub).await;
    let gate = Gate::after(100_000);
    hub.fault(On::Blob(child.layers[0].digest), Fault::Gate(gate.clone()));
    Client::new(&wharf, &engine("arm64")).get(&by_tag("1")).await;
    gate.halted(1).await;
    // A directory in which nothing else moves can be copied.
    deadline("the other blobs to be kept", async {
        let rest = || child.layers[1..].iter().chain([&child.config]);
        while !rest().all(|blob| wharf.blob_file(&blob.digest).exists())
            || wharf.partials().len() > 2
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // As a killed wharf leaves it behind, five seconds later at most.
    wharf.pull.attend().await;
    let killed = wharf.after_power_cut(|_| ()).await;
    let wharf = wharf.restart().await;
    gate.open();
    for wharf in [wharf, killed] {
        until_whole(&wharf, child).await;
        wharf.end().await;
    }
}

#[tokio::test]
async fn the_last_pulls_of_a_quota_are_left_to_clients() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let limited = |left: u32| {
        let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
        let headers = vec![
            ("content-type", media_type::OCI_INDEX.to_owned()),
            ("docker-content-digest", image.index.digest.to_string()),
            ("ratelimit-limit", "100;w=21600".to_owned()),
            ("ratelimit-remaining", format!("{left};w=21600")),
        ];
        Fault::Status(200, headers, image.index.bytes)
    };
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    hub.fault(On::Path("/manifests/1"), limited(9));
    arm.get(&by_tag("1")).await;
    wharf.quiet().await;
    assert_eq!(asked(&hub, image.child(ARM64)), 0);
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"paused\"}"), 1.0);
    // The client's own pull goes on.
    arm.take(image.child(ARM64)).await;
    // What the registry said a while ago is no longer believed; the next pull wakes what waits.
    wharf.clock.advance(Duration::from_secs(3601));
    hub.clear_faults();
    arm.get(&by_tag("1")).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, image.child(ARM64)));
    wharf.end().await;
}

#[tokio::test]
async fn while_few_pulls_are_left_tags_are_asked_for_sparingly() {
    let hub = FakeHub::start().await;
    hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let wharf = Wharf::start(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    let heads = || hub.manifest_heads();
    arm.get(&by_tag("1")).await;
    wharf.clock.advance(Duration::from_secs(61));
    arm.get(&by_tag("1")).await;
    assert_eq!(heads(), 1, "its time to live was over");
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let headers = vec![
        ("content-type", media_type::OCI_INDEX.to_owned()),
        ("docker-content-digest", image.index.digest.to_string()),
        ("ratelimit-limit", "100;w=21600".to_owned()),
        ("ratelimit-remaining", "9;w=21600".to_owned()),
    ];
    hub.fault(On::Path("/manifests/1"), Fault::Status(200, headers, image.index.bytes));
    wharf.clock.advance(Duration::from_secs(61));
    arm.get(&by_tag("1")).await;
    assert_eq!(heads(), 2, "by which it is known how many are left");
    for _ in 0..9 {
        wharf.clock.advance(Duration::from_secs(61));
        assert_eq!(arm.get(&by_tag("1")).await.cache(), "hit");
    }
    assert_eq!(heads(), 2);
    wharf.clock.advance(Duration::from_secs(61));
    arm.get(&by_tag("1")).await;
    assert_eq!(heads(), 3, "ten times its time to live");
    wharf.end().await;
}

#[tokio::test]
async fn a_client_is_not_held_up_by_what_is_fetched_ahead_for_others() {
    let hub = FakeHub::start().await;
    let slow = hub.push_image(REPO, "slow", &OFFICIAL, &[3_000_000; 6]);
    let quick = hub.push_image(REPO, "quick", &OFFICIAL, &[500_000]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.rate = Some(1024);
    })
    .await;
    let arm = Client::new(&wharf, &engine("arm64"));
    arm.get(&by_tag("slow")).await;
    hub.until("the prefetch to run", |log| {
        log.iter().filter(|seen| seen.path.contains("/blobs/") && seen.body_bytes_sent > 0).count()
            >= 3
    })
    .await;
    // At that rate it takes hours; the client's own pull, of this image and of another one, takes what it takes.
    arm.pull("quick", &quick, ARM64).await;
    arm.take(slow.child(ARM64)).await;
    wharf.quiet().await;
    assert_eq!((asked(&hub, slow.child(ARM64)), asked(&hub, quick.child(ARM64))), (8, 3));
    wharf.end().await;
}

#[test]
fn the_rate_holds_however_slow_the_disk_is() {
    // One thread for the disk, and much for it to do: bytes come faster than they are written.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("a runtime");
    runtime.block_on(async {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &OFFICIAL, &[16_000_000]);
        let layer = image.child(ARM64).layers[0].digest;
        let wharf = Wharf::start_with(&hub, |config| {
            config.pull.prefetch.on_pull = true;
            config.pull.prefetch.rate = Some(1024);
        })
        .await;
        let busy = tokio::spawn(async {
            let block = vec![7; 1024 * 1024];
            loop {
                let block = block.clone();
                let hashed =
                    tokio::task::spawn_blocking(move || wharf::oci::Digest::sha256(&block));
                hashed.await.expect("hashed");
            }
        });
        let arm = Client::new(&wharf, &engine("arm64"));
        arm.get(&by_tag("1")).await;
        let partial = wharf.cache().join(format!("wharf/partial/sha256-{}", layer.encoded()));
        let came = || std::fs::metadata(&partial).map_or(0, |partial| partial.len());
        deadline("the prefetch to run", async {
            while came() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // At that rate, hours would go by before a client has as many bytes.
        let quick = hub.push_image(REPO, "quick", &OFFICIAL, &[16_000_000]);
        arm.pull("quick", &quick, ARM64).await;
        assert!((1..1024 * 1024).contains(&came()), "{} bytes of it came", came());
        busy.abort();
        wharf.stop().await;
    });
}

#[tokio::test]
async fn a_disk_that_takes_nothing_ends_it_and_pulls_go_on() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    arm.get(&by_tag("1")).await;
    wharf.quiet().await;
    let second = hub.push_image(REPO, "2", &OFFICIAL, &[2000]);
    let partial = wharf.cache().join("wharf/partial");
    std::fs::remove_dir_all(&partial).expect("removed");
    arm.pull("2", &second, ARM64).await;
    std::fs::create_dir(&partial).expect("made again");
    arm.pull("2", &second, ARM64).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, image.child(ARM64)));
    wharf.stop().await;
}
