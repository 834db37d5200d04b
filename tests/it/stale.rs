//! When the uplink is gone, throttled or answers nonsense, a cache that passes the failure on is a single
//! point of failure: what is kept must be served, said to be old, and soon.

use std::time::Duration;

use bytes::Bytes;
use wharf::oci::{RegistryName, media_type};

use crate::support::{
    FakeHub, Fault, Host, On, PushedImage, Wharf,
    client::{self, Answer},
    deadline, upstream,
};

const REPO: &str = "library/busybox";
const TAG: &str = "/v2/library/busybox/manifests/latest";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// Beyond every time to live, and every limit that a registry can set.
const LATER: Duration = Duration::from_secs(3601);

/// Waits at the upstream that are far longer than any test: an answer in time owes nothing to them.
fn patient(config: &mut wharf::config::Config) {
    for upstream in &mut config.upstreams {
        upstream.patience.first_byte = Duration::from_secs(600);
        upstream.patience.idle = Duration::from_secs(600);
    }
    // Long enough for a good answer on a busy machine.
    config.pull.revalidate_timeout = Duration::from_secs(1);
}

/// A wharf that keeps all of an image.
async fn kept(hub: &FakeHub) -> (Wharf, PushedImage) {
    let image = hub.push_image(REPO, "latest", &[ARM64], &[5000]);
    let wharf = Wharf::start_with(hub, patient).await;
    assert_eq!(wharf.get(TAG).await.cache(), "miss");
    for path in contents(&image) {
        assert_eq!(wharf.get(&path).await.status, 200);
    }
    wharf.quiet().await;
    (wharf, image)
}

fn contents(image: &PushedImage) -> [String; 3] {
    let child = image.child("linux/arm64");
    [
        format!("/v2/{REPO}/manifests/{}", child.manifest.digest),
        format!("/v2/{REPO}/blobs/{}", child.config.digest),
        format!("/v2/{REPO}/blobs/{}", child.layers[0].digest),
    ]
}

#[track_caller]
fn assert_stale(answer: &Answer, image: &PushedImage, when: &str) {
    assert_eq!((answer.status.as_u16(), answer.cache()), (200, "stale"), "{when}");
    let warning = answer.header("warning").unwrap_or_default();
    assert!(warning.starts_with("299 - \"docker.io did not answer"), "{when}: {warning}");
    let digest = image.index.digest.to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest), "{when}");
    assert_eq!(answer.header("content-type"), Some(image.index.media_type), "{when}");
}

async fn assert_serves_what_it_keeps(wharf: &Wharf, image: &PushedImage, when: &str) {
    let get = wharf.get(TAG).await;
    assert_stale(&get, image, when);
    assert_eq!(get.bytes(), &image.index.bytes, "{when}");
    assert_stale(&wharf.head(TAG).await, image, when);
    for path in contents(image) {
        let answer = wharf.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.cache()), (200, "hit"), "{when}: {path}");
        assert_eq!(answer.header("warning"), None, "{when}: {path}");
    }
}

fn page() -> Bytes {
    Bytes::from_static(b"<html><title>Welcome to the airport</title></html>")
}

fn html() -> Fault {
    let headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    Fault::Status(200, headers, page())
}

/// A captive portal that claims everything, also what only a registry would say.
fn html_under_a_registrys_headers(image: &PushedImage) -> Fault {
    let headers = vec![
        ("content-type", media_type::OCI_INDEX.to_owned()),
        ("docker-content-digest", image.index.digest.to_string().replace(['1', '2'], "3")),
    ];
    Fault::Status(200, headers, page())
}

#[tokio::test]
async fn whatever_the_upstream_does_the_kept_tag_is_served() {
    let hub = FakeHub::start().await;
    let (wharf, image) = kept(&hub).await;
    let elsewhere = format!("{}/login", hub.url(Host::Cdn));
    let no_digest = || vec![("content-type", media_type::OCI_INDEX.to_owned())];
    let outages = [
        ("429", On::Manifests, Fault::too_many_requests("3")),
        ("429 for an hour", On::Manifests, Fault::too_many_requests("3600")),
        ("429 without a hint", On::Any, Fault::status(429)),
        ("408", On::Manifests, Fault::status(408)),
        ("500", On::Manifests, Fault::status(500)),
        ("502", On::Any, Fault::status(502)),
        ("503", On::Manifests, Fault::status(503)),
        ("511", On::Any, Fault::status(511)),
        ("522", On::Any, Fault::status(522)),
        ("a stall", On::Manifests, Fault::Stall),
        ("a connection that is closed", On::Any, Fault::CloseBeforeHead),
        ("what is not HTTP", On::Any, Fault::GarbageHead),
        ("a head that is too long", On::Manifests, Fault::HugeHeader(1 << 20)),
        ("a captive portal", On::Any, html()),
        ("a captive portal elsewhere", On::Any, Fault::RedirectTo(elsewhere)),
        ("a cleverer one", On::Manifests, html_under_a_registrys_headers(&image)),
        ("an empty answer", On::Any, Fault::Status(200, no_digest(), Bytes::new())),
        ("204", On::Any, Fault::Status(204, no_digest(), Bytes::new())),
        ("a redirect in circles", On::Manifests, Fault::RedirectLoop),
        ("a redirect to nowhere", On::Manifests, Fault::RedirectTo("http://[".to_owned())),
        ("a compressed answer", On::Manifests, Fault::ContentEncoding("gzip")),
        ("a token service that fails", On::Token, Fault::status(500)),
        ("a token service that stalls", On::Token, Fault::Stall),
        ("a token service with a page", On::Token, html()),
    ];
    for (name, on, fault) in outages {
        wharf.clock.advance(LATER);
        if matches!(on, On::Token) {
            hub.revoke_tokens();
        }
        hub.fault(on, fault);
        assert_serves_what_it_keeps(&wharf, &image, name).await;
        hub.clear_faults();
        wharf.clock.advance(LATER);
        // A registry that said nothing at all is looked for, and asked when it is found.
        let recovered = deadline("a good answer", async {
            loop {
                let answer = wharf.get(TAG).await;
                if answer.cache() != "stale" {
                    break answer;
                }
            }
        })
        .await;
        assert_eq!((recovered.cache(), recovered.bytes()), ("hit", &image.index.bytes), "{name}");
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_found_again() {
    let mut hub = FakeHub::start().await;
    let (wharf, image) = kept(&hub).await;
    hub.stop().await;
    wharf.clock.advance(LATER);
    assert_serves_what_it_keeps(&wharf, &image, "stopped").await;
    let other = format!("/v2/{REPO}/manifests/other");
    hub.resume();
    let moved = hub.push_image(REPO, "other", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", moved.index.digest);
    assert_stale(&wharf.get(TAG).await, &image, "while the endpoint rests");
    assert_eq!(wharf.get(&other).await.cache(), "miss", "what is not kept is worth asking for");
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(TAG).await.bytes(), &moved.index.bytes);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_pull_limit_that_is_used_up_leaves_the_old_image() {
    let hub = FakeHub::start().await;
    let (wharf, image) = kept(&hub).await;
    let moved = hub.push_image(REPO, "new", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", moved.index.digest);
    // HEAD is free, and tells the truth.
    for refused in [Fault::too_many_requests("21600"), Fault::status(429), Fault::status(503)] {
        let name = format!("{refused:?}");
        for podman in [true, false] {
            wharf.clock.advance(LATER);
            hub.fault_next(1, On::ManifestHeads, Fault::All(Vec::new()));
            hub.fault(On::Manifests, refused.clone());
            if podman {
                let get = wharf.get(TAG).await;
                assert_stale(&get, &image, &name);
                assert_eq!(get.bytes(), &image.index.bytes, "{name}");
            }
            assert_stale(&wharf.head(TAG).await, &image, &name);
            // While the endpoint rests nobody tries.
            wharf.quiet().await;
            hub.clear_log();
            for _ in 0..3 {
                assert_stale(&wharf.get(TAG).await, &image, &name);
            }
            assert_eq!(hub.manifest_gets(), 0, "{name}");
            wharf.quiet().await;
            hub.clear_faults();
        }
    }
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(TAG).await.bytes(), &moved.index.bytes);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_new_manifest_that_does_not_come_leaves_the_old_image() {
    let hub = FakeHub::start().await;
    let (wharf, image) = kept(&hub).await;
    // The fetch goes on behind the client's back: here it ends within the test.
    let wharf = wharf
        .restart_with(|config| {
            let patience = &mut config.upstreams[0].patience;
            (patience.idle, patience.attempts) = (Duration::from_millis(1500), 1);
        })
        .await;
    let moved = hub.push_image(REPO, "new", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", moved.index.digest);
    for fault in [Fault::StallAfter(10), Fault::FlipByte(20), html()] {
        let name = format!("{fault:?}");
        wharf.clock.advance(LATER);
        hub.fault_next(1, On::ManifestHeads, Fault::All(Vec::new()));
        hub.fault_next(1, On::Manifests, fault);
        let get = wharf.get(TAG).await;
        assert_stale(&get, &image, &name);
        assert_eq!(get.bytes(), &image.index.bytes, "{name}");
        wharf.quiet().await;
        hub.clear_faults();
    }
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(TAG).await.bytes(), &moved.index.bytes);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn without_serve_stale_the_failure_is_told() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let by_digest = format!("/v2/{REPO}/manifests/{}", image.index.digest);
    let wharf = Wharf::start_with(&hub, |config| config.pull.serve_stale = false).await;
    wharf.get(TAG).await;
    wharf.clock.advance(LATER);
    hub.fault(On::Manifests, Fault::too_many_requests("3600"));
    let limited = wharf.get(TAG).await;
    assert_eq!(limited.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(limited.header("retry-after"), Some("3600"));
    hub.clear_faults();
    wharf.clock.advance(LATER);
    hub.fault(On::Manifests, Fault::status(503));
    assert_eq!(wharf.get(TAG).await.refusal(), (502, "UNKNOWN".to_owned()));
    hub.stop().await;
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(TAG).await.refusal(), (502, "UNKNOWN".to_owned()));
    assert_eq!(wharf.head(TAG).await.status, 502);
    assert_eq!(wharf.get(&by_digest).await.cache(), "hit");
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn wharf_starts_and_serves_when_no_upstream_can_be_found() {
    let hub = FakeHub::start().await;
    let (wharf, image) = kept(&hub).await;
    // RFC 6761: names under .invalid never resolve.
    let nowhere = upstream(RegistryName::docker_hub(), &["http://registry.wharf-test.invalid"]);
    let wharf = wharf.restart_with(|config| config.upstreams = vec![nowhere]).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(client::get(wharf.admin, path, &[]).await.status, 200, "{path}");
    }
    assert_eq!(wharf.get("/v2/").await.status, 200);
    assert_serves_what_it_keeps(&wharf, &image, "no such name").await;
    let unknown = wharf.get("/v2/library/alpine/manifests/latest").await;
    assert_eq!(unknown.refusal(), (502, "UNKNOWN".to_owned()));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn the_warning_tells_when_the_tag_was_last_confirmed() {
    let mut hub = FakeHub::start().await;
    let (wharf, _) = kept(&hub).await;
    wharf.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(wharf.head(TAG).await.cache(), "hit");
    hub.stop().await;
    wharf.clock.advance(Duration::from_secs(7 * 60));
    // The second answer comes after the failure of the first.
    for _ in 0..2 {
        let stale = wharf.head(TAG).await;
        let warning = stale.header("warning").expect("a warning");
        assert!(warning.ends_with("last confirmed 7 min ago\""), "{warning}");
    }
    wharf.quiet().await;
    wharf.stop().await;
}
