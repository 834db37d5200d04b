//! Users with names and passwords, where they are asked for them and where they are not.

use std::{fs, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::support::{Host, Program};

const TAG: &str = "/v2/library/app/manifests/1";

/// Every kind of question that a client begins with.
const QUESTIONS: [&str; 7] = [
    "/v2/",
    "/v2/docker.io/",
    TAG,
    "/v2/library/unknown/manifests/1",
    "/v2/library/app/tags/list",
    "/v2/_catalog",
    "/v2/nowhere.example/a/manifests/1",
];

fn basic(name: &str, password: &str) -> String {
    http_auth::basic::encode_credentials(name, password)
}

async fn as_user(wharf: &Wharf, name: &str, password: &str, path: &str) -> Answer {
    client::get(wharf.addr, path, &[("authorization", &basic(name, password))]).await
}

async fn start(rules: Vec<AccessRule>, sign_in: bool) -> (FakeHub, Wharf) {
    let hub = FakeHub::start().await;
    hub.push_single("library/app", "1", ARM64, &[500]);
    hub.push_single("team/app", "1", ARM64, &[600]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.server.door.users = users();
        config.server.door.sign_in = sign_in;
        config.server.access = Access::new(rules);
    });
    let wharf = wharf.await;
    (hub, wharf)
}

#[tokio::test]
async fn the_path_of_docker_mirrors_is_never_challenged() {
    let rules = vec![rule(|_| (), &["docker.io/library/*"]), user("alice", &["docker.io/team/*"])];
    let (_hub, wharf) = start(rules, false).await;
    let credentials = [
        None,
        Some(basic("alice", "U*U")),
        Some(basic("alice", "wrong")),
        Some(basic("hub-user", "of-the-hub")),
        Some("Bearer a.b.c".to_owned()),
        Some("Basic !".to_owned()),
    ];
    for sent in &credentials {
        let headers: Vec<_> = sent.iter().map(|value| ("authorization", &**value)).collect();
        for path in QUESTIONS {
            for method in ["GET", "HEAD", "POST"] {
                let answer = client::request(method, wharf.addr, path, &headers).await;
                assert_ne!(answer.status, 401, "{method} {path} {sent:?}");
                assert_eq!(answer.header("www-authenticate"), None, "{method} {path} {sent:?}");
            }
        }
    }
    assert_eq!(wharf.get("/v2/").await.status, 200);
    wharf.end().await;
}

#[tokio::test]
async fn who_sends_nothing_is_nobody_and_who_is_wrong_is_told_so() {
    let rules = vec![rule(|_| (), &["docker.io/library/*"]), user("alice", &["docker.io/team/*"])];
    let (hub, wharf) = start(rules, false).await;
    let team = "/v2/team/app/manifests/1";
    assert_eq!(wharf.get(TAG).await.status, 200);
    assert_eq!(wharf.get(team).await.refusal(), (403, "DENIED".to_owned()));
    assert_eq!(as_user(&wharf, "alice", "U*U", team).await.status, 200);
    assert_eq!(as_user(&wharf, "alice", "U*U", TAG).await.status, 200);
    assert_eq!(as_user(&wharf, "bob", "U*U*", team).await.status, 403, "a user who may not");
    assert_eq!(as_user(&wharf, "bob", "U*U*", TAG).await.status, 200);
    for (name, password) in [("alice", "U*U*"), ("carol", "U*U"), ("alice", "")] {
        let refused = as_user(&wharf, name, password, TAG).await;
        assert_eq!(refused.refusal(), (403, "DENIED".to_owned()), "{name}");
        assert_eq!(
            refused.json()["errors"][0]["message"],
            "the name or the password is wrong",
            "{name}"
        );
    }
    let bearer = client::get(wharf.addr, TAG, &[("authorization", "Bearer abc")]).await;
    assert_eq!(bearer.status, 403);
    for (outcome, count) in [("good", 4.0), ("wrong", 4.0), ("too_often", 0.0), ("busy", 0.0)] {
        let counted = wharf.metric(&format!("wharf_sign_ins_total{{outcome=\"{outcome}\"}}"));
        assert!((counted - count).abs() < 0.5, "{outcome}: {counted}");
    }
    drop(hub);
    wharf.end().await;
}

#[tokio::test]
async fn an_address_that_asks_gives_nothing_to_nobody() {
    let (_hub, wharf) = start(Vec::new(), true).await;
    for path in QUESTIONS {
        for method in ["GET", "HEAD"] {
            for sent in [&[][..], &[("authorization", "Bearer abc")]] {
                let answer = client::request(method, wharf.addr, path, sent).await;
                assert_eq!(answer.status, 401, "{method} {path}");
                let challenge = answer.header("www-authenticate").expect("a challenge");
                assert!(challenge.starts_with("Basic realm=\"wharf\""), "{challenge}");
                if method == "GET" {
                    assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".to_owned()));
                }
            }
        }
    }
    assert_eq!(as_user(&wharf, "alice", "U*U*", "/v2/").await.status, 401);
    for path in ["/v2/", TAG, "/v2/_catalog"] {
        assert_eq!(as_user(&wharf, "alice", "U*U", path).await.status, 200, "{path}");
    }
    wharf.end().await;
}

#[tokio::test]
async fn who_guesses_has_to_wait_and_nobody_else() {
    let (_hub, wharf) = start(Vec::new(), true).await;
    assert_eq!(as_user(&wharf, "alice", "U*U", TAG).await.status, 200);
    for guess in 0..5 {
        assert_eq!(as_user(&wharf, "bob", &guess.to_string(), TAG).await.status, 401);
    }
    let slowed = as_user(&wharf, "bob", "U*U*", TAG).await;
    assert_eq!(slowed.refusal(), (429, "TOOMANYREQUESTS".to_owned()), "whatever he sends");
    assert_eq!(slowed.header("retry-after"), Some("1"));
    assert_eq!(as_user(&wharf, "alice", "U*U", TAG).await.status, 200, "she was known before");
    let elsewhere = [127, 0, 0, 2].into();
    let bob = basic("bob", "U*U*");
    let answer = client::get_from(elsewhere, wharf.addr, TAG, &[("authorization", &bob)]).await;
    assert_eq!(answer.status, 200, "another client");
    wharf.end().await;
}

/// A site whose program checks passwords, and logs all that it can.
fn site(hub: &FakeHub, rules: &str) -> Arc<TempDir> {
    let dir = Program::site(hub, &format!("[log]\nlevel = \"trace\"\n{rules}"));
    rewrite(&dir, |text| text.replace("[server]\n", "[server]\nusers = \"htpasswd\"\n"));
    fs::write(dir.path().join("htpasswd"), HTPASSWD).expect("written");
    dir
}

fn rewrite(dir: &TempDir, change: impl FnOnce(String) -> String) {
    let path = dir.path().join("config.toml");
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(path, change(text)).expect("written");
}

#[tokio::test]
async fn a_password_goes_to_no_registry_and_into_no_log() {
    let hub = FakeHub::start().await;
    let image = hub.push_single("library/app", "1", ARM64, &[500]);
    let dir = site(&hub, "[[access]]\nuser = \"*\"\nallow = [\"**\"]\n");
    let program = Program::start_in(Arc::clone(&dir)).await;
    let sent = [
        basic("alice", "U*U"),
        basic("alice", "planted-Secret-1"),
        basic("planted-Name", "planted-Secret-2"),
        "Bearer planted-Secret-3".to_owned(),
    ];
    let paths = [paths("library/app", &image), vec!["/v2/".to_owned()]].concat();
    for value in &sent {
        for path in &paths {
            client::get(program.addr, path, &[("authorization", value)]).await;
        }
    }
    program.until_logged("user=\"alice\"").await;
    program.signal("HUP");
    program.until_logged("the configuration was read again").await;
    let (log, metrics) = (program.log(), program.admin("/metrics").await);
    let encoded = sent.iter().map(|value| value.split_once(' ').expect("a scheme").1);
    let secrets: Vec<_> =
        encoded.chain(["U*U", "planted-Secret", "planted-Name", "$2a$05$"]).collect();
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} in the log");
        assert!(!metrics.contains(secret), "{secret} in the metrics");
    }
    assert!(hub.log().len() > 3, "it was asked");
    for seen in hub.log() {
        let shown = format!("{seen:?}");
        for secret in &secrets {
            assert!(!shown.contains(secret), "{secret} went to {:?}: {shown}", seen.host);
        }
        if seen.host == Host::Registry && seen.authorization {
            let value = seen.headers["authorization"].to_str().expect("text");
            assert!(value.starts_with("Bearer ") && !value.contains("planted"), "{value}");
        }
    }
    program.end().await;
}

#[tokio::test]
async fn a_hangup_reads_rules_and_users_again() {
    let hub = FakeHub::start().await;
    hub.push_single("library/app", "1", ARM64, &[500]);
    let dir = site(&hub, "[[access]]\nuser = \"alice\"\nallow = [\"**\"]\n");
    let program = Program::start_in(Arc::clone(&dir)).await;
    let status = async |name: &str, password: &str| {
        let basic = basic(name, password);
        let answer = client::get(program.addr, TAG, &[("authorization", &basic)]).await;
        answer.status.as_u16()
    };
    assert_eq!((status("alice", "U*U").await, status("bob", "U*U*").await), (200, 403));
    rewrite(&dir, |text| text.replace("user = \"alice\"", "user = \"bob\""));
    program.signal("HUP");
    program.until_logged("and changed key=[[access]] value=1 rule").await;
    assert_eq!((status("alice", "U*U").await, status("bob", "U*U*").await), (403, 200));

    // Bob is gone; alice has his password.
    let line = HTPASSWD.lines().nth(1).expect("two lines").replace("bob", "alice");
    fs::write(dir.path().join("htpasswd"), line).expect("written");
    rewrite(&dir, |text| text + "[[access]]\nuser = \"*\"\nallow = [\"**\"]\n");
    program.signal("HUP");
    program.until_logged("and changed key=[[access]] value=2 rules").await;
    assert_eq!((status("bob", "U*U*").await, status("alice", "U*U*").await), (403, 200));

    // A line that will not do changes nothing.
    fs::write(dir.path().join("htpasswd"), "alice:hunter2\n").expect("written");
    program.signal("HUP");
    program.until_logged("the configuration stays as it was").await;
    assert_eq!(status("alice", "U*U*").await, 200);
    assert!(!program.log().contains("hunter2"));
    program.end().await;
}
