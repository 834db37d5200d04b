//! The main job: a device pulls an image, a second device pulls it without a byte from the upstream, also
//! when there is no upstream any more.

use crate::support::{FakeHub, PushedImage, Wharf};

const PLATFORMS: [(&str, &str, Option<&str>); 3] =
    [("linux", "amd64", None), ("linux", "arm64", None), ("linux", "arm", Some("v7"))];

/// What Docker with graphdrivers asks for, in its order.
async fn pull_like_docker(wharf: &Wharf, image: &PushedImage, platform: &str) {
    assert_eq!(wharf.get("/v2/").await.status, 200);
    let head = wharf.head("/v2/library/busybox/manifests/latest").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("docker-content-digest"), Some(&*image.index.digest.to_string()));
    let child = image.child(platform);
    for manifest in [&image.index, &child.manifest] {
        let answer = wharf.get(&format!("/v2/library/busybox/manifests/{}", manifest.digest)).await;
        assert_eq!(answer.header("content-type"), Some(manifest.media_type));
        assert_eq!(*answer.bytes(), manifest.bytes);
    }
    for blob in std::iter::once(&child.config).chain(&child.layers) {
        let answer = wharf.get(&format!("/v2/library/busybox/blobs/{}", blob.digest)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(*answer.bytes(), blob.bytes);
    }
}

#[tokio::test]
async fn the_second_device_costs_nothing_and_the_third_needs_no_upstream() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image("library/busybox", "latest", &PLATFORMS, &[100_000, 3_000_000]);
    let wharf = Wharf::start(&hub).await;

    pull_like_docker(&wharf, &image, "linux/arm64").await;
    let layers = &image.child("linux/arm64").layers;
    for layer in layers {
        assert_eq!(hub.blob_bytes_sent(&layer.digest), layer.bytes.len() as u64);
    }
    wharf.quiet().await;
    hub.clear_log();

    pull_like_docker(&wharf, &image, "linux/arm64").await;
    assert_eq!(hub.count(|_| true), 0, "the second pull reached the upstream: {:?}", hub.log());

    hub.stop().await;
    let wharf = wharf.restart().await;
    pull_like_docker(&wharf, &image, "linux/arm64").await;
    let stale = wharf.head("/v2/library/busybox/manifests/latest").await;
    assert_eq!(stale.header("wharf-cache"), Some("stale"));
    assert!(stale.header("warning").is_some_and(|text| text.starts_with("299 ")));
    wharf.quiet().await;
    assert!(wharf.partials().is_empty());
    wharf.stop().await;
}
