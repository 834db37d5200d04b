//! What a host needs next is there before it asks, once, and never at another's expense (bug classes: a cache that lacks
//! the layers which its first client happened to have; a second download beside the client's own; a prefetch that eats
//! the pull quota).

use std::time::Duration;

use serde_json::json;
use wharf::{
    oci::media_type,
    pull::{WarmImage, Window},
};

use crate::{
    platforms::{Client, OFFICIAL, REPO, asked, by_digest, by_tag, engine, is_there, is_whole},
    support::{FakeHub, Fault, Gate, On, Wharf, blob_path, deadline},
};

const ARM64: &str = "linux/arm64/v8";

async fn prefetching(hub: &FakeHub) -> Wharf {
    Wharf::start_with(hub, |config| config.pull.prefetch.on_pull = true).await
}

fn warm(every: Duration, window: Option<Window>) -> WarmImage {
    WarmImage {
        repository: "docker.io/library/busybox".parse().expect("a name"),
        tag: "1".parse().expect("a tag"),
        platforms: vec!["linux/arm64".parse().expect("a platform")],
        every,
        window,
    }
}

async fn until_whole(wharf: &Wharf, child: &crate::support::PushedManifest) {
    deadline("the image to be whole", async {
        while !is_whole(wharf, child) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_for_the_manifest_and_leaves_leaves_the_image_whole() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000, 10, 2_000_000]);
    let single = hub.push_single(REPO, "single", ("linux", "arm64", None), &[70_000]);
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    assert_eq!(arm.get(&by_tag("1")).await.status, 200);
    // A manifest without a list, from a client of which nothing is known.
    Client::new(&wharf, "").get(&by_tag("single")).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, image.child(ARM64)) && is_whole(&wharf, &single));
    for child in &image.children {
        let wanted = if child.platform == ARM64 { 5 } else { 0 };
        assert_eq!(asked(&hub, child), wanted, "{}", child.platform);
    }
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"fetched\"}"), 2.0);
    // Served again, it is not even looked at.
    arm.get(&by_tag("1")).await;
    wharf.quiet().await;
    assert_eq!(wharf.metric("wharf_prefetch_total{outcome=\"kept\"}"), 1.0, "the list's own job");
    let layer = &image.child(ARM64).layers[0];
    assert_eq!(wharf.metric("wharf_prefetch_used_bytes_total"), 0.0);
    for _ in 0..2 {
        assert_eq!(arm.get(&blob_path(REPO, &layer.digest)).await.cache(), "hit");
        assert_eq!(wharf.metric("wharf_prefetch_used_bytes_total"), layer.bytes.len() as f64);
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_client_that_pulls_while_it_runs_joins_it() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[300_000; 5]);
    let child = image.child(ARM64);
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    let gate = Gate::after(1000);
    hub.fault(On::Blobs, Fault::Gate(gate.clone()));
    arm.get(&by_tag("1")).await;
    // Three run, as many as may.
    gate.halted(3).await;
    let running = wharf.metric("wharf_downloads_in_flight");
    assert_eq!(running, 3.0);
    // The client asks for all of them at once, those that have not begun as well.
    let paths: Vec<_> = child.layers.iter().map(|layer| blob_path(REPO, &layer.digest)).collect();
    let pull = futures_util::future::join_all(paths.iter().map(|path| arm.get(path)));
    let open = async {
        gate.halted(5).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(pull, open);
    for (answer, layer) in answers.iter().zip(&child.layers) {
        answer.expect(&layer.bytes);
    }
    wharf.quiet().await;
    assert_eq!(asked(&hub, child), 7);
    assert!(wharf.metric("wharf_prefetch_used_bytes_total") > 0.0);
    wharf.end().await;
}

#[tokio::test]
async fn what_a_client_waits_for_makes_room_for_what_it_will_ask_for_next() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[300_000; 9]);
    let child = image.child(ARM64);
    // Also where clients have one turn between them: nothing that runs already waits for it.
    for max_downloads in [64, 1] {
        let wharf = Wharf::start_with(&hub, |config| {
            config.pull.prefetch.on_pull = true;
            config.pull.max_downloads = max_downloads;
        })
        .await;
        let arm = Client::new(&wharf, &engine("arm64"));
        let gate = Gate::after(1000);
        hub.fault(On::Blobs, Fault::Gate(gate.clone()));
        arm.get(&by_tag("1")).await;
        gate.halted(3).await;
        // As many as an engine asks for at one time: the ones that were begun.
        let begun: Vec<_> =
            child.layers[..3].iter().map(|layer| blob_path(REPO, &layer.digest)).collect();
        let asked_for = futures_util::future::join_all(begun.iter().map(|path| arm.get(path)));
        let open = async {
            gate.halted(if max_downloads == 1 { 4 } else { 6 }).await;
            gate.open();
        };
        let (answers, ()) = tokio::join!(asked_for, open);
        for (answer, layer) in answers.iter().zip(&child.layers) {
            answer.expect(&layer.bytes);
        }
        wharf.quiet().await;
        assert!(is_whole(&wharf, child));
        assert_eq!(asked(&hub, child), 11);
        wharf.end().await;
        hub.clear_faults();
        hub.clear_log();
    }
}

#[tokio::test]
async fn attestations_of_the_platform_come_with_it_and_those_of_others_do_not() {
    let hub = FakeHub::start().await;
    let image =
        hub.push_image(REPO, "1", &[("linux", "amd64", None), ("linux", "arm64", None)], &[10]);
    let attest = |about: &str| {
        let statement = hub.put_blob(REPO, format!("in-toto of {about}"));
        let config = hub.put_blob(REPO, "{}");
        let blob = |digest, size: usize| json!({ "mediaType": "application/vnd.in-toto+json", "digest": digest, "size": size });
        let manifest = json!({
            "schemaVersion": 2, "config": blob(config, 2),
            "layers": [blob(statement, format!("in-toto of {about}").len())],
        })
        .to_string();
        let digest = hub.put_manifest(REPO, None, media_type::OCI_MANIFEST, manifest.clone());
        let entry = json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": { "os": "unknown", "architecture": "unknown" },
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image.child(about).manifest.digest,
            },
        });
        (digest, statement, entry)
    };
    let (amd, arm) = (attest("linux/amd64"), attest("linux/arm64"));
    let mut list: serde_json::Value = serde_json::from_slice(&image.index.bytes).expect("JSON");
    list["manifests"].as_array_mut().expect("a list").extend([amd.2, arm.2]);
    hub.put_manifest(REPO, Some("attested"), media_type::OCI_INDEX, list.to_string());
    // By the list, and by the manifest alone, of a client of which nothing was known.
    for agent in [&*engine("arm64"), "containerd/1.7.0"] {
        let wharf = prefetching(&hub).await;
        let client = Client::new(&wharf, agent);
        client.get(&by_tag("attested")).await;
        client.get(&by_digest(&image.child("linux/arm64").manifest.digest)).await;
        wharf.quiet().await;
        assert!(is_whole(&wharf, image.child("linux/arm64")));
        assert!(wharf.blob_file(&arm.0).exists() && wharf.blob_file(&arm.1).exists(), "{agent}");
        assert!(!wharf.blob_file(&amd.0).exists() && !wharf.blob_file(&amd.1).exists(), "{agent}");
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_head_fetches_nothing_unless_a_kept_tag_is_to_be_followed() {
    let hub = FakeHub::start().await;
    hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    for follow in [false, true] {
        let wharf = Wharf::start_with(&hub, |config| {
            config.pull.prefetch.on_pull = true;
            config.pull.prefetch.follow = follow;
        })
        .await;
        let arm = Client::new(&wharf, &engine("arm64"));
        arm.head(&by_tag("1")).await;
        wharf.quiet().await;
        assert_eq!(wharf.metric("wharf_downloads_in_flight"), 0.0);
        assert_eq!(hub.log().iter().filter(|seen| seen.path.contains("/blobs/")).count(), 0);
        arm.get(&by_tag("1")).await;
        wharf.quiet().await;
        let moved =
            hub.push_image(REPO, if follow { "follow" } else { "stay" }, &OFFICIAL, &[2000]);
        hub.move_tag(REPO, "1", moved.index.digest);
        wharf.clock.advance(Duration::from_secs(61));
        let told = arm.head(&by_tag("1")).await;
        assert_eq!(told.header("docker-content-digest"), Some(&*moved.index.digest.to_string()));
        wharf.quiet().await;
        assert_eq!(is_whole(&wharf, moved.child(ARM64)), follow);
        let others = moved.children.iter().filter(|child| child.platform != ARM64);
        assert!(others.into_iter().all(|child| !is_there(&wharf, child)));
        wharf.end().await;
        hub.clear_log();
    }
}

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
async fn an_image_is_kept_warm_when_it_is_due_and_in_its_time_of_the_day() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let hour = Duration::from_secs(3600);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(hour, None));
    })
    .await;
    wharf.pull.attend().await;
    until_whole(&wharf, image.child(ARM64)).await;
    wharf.quiet().await;
    assert_eq!(asked(&hub, image.child("linux/amd64")), 0);
    let moved = hub.push_image(REPO, "2", &OFFICIAL, &[2000]);
    hub.move_tag(REPO, "1", moved.index.digest);
    wharf.clock.advance(hour / 2);
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(!is_there(&wharf, moved.child(ARM64)), "not due yet");
    hub.fault(On::Manifests, Fault::status(503));
    wharf.clock.advance(hour / 2);
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(!is_there(&wharf, moved.child(ARM64)), "an outage");
    hub.clear_faults();
    wharf.clock.advance(Duration::from_secs(5 * 60));
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, moved.child(ARM64)), "five minutes later, and not an hour");
    wharf.end().await;

    // A window that is half a day away.
    let now = wharf::clock::Clock::system().minute_of_day();
    let (from, to) = ((now + 720) % 1440, (now + 780) % 1440);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(hour, Some(Window { from, to })));
    })
    .await;
    hub.clear_log();
    for _ in 0..10 {
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert_eq!(hub.log().len(), 0);
        wharf.clock.advance(hour);
    }
    wharf.clock.advance(Duration::from_secs(2 * 3600 + 600));
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, moved.child(ARM64)));
    wharf.end().await;
}

#[tokio::test]
async fn an_image_that_could_not_be_looked_at_is_looked_at_soon() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let week = Duration::from_secs(7 * 24 * 3600);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(week, None));
    })
    .await;
    // At first nothing is kept, then something that stands in.
    let mut looks = vec![image];
    looks.push(hub.push_image(REPO, "2", &OFFICIAL, &[2000]));
    for image in &looks {
        hub.move_tag(REPO, "1", image.index.digest);
        hub.fault(On::Path("/manifests/1"), Fault::status(503));
        wharf.clock.advance(week);
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert!(!is_there(&wharf, image.child(ARM64)));
        hub.clear_faults();
        wharf.clock.advance(Duration::from_secs(10 * 60));
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert!(is_whole(&wharf, image.child(ARM64)));
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_client_does_not_wait_for_the_time_of_the_day_of_an_image_that_is_kept_warm() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let hour = Duration::from_secs(3600);
    let now = wharf::clock::Clock::system().minute_of_day();
    let (from, to) = ((now + 1430) % 1440, (now + 30) % 1440);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.retry_after = Duration::from_millis(20);
        config.pull.prefetch.images.push(warm(hour * 48, Some(Window { from, to })));
    })
    .await;
    // It begins in its time of the day, and fails until that is over.
    hub.fault(On::Blob(image.child(ARM64).layers[0].digest), Fault::status(503));
    wharf.pull.attend().await;
    let count = async |what, n| {
        let metric = format!("wharf_prefetch_total{{outcome=\"{what}\"}}");
        deadline("a try", async {
            while wharf.metric(&metric) < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    count("retried", 1.0).await;
    wharf.clock.advance(hour);
    count("paused", 1.0).await;
    hub.clear_faults();
    assert!(!is_whole(&wharf, image.child(ARM64)));
    Client::new(&wharf, &engine("arm64")).get(&by_tag("1")).await;
    Client::new(&wharf, "").get(&by_digest(&image.child(ARM64).manifest.digest)).await;
    until_whole(&wharf, image.child(ARM64)).await;
    wharf.end().await;
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
