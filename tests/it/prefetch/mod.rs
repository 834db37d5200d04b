//! What a host needs next is there before it asks, once, and never at another's expense (bug classes: a cache that lacks
//! the layers which its first client happened to have; a second download beside the client's own; a prefetch that eats
//! the pull quota).

mod trouble;
mod warm;

use std::time::Duration;

use serde_json::json;
use wharf::oci::{Digest, media_type};

use crate::{
    platforms::{Client, OFFICIAL, REPO, asked, by_digest, by_tag, engine, is_there, is_whole},
    support::{FakeHub, Fault, Gate, On, Wharf, blob_path, deadline},
};

const ARM64: &str = "linux/arm64/v8";

async fn prefetching(hub: &FakeHub) -> Wharf {
    Wharf::start_with(hub, |config| config.pull.prefetch.on_pull = true).await
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

/// Docker Engine keeps manifests for a while when their image is removed: it then asks what the tag means, and for blobs.
#[tokio::test]
async fn a_client_that_has_the_manifests_already_leaves_an_image_with_a_name() {
    for only_its_own in [false, true] {
        let mut hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000, 10, 200_000]);
        let child = image.child(ARM64);
        let wharf = Wharf::start_with(&hub, |config| {
            config.pull.prefetch.on_pull = true;
            if only_its_own {
                config.pull.platforms.keep = vec![ARM64.parse().expect("a platform")];
            }
        })
        .await;
        let arm = Client::new(&wharf, &engine("arm64"));
        // Asking what a tag means is no pull.
        assert_eq!(arm.head(&by_tag("1")).await.status, 200);
        wharf.quiet().await;
        assert_eq!((hub.manifest_gets(), asked(&hub, child)), (0, 0));
        let paths: Vec<String> =
            child.layers.iter().map(|layer| blob_path(REPO, &layer.digest)).collect();
        let answers = futures_util::future::join_all(paths.iter().map(|path| arm.get(path))).await;
        for (answer, layer) in answers.iter().zip(&child.layers) {
            answer.expect(&layer.bytes);
        }
        // Its config, which the client had as well.
        until_whole(&wharf, child).await;
        wharf.quiet().await;
        // Each once: its manifest, its config and its layers. And the list.
        assert_eq!((hub.manifest_gets(), asked(&hub, child)), (2, 5));
        // It has its name: it is there when nobody can be asked what that means.
        hub.stop().await;
        wharf.clock.advance(Duration::from_secs(3601));
        Client::new(&wharf, &engine("arm64")).pull("1", &image, ARM64).await;
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_client_that_has_the_list_alone_leaves_an_image_with_a_name() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000]);
    let child = image.child(ARM64);
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    assert_eq!(arm.head(&by_tag("1")).await.status, 200);
    arm.take(child).await;
    wharf.quiet().await;
    assert_eq!((hub.manifest_gets(), asked(&hub, child)), (2, 3));
    hub.stop().await;
    wharf.clock.advance(Duration::from_secs(3601));
    Client::new(&wharf, &engine("arm64")).pull("1", &image, ARM64).await;
    wharf.end().await;
}

#[tokio::test]
async fn engines_at_one_address_that_have_their_manifests_leave_an_image_each() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000]);
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    let amd = Client::new(&wharf, &engine("amd64"));
    for client in [&arm, &amd] {
        assert_eq!(client.head(&by_tag("1")).await.status, 200);
    }
    for (client, platform) in [(&arm, ARM64), (&amd, "linux/amd64")] {
        let child = image.child(platform);
        for blob in child.layers.iter().chain([&child.config]) {
            client.get(&blob_path(REPO, &blob.digest)).await.expect(&blob.bytes);
        }
        until_whole(&wharf, child).await;
    }
    wharf.quiet().await;
    for child in &image.children {
        let wanted = if is_whole(&wharf, child) { 3 } else { 0 };
        assert_eq!(asked(&hub, child), wanted, "{}", child.platform);
    }
    assert_eq!(image.children.iter().filter(|child| is_there(&wharf, child)).count(), 2);
    wharf.end().await;
}

#[tokio::test]
async fn a_blob_of_another_image_than_the_one_resolved_fetches_no_layer_of_that() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[100_000]);
    let lone = hub.put_blob(REPO, "of another image");
    let wharf = prefetching(&hub).await;
    let arm = Client::new(&wharf, &engine("arm64"));
    assert_eq!(arm.head(&by_tag("1")).await.status, 200);
    for _ in 0..2 {
        assert_eq!(arm.get(&blob_path(REPO, &lone)).await.bytes(), "of another image");
    }
    let nothing = blob_path(REPO, &Digest::sha256(b"nothing"));
    assert_eq!(arm.get(&nothing).await.status, 404);
    wharf.quiet().await;
    // It was looked at once.
    assert_eq!((hub.manifest_gets(), asked(&hub, image.child(ARM64))), (2, 1));
    wharf.end().await;
}
