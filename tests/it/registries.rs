//! Several registries behind one address: a name, a blob, a token or a password of one that turns up at
//! another is a wrong image, a leaked layer or a leaked account.

use std::time::Duration;

use serde_json::json;
use wharf::{
    oci::{Digest, RegistryName},
    upstream::{Account, RepositoryRules, Secret, Source},
};

use crate::support::{
    Challenge, FakeHub, Fault, Host, On, PushedImage, Seen, TestCa, Wharf, noise, upstream,
};

const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const LAN: &str = "registry.lan:5000";

fn lan(hub: &FakeHub) -> wharf::upstream::Config {
    upstream(LAN.parse().expect("a registry"), &[&hub.url(Host::Registry)])
}

fn account(username: &str, password: &str) -> Vec<Account> {
    let source = Source::password(username, Secret::new(password.to_owned()));
    vec![Account { name: "account".to_owned(), source }]
}

fn basic(username: &str, password: &str) -> String {
    http_auth::basic::encode_credentials(username, password)
}

/// Every `Authorization` that came to `host`, in order.
fn authorizations(hub: &FakeHub, host: Host) -> Vec<String> {
    let text = |seen: Seen| {
        let value = seen.headers.get("authorization")?;
        Some(value.to_str().expect("text").to_owned())
    };
    hub.log().into_iter().filter(|seen| seen.host == host).filter_map(text).collect()
}

/// Docker Hub as it is, and a registry of the site with Basic, both with accounts.
async fn two() -> (FakeHub, FakeHub, Wharf) {
    let hub = FakeHub::start().await;
    hub.require_basic("alice", "of-the-hub");
    let site = FakeHub::builder().challenge(Challenge::Basic).without_redirect().start().await;
    site.require_basic("bob", "of-the-site");
    let wharf = Wharf::start_with(&hub, |config| {
        config.upstreams[0].accounts = account("alice", "of-the-hub");
        let accounts = account("bob", "of-the-site");
        config.upstreams.push(wharf::upstream::Config { accounts, ..lan(&site) });
    })
    .await;
    (hub, site, wharf)
}

async fn pull(wharf: &Wharf, base: &str, image: &PushedImage) {
    let child = image.child("linux/arm64");
    for manifest in [&image.index, &child.manifest] {
        let answer = wharf.get(&format!("{base}/manifests/{}", manifest.digest)).await;
        assert_eq!(answer.bytes(), &manifest.bytes, "{base}");
    }
    for blob in std::iter::once(&child.config).chain(&child.layers) {
        let answer = wharf.get(&format!("{base}/blobs/{}", blob.digest)).await;
        assert_eq!(answer.bytes(), &blob.bytes, "{base}");
    }
}

#[tokio::test]
async fn the_same_name_in_two_registries_is_two_images() {
    let (mut hub, mut site, wharf) = two().await;
    let images = [
        hub.push_image("library/app", "1", &[ARM64], &[10]),
        site.push_image("library/app", "1", &[ARM64, ("linux", "amd64", None)], &[10]),
        site.push_image("app", "1", &[ARM64], &[20]),
        hub.push_image("owner/app", "1", &[ARM64], &[10]),
    ];
    let shapes = [
        ("/v2/app/manifests/1", 0, None),
        ("/v2/library/app/manifests/1", 0, None),
        ("/v2/app/manifests/1?ns=docker.io", 0, Some("docker.io")),
        ("/v2/app/manifests/1?ns=index.docker.io", 0, Some("docker.io")),
        ("/v2/docker.io/app/manifests/1", 0, None),
        ("/docker.io/v2/library/app/manifests/1", 0, None),
        ("/v2/docker.io/library/app/manifests/1?ns=docker.io", 0, Some("docker.io")),
        ("/v2/library/app/manifests/1?ns=registry.lan:5000", 1, Some(LAN)),
        ("/v2/library/app/manifests/1?ns=Registry.LAN%3A5000", 1, Some(LAN)),
        ("/v2/registry.lan:5000/library/app/manifests/1", 1, None),
        ("/registry.lan:5000/v2/library/app/manifests/1", 1, None),
        // Only Docker Hub has a library.
        ("/v2/app/manifests/1?ns=registry.lan:5000", 2, Some(LAN)),
        ("/v2/registry.lan:5000/app/manifests/1", 2, None),
        ("/registry.lan:5000/v2/app/manifests/1", 2, None),
        ("/v2/owner/app/manifests/1", 3, None),
    ];
    let check = async |wharf: &Wharf| {
        for (path, at, namespace) in shapes {
            for answer in [wharf.get(path).await, wharf.head(path).await] {
                let digest = images[at].index.digest.to_string();
                assert_eq!(answer.header("docker-content-digest"), Some(&*digest), "{path}");
                assert_eq!(answer.header("oci-namespace"), namespace, "{path}");
            }
        }
        for (base, of) in [
            ("/v2/library/app", 0),
            ("/v2/registry.lan:5000/library/app", 1),
            ("/registry.lan:5000/v2/app", 2),
        ] {
            pull(wharf, base, &images[of]).await;
        }
    };
    check(&wharf).await;
    // Each once: an index and its child of every image, but the first two have the child in common.
    assert_eq!((hub.manifest_gets(), site.manifest_gets()), (3, 3));
    hub.stop().await;
    site.stop().await;
    let wharf = wharf.restart().await;
    check(&wharf).await;
    let unknown = wharf.get("/v2/library/app/manifests/2?ns=registry.lan:5000").await;
    assert_eq!(unknown.status, 502);
    assert_eq!(unknown.header("oci-namespace"), Some(LAN), "errors name it, too");
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn an_unknown_registry_is_never_dialled() {
    let hub = FakeHub::start().await;
    hub.push_single("library/app", "1", ARM64, &[10]);
    let other = FakeHub::builder().challenge(Challenge::None).start().await;
    other.push_single("library/app", "1", ARM64, &[10]);
    let wharf = Wharf::start(&hub).await;
    let address = other.addr(Host::Registry);
    let digest = Digest::sha256(b"x");
    for path in [
        format!("/v2/library/app/manifests/1?ns={address}"),
        format!("/v2/library/app/manifests/1?ns=http://{address}"),
        format!("/v2/library/app/manifests/1?ns={address}%2Fv2"),
        format!("/v2/{address}/library/app/manifests/1"),
        format!("/{address}/v2/library/app/manifests/1"),
        format!("/v2/{address}/library/app/blobs/{digest}"),
        format!("/v2/library/app/blobs/{digest}?ns={address}"),
        format!("/v2/library/app/tags/list?ns={address}"),
        format!("/v2/library/app/referrers/{digest}?ns={address}"),
        "/v2/localhost/library/app/manifests/1".to_owned(),
        "/v2/app/manifests/1?ns=".to_owned(),
        "/v2/app/manifests/1?ns=docker.io.".to_owned(),
        "/v2/app/manifests/1?ns=docker.io&ns=quay.io".to_owned(),
        "/quay.io/v2/".to_owned(),
    ] {
        let answer = wharf.get(&path).await;
        assert_eq!(answer.refusal(), (404, "NAME_UNKNOWN".to_owned()), "{path}");
        assert_eq!(answer.header("oci-namespace"), None, "{path}");
    }
    assert_eq!((hub.count(|_| true), other.count(|_| true)), (0, 0));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn each_registry_sees_its_own_account_only() {
    let (hub, site, wharf) = two().await;
    let public = hub.push_image("library/app", "1", &[ARM64], &[1000]);
    let private = site.push_image("library/app", "1", &[ARM64], &[2000]);
    for base in ["/v2/library/app", "/v2/registry.lan:5000/library/app"] {
        assert_eq!(wharf.get(&format!("{base}/manifests/1")).await.status, 200);
        assert_eq!(wharf.get(&format!("{base}/tags/list")).await.status, 200);
    }
    pull(&wharf, "/v2/library/app", &public).await;
    pull(&wharf, "/v2/registry.lan:5000/library/app", &private).await;

    let (alice, bob) = (basic("alice", "of-the-hub"), basic("bob", "of-the-site"));
    assert_eq!(authorizations(&hub, Host::Auth), [alice]);
    let at_hub = authorizations(&hub, Host::Registry);
    assert!(!at_hub.is_empty() && at_hub.iter().all(|sent| sent.starts_with("Bearer ")));
    assert!(hub.count(|seen| seen.host == Host::Cdn) > 0, "blobs came from another host");
    assert_eq!(authorizations(&hub, Host::Cdn), [""; 0]);
    let at_site = authorizations(&site, Host::Registry);
    assert!(!at_site.is_empty() && at_site.iter().all(|sent| *sent == bob), "{at_site:?}");
    assert_eq!(site.count(|seen| seen.host == Host::Auth), 0);
    // Nobody is told of them, and nobody is asked for theirs.
    let (metrics, _) = wharf.metrics.render();
    let metrics = String::from_utf8(metrics).expect("text");
    for secret in ["of-the-hub", "of-the-site", "alice", "bob"] {
        assert!(!metrics.contains(secret));
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn an_account_that_is_refused_is_no_challenge_to_the_client() {
    for challenge in [Challenge::Basic, Challenge::Bearer] {
        let hub = FakeHub::builder().challenge(challenge).start().await;
        hub.require_basic("alice", "right");
        let image = hub.push_image("library/app", "1", &[ARM64], &[10]);
        let wharf = Wharf::start_with(&hub, |config| {
            config.upstreams[0].accounts = account("alice", "wrong");
        })
        .await;
        for path in [
            "/v2/library/app/manifests/1".to_owned(),
            format!("/v2/library/app/manifests/{}", image.index.digest),
            format!("/v2/library/app/blobs/{}", image.children[0].config.digest),
            "/v2/library/app/tags/list".to_owned(),
        ] {
            let answer = wharf.get(&path).await;
            assert_eq!(answer.refusal(), (404, "NAME_UNKNOWN".to_owned()), "{challenge:?} {path}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
        assert_eq!(wharf.get("/v2/").await.status, 200);
        wharf.quiet().await;
        wharf.stop().await;
    }
}

#[tokio::test]
async fn one_token_is_good_for_an_image_until_it_expires() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("library/app", "1", &[ARM64], &[10, 20, 30]);
    let later = noise("later", 100);
    let later = [0, 50].map(|from| hub.put_blob("library/app", later.slice(from..)));
    let tokens = || hub.count(|seen| seen.host == Host::Auth);
    let challenges = || hub.count(|seen| seen.status == Some(401));
    let wharf = Wharf::start(&hub).await;
    assert_eq!(wharf.get("/v2/library/app/manifests/1").await.status, 200);
    pull(&wharf, "/v2/library/app", &image).await;
    assert_eq!((tokens(), challenges()), (1, 1));
    let blob = async |digest: &Digest| {
        let answer = wharf.get(&format!("/v2/library/app/blobs/{digest}")).await;
        assert_eq!(answer.status, 200);
    };
    // The hub's tokens live for five minutes: the next is asked for before the registry has to say no.
    wharf.clock.advance(Duration::from_secs(299));
    blob(&later[0]).await;
    assert_eq!((tokens(), challenges()), (2, 1));
    // And when it says no all the same.
    hub.revoke_tokens();
    blob(&later[1]).await;
    assert_eq!((tokens(), challenges()), (3, 2));
    // Another repository is another scope.
    let other = hub.push_image("library/other", "1", &[ARM64], &[10]);
    pull(&wharf, "/v2/library/other", &other).await;
    assert_eq!((tokens(), challenges()), (4, 3));
    let scopes: Vec<String> = hub
        .log()
        .into_iter()
        .filter(|seen| seen.host == Host::Auth)
        .map(|seen| seen.query.rsplit_once("scope=").expect("a scope").1.to_owned())
        .collect();
    let scope = |name: &str| format!("repository%3Alibrary%2F{name}%3Apull");
    assert_eq!(scopes, [scope("app"), scope("app"), scope("app"), scope("other")]);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn clients_that_come_at_once_share_one_token() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("library/app", "1", &[ARM64], &[10; 8]);
    let wharf = Wharf::start(&hub).await;
    assert_eq!(wharf.get("/v2/library/app/manifests/1").await.status, 200);
    let child = image.child("linux/arm64");
    assert!(
        wharf.get(&format!("/v2/library/app/manifests/{}", child.manifest.digest)).await.status
            == 200
    );
    hub.revoke_tokens();
    hub.clear_log();
    let paths: Vec<String> = child
        .layers
        .iter()
        .map(|layer| format!("/v2/library/app/blobs/{}", layer.digest))
        .collect();
    let answers = futures_util::future::join_all(paths.iter().map(|path| wharf.get(path))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(hub.count(|seen| seen.host == Host::Auth), 1);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_token_service_on_a_foreign_host_gets_no_password() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("library/app", "1", &[ARM64], &[10]);
    hub.require_basic("alice", "of-the-hub");
    // The same registry under another name than the one that it gives its token service.
    let port = hub.addr(Host::Registry).port();
    let mut config = upstream(RegistryName::docker_hub(), &[&format!("http://localhost:{port}")]);
    config.accounts = account("alice", "of-the-hub");
    let foreign = config.clone();
    let wharf = Wharf::start_with(&hub, |config| config.upstreams = vec![foreign]).await;
    let refused = wharf.get("/v2/library/app/manifests/1").await;
    assert_eq!(refused.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    assert!(hub.count(|seen| seen.host == Host::Auth) > 0, "it was asked without an account");
    assert_eq!(authorizations(&hub, Host::Auth), [""; 0]);
    // Unless the operator says that it is the registry's.
    config.realms = vec!["127.0.0.1".parse().expect("a host")];
    let wharf = wharf.restart_with(|wharf| wharf.upstreams = vec![config]).await;
    assert_eq!(wharf.get("/v2/library/app/manifests/1").await.bytes(), &image.index.bytes);
    assert_eq!(authorizations(&hub, Host::Auth), [basic("alice", "of-the-hub")]);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn what_is_denied_is_served_to_nobody_not_even_what_is_kept() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("team/app", "1", &[ARM64], &[10]);
    hub.push_image("library/app", "1", &[ARM64], &[20]);
    let mut wharf = Wharf::start(&hub).await;
    let child = image.child("linux/arm64");
    let paths = [
        "/v2/team/app/manifests/1".to_owned(),
        format!("/v2/team/app/manifests/{}", child.manifest.digest),
        format!("/v2/team/app/blobs/{}", child.layers[0].digest),
        "/v2/team/app/tags/list".to_owned(),
        format!("/v2/team/app/referrers/{}", image.index.digest),
    ];
    for path in paths.iter().map(String::as_str).chain(["/v2/library/app/manifests/1"]) {
        assert_eq!(wharf.get(path).await.status, 200, "{path}");
    }
    let names =
        async |wharf: &Wharf| wharf.get("/v2/_catalog").await.json()["repositories"].clone();
    assert_eq!(names(&wharf).await, json!(["docker.io/library/app", "docker.io/team/app"]));
    let globs = |list: &[&str]| list.iter().map(|glob| glob.parse().expect("a pattern")).collect();
    for (allow, deny) in [(&["library/*"][..], &[][..]), (&[], &["team/**"])] {
        let rules = RepositoryRules { allow: globs(allow), deny: globs(deny) };
        wharf = wharf.restart_with(|config| config.upstreams[0].rules = rules).await;
        hub.clear_log();
        for path in &paths {
            let refused = wharf.get(path).await;
            assert_eq!(refused.refusal(), (403, "DENIED".to_owned()), "{path}");
            assert_eq!(wharf.head(path).await.status, 403, "{path}");
        }
        assert_eq!(hub.log().len(), 0, "nor is the registry asked");
        assert_eq!(names(&wharf).await, json!(["docker.io/library/app"]));
        assert_eq!(wharf.get("/v2/library/app/manifests/1").await.status, 200);
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_blob_is_readable_through_the_registry_that_has_it_only() {
    let hub = FakeHub::start().await;
    let site = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| config.upstreams.push(lan(&site))).await;
    let secret = site.push_image("library/app", "1", &[ARM64], &[70_000]);
    let known = hub.push_image("library/app", "1", &[ARM64], &[10]);
    assert_eq!(wharf.get("/v2/library/app/manifests/1").await.status, 200);
    assert_eq!(wharf.get("/v2/registry.lan:5000/library/app/manifests/1").await.status, 200);
    pull(&wharf, "/v2/registry.lan:5000/library/app", &secret).await;
    pull(&wharf, "/v2/library/app", &known).await;
    wharf.quiet().await;

    let child = secret.child("linux/arm64");
    let layer = &child.layers[0];
    let blob = format!("/v2/library/app/blobs/{}", layer.digest);
    let in_other_repository = format!("/v2/registry.lan:5000/library/other/blobs/{}", layer.digest);
    site.push_image("library/other", "1", &[ARM64], &[10]);
    let manifest = format!("/v2/library/app/manifests/{}", child.manifest.digest);
    for (path, code) in [
        (&blob, "BLOB_UNKNOWN"),
        (&manifest, "MANIFEST_UNKNOWN"),
        (&in_other_repository, "BLOB_UNKNOWN"),
    ] {
        assert_eq!(wharf.get(path).await.refusal(), (404, code.to_owned()), "{path}");
        assert_eq!(wharf.head(path).await.status, 404, "{path}");
    }
    // Nor while nobody can say that it is allowed.
    wharf.clock.advance(Duration::from_secs(31));
    hub.fault(On::Any, Fault::status(503));
    assert_eq!(wharf.get(&blob).await.refusal(), (502, "UNKNOWN".to_owned()));
    hub.clear_faults();
    // Once the other registry says that it has it too, its bytes are here already.
    assert_eq!(hub.put_blob("library/app", layer.bytes.clone()), layer.digest);
    assert_eq!(wharf.get(&blob).await.bytes(), &layer.bytes);
    assert_eq!(hub.blob_bytes_sent(&layer.digest), 0);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_for_the_registry_that_it_is_configured_for() {
    let (ca, other_ca) = (TestCa::new(), TestCa::new());
    let hub = FakeHub::builder().tls(&ca).start().await;
    let image = hub.push_image("library/app", "1", &[ARM64], &[70_000]);
    let path = "/v2/library/app/manifests/1";
    let wharf = Wharf::start_with(&hub, |config| {
        // The authority is trusted, but for another registry.
        let mut other = lan(&hub);
        other.ca_pem = ca.pem().as_bytes().to_vec();
        config.upstreams.push(other);
    })
    .await;
    assert_eq!(wharf.get(path).await.refusal(), (502, "UNKNOWN".to_owned()));
    assert_eq!(hub.count(|_| true), 0, "no request went over a connection that is not trusted");
    assert_eq!(wharf.get("/v2/registry.lan:5000/library/app/manifests/1").await.status, 200);
    pull(&wharf, "/v2/registry.lan:5000/library/app", &image).await;
    let (ca, other_ca) = (ca.pem().as_bytes().to_vec(), other_ca.pem().as_bytes().to_vec());
    let wharf = wharf.restart_with(|config| config.upstreams[0].ca_pem = other_ca.clone()).await;
    assert_eq!(wharf.get(path).await.status, 502);
    let both = [other_ca, ca].concat();
    let wharf = wharf.restart_with(|config| config.upstreams[0].ca_pem = both).await;
    assert_eq!(wharf.get(path).await.bytes(), &image.index.bytes);
    pull(&wharf, "/v2/library/app", &image).await;
    wharf.quiet().await;
    wharf.stop().await;
}
