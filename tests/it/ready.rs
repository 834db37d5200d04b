//! What is asked for again and again is answered from one look-up, and as if it were looked up each time.

use std::time::Duration;

use wharf::oci::Digest;

use crate::support::{
    FakeHub, Wharf,
    client::{self, Answer},
};

const REPO: &str = "library/busybox";
const TAG: &str = "/v2/library/busybox/manifests/latest";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// Just past the time to live of a tag.
const TTL: Duration = Duration::from_secs(61);

fn by_digest(digest: &Digest) -> String {
    format!("/v2/{REPO}/manifests/{digest}")
}

/// Asks often enough that the last answers come from what is ready, and gives the last; all of them were alike.
async fn again_and_again(wharf: &Wharf, path: &str) -> Answer {
    let mut answer = wharf.get(path).await;
    for _ in 0..4 {
        let next = wharf.get(path).await;
        assert_eq!((next.status.as_u16(), next.cache()), (200, "hit"), "{path}");
        assert_eq!(next.bytes(), answer.bytes());
        answer = next;
    }
    let head = wharf.head(path).await;
    for name in ["content-type", "content-length", "docker-content-digest", "etag"] {
        assert_eq!(head.header(name), answer.header(name), "{name}");
        assert!(head.header(name).is_some(), "{name}");
    }
    answer
}

#[tokio::test]
async fn a_tag_is_ready_no_longer_than_its_registrys_word_holds() {
    let hub = FakeHub::start().await;
    let old = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = Wharf::start(&hub).await;
    assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &old.index.bytes);
    let new = hub.push_image(REPO, "new", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", new.index.digest);
    assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &old.index.bytes, "fresh still");
    wharf.clock.advance(TTL);
    assert_eq!(wharf.get(TAG).await.bytes(), &new.index.bytes);
    assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &new.index.bytes);
    // Moved back to what was ready once.
    hub.move_tag(REPO, "latest", old.index.digest);
    wharf.clock.advance(TTL);
    assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &old.index.bytes);
    // Asked by HEAD, which alone tells the new meaning.
    hub.move_tag(REPO, "latest", new.index.digest);
    wharf.clock.advance(TTL);
    let head = wharf.head(TAG).await;
    assert_eq!(head.header("docker-content-digest"), Some(&*new.index.digest.to_string()));
    assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &new.index.bytes);
    wharf.stop().await;
}

#[tokio::test]
async fn what_was_removed_is_ready_no_more() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = Wharf::start(&hub).await;
    let digest = by_digest(&image.index.digest);
    again_and_again(&wharf, TAG).await;
    again_and_again(&wharf, &digest).await;
    let name = format!("docker.io/{REPO}:latest").parse().expect("a name");
    wharf.pull.remove(&name).await.expect("removed");
    hub.clear_log();
    assert_eq!(wharf.get(&digest).await.cache(), "miss");
    assert_eq!(hub.manifest_gets(), 1);
    wharf.stop().await;
}

#[tokio::test]
async fn what_is_ready_in_one_repository_is_nothing_to_another() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = Wharf::start(&hub).await;
    again_and_again(&wharf, &by_digest(&image.index.digest)).await;
    let other = format!("/v2/library/other/manifests/{}", image.index.digest);
    assert_eq!(wharf.get(&other).await.status, 404);
    wharf.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_no_index_gets_its_platforms_manifest_each_time() {
    let hub = FakeHub::start().await;
    let host = wharf::oci::Platform::host();
    let platform = (host.os(), host.architecture(), host.variant());
    let image = hub.push_image(REPO, "latest", &[platform], &[10]);
    let wharf = Wharf::start(&hub).await;
    let child = &image.children[0].manifest;
    let manifests = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    for _ in 0..4 {
        let answer = client::get(wharf.addr, TAG, &manifests).await;
        assert_eq!(answer.bytes(), &child.bytes);
        assert_eq!(again_and_again(&wharf, TAG).await.bytes(), &image.index.bytes);
    }
    wharf.stop().await;
}
