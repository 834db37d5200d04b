//! What repositories share, and what a client may make wharf write down (bug classes: an image that is kept and
//! cannot be pulled; a disk that fills with the answers to questions nobody asked before).

use wharf::oci::{Digest, media_type};

use crate::support::{FakeHub, Fault, On, Wharf, blob_path};

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

#[tokio::test]
async fn referrers_of_what_is_not_kept_are_not_kept_either() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[("linux", "arm64", None)], &[10]);
    let empty = serde_json::json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    let kind = ("content-type", media_type::OCI_INDEX.to_owned());
    hub.fault(On::Path("/referrers/"), Fault::Status(200, vec![kind], empty.into()));
    let wharf = Wharf::start(&hub).await;
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.status, 200);
    let invented = (0..20u8).map(|n| Digest::sha256(&[n]));
    for subject in invented.chain([image.index.digest]) {
        assert_eq!(wharf.get(&format!("/v2/{REPO}/referrers/{subject}")).await.status, 200);
    }
    let wharf = wharf.restart().await;
    let index = std::fs::read_to_string(wharf.cache().join("index.json")).expect("written");
    let of = format!("io.wharf.referrers-of\":\"docker.io/{REPO}@");
    assert_eq!(index.matches(&of).count(), 1, "{index}");
    assert!(index.contains(&format!("{of}{}", image.index.digest)), "{index}");
    wharf.stop().await;
}
