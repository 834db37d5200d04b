//! What is kept: the platforms that the site runs, and of the others nothing.

use std::time::Duration;

use serde_json::json;
use wharf::{oci::media_type, pull::Others};

use super::{Client, OFFICIAL, REPO, by_digest, by_tag, engine, is_there, is_whole};
use crate::support::{FakeHub, Fault, Gate, On, PushedManifest, Wharf, blob_path};

async fn keeping(hub: &FakeHub, others: Others, keep: &[&str]) -> Wharf {
    Wharf::start_with(hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.platforms.keep = keep.iter().map(|text| text.parse().expect("one")).collect();
        config.pull.platforms.others = others;
    })
    .await
}

/// A client that has list and manifest, and whose first layer stops after so many bytes.
async fn before_the_layer(
    hub: &FakeHub,
    client: &Client<'_>,
    child: &PushedManifest,
    bytes: u64,
) -> Gate {
    client.get(&by_tag("1")).await;
    client.get(&by_digest(&child.manifest.digest)).await;
    let gate = Gate::after(bytes);
    hub.fault(On::Blob(child.layers[0].digest), Fault::Gate(gate.clone()));
    gate
}

#[tokio::test]
async fn another_platform_is_passed_on_whole_and_leaves_nothing() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000, 10]);
    let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
    let (amd, arm) = (Client::new(&wharf, &engine("amd64")), Client::new(&wharf, &engine("arm64")));
    amd.pull("1", &image, "linux/amd64").await;
    for _ in 0..2 {
        arm.pull("1", &image, "linux/arm64/v8").await;
        let child = image.child("linux/arm64/v8");
        let manifest = arm.get(&by_digest(&child.manifest.digest)).await;
        assert_eq!((manifest.cache(), manifest.header("warning")), ("relay", None));
        for blob in child.layers.iter().chain([&child.config]) {
            assert_eq!(arm.get(&blob_path(REPO, &blob.digest)).await.cache(), "relay");
            assert_eq!(arm.head(&blob_path(REPO, &blob.digest)).await.status, 200);
        }
    }
    wharf.quiet().await;
    for child in &image.children {
        let amd64 = child.platform == "linux/amd64";
        assert_eq!(
            (is_whole(&wharf, child), is_there(&wharf, child)),
            (amd64, amd64),
            "{}",
            child.platform
        );
    }
    assert_eq!(arm.get(&by_tag("1")).await.bytes(), &image.index.bytes, "the list as it is");
    // Nothing is written down of it, either: after a restart it is passed on again, and not found.
    let wharf = wharf.restart().await;
    Client::new(&wharf, &engine("arm64")).pull("1", &image, "linux/arm64/v8").await;
    wharf.quiet().await;
    assert!(!is_there(&wharf, image.child("linux/arm64/v8")));
    wharf.end().await;
}

#[tokio::test]
async fn many_clients_of_another_platform_share_one_download() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000]);
    let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    let child = image.child("linux/arm64/v8");
    let layer = &child.layers[0];
    let gate = before_the_layer(&hub, &arm, child, 1000).await;
    let path = blob_path(REPO, &layer.digest);
    let clients: Vec<_> = (0..20).map(|_| arm.get(&path)).collect();
    let open = async {
        gate.halted(1).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(clients), open);
    answers.iter().for_each(|answer| answer.expect(&layer.bytes));
    wharf.quiet().await;
    assert_eq!(hub.blob_gets(&layer.digest).len(), 1);
    assert!(!is_there(&wharf, child));
    wharf.end().await;
}

#[tokio::test]
async fn a_blob_that_two_platforms_share_is_kept_with_the_one_that_is() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[("linux", "amd64", None)], &[50_000]);
    let amd = image.child("linux/amd64");
    let config = hub.put_blob(REPO, "{\"architecture\":\"arm64\"}");
    let descriptor = |digest, size: usize| serde_json::json!({ "mediaType": "application/x", "digest": digest, "size": size });
    let shared = &amd.layers[0];
    let arm = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(config, 24), "layers": [descriptor(shared.digest, shared.bytes.len())],
    })
    .to_string();
    let oci = media_type::OCI_MANIFEST;
    let arm_digest = hub.put_manifest(REPO, None, oci, arm.clone());
    let entry = |digest, size: usize, architecture: &str| {
        serde_json::json!({
            "mediaType": oci, "digest": digest, "size": size,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [entry(amd.manifest.digest, amd.manifest.bytes.len(), "amd64"), entry(arm_digest, arm.len(), "arm64")],
    });
    hub.put_manifest(REPO, Some("both"), media_type::OCI_INDEX, index.to_string());
    let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
    let client = Client::new(&wharf, &engine("arm64"));
    client.get(&by_tag("both")).await;
    assert_eq!(client.get(&by_digest(&arm_digest)).await.cache(), "relay");
    client.get(&blob_path(REPO, &shared.digest)).await.expect(&shared.bytes);
    wharf.quiet().await;
    assert!(!wharf.blob_file(&shared.digest).exists(), "so far it is only the other's");
    Client::new(&wharf, &engine("amd64")).take(amd).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, amd) && !wharf.blob_file(&arm_digest).exists());
    let again = client.get(&blob_path(REPO, &shared.digest)).await;
    assert_eq!(again.cache(), "hit");
    assert!(!wharf.blob_file(&config).exists());
    wharf.end().await;
}

#[tokio::test]
async fn a_tag_that_means_another_platforms_manifest_is_treated_like_its_digest() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let child = image.child("linux/arm64/v8");
    hub.move_tag(REPO, "arm64", child.manifest.digest);
    hub.move_tag(REPO, "amd64", image.child("linux/amd64").manifest.digest);
    for head_first in [false, true] {
        let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
        let arm = Client::new(&wharf, &engine("arm64"));
        arm.get(&by_tag("1")).await;
        for _ in 0..2 {
            if head_first {
                assert_eq!(arm.head(&by_tag("arm64")).await.status, 200);
            }
            let answer = arm.get(&by_tag("arm64")).await;
            assert_eq!((answer.cache(), answer.bytes()), ("relay", &child.manifest.bytes));
            for blob in child.layers.iter().chain([&child.config]) {
                arm.get(&blob_path(REPO, &blob.digest)).await.expect(&blob.bytes);
            }
        }
        arm.get(&by_tag("amd64")).await;
        wharf.quiet().await;
        assert!(!is_there(&wharf, child), "after a HEAD: {head_first}");
        assert!(is_whole(&wharf, image.child("linux/amd64")));
        wharf.end().await;
    }
    let wharf = keeping(&hub, Others::Refuse, &["linux/amd64"]).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    arm.get(&by_tag("1")).await;
    for _ in 0..2 {
        assert_eq!(arm.get(&by_tag("arm64")).await.refusal(), (403, "DENIED".to_owned()));
        assert_eq!(arm.head(&by_tag("arm64")).await.status, 403);
    }
    assert_eq!(arm.get(&by_tag("amd64")).await.status, 200);
    wharf.quiet().await;
    assert!(!is_there(&wharf, child));
    wharf.end().await;
}

#[tokio::test]
async fn bytes_that_were_to_be_kept_outlive_a_client_for_whom_they_are_passed_on() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[("linux", "amd64", None)], &[200_000]);
    let amd = image.child("linux/amd64");
    let shared = &amd.layers[0];
    // An image for arm64 of the same layer, in another repository.
    const OTHER: &str = "library/other";
    let (layer, config) = (hub.put_blob(OTHER, shared.bytes.clone()), hub.put_blob(OTHER, "{}"));
    let part = |digest, size: usize| json!({ "mediaType": "application/x", "digest": digest, "size": size });
    let arm = json!({
        "schemaVersion": 2, "config": part(config, 2), "layers": [part(layer, shared.bytes.len())],
    })
    .to_string();
    let arm_digest = hub.put_manifest(OTHER, None, media_type::OCI_MANIFEST, arm.clone());
    let list = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": media_type::OCI_MANIFEST, "digest": arm_digest, "size": arm.len(),
            "platform": { "os": "linux", "architecture": "arm64" },
        }],
    });
    hub.put_manifest(OTHER, Some("1"), media_type::OCI_INDEX, list.to_string());
    let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
    let path = blob_path(REPO, &shared.digest);
    let (first, other) =
        (Client::new(&wharf, &engine("amd64")), Client::new(&wharf, &engine("arm64")));
    // The blob is to be fetched when the client asks for it, and not ahead.
    hub.fault(On::Blob(shared.digest), Fault::status(404));
    first.get(&by_tag("1")).await;
    first.get(&by_digest(&amd.manifest.digest)).await;
    other.get(&format!("/v2/{OTHER}/manifests/1")).await;
    other.get(&format!("/v2/{OTHER}/manifests/{arm_digest}")).await;
    wharf.quiet().await;
    hub.clear_faults();
    // The uplink fails in the middle, for good.
    hub.fault_next(1, On::Blob(shared.digest), Fault::CutAfter(100_000));
    hub.fault(On::Blob(shared.digest), Fault::status(503));
    assert!(first.get(&path).await.body.is_err());
    wharf.quiet().await;
    let kept = || {
        let name = format!("wharf/partial/sha256-{}", shared.digest.encoded());
        std::fs::metadata(wharf.cache().join(name)).map_or(0, |partial| partial.len())
    };
    let before = kept();
    assert!(before >= 100_000, "{before}");
    assert_ne!(other.get(&blob_path(OTHER, &shared.digest)).await.status, 200);
    wharf.quiet().await;
    assert_eq!(kept(), before, "what had crossed the uplink is gone");
    hub.clear_faults();
    first.get(&path).await.expect(&shared.bytes);
    wharf.end().await;
}

#[tokio::test]
async fn another_platform_may_be_refused_or_kept() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let child = image.child("linux/arm64/v8");
    let path = by_digest(&child.manifest.digest);
    let wharf = keeping(&hub, Others::Refuse, &["linux/amd64", "linux/arm/v7"]).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    assert_eq!(arm.get(&by_tag("1")).await.bytes(), &image.index.bytes);
    let refused = arm.get(&path).await;
    assert_eq!(refused.refusal(), (403, "DENIED".to_owned()));
    assert!(String::from_utf8_lossy(refused.bytes()).contains("linux/arm64"));
    assert_eq!(arm.head(&path).await.status, 403);
    Client::new(&wharf, &engine("arm")).pull("1", &image, "linux/arm/v7").await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, image.child("linux/arm/v7")) && !is_there(&wharf, child));
    wharf.end().await;

    let wharf = keeping(&hub, Others::Keep, &["linux/amd64"]).await;
    Client::new(&wharf, &engine("arm64")).pull("1", &image, "linux/arm64/v8").await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, child));
    wharf.end().await;
}

#[tokio::test]
async fn what_a_kept_platform_falls_back_to_is_kept() {
    let hub = FakeHub::start().await;
    // No arm64: such a host takes arm/v7.
    let image =
        hub.push_image(REPO, "1", &[("linux", "amd64", None), ("linux", "arm", Some("v7"))], &[10]);
    let wharf = keeping(&hub, Others::Refuse, &["linux/arm64"]).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    arm.pull("1", &image, "linux/arm/v7").await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, image.child("linux/arm/v7")));
    let other = by_digest(&image.child("linux/amd64").manifest.digest);
    assert_eq!(arm.get(&other).await.refusal().0, 403);
    wharf.end().await;
}

#[tokio::test]
async fn a_platform_outside_keep_is_no_dead_end_and_the_kept_one_outlives_the_uplink() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let wharf = keeping(&hub, Others::Relay, &["linux/arm/v7"]).await;
    let (v7, amd) = (Client::new(&wharf, &engine("arm")), Client::new(&wharf, &engine("amd64")));
    amd.pull("1", &image, "linux/amd64").await;
    v7.get(&by_tag("1")).await;
    wharf.quiet().await;
    hub.stop().await;
    wharf.clock.advance(Duration::from_secs(24 * 3600));
    v7.pull("1", &image, "linux/arm/v7").await;
    let gone = amd.get(&by_digest(&image.child("linux/amd64").manifest.digest)).await;
    assert_eq!(gone.refusal().0, 502);
    wharf.end().await;
}

#[tokio::test]
async fn what_was_being_passed_on_at_a_stop_is_gone_at_the_next_start() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000]);
    let wharf = keeping(&hub, Others::Relay, &["linux/amd64"]).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    let child = image.child("linux/arm64/v8");
    let gate = before_the_layer(&hub, &arm, child, 50_000).await;
    let stream = wharf.open(&blob_path(REPO, &child.layers[0].digest), &[]).await;
    gate.halted(1).await;
    drop(stream);
    let wharf = wharf.restart().await;
    assert_eq!(wharf.partials(), [""; 0]);
    gate.open();
    wharf.end().await;
}
