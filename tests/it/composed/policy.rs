//! Platforms and prefetch: a composed image is one image like others.

use wharf::{oci::Platform, pull::AnswerWith};

use super::*;

const MANIFESTS_ONLY: [(&str, &str); 1] = [("accept", media_type::OCI_MANIFEST)];

fn platforms(name: &str) -> Vec<Platform> {
    vec![name.parse().expect("a platform")]
}

#[tokio::test]
async fn a_client_that_reads_no_index_gets_the_image_of_its_platform() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    for image in [&two.arm64, &two.amd64] {
        let platform = image.platform.replace('/', "-");
        let path = format!("/platform/{platform}{TAG}");
        for _ in 0..2 {
            let head = client::head(wharf.addr, &path, &MANIFESTS_ONLY).await;
            let get = client::get(wharf.addr, &path, &MANIFESTS_ONLY).await;
            assert_eq!(get.bytes(), &image.manifest.bytes, "{path}");
            assert_eq!(digest(&head), digest(&get), "{path}");
        }
    }
    let path = format!("/platform/linux-s390x{TAG}");
    let none = client::get(wharf.addr, &path, &MANIFESTS_ONLY).await;
    assert_eq!(none.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    wharf.end().await;
}

#[tokio::test]
async fn where_tags_are_answered_with_manifests_composed_ones_are_too() {
    let mut two = Two::start().await;
    let wharf = two
        .wharf_with(own_and_lan(), |config| {
            config.pull.platforms.answer = AnswerWith::Manifest;
            config.pull.platforms.default = platforms("linux/arm64").pop();
        })
        .await;
    assert_eq!(wharf.get(TAG).await.bytes(), &two.arm64.manifest.bytes);
    two.hub.stop().await;
    two.site.stop().await;
    let wharf = wharf.restart().await;
    let stale = wharf.get(TAG).await;
    assert_eq!((stale.bytes(), stale.cache()), (&two.arm64.manifest.bytes, "stale"));
    wharf.end().await;
}

#[tokio::test]
async fn what_the_platform_needs_is_fetched_ahead_from_its_part() {
    let mut two = Two::start().await;
    let wharf = two.wharf_with(own_and_lan(), |config| config.pull.prefetch.on_pull = true).await;
    assert_eq!(wharf.get(&format!("/platform/linux-arm64{TAG}")).await.status, 200);
    wharf.quiet().await;
    assert_eq!(two.gets(), (0, 1));
    for blob in blobs(&two.arm64) {
        assert_eq!(two.site.blob_bytes_sent(&blob.digest), blob.bytes.len() as u64);
    }
    two.site.stop().await;
    pull(&wharf, NAME, &two.arm64).await;
    wharf.quiet().await;
    assert_eq!(two.gets().0, 0, "nobody asked for the other platform");
    wharf.end().await;
}

#[tokio::test]
async fn a_manifest_that_is_asked_for_by_digest_is_fetched_ahead_from_its_part() {
    let two = Two::start().await;
    let wharf = two.wharf_with(own_and_lan(), |config| config.pull.prefetch.on_pull = true).await;
    for image in [&two.amd64, &two.arm64] {
        wharf.head(TAG).await;
        wharf.get(&format!("{NAME}/manifests/{}", image.manifest.digest)).await;
        wharf.quiet().await;
    }
    for (image, registry) in [(&two.amd64, &two.hub), (&two.arm64, &two.site)] {
        for blob in blobs(image) {
            assert_eq!(registry.blob_bytes_sent(&blob.digest), blob.bytes.len() as u64);
        }
    }
    let missed = |registry: &FakeHub| registry.count(|seen| seen.status == Some(404));
    assert_eq!((missed(&two.hub), missed(&two.site)), (0, 0));
    wharf.end().await;
}

#[tokio::test]
async fn platforms_that_are_not_kept_are_passed_on_and_those_refused_are_refused() {
    for refuse in [false, true] {
        let two = Two::start().await;
        let wharf = two
            .wharf_with(own_and_lan(), |config| {
                config.pull.platforms.keep = platforms("linux/amd64");
                if refuse {
                    config.pull.platforms.others = wharf::pull::Others::Refuse;
                }
            })
            .await;
        assert_eq!(entries(&wharf.get(TAG).await).len(), 2);
        pull(&wharf, NAME, &two.amd64).await;
        let other = format!("{NAME}/manifests/{}", two.arm64.manifest.digest);
        if refuse {
            assert_eq!(wharf.get(&other).await.refusal(), (403, "DENIED".to_owned()));
        } else {
            for _ in 0..2 {
                assert_eq!(wharf.get(&other).await.cache(), "relay");
                let layer = format!("{NAME}/blobs/{}", two.arm64.layers[0].digest);
                assert_eq!(wharf.get(&layer).await.cache(), "relay");
            }
        }
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_composed_image_is_brought_like_others() {
    let mut two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let name = "docker.io/user/test:latest".parse().expect("a name");
    let (events, mut told) = tokio::sync::mpsc::channel(1000);
    wharf.pull.bring(&name, &platforms("linux/arm64"), &events).await.expect("it can be had");
    drop(events);
    while told.recv().await.is_some() {}
    wharf.quiet().await;
    two.hub.stop().await;
    two.site.stop().await;
    let wharf = wharf.restart().await;
    assert_eq!(entries(&wharf.get(TAG).await), listed(&[&two.amd64, &two.arm64]));
    pull(&wharf, NAME, &two.arm64).await;
    wharf.end().await;
}

#[tokio::test]
async fn what_is_kept_of_a_composed_image_is_told_by_its_name() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let composed = digest(&wharf.get(TAG).await);
    pull(&wharf, NAME, &two.arm64).await;
    wharf.quiet().await;
    let name = "docker.io/user/test:latest".parse().expect("a name");
    let looked = wharf.pull.inspect(&name).await.expect("it is there");
    assert_eq!((looked.digest.to_string(), looked.manifests.len()), (composed.clone(), 2));
    let kept = wharf.pull.images().await.expect("listed");
    let image = kept.iter().find(|image| image.name == name.to_string()).expect("it is kept");
    assert_eq!(image.digest.to_string(), composed);
    let [arm64] = image.platforms.as_slice() else { panic!("{:?}", image.platforms) };
    assert_eq!((arm64.digest, arm64.whole), (two.arm64.manifest.digest, true));
    wharf.end().await;
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_for_the_platforms_that_are_kept() {
    let mut two = Two::start().await;
    let wharf = two.wharf_with(own_and_lan(), |config| config.pull.prefetch.follow = true).await;
    wharf.get(TAG).await;
    pull(&wharf, NAME, &two.amd64).await;
    let moved = two.hub.push_single("user/test", "new", AMD64, &[10]);
    two.hub.move_tag("user/test", "latest", moved.manifest.digest);
    wharf.clock.advance(LATER);
    assert_eq!(wharf.head(TAG).await.status, 200);
    two.hub
        .until("the new layer to be fetched", |log| {
            let sent = log.iter().filter(|seen| seen.is_blob_body(&moved.layers[0].digest));
            sent.map(|seen| seen.body_bytes_sent).sum::<u64>() == 10
        })
        .await;
    wharf.quiet().await;
    assert_eq!(two.site.count(|seen| seen.path.contains("/blobs/")), 0);
    two.hub.stop().await;
    pull(&wharf, NAME, &moved).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_part_that_is_removed_by_its_own_name_stays_in_the_composed_image() {
    let mut two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    assert_eq!(wharf.get(TAG).await.status, 200);
    pull(&wharf, NAME, &two.arm64).await;
    let own = wharf.get(&format!("/v2/{LAN}/arm64v8-test/manifests/latest")).await;
    assert_eq!(own.bytes(), &two.arm64.manifest.bytes);
    wharf.quiet().await;
    let name = format!("{LAN}/arm64v8-test:latest").parse().expect("a name");
    wharf.pull.remove(&name).await.expect("removed");
    two.hub.stop().await;
    two.site.stop().await;
    let wharf = wharf.restart().await;
    assert_eq!(wharf.get(TAG).await.cache(), "stale");
    pull(&wharf, NAME, &two.arm64).await;
    wharf.end().await;
}
