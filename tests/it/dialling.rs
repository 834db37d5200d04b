//! Whither a registry may lead wharf: to no address of the site, unless the configuration says that it is inside.
//!
//! Bug class: a request that wharf sends on a stranger's word, from within (CVE-2026-32591, GO-2026-4911).

use std::{io::ErrorKind, net::TcpListener};

use crate::support::{
    Challenge, FakeHub, Fault, Host, On, PushedManifest, Seen, Wharf, blob_path, deadline, upstream,
};

const REPO: &str = "library/app";

/// A port of the site at which nobody may knock.
struct Router(TcpListener);

impl Router {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    /// Addresses that lead to it, or to others of the site.
    fn addresses(&self) -> Vec<String> {
        let port = self.0.local_addr().expect("bound").port();
        let own =
            ["localhost", "127.0.0.2", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706434"];
        let own = own.map(|host| format!("http://{host}:{port}/admin"));
        let others = [
            "http://169.254.169.254/latest/meta-data/",
            "http://192.168.1.1/",
            "http://[fd00::1]/",
        ];
        own.into_iter().chain(others.map(ToOwned::to_owned)).collect()
    }

    fn is_left_alone(&self) -> bool {
        self.0.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// A registry of which it is said that it is outside, though it is at 127.0.0.1 as everything here.
async fn outside(challenge: Challenge) -> (FakeHub, PushedManifest, Wharf) {
    let hub = FakeHub::builder().challenge(challenge).start().await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[500, 700]);
    let wharf = Wharf::start_with(&hub, |config| config.upstreams[0].internal = Some(false)).await;
    (hub, image, wharf)
}

#[tokio::test]
async fn cve_2026_32591_go_2026_4911_a_redirect_to_the_inside_is_not_followed() {
    let (hub, image, wharf) = outside(Challenge::None).await;
    let router = Router::new();
    let blob = blob_path(REPO, &image.layers[0].digest);
    let manifest = format!("/v2/{REPO}/manifests/1");
    for to in router.addresses() {
        for (on, path) in
            [(On::Manifests, &manifest), (On::BlobRedirects, &blob), (On::Blobs, &blob)]
        {
            hub.fault(on.clone(), Fault::RedirectTo(to.clone()));
            hub.clear_log();
            let answer = wharf.get(path).await;
            assert_eq!(answer.refusal(), (502, "UNKNOWN".to_owned()), "{on:?} {to}");
            let text = String::from_utf8(answer.bytes().to_vec()).expect("JSON");
            assert!(text.contains("internal = true") && text.contains("docker.io"), "{text}");
            // It would not come right by being asked again.
            let asked = hub.count(|seen: &Seen| seen.status == Some(307));
            assert!((1..=2).contains(&asked), "{on:?} {to}: {asked}");
            hub.clear_faults();
        }
    }
    assert!(router.is_left_alone());
    // Neither has it made the registry rest, nor is the host of the registry itself too much, at whatever port.
    assert_ne!(hub.addr(Host::Cdn).port(), hub.addr(Host::Registry).port());
    assert_eq!(*wharf.get(&manifest).await.bytes(), image.manifest.bytes);
    assert_eq!(*wharf.get(&blob).await.bytes(), image.layers[0].bytes);
    wharf.end().await;
}

#[tokio::test]
async fn cve_2026_32591_go_2026_4911_a_token_service_inside_is_not_asked() {
    let (hub, _, wharf) = outside(Challenge::Bearer).await;
    let router = Router::new();
    let manifest = format!("/v2/{REPO}/manifests/1");
    for realm in router.addresses() {
        let challenge = format!("Bearer realm=\"{realm}\"");
        hub.fault(
            On::Challenges,
            Fault::Status(401, vec![("www-authenticate", challenge)], "".into()),
        );
        let answer = wharf.get(&manifest).await;
        assert_eq!(answer.refusal(), (502, "UNKNOWN".to_owned()), "{realm}");
        assert!(String::from_utf8_lossy(answer.bytes()).contains("internal = true"), "{realm}");
        hub.clear_faults();
    }
    assert!(router.is_left_alone());
    // The registry's own, on its own host, is.
    assert_eq!(wharf.get(&manifest).await.status, 200);
    wharf.end().await;
}

#[tokio::test]
async fn a_registry_that_is_said_to_be_inside_leads_to_storage_beside_it() {
    let (hub, image, wharf) = outside(Challenge::None).await;
    let storage = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    storage.push_single(REPO, "1", ("linux", "arm64", None), &[500, 700]);
    let blob = blob_path(REPO, &image.layers[0].digest);
    let beside = storage.url(Host::Registry).replace("127.0.0.1", "localhost");
    hub.fault(On::BlobRedirects, Fault::RedirectTo(format!("{beside}{blob}")));
    assert_eq!(wharf.get(&blob).await.status, 502);
    assert_eq!(storage.count(|_| true), 0);
    let wharf = wharf.restart_with(|config| config.upstreams[0].internal = Some(true)).await;
    assert_eq!(*wharf.get(&blob).await.bytes(), image.layers[0].bytes);
    wharf.end().await;
}

#[tokio::test]
async fn a_mirror_that_leads_inside_does_not_keep_the_registry_from_answering() {
    let mirror = FakeHub::builder().challenge(Challenge::None).start().await;
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[500]);
    mirror.push_single(REPO, "1", ("linux", "arm64", None), &[500]);
    mirror.fault(On::Any, Fault::RedirectTo("http://localhost:1/".to_owned()));
    let endpoints = [mirror.url(Host::Registry), hub.url(Host::Registry)];
    let wharf = Wharf::start_with(&hub, |config| {
        let registry = config.upstreams[0].registry.clone();
        config.upstreams = vec![upstream(registry, &endpoints.each_ref().map(String::as_str))];
        config.upstreams[0].internal = Some(false);
    })
    .await;
    let answer = deadline("the manifest", wharf.get(&format!("/v2/{REPO}/manifests/1"))).await;
    assert_eq!(*answer.bytes(), image.manifest.bytes);
    let blob = wharf.get(&blob_path(REPO, &image.layers[0].digest)).await;
    assert_eq!(*blob.bytes(), image.layers[0].bytes);
    wharf.end().await;
}
