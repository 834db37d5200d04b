//! SIGHUP: what can change does, what cannot is named, and a file with a mistake in it changes nothing (bug class: a
//! reload that ends the daemon, or takes half of a configuration).

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{PLATFORMS, REPO, Site};
use crate::support::{Challenge, FakeHub, Host, Identity, PushedImage, TestCa, TlsClient, client};

#[tokio::test]
async fn a_hangup_reads_the_configuration_again() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
    let site = Site::start_with(&hub, true, "[log]\nlevel = \"info\"\n").await;
    let daemon = site.daemon.as_ref().expect("it runs");

    daemon.signal("HUP");
    daemon.until_logged("the configuration was read again: nothing has changed").await;

    // What is not said at this level is not logged, until it is.
    let debug = "DEBUG";
    assert!(!daemon.log().contains(debug), "{}", daemon.log());
    site.rewrite(|text| {
        text.replace("level = \"info\"", "level = \"debug\"")
            + "[cache]\nmax_size = \"5GiB\"\nscrub = \"off\"\ntag_ttl = \"7m\"\n"
    });
    daemon.signal("HUP");
    daemon.until_logged("takes effect when wharf is restarted").await;
    let log = daemon.log();
    for said in [
        "the configuration was read again, and changed key=cache.max_size value=5GiB",
        "the configuration was read again, and changed key=cache.scrub value=off",
        "the configuration was read again, and changed key=log.level value=debug",
        "this takes effect when wharf is restarted key=cache.tag_ttl",
    ] {
        assert!(log.contains(said), "{said:?} in\n{log}");
    }
    client::get(daemon.addr, &format!("/v2/{REPO}/manifests/1"), &[]).await;
    daemon.until_logged(debug).await;

    // Two mistakes: the first is said with its line, and nothing of the file counts.
    site.rewrite(|text| text.replace("5GiB", "6GiB") + "serve_stale = \"perhaps\"\n");
    daemon.signal("HUP");
    daemon.until_logged("the configuration stays as it was: config.toml:").await;
    assert!(daemon.log().contains("cache.serve_stale: string \"perhaps\" will not do"));
    assert!(!daemon.log().contains("6GiB"), "{}", daemon.log());
    site.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
    let site = Site::start_with(&hub, true, "").await;
    let daemon = site.daemon.as_ref().expect("it runs");
    daemon.limit_files(Some(0));
    daemon.signal("HUP");
    // Each is a line of the log, and time for the reload to be another.
    for _ in 0..20 {
        client::get(daemon.addr, &format!("/v2/{REPO}/manifests/1"), &[]).await;
    }
    daemon.limit_files(None);
    daemon.signal("HUP");
    daemon.until_logged("the configuration was read again: nothing has changed").await;
    site.end().await;
}

const LAN: &str = "registry.lan";

/// A registry with images for these accounts.
async fn lan(accounts: &[(&str, &str)]) -> (FakeHub, Vec<PushedImage>) {
    let lan = FakeHub::builder().challenge(Challenge::Basic).without_redirect().start().await;
    let push = |n: usize| lan.push_image(REPO, &n.to_string(), &[PLATFORMS[1]], &[100 + n]);
    let images = (0..4).map(push).collect();
    for (user, password) in accounts {
        lan.allow(user, password, REPO);
    }
    (lan, images)
}

/// What a daemon is to be told of it, apart from the account.
fn upstream(lan: &FakeHub) -> String {
    let endpoint = lan.url(Host::Registry);
    format!("[[upstream]]\nregistry = \"{LAN}\"\nendpoints = [\"{endpoint}\"]\npublic = true\n")
}

fn asked_as(lan: &FakeHub, user: &str, password: &str) -> usize {
    let sent = http_auth::basic::encode_credentials(user, password);
    lan.count(|seen| {
        seen.headers.get("authorization").is_some_and(|header| header == sent.as_str())
    })
}

async fn pull(site: &Site, image: &PushedImage) -> u16 {
    let daemon = site.daemon.as_ref().expect("it runs");
    let path = format!("/v2/{REPO}/manifests/{}?ns={LAN}", image.index.digest);
    client::get(daemon.addr, &path, &[]).await.status.as_u16()
}

#[tokio::test]
async fn a_hangup_has_a_changed_account_taken_up_before_the_old_one_is_refused() {
    let hub = FakeHub::start().await;
    let docker = |password: &str| {
        let basic = http_auth::basic::encode_credentials("ann", password);
        let auth = basic.strip_prefix("Basic ").expect("it is");
        format!(r#"{{"auths":{{"{LAN}":{{"auth":"{auth}"}}}}}}"#)
    };
    let helper = |password: &str| {
        format!("#!/bin/sh\necho '{{\"Username\":\"ann\",\"Secret\":\"{password}\"}}'\n")
    };
    let password = |password: &str| password.to_owned();
    // The lines of an account, and what stands in its file for a password.
    type Kind<'a> = (&'a str, &'a dyn Fn(&str) -> String);
    let kinds: [Kind<'_>; 3] = [
        ("username = \"ann\"\npassword_file = \"source\"\n", &password),
        ("docker_config = \"source\"\n", &docker),
        ("credential_helper = \"DIR/source\"\n", &helper),
    ];
    for (lines, written) in kinds {
        let (lan, images) = lan(&[("ann", "old"), ("ann", "new")]).await;
        let mut site = Site::start(&hub, false).await;
        let dir = site.dir.path().to_str().expect("text").to_owned();
        site.rewrite(|text| text + &upstream(&lan) + &lines.replace("DIR", &dir));
        let write = |site: &Site, password: &str| {
            // As a whole: one that runs cannot be written to.
            site.write("fresh", &written(password));
            let fresh = site.dir.path().join("fresh");
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)).expect("set");
            fs::rename(fresh, site.dir.path().join("source")).expect("renamed");
        };
        write(&site, "old");
        site.serve().await;
        assert_eq!(pull(&site, &images[0]).await, 200, "{lines}");
        write(&site, "new");
        let daemon = site.daemon.as_ref().expect("it runs");
        daemon.signal("HUP");
        daemon.until_logged("the configuration was read again").await;
        lan.clear_log();
        assert_eq!(pull(&site, &images[1]).await, 200, "{lines}");
        assert_eq!(asked_as(&lan, "ann", "old"), 0, "{lines}");
        assert!(asked_as(&lan, "ann", "new") > 0, "{lines}");
        site.end().await;
    }
}

#[tokio::test]
async fn accounts_that_wait_for_the_next_start_are_named_and_a_lost_one_changes_nothing() {
    let hub = FakeHub::start().await;
    let (lan, images) = lan(&[("ann", "anns"), ("bea", "beas")]).await;
    let mut site = Site::start(&hub, false).await;
    let account = "[[upstream.account]]\nname = \"a\"\nusername = \"ann\"\npassword_file = \"a\"\n";
    site.rewrite(|text| text + &upstream(&lan) + account);
    site.write("a", "anns");
    site.write("b", "beas");
    site.serve().await;
    assert_eq!(pull(&site, &images[0]).await, 200);

    // Its password is gone: the file's name is said, and wharf goes on with what it knows.
    let daemon = site.daemon.as_ref().expect("it runs");
    fs::remove_file(site.dir.path().join("a")).expect("it was there");
    daemon.signal("HUP");
    daemon.until_logged("the configuration stays as it was: config.toml:").await;
    let log = daemon.log();
    assert!(log.contains("upstream.account.password_file: a "), "{log}");
    assert_eq!(pull(&site, &images[1]).await, 200);

    // Another account takes its place, at the next start and not before.
    site.write("a", "anns");
    site.rewrite(|text| text.replace("\"ann\"", "\"bea\"").replace("= \"a\"\n", "= \"b\"\n"));
    daemon.signal("HUP");
    daemon.until_logged("this takes effect when wharf is restarted key=[[upstream]]").await;
    assert_eq!(pull(&site, &images[2]).await, 200);
    assert!(asked_as(&lan, "ann", "anns") > 0);
    assert_eq!(asked_as(&lan, "bea", "beas"), 0);
    site.restart().await;
    lan.clear_log();
    assert_eq!(pull(&site, &images[3]).await, 200);
    assert_eq!(asked_as(&lan, "ann", "anns"), 0);
    assert!(asked_as(&lan, "bea", "beas") > 0);
    site.end().await;
}

#[tokio::test]
async fn a_hangup_has_a_list_of_revoked_certificates_taken_up_and_a_bad_one_left_alone() {
    let hub = FakeHub::start().await;
    let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
    let [first, second] = ["first", "second"].map(|name| devices.client_identity(name));
    let mut site = Site::start(&hub, false).await;
    let Identity { cert, key } = ca.server_identity();
    site.write("server.pem", &cert);
    site.write("server.key", &key);
    site.write("devices.pem", devices.pem());
    site.write("devices.crl", &devices.list(&[&first], 2090));
    let files = "cert = \"server.pem\", key = \"server.key\", client_ca = \"devices.pem\"";
    let tls = format!("tls = {{ {files}, client_crl = \"devices.crl\" }}");
    site.rewrite(|text| text.replace("[server]\n", &format!("[server]\n{tls}\n")));
    site.serve().await;
    let daemon = site.daemon.as_ref().expect("it runs");
    let is_let_in = async |identity: &Identity| {
        let ping = b"GET /v2/ HTTP/1.1\r\nhost: wharf\r\nconnection: close\r\n\r\n";
        let heard = TlsClient::new(&ca, Some(identity)).send_raw(daemon.addr, ping).await;
        heard.is_ok_and(|heard| heard.starts_with(b"HTTP/1.1 200"))
    };
    assert!(!is_let_in(&first).await && is_let_in(&second).await);

    for (list, problem) in [
        (devices.list(&[], 2020), "ran out at 2020-01-01T00:00:00Z"),
        (TestCa::named("devices").list(&[], 2090), "not signed with the key"),
        (TestCa::named("others").list(&[], 2090), "a list of CN=others"),
        (String::new(), "holds no PEM list"),
    ] {
        site.write("devices.crl", &list);
        daemon.signal("HUP");
        daemon.until_logged(problem).await;
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains(problem)).expect("logged");
        let of_the_file =
            "stays as it was: config.toml:4: server.tls.client_crl: devices.crl holds";
        let of_the_list =
            "stays as it was: client_crl holds a list of revoked certificates of CN=devices";
        let of_the_look = "certificates stay as they were: ";
        let known = [of_the_file, of_the_list, of_the_look];
        assert!(known.iter().any(|known| line.contains(known)), "{line}");
        assert!(!is_let_in(&first).await && is_let_in(&second).await, "{problem}");
    }

    site.write("devices.crl", &devices.list(&[&second], 2090));
    daemon.signal("HUP");
    daemon.until_logged("the configuration was read again").await;
    assert!(is_let_in(&first).await && !is_let_in(&second).await);
    site.end().await;
}
