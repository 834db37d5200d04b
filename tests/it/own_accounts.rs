//! A registry to which clients bring their own accounts: what one of them may pull, another sees only by its own right,
//! whatever is kept. A cache that forgets that gives everybody what it fetched for somebody.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use wharf::{
    oci::{RegistryName, media_type},
    upstream::Terms,
};

use crate::support::{
    Challenge, FakeHub, Fault, Host, On, PushedImage, Wharf, blob_path,
    client::{self, Answer},
    docker_hub, upstream,
};

const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const REPO: &str = "team/app";
const LAN: &str = "registry.lan";
const TTL: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(3600);

fn alice() -> String {
    http_auth::basic::encode_credentials("alice", "alices-secret")
}

fn bob() -> String {
    http_auth::basic::encode_credentials("bob", "bobs-secret")
}

/// A site's registry with one private repository, which alice may pull from; bob has another one.
async fn private(challenge: Challenge) -> (FakeHub, PushedImage) {
    let site = FakeHub::builder().challenge(challenge).without_redirect().start().await;
    let image = site.push_image(REPO, "1", &[ARM64], &[5000]);
    site.push_image("bob/own", "1", &[ARM64], &[70]);
    site.allow("alice", "alices-secret", REPO);
    site.allow("bob", "bobs-secret", "bob/own");
    (site, image)
}

fn own_accounts(site: &FakeHub) -> wharf::upstream::Config {
    let registry: RegistryName = LAN.parse().expect("a registry");
    let clients = Some(Terms { ttl: TTL, offline_grace: GRACE });
    wharf::upstream::Config { clients, ..upstream(registry, &[&site.url(Host::Registry)]) }
}

async fn wharf_before(hub: &FakeHub, site: &FakeHub) -> Wharf {
    Wharf::start_with(hub, |config| {
        config.upstreams = vec![docker_hub(hub), own_accounts(site)];
        config.pull.revalidate_timeout = Duration::from_millis(500);
    })
    .await
}

async fn get(wharf: &Wharf, path: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    client::get(wharf.addr, path, &headers).await
}

async fn head(wharf: &Wharf, path: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    client::head(wharf.addr, path, &headers).await
}

/// Everything of an image that a client can ask for.
fn paths(image: &PushedImage) -> Vec<String> {
    let child = image.child("linux/arm64");
    let base = format!("/v2/{LAN}/{REPO}");
    let blobs = std::iter::once(&child.config).chain(&child.layers);
    let blobs = blobs.map(|blob| blob_path(&format!("{LAN}/{REPO}"), &blob.digest));
    let mut paths = vec![
        format!("{base}/manifests/1"),
        format!("{base}/manifests/{}", image.index.digest),
        format!("{base}/manifests/{}", child.manifest.digest),
        format!("{base}/tags/list"),
        format!("{base}/referrers/{}", image.index.digest),
    ];
    paths.extend(blobs);
    paths
}

/// What is answered to somebody who has no right to anything of `image`.
async fn assert_closed(wharf: &Wharf, image: &PushedImage, who: Option<&str>, when: &str) {
    for path in paths(image) {
        let (get, head) = (get(wharf, &path, who).await, head(wharf, &path, who).await);
        assert!(matches!(get.status.as_u16(), 401 | 403 | 404), "{when}: {path}: {}", get.status);
        assert_eq!(get.status, head.status, "{when}: {path}");
        if get.status == 401 {
            assert_eq!(get.refusal().1, "UNAUTHORIZED", "{when}: {path}");
            let challenge = format!("Basic realm=\"{LAN}\"");
            assert_eq!(get.header("www-authenticate"), Some(&*challenge), "{when}: {path}");
        }
    }
    // Through another repository, which they may read, and another registry.
    let child = image.child("linux/arm64");
    for repo in [&*format!("{LAN}/bob/own"), "library/public"] {
        for digest in [child.layers[0].digest, child.config.digest] {
            let answer = get(wharf, &blob_path(repo, &digest), who).await;
            assert!(
                matches!(answer.status.as_u16(), 401 | 404),
                "{when}: {repo}: {}",
                answer.status
            );
        }
        for digest in [image.index.digest, child.manifest.digest] {
            let answer = get(wharf, &format!("/v2/{repo}/manifests/{digest}"), who).await;
            assert!(
                matches!(answer.status.as_u16(), 401 | 404),
                "{when}: {repo}: {}",
                answer.status
            );
        }
    }
}

async fn assert_open(wharf: &Wharf, image: &PushedImage, who: &str, when: &str) {
    for path in paths(image) {
        let answer = get(wharf, &path, Some(who)).await;
        assert_eq!(answer.status, 200, "{when}: {path}");
        assert_eq!(head(wharf, &path, Some(who)).await.status, 200, "{when}: {path}");
    }
    let child = image.child("linux/arm64");
    let layer = &child.layers[0];
    let answer = get(wharf, &blob_path(&format!("{LAN}/{REPO}"), &layer.digest), Some(who)).await;
    assert_eq!(answer.bytes(), &layer.bytes, "{when}");
}

#[tokio::test]
async fn who_has_no_right_gets_nothing_before_and_after_another_warmed_the_cache() {
    for challenge in [Challenge::Bearer, Challenge::Basic] {
        let hub = FakeHub::start().await;
        hub.push_image("library/public", "1", &[ARM64], &[10]);
        let (site, image) = private(challenge).await;
        let wharf = wharf_before(&hub, &site).await;
        let (alice, bob) = (alice(), bob());
        assert_eq!(wharf.get("/v2/library/public/manifests/1").await.status, 200);
        let strangers =
            [None, Some(&*bob), Some("Basic bm9ib2R5Om5vdGhpbmc="), Some("Bearer made.up")];
        for who in strangers {
            assert_closed(&wharf, &image, who, "cold").await;
        }
        wharf.clock.advance(Duration::from_secs(3600));
        assert_open(&wharf, &image, &alice, "cold").await;
        wharf.quiet().await;
        wharf.clock.advance(Duration::from_secs(60));
        for who in strangers {
            assert_closed(&wharf, &image, who, "warm").await;
        }
        assert_open(&wharf, &image, &alice, "warm").await;
        // Neither did one's no spoil another's yes, nor the other way round.
        assert_eq!(
            get(&wharf, &format!("/v2/{LAN}/bob/own/manifests/1"), Some(&bob)).await.status,
            200
        );
        // Nor does the list of repositories tell of it.
        assert_eq!(
            wharf.get("/v2/_catalog").await.json()["repositories"],
            serde_json::json!(["docker.io/library/public"])
        );
        // What clients brought went to the registry and its token service, and nowhere else.
        assert_eq!(
            hub.count(|seen| seen
                .headers
                .get("authorization")
                .is_some_and(|sent| { sent == alice.as_str() || sent == bob.as_str() })),
            0
        );
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_yes_counts_for_its_time_and_costs_one_question() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Bearer).await;
    let wharf = wharf_before(&hub, &site).await;
    let alice = alice();
    assert_open(&wharf, &image, &alice, "first").await;
    wharf.quiet().await;
    site.clear_log();
    let layer = blob_path(&format!("{LAN}/{REPO}"), &image.child("linux/arm64").layers[0].digest);
    for _ in 0..20 {
        assert_eq!(get(&wharf, &layer, Some(&alice)).await.status, 200);
    }
    assert_eq!(site.log().len(), 0, "the last yes is young");
    wharf.clock.advance(TTL);
    for _ in 0..20 {
        assert_eq!(get(&wharf, &layer, Some(&alice)).await.status, 200);
    }
    assert_eq!(site.count(|seen| seen.path.contains("/blobs/")), 1, "one question");
    // What was taken back is given no more once the yes is old.
    site.disallow("alice", "alices-secret");
    wharf.clock.advance(TTL);
    assert_closed(&wharf, &image, Some(&alice), "taken back").await;
    // Not even with the registry gone: its last word was no.
    site.fault(On::Any, Fault::status(503));
    wharf.clock.advance(Duration::from_secs(60));
    assert_ne!(get(&wharf, &layer, Some(&alice)).await.status, 200);
    wharf.end().await;
}

/// Elsewhere a pin outlives the registry's no: here that no is about the client.
#[tokio::test]
async fn a_pin_gives_nothing_to_whom_the_registry_says_no() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Basic).await;
    let wharf = wharf_before(&hub, &site).await;
    let alice = alice();
    assert_open(&wharf, &image, &alice, "first").await;
    wharf.quiet().await;
    let name = format!("{LAN}/{REPO}:1").parse().expect("a name");
    wharf.pull.pin(&name, true).await.expect("pinned");
    site.disallow("alice", "alices-secret");
    // The tag is asked for again, though the last yes to her is young.
    wharf.clock.advance(Duration::from_secs(60));
    let tag = format!("/v2/{LAN}/{REPO}/manifests/1");
    assert_eq!(get(&wharf, &tag, Some(&alice)).await.status, 401);
    assert_closed(&wharf, &image, Some(&alice), "taken back").await;
    wharf.end().await;
}

#[tokio::test]
async fn without_the_registry_a_yes_counts_for_the_time_of_grace() {
    let hub = FakeHub::start().await;
    let (mut site, image) = private(Challenge::Bearer).await;
    let wharf = wharf_before(&hub, &site).await;
    let (alice, bob) = (alice(), bob());
    assert_open(&wharf, &image, &alice, "first").await;
    wharf.quiet().await;
    site.stop().await;
    wharf.clock.advance(TTL + Duration::from_secs(1));
    let layer = blob_path(&format!("{LAN}/{REPO}"), &image.child("linux/arm64").layers[0].digest);
    let tag = format!("/v2/{LAN}/{REPO}/manifests/1");
    for path in [&layer, &tag] {
        assert_eq!(get(&wharf, path, Some(&alice)).await.status, 200, "{path}");
        for stranger in [None, Some(&*bob)] {
            assert_eq!(get(&wharf, path, stranger).await.status, 502, "{path}");
        }
    }
    wharf.clock.advance(GRACE);
    for path in [&layer, &tag] {
        assert_eq!(get(&wharf, path, Some(&alice)).await.status, 502, "{path}");
    }
    site.resume();
    wharf.clock.advance(Duration::from_secs(120));
    wharf.until_up(LAN).await;
    assert_eq!(get(&wharf, &layer, Some(&alice)).await.status, 200);
    wharf.end().await;
}

#[tokio::test]
async fn a_token_of_the_registry_does_as_well_and_is_not_used_for_others() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Bearer).await;
    let wharf = wharf_before(&hub, &site).await;
    let token = format!("Bearer {}", site.issue_token(REPO));
    assert_open(&wharf, &image, &token, "by token").await;
    assert_closed(&wharf, &image, None, "without").await;
    assert_eq!(
        site.count(|seen| seen.host == Host::Auth && seen.headers.contains_key("authorization")),
        0
    );
    wharf.quiet().await;
    // It ran out: whoever brings it is asked for another, and another client is served with its own account.
    site.revoke_tokens();
    wharf.clock.advance(TTL);
    assert_closed(&wharf, &image, Some(&token), "run out").await;
    assert_open(&wharf, &image, &alice(), "alice").await;
    wharf.end().await;
}

#[tokio::test]
async fn what_everybody_may_pull_needs_no_account() {
    let hub = FakeHub::start().await;
    let site = FakeHub::builder().without_redirect().start().await;
    let image = site.push_image(REPO, "1", &[ARM64], &[5000]);
    let wharf = wharf_before(&hub, &site).await;
    for path in paths(&image) {
        assert_eq!(wharf.get(&path).await.status, 200, "{path}");
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_ping_asks_nobody_for_a_password() {
    let hub = FakeHub::start().await;
    let (site, _) = private(Challenge::Bearer).await;
    let wharf = wharf_before(&hub, &site).await;
    for path in ["/v2/", "/v2/?ns=registry.lan", "/registry.lan/v2/"] {
        let answer = wharf.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("www-authenticate")),
            (200, None),
            "{path}"
        );
    }
    wharf.end().await;
}

/// podman and Docker sign in where the ping asks for it, and nowhere else.
#[tokio::test]
async fn an_address_that_asks_for_a_password_passes_it_on_to_the_registry_that_judges_it() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Bearer).await;
    let wharf = Wharf::start_with(&hub, |config| {
        config.upstreams = vec![docker_hub(&hub), own_accounts(&site)];
        config.server.door.sign_in = true;
    })
    .await;
    let ping = wharf.get("/v2/").await;
    assert_eq!(ping.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert!(ping.header("www-authenticate").is_some_and(|asks| asks.starts_with("Basic ")));
    assert_eq!(get(&wharf, "/v2/", Some(&alice())).await.status, 200);
    assert_open(&wharf, &image, &alice(), "alice").await;
    assert_closed(&wharf, &image, Some(&bob()), "bob").await;
    for path in paths(&image) {
        assert_eq!(wharf.get(&path).await.status, 401, "{path}");
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_mirror_that_stands_first_gets_no_clients_password() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Bearer).await;
    let mirror = FakeHub::builder().challenge(Challenge::Basic).start().await;
    mirror.require_basic("x", "y");
    let wharf = Wharf::start_with(&hub, |config| {
        let mut site = own_accounts(&site);
        let own = site.endpoints[0].clone();
        site.account_for =
            vec![format!("127.0.0.1:{}", own.port().expect("a port")).parse().expect("a host")];
        site.endpoints = vec![mirror.url(Host::Registry).parse().expect("an address"), own];
        config.upstreams.push(site);
    })
    .await;
    for authorization in [alice(), format!("Bearer {}", site.issue_token(REPO))] {
        let answer =
            get(&wharf, &format!("/v2/{LAN}/{REPO}/manifests/1"), Some(&authorization)).await;
        assert_eq!(answer.bytes(), &image.index.bytes);
    }
    assert!(!mirror.log().is_empty());
    assert_eq!(mirror.count(|seen| seen.headers.contains_key("authorization")), 0);
    wharf.end().await;
}

/// Whoever may write manifests, in a repository that everybody may read or in one of their own, names a private blob.
#[tokio::test]
async fn a_manifest_that_names_anothers_blob_opens_nothing() {
    for cold in [false, true] {
        let hub = FakeHub::start().await;
        let (site, image) = private(Challenge::Bearer).await;
        let child = image.child("linux/arm64");
        let (secret, stolen) = (&child.layers[0], child.manifest.bytes.clone());
        // The same document elsewhere: the registries there do not look whether they have what it names.
        let kind = media_type::OCI_MANIFEST;
        hub.put_manifest("library/thief", Some("1"), kind, stolen.clone());
        site.put_manifest("bob/own", Some("thief"), kind, stolen);
        let wharf = wharf_before(&hub, &site).await;
        let (alice, bob) = (alice(), bob());
        let take_in = async || {
            assert_eq!(wharf.get("/v2/library/thief/manifests/1").await.status, 200);
            let thief = format!("/v2/{LAN}/bob/own/manifests/thief");
            assert_eq!(get(&wharf, &thief, Some(&bob)).await.status, 200);
        };
        if cold {
            take_in().await;
        }
        assert_open(&wharf, &image, &alice, "alice").await;
        wharf.quiet().await;
        if !cold {
            take_in().await;
        }
        for digest in [secret.digest, child.config.digest] {
            for repo in [&*format!("{LAN}/bob/own"), "library/thief"] {
                let answer = get(&wharf, &blob_path(repo, &digest), Some(&bob)).await;
                assert_eq!(answer.status, 404, "{repo}, cold: {cold}");
            }
        }
        assert_open(&wharf, &image, &alice, "alice again").await;
        wharf.end().await;
    }
}

/// An index that everybody may read lists a private manifest: also when the tables are made anew from the files.
#[tokio::test]
async fn an_index_that_lists_anothers_manifest_opens_nothing() {
    let hub = FakeHub::start().await;
    let (site, image) = private(Challenge::Bearer).await;
    let child = &image.child("linux/arm64").manifest;
    let list = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [{
            "mediaType": child.media_type, "digest": child.digest, "size": child.bytes.len(),
            "platform": { "os": "linux", "architecture": "arm64" },
        }],
    });
    hub.put_manifest("library/thief", Some("1"), media_type::OCI_INDEX, list.to_string());
    let mut wharf = wharf_before(&hub, &site).await;
    let alice = alice();
    assert_open(&wharf, &image, &alice, "alice").await;
    let stolen = format!("/v2/library/thief/manifests/{}", child.digest);
    for remade in [false, true, true] {
        assert_eq!(wharf.get("/v2/library/thief/manifests/1").await.status, 200);
        assert_eq!(wharf.get(&stolen).await.status, 404, "made anew: {remade}");
        wharf.quiet().await;
        let remake =
            |dir: &Path| fs::remove_dir_all(dir.join("wharf/index.sled")).expect("deleted");
        wharf = wharf.restart_after(remake).await;
        site.clear_log();
        assert_open(&wharf, &image, &alice, "alice, made anew").await;
        let fetched = |path: &str| path.contains("/manifests/sha256:") || path.contains("/blobs/");
        let again = site.count(|seen| seen.method == "GET" && fetched(&seen.path));
        assert_eq!(again, 0, "what is hers stays hers: {:?}", site.log());
    }
    wharf.end().await;
}

#[tokio::test]
async fn layers_that_private_and_public_images_share_are_served_with_the_uplink_gone() {
    for public_first in [false, true] {
        let mut hub = FakeHub::start().await;
        let (mut site, image) = private(Challenge::Bearer).await;
        let child = image.child("linux/arm64");
        // A public image of the very same blobs.
        for blob in std::iter::once(&child.config).chain(&child.layers) {
            hub.put_blob("library/base", blob.bytes.clone());
        }
        let kind = media_type::OCI_MANIFEST;
        hub.put_manifest("library/base", Some("1"), kind, child.manifest.bytes.clone());
        let wharf = wharf_before(&hub, &site).await;
        let alice = alice();
        let layer = blob_path("library/base", &child.layers[0].digest);
        let pull_public = async || {
            assert_eq!(wharf.get("/v2/library/base/manifests/1").await.status, 200);
            let config = blob_path("library/base", &child.config.digest);
            for path in [&layer, &config] {
                assert_eq!(wharf.get(path).await.status, 200, "public first: {public_first}");
            }
            wharf.quiet().await;
        };
        if public_first {
            pull_public().await;
        }
        assert_open(&wharf, &image, &alice, "alice").await;
        wharf.quiet().await;
        if !public_first {
            pull_public().await;
        }
        hub.stop().await;
        site.stop().await;
        let wharf = wharf.restart().await;
        let answer = wharf.get(&layer).await;
        assert_eq!(answer.bytes(), &child.layers[0].bytes, "public first: {public_first}");
        wharf.end().await;
    }
}
