//! Several accounts of wharf's own at one registry, and where they come from. An account that is spent, refused or changed
//! is wharf's trouble, not the client's; and what it is must be read nowhere.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tempfile::TempDir;
use wharf::{
    oci::RegistryName,
    upstream::{self, Account, Helper, Secret, Source},
};

use crate::support::{
    Challenge, FakeHub, Fault, Host, On, PushedImage, Wharf, docker_hub, upstream,
};

const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const REPO: &str = "team/app";
const LAN: &str = "registry.lan";

fn account(user: &str) -> Account {
    let source = Source::password(user, Secret::new(format!("secret-of-{user}")));
    Account { name: format!("the-{user}"), source }
}

fn basic(user: &str, password: &str) -> String {
    http_auth::basic::encode_credentials(user, password)
}

/// A registry where these users may pull so many manifests each, with as many images as tags.
async fn limited(users: &[(&str, u64)], images: usize) -> (FakeHub, Vec<PushedImage>) {
    let site = FakeHub::builder().challenge(Challenge::Basic).without_redirect().start().await;
    let push = |n: usize| site.push_image(REPO, &n.to_string(), &[ARM64], &[100 + n]);
    let images = (0..images).map(push).collect();
    for (user, pulls) in users {
        site.allow(user, &format!("secret-of-{user}"), REPO);
        site.limit(user, &format!("secret-of-{user}"), *pulls);
    }
    (site, images)
}

fn lan(site: &FakeHub, accounts: Vec<Account>) -> upstream::Config {
    let registry: RegistryName = LAN.parse().expect("a registry");
    upstream::Config { accounts, ..upstream(registry, &[&site.url(Host::Registry)]) }
}

async fn before(hub: &FakeHub, site: &FakeHub, accounts: Vec<Account>) -> Wharf {
    Wharf::start_with(hub, |config| {
        config.upstreams = vec![docker_hub(hub), lan(site, accounts)];
    })
    .await
}

fn path(image: &PushedImage) -> String {
    format!("/v2/{REPO}/manifests/{}?ns={LAN}", image.index.digest)
}

async fn status(wharf: &Wharf, image: &PushedImage) -> u16 {
    wharf.get(&path(image)).await.status.as_u16()
}

fn text_of_metrics(wharf: &Wharf) -> String {
    String::from_utf8_lossy(&wharf.metrics.render().0).into_owned()
}

/// Requests for manifests that came with the account of `user`.
fn asked_as(site: &FakeHub, user: &str) -> usize {
    let sent = basic(user, &format!("secret-of-{user}"));
    site.count(|seen| {
        let had = seen.headers.get("authorization").and_then(|value| value.to_str().ok());
        seen.path.contains("/manifests/") && had == Some(sent.as_str())
    })
}

#[tokio::test]
async fn whoever_has_most_pulls_left_is_asked_with_until_all_are_spent() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("ann", 2), ("bea", 4)], 7).await;
    let wharf = before(&hub, &site, vec![account("ann"), account("bea")]).await;
    for image in &images[..6] {
        assert_eq!(status(&wharf, image).await, 200);
    }
    assert_eq!((asked_as(&site, "ann"), asked_as(&site, "bea")), (2, 4), "none was asked in vain");
    for (user, limit) in [("ann", 2.0), ("bea", 4.0)] {
        let labels = format!("{{account=\"the-{user}\",registry=\"{LAN}\"}}");
        let metric =
            |name: &str| wharf.metric(&format!("wharf_upstream_account_ratelimit_{name}{labels}"));
        assert_eq!((metric("limit"), metric("remaining")), (limit, 0.0));
    }
    let registry = format!("{{registry=\"{LAN}\"}}");
    assert_eq!(wharf.metric(&format!("wharf_upstream_ratelimit_limit{registry}")), 6.0);
    assert_eq!(wharf.metric(&format!("wharf_upstream_ratelimit_remaining{registry}")), 0.0);
    assert_eq!(status(&wharf, &images[6]).await, 429, "all are spent");
    wharf.end().await;
}

#[tokio::test]
async fn an_account_that_is_limited_rests_alone() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("ann", 0), ("bea", 100)], 5).await;
    let wharf = before(&hub, &site, vec![account("ann"), account("bea")]).await;
    for image in &images {
        assert_eq!(status(&wharf, image).await, 200);
    }
    assert_eq!(asked_as(&site, "bea"), 5);
    assert_eq!(asked_as(&site, "ann"), 1, "once to find out");
    // What it was told to wait is over.
    site.limit("ann", "secret-of-ann", 500);
    wharf.clock.advance(Duration::from_secs(3601));
    let image = site.push_image(REPO, "new", &[ARM64], &[7]);
    assert_eq!(status(&wharf, &image).await, 200);
    let image = site.push_image(REPO, "newer", &[ARM64], &[8]);
    assert_eq!(status(&wharf, &image).await, 200);
    assert!(asked_as(&site, "ann") > 1);
    wharf.end().await;
}

#[tokio::test]
async fn an_account_that_is_refused_is_none_of_the_clients_trouble() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("bea", 100)], 4).await;
    let nobody = Account { name: "last".to_owned(), source: Source::Anonymous };
    let wharf = before(&hub, &site, vec![account("ann"), account("bea"), nobody]).await;
    for image in &images {
        assert_eq!(status(&wharf, image).await, 200);
    }
    assert_eq!(asked_as(&site, "ann"), 1, "others go first for a while");
    wharf.end().await;
}

/// With a token service it is that which refuses an account; a registry that refuses a token refuses the repository.
#[tokio::test]
async fn an_account_that_is_refused_is_told_of_until_it_is_taken() {
    for challenge in [Challenge::Basic, Challenge::Bearer] {
        let hub = FakeHub::start().await;
        let site = FakeHub::builder().challenge(challenge).without_redirect().start().await;
        let image = site.push_image(REPO, "1", &[ARM64], &[100]);
        let other = site.push_image("others/app", "1", &[ARM64], &[100]);
        site.allow("somebody", "else", "others/app");
        let wharf = before(&hub, &site, vec![account("me")]).await;
        let refused = async || {
            let counted = wharf.metric(&format!(
                "wharf_upstream_account_refused{{account=\"the-me\",registry=\"{LAN}\"}}"
            ));
            let status = wharf.pull.status().await;
            let upstream = status.upstreams.into_iter().find(|known| known.registry == LAN);
            let told = upstream.expect("configured").accounts[0].refused;
            assert_eq!(told, counted == 1.0, "{challenge:?}");
            told
        };
        assert_eq!(status(&wharf, &image).await, 404);
        assert!(refused().await, "{challenge:?}");
        // What is open to all says nothing of the account.
        let kind = wharf::oci::media_type::OCI_INDEX.to_owned();
        let open = Fault::Status(200, vec![("content-type", kind)], other.index.bytes.clone());
        site.fault_next(1, On::Challenges, open);
        let path = format!("/v2/others/app/manifests/{}?ns={LAN}", other.index.digest);
        assert_eq!(wharf.get(&path).await.status, 200, "{challenge:?}");
        assert!(refused().await, "{challenge:?}");
        site.allow("me", "secret-of-me", REPO);
        // A minute for which the repository is remembered as unknown.
        wharf.clock.advance(Duration::from_secs(60));
        assert_eq!(status(&wharf, &image).await, 200, "{challenge:?}");
        assert!(!refused().await, "{challenge:?}");
        // With a token it is the repository that is not shown; without, a registry does not tell that from a wrong password.
        let path = format!(
            "/v2/others/app/manifests/{}?ns={LAN}",
            other.child("linux/arm64").manifest.digest
        );
        assert!(wharf.get(&path).await.status != 200);
        assert_eq!(refused().await, challenge == Challenge::Basic, "{challenge:?}");
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_again_once_it_is_refused() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("ann", 100)], 3).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("password");
    fs::write(&file, "secret-of-ann\n").expect("written");
    let source = Source::PasswordFile { username: "ann".to_owned(), path: file.clone() };
    let wharf = before(&hub, &site, vec![Account { name: "a".to_owned(), source }]).await;
    assert_eq!(status(&wharf, &images[0]).await, 200);
    site.disallow("ann", "secret-of-ann");
    site.allow("ann", "rotated", REPO);
    fs::write(&file, "rotated\n").expect("written");
    wharf.clock.advance(Duration::from_secs(6));
    assert_eq!(status(&wharf, &images[1]).await, 200, "at once");
    let refused = asked_as(&site, "ann");
    assert_eq!(status(&wharf, &images[2]).await, 200);
    assert_eq!(asked_as(&site, "ann"), refused, "the old one is not shown again");
    wharf.end().await;
}

/// A program in `dir` that is this shell script, and writes a line to `ran` at each run.
fn helper(dir: &TempDir, script: &str) -> Helper {
    let path = dir.path().join("docker-credential-test");
    let ran = dir.path().join("ran");
    let text = format!("#!/bin/sh\necho . >> {}\n{script}\n", ran.display());
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    let program = path.to_str().expect("text").parse().expect("a path");
    Helper { program, timeout: Duration::from_secs(2), variables: Vec::new() }
}

fn runs(dir: &Path) -> usize {
    fs::read_to_string(dir.join("ran")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_helper_is_run_when_it_is_needed_and_not_more() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("ann", 100)], 6).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = |secret: &str| {
        format!(
            "read server; [ \"$server\" = {LAN} ] || exit 1\n\
             echo '{{\"ServerURL\":\"\",\"Username\":\"ann\",\"Secret\":\"{secret}\"}}'"
        )
    };
    let source = Source::Helper(helper(&dir, &said("secret-of-ann")));
    let wharf = before(&hub, &site, vec![Account { name: "a".to_owned(), source }]).await;
    assert_eq!(runs(dir.path()), 0);
    let answers =
        futures_util::future::join_all(images[..4].iter().map(|image| status(&wharf, image)));
    assert_eq!(answers.await, [200; 4]);
    assert_eq!(runs(dir.path()), 1);
    // The token is over before its time.
    site.disallow("ann", "secret-of-ann");
    site.allow("ann", "next", REPO);
    helper(&dir, &said("next"));
    wharf.clock.advance(Duration::from_secs(31));
    assert_eq!(status(&wharf, &images[4]).await, 200);
    assert_eq!(runs(dir.path()), 2);
    // Refused for another reason: the helper is not run for each.
    site.disallow("ann", "next");
    for _ in 0..5 {
        assert_ne!(status(&wharf, &images[5]).await, 200);
    }
    assert_eq!(runs(dir.path()), 2);
    wharf.end().await;
}

#[tokio::test]
async fn the_accounts_of_a_docker_config_are_found_and_tokens_bought_with_identity_tokens() {
    let hub = FakeHub::start().await;
    let (site, images) = limited(&[("ann", 100)], 1).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("config.json");
    let ann = basic("ann", "secret-of-ann");
    let ann = ann.strip_prefix("Basic ").expect("it is");
    let text = format!(
        r#"{{"auths":{{"{LAN}":{{"auth":"{ann}"}},
            "https://index.docker.io/v1/":{{"identitytoken":"secret-of-the-hub"}}}}}}"#
    );
    fs::write(&file, text).expect("written");
    let source =
        Source::DockerConfig { path: file, timeout: Duration::from_secs(5), variables: Vec::new() };
    let account = Account { name: "docker".to_owned(), source };
    hub.require_identity("secret-of-the-hub");
    let official = hub.push_image("library/alpine", "1", &[ARM64], &[9]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.upstreams = vec![docker_hub(&hub), lan(&site, vec![account.clone()])];
        config.upstreams[0].accounts = vec![account];
    })
    .await;
    assert_eq!(status(&wharf, &images[0]).await, 200);
    let path = format!("/v2/library/alpine/manifests/{}", official.index.digest);
    assert_eq!(wharf.get(&path).await.status, 200);
    let posts = hub.log().into_iter().filter(|seen| seen.method == "POST");
    let posts: Vec<_> = posts.map(|seen| seen.host).collect();
    assert_eq!(posts, [Host::Auth], "it goes to the token service, once, and nowhere else");
    wharf.end().await;
}

#[tokio::test]
async fn what_a_helper_says_is_read_nowhere_however_it_misbehaves() {
    let hub = FakeHub::start().await;
    for script in [
        "echo s3cret-word; echo s3cret-word >&2; exit 1",
        "echo s3cret-word >&2; echo s3cret-word",
        "echo '{\"Username\":7,\"Secret\":\"s3cret-word\"}'",
        "yes s3cret-word",
        "echo s3cret-word; sleep 1000",
        "echo '{\"Username\":\"ann\",\"Secret\":\"s3cret-word\"}'",
    ] {
        let (site, images) = limited(&[("bea", 100)], 1).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let source = Source::Helper(helper(&dir, script));
        let account = Account { name: "a".to_owned(), source };
        let shown = format!("{:?}", lan(&site, vec![account.clone()]));
        let wharf = before(&hub, &site, vec![account]).await;
        let answer = wharf.get(&path(&images[0])).await;
        assert!(!answer.status.is_success(), "{script}");
        let body = String::from_utf8_lossy(answer.bytes()).into_owned();
        for text in [shown, body, text_of_metrics(&wharf)] {
            assert!(!text.contains("s3cret-word"), "{script}: {text}");
        }
        assert!(runs(dir.path()) <= 1, "{script}");
        wharf.end().await;
    }
}
