//! What repositories share (bug class: an image that is kept, and cannot be pulled).

use crate::support::{FakeHub, Wharf, blob_path};

const REPO: &str = "library/busybox";
const OTHER: &str = "mirror/busybox";

#[tokio::test]
async fn an_image_that_two_repositories_hold_is_whole_in_both_without_an_upstream() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[("linux", "arm64", None)], &[1000]);
    let child = image.child("linux/arm64");
    for manifest in [&child.manifest, &image.index] {
        let bytes = manifest.bytes.clone();
        hub.put_manifest(OTHER, Some("latest"), manifest.media_type, bytes);
    }
    let layer = child.layers[0].digest;
    let by_digest = |repo: &str| format!("/v2/{repo}/manifests/{}", child.manifest.digest);
    let wharf = Wharf::start(&hub).await;
    for repo in [REPO, OTHER] {
        let by_tag = format!("/v2/{repo}/manifests/latest");
        assert_eq!(wharf.get(&by_tag).await.bytes(), &image.index.bytes);
        assert_eq!(wharf.get(&by_digest(repo)).await.bytes(), &child.manifest.bytes);
    }
    assert_eq!(wharf.get(&blob_path(REPO, &layer)).await.status, 200);
    wharf.quiet().await;
    hub.stop().await;
    for path in [by_digest(OTHER), blob_path(OTHER, &layer)] {
        assert_eq!(wharf.get(&path).await.header("wharf-cache"), Some("hit"), "{path}");
    }
    wharf.stop().await;
}
