//! What an account is must be read nowhere: not in the log, at its loudest, nor in metrics, the API, what commands print, or
//! the cache directory, wherever the account comes from and whatever goes wrong with it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{REPO, Site};
use crate::support::{Challenge, FakeHub, Host, client};

const LAN: &str = "registry.lan";
const USER: &str = "ann";
const SECRET: &str = "planted-s3cret";
const HELPER: &str = "docker-credential-planted";

/// In every form in which it is kept or sent.
fn forms() -> Vec<String> {
    let basic = http_auth::basic::encode_credentials(USER, SECRET);
    let encoded = basic.strip_prefix("Basic ").expect("it is").to_owned();
    vec![SECRET.to_owned(), encoded]
}

/// Where an account comes from: its lines in `[[upstream]]`, and files beside the configuration.
struct Source {
    name: &'static str,
    lines: &'static str,
    files: Vec<(&'static str, String)>,
    /// Whether the registry takes what comes of it.
    is_good: bool,
}

fn sources() -> Vec<Source> {
    let basic = http_auth::basic::encode_credentials(USER, SECRET);
    let auth = basic.strip_prefix("Basic ").expect("it is");
    let docker = format!(r#"{{"auths":{{"{LAN}":{{"auth":"{auth}"}}}}}}"#);
    let said = format!(r#"echo '{{"ServerURL":"","Username":"{USER}","Secret":"{SECRET}"}}'"#);
    let helped = |script: &str| vec![(HELPER, format!("#!/bin/sh\n{script}\n"))];
    let helper = "credential_helper = \"planted\"\nhelper_timeout = \"2s\"\n";
    let source = |name, lines, files, is_good| Source { name, lines, files, is_good };
    let noisy = format!("echo {SECRET} >&2; {said}");
    let through_docker = r#"{"credHelpers":{"registry.lan":"planted"}}"#.to_owned();
    vec![
        source(
            "file",
            "username = \"ann\"\npassword_file = \"password\"\n",
            vec![("password", format!("{SECRET}\n"))],
            true,
        ),
        source("variable", "username = \"ann\"\npassword_env = \"PLANTED\"\n", Vec::new(), true),
        source(
            "credential of systemd",
            "username = \"ann\"\npassword_file = \"credential:lan\"\n",
            vec![("credentials/lan", SECRET.to_owned())],
            true,
        ),
        source(
            "docker_config",
            "docker_config = \"docker.json\"\n",
            vec![("docker.json", docker)],
            true,
        ),
        source(
            "docker_config with a helper",
            "docker_config = \"docker.json\"\n",
            [helped(&noisy), vec![("docker.json", through_docker)]].concat(),
            true,
        ),
        source("helper", helper, helped(&noisy), true),
        source(
            "helper that fails",
            helper,
            helped(&format!("echo {SECRET}; echo {SECRET} >&2; exit 1")),
            false,
        ),
        source(
            "helper that is no helper",
            helper,
            helped(&format!("echo {SECRET}; echo {SECRET} >&2")),
            false,
        ),
        source(
            "helper with a strange answer",
            helper,
            helped(&format!(r#"echo '{{"Username":"{USER}","Secret":["{SECRET}"]}}'"#)),
            false,
        ),
        source(
            "helper without an end",
            helper,
            helped(&format!("echo {SECRET}; exec sleep 1000")),
            false,
        ),
        source("account that is refused", helper, helped(&said.replace(USER, "bob")), false),
    ]
}

#[tokio::test]
async fn an_account_is_read_nowhere_wherever_it_comes_from() {
    let hub = FakeHub::start().await;
    for source in sources() {
        let lan = FakeHub::builder().challenge(Challenge::Basic).without_redirect().start().await;
        let image = lan.push_single(REPO, "1", ("linux", "arm64", None), &[1000]);
        lan.allow(USER, SECRET, REPO);
        let site = site(&hub, &lan, &source).await;
        let daemon = site.daemon.as_ref().expect("it runs");
        let path = format!("/v2/{REPO}/manifests/{}?ns={LAN}", image.manifest.digest);
        let blob = format!("/v2/{REPO}/blobs/{}?ns={LAN}", image.layers[0].digest);
        let mut said = Vec::new();
        for round in 0..2 {
            if round == 1 {
                // Has the source asked again.
                daemon.signal("HUP");
                daemon.until_logged("the configuration was read again: nothing has changed").await;
            }
            for path in [&path, &blob] {
                let answer = client::get(daemon.addr, path, &[]).await;
                assert_eq!(
                    answer.status == 200,
                    source.is_good,
                    "{}: {}",
                    source.name,
                    answer.status
                );
                said.push((path.clone(), format!("{:?}", answer.headers)));
                if !source.is_good {
                    said.push((path.clone(), String::from_utf8_lossy(answer.bytes()).into_owned()));
                }
            }
        }
        said.extend(told(&site, source.name).await);
        let log = daemon.log();
        assert!(log.contains("TRACE") && log.contains(LAN), "{}: it tells little", source.name);
        if !source.is_good && source.name != "account that is refused" {
            assert!(log.contains("no credentials"), "{}: {log}", source.name);
        }
        for (place, text) in said {
            for form in forms() {
                assert!(!text.contains(&form), "{}: {place} tells {form}: {text}", source.name);
            }
        }
        site.end().await;
    }
}

/// All that such a daemon says of itself, and what commands say, its log and its directory included.
async fn told(site: &Site, of: &str) -> Vec<(String, String)> {
    let daemon = site.daemon.as_ref().expect("it runs");
    let mut said = Vec::new();
    for path in ["/metrics", "/readyz", "/", "/api/v1/status", "/api/v1/images", "/api/v1/clients"]
    {
        said.push((path.to_owned(), daemon.admin(path).await));
    }
    for arguments in [
        &["status"][..],
        &["ls"],
        &["inspect", "registry.lan/library/busybox:1"],
        &["pull", "registry.lan/library/busybox:1"],
    ] {
        let run = site.run(arguments).await;
        said.push((arguments[0].to_owned(), run.out + &run.err));
    }
    for arguments in [&["config", "show"][..], &["config", "check"]] {
        let run = site.run_as_written(&[arguments, &["--config", "config.toml"]].concat()).await;
        assert_eq!(run.code, Some(0), "{of}: {run:?}");
        said.push((arguments[1].to_owned(), run.out + &run.err));
    }
    let log = daemon.log();
    assert!(log.contains("TRACE") && log.contains(LAN), "{of}: it tells little");
    said.push(("log".to_owned(), log));
    said.extend(contents(&site.cache()));
    said
}

#[tokio::test]
async fn what_clients_bring_and_token_services_hand_out_is_read_nowhere() {
    let hub = FakeHub::start().await;
    let lan = FakeHub::start().await;
    let image = lan.push_single(REPO, "1", ("linux", "arm64", None), &[1000]);
    lan.allow(USER, SECRET, REPO);
    let source = Source {
        name: "client",
        lines: "auth = \"client\"\nauth_ttl = \"1s\"\n",
        files: Vec::new(),
        is_good: true,
    };
    let site = site(&hub, &lan, &source).await;
    let daemon = site.daemon.as_ref().expect("it runs");
    let basic = http_auth::basic::encode_credentials(USER, SECRET);
    let wrong = http_auth::basic::encode_credentials(USER, "planted-wr0ng");
    let bearer = format!("Bearer {}", lan.issue_token(REPO));
    let mut said = Vec::new();
    for (authorization, is_good) in [
        (&*basic, true),
        (&bearer, true),
        (&wrong, false),
        ("Basic planted-s3cret", false),
        ("Bearer planted-s3cret", false),
        ("Digest planted-s3cret", false),
        ("planted-s3cret", false),
        ("Basic planted-s3cret, Bearer planted-s3cret", false),
    ] {
        for path in [
            format!("/v2/{REPO}/manifests/1?ns={LAN}"),
            format!("/v2/{REPO}/manifests/{}?ns={LAN}", image.manifest.digest),
            format!("/v2/{REPO}/blobs/{}?ns={LAN}", image.layers[0].digest),
            format!("/v2/{REPO}/tags/list?ns={LAN}"),
        ] {
            let answer = client::get(daemon.addr, &path, &[("authorization", authorization)]).await;
            assert_eq!(answer.status == 200, is_good, "{authorization}: {path}: {}", answer.status);
            said.push((path.clone(), format!("{:?}", answer.headers)));
            said.push((path, String::from_utf8_lossy(answer.bytes()).into_owned()));
        }
    }
    said.extend(told(&site, source.name).await);
    let mut forms = [forms(), vec!["planted-wr0ng".to_owned()]].concat();
    forms.extend(wrong.split(' ').nth(1).map(str::to_owned));
    // Whatever the registry and its storage were shown, tokens and signed addresses.
    let shown = lan.log();
    for seen in &shown {
        let sent = seen.headers.get("authorization").and_then(|value| value.to_str().ok());
        forms.extend(sent.and_then(|sent| sent.split(' ').nth(1)).map(str::to_owned));
        if seen.host == Host::Cdn {
            forms.extend(seen.query.rsplit('=').next().map(str::to_owned));
        }
    }
    assert!(shown.iter().any(|seen| seen.host == Host::Cdn), "no signed address");
    let bearers = |seen: &crate::support::Seen| {
        let sent = seen.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        (!bearer.ends_with(sent)).then(|| sent.to_owned())
    };
    assert!(shown.iter().any(|seen| bearers(seen).is_some()), "no token but the client's own");
    for (place, text) in said {
        for form in &forms {
            assert!(!text.contains(form), "{place} tells {form}: {text}");
        }
    }
    site.end().await;
}

/// A daemon with the account, whose log tells all there is.
async fn site(hub: &FakeHub, lan: &FakeHub, source: &Source) -> Site {
    let endpoint = lan.url(Host::Registry);
    let mut site = Site::start(hub, false).await;
    let dir = site.dir.path().to_str().expect("text").to_owned();
    site.rewrite(|text| {
        format!(
            "{text}[log]\nlevel = \"trace\"\n[[upstream]]\nregistry = \"{LAN}\"\nendpoints = [\"{endpoint}\"]\n\
             public = true\n{}",
            source.lines
        )
    });
    fs::create_dir(site.dir.path().join("credentials")).expect("a directory");
    for (name, text) in &source.files {
        site.write(name, text);
        let mode = if *name == HELPER { 0o700 } else { 0o600 };
        let path = site.dir.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }
    let path = std::env::var("PATH").expect("it is set");
    let variables = [
        ("PLANTED", SECRET.to_owned()),
        ("CREDENTIALS_DIRECTORY", format!("{dir}/credentials")),
        ("PATH", format!("{dir}:{path}")),
    ];
    site.variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    site.serve().await;
    site
}

/// All files below a directory: where they are, and what they hold.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("readable");
        let kind = entry.file_type().expect("it has one");
        if kind.is_dir() {
            found.extend(contents(&entry.path()));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            found.push((entry.path().display().to_string(), text));
        }
    }
    found
}

/// A configuration that will not do is told of in sentences, and these go to logs and tickets.
#[tokio::test]
async fn a_mistake_in_an_account_is_told_without_it() {
    let hub = FakeHub::start().await;
    let two_lines = format!("{SECRET}\n{SECRET}\n");
    for (lines, files, variable) in [
        ("username = \"ann\"\npassword = \"planted-s3cret\"\n", ("x", ""), SECRET),
        ("username = \"ann:planted-s3cret\"\npassword_file = \"x\"\n", ("x", SECRET), SECRET),
        ("username = \"ann\"\npassword_file = \"x\"\n", ("x", &*two_lines), SECRET),
        ("username = \"ann\"\npassword_env = \"PLANTED\"\n", ("x", ""), &*two_lines),
        (
            "docker_config = \"x\"\n",
            ("x", "{\"auths\":{\"registry.lan\":\"planted-s3cret\"}}"),
            SECRET,
        ),
        ("docker_config = \"x\"\n", ("x", "planted-s3cret"), SECRET),
        ("[[upstream.account]]\npassword = \"planted-s3cret\"\n", ("x", ""), SECRET),
    ] {
        let mut site = Site::start(&hub, false).await;
        site.rewrite(|text| {
            format!("{text}[[upstream]]\nregistry = \"{LAN}\"\npublic = true\n{lines}")
        });
        site.write(files.0, files.1);
        site.variables.push(("PLANTED".to_owned(), variable.to_owned()));
        for command in [&["config", "check"][..], &["serve"]] {
            let said = site.run_as_written(&[command, &["--config", "config.toml"]].concat()).await;
            assert_eq!(said.code, Some(2), "{lines}: {said:?}");
            assert!(said.err.contains("config.toml:"), "{lines}: {said:?}");
            let text = said.out + &said.err;
            assert!(!text.contains(SECRET), "{lines}: {text}");
        }
    }
}
