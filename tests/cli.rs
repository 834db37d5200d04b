//! The real program: what it says, and with which exit code it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt, chown},
            net::UnixStream,
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

fn wharf(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.args(arguments).current_dir(dir).env_clear().stdin(Stdio::null());
    command
}

fn ended(arguments: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = wharf(arguments, dir).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// A running `wharf serve`; killed when dropped.
struct Daemon(Child);

impl Daemon {
    /// Starts it on free ports, and waits until it has said how to use it.
    fn start(dir: &Path) -> (Self, Vec<String>) {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--dir", "data"];
        let mut command = wharf(&arguments, dir);
        command.env("WHARF_ADMIN__LISTEN", "127.0.0.1:0");
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let said = lines.map(|line| line.expect("UTF-8")).take(4).collect();
        (Self(child), said)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn end(mut self) -> ExitStatus {
        self.0.wait().expect("its own child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serves_says_how_to_use_it_is_healthy_and_stops_on_request() {
    for signal in ["TERM", "INT"] {
        let site = tempfile::tempdir().expect("a temporary directory");
        let (daemon, said) = Daemon::start(site.path());
        let [first, _, mirrors, metrics] = &said[..] else { panic!("it said {said:?}") };
        assert!(first.contains("serves docker.io on 127.0.0.1:"), "{first}");
        assert!(mirrors.contains("{ \"registry-mirrors\": [\"http://127.0.0.1:"), "{mirrors}");
        let admin = metrics
            .strip_prefix("Metrics: http://")
            .and_then(|rest| rest.strip_suffix("/metrics"))
            .expect("an address");
        admin.parse::<SocketAddr>().expect("an address");

        let (code, said, _) = ended(&["healthcheck", "--admin", admin], site.path());
        assert_eq!((code, said.as_str()), (Some(0), "ok\n"));

        daemon.signal(signal);
        assert_eq!(daemon.end().code(), Some(0), "after SIG{signal}");
        let (code, _, why) = ended(&["healthcheck", "--admin", admin], site.path());
        assert_eq!(code, Some(1));
        assert!(why.starts_with("wharf: nothing answers on 127.0.0.1:"), "{why}");
    }
}

/// What `wharf serve` says when it does not start: one sentence on standard error, and nothing as if it ran.
fn refusal(arguments: &[&str], variables: &[(&str, &str)], dir: &Path) -> String {
    let mut command = wharf(arguments, dir);
    let command = command.env("WHARF_ADMIN__LISTEN", "off").envs(variables.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let said = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(2), "{arguments:?} {variables:?}: {said}");
    assert!(stdout.is_empty(), "{arguments:?} says nothing as if it ran");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn what_cannot_be_served_is_said_in_one_sentence_with_code_2() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &[u8]| fs::write(site.path().join(name), text);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = &*taken.local_addr().expect("bound").to_string();
    let endpoint = "[[upstream]]\nregistry = \"a.example\"\n";
    for (name, text) in [
        ("file", &b""[..]),
        ("bad.toml", b"[cache]\nsize = 1\n"),
        ("noise.toml", b"\xff\xfe\0"),
        ("half.toml", b"[cache"),
        ("deep.toml", format!("x = {}", "[".repeat(100_000)).as_bytes()),
        ("long.toml", &b"# a comment\n".repeat(100_000)),
        ("ca.toml", format!("{endpoint}ca = \"junk.pem\"\n").as_bytes()),
        ("junk.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("form/wharf/version", b"99\n"),
    ] {
        let parent = Path::new(name).parent().expect("it has a name");
        fs::create_dir_all(site.path().join(parent)).expect("made");
        write(name, text).expect("written");
    }
    let free = ["serve", "--listen", "127.0.0.1:0"];
    let dir = |dir| [&free[..], &["--dir", dir]].concat();
    let config = |file| [&free[..], &["--config", file]].concat();
    let data = dir("data");
    for (arguments, variables, names) in [
        (vec!["serve", "--listen", address, "--dir", "data"], &[][..], address),
        (data.clone(), &[("WHARF_ADMIN__LISTEN", address)], address),
        // 192.0.2.1 is nobody's (RFC 5737).
        (vec!["serve", "--listen", "192.0.2.1:0", "--dir", "data"], &[], "192.0.2.1:0"),
        (dir("file"), &[], "\"file\""),
        (dir("file/data"), &[], "file/data"),
        (dir("/proc/wharf"), &[], "/proc/wharf"),
        (dir("/dev/null"), &[], "/dev/null"),
        (dir("form"), &[], "another version of wharf"),
        (config("bad.toml"), &[], "bad.toml:2: cache.size: unknown key"),
        (config("missing.toml"), &[], "missing.toml"),
        (config("."), &[], ".: the file is a directory"),
        (config("noise.toml"), &[], "noise.toml"),
        (config("half.toml"), &[], "half.toml:1"),
        (config("deep.toml"), &[], "deep.toml"),
        (config("long.toml"), &[], "long.toml"),
        (config("/dev/zero"), &[], "/dev/zero"),
        (config("ca.toml"), &[], "ca"),
        (data.clone(), &[("WHARF_CONFIG", "missing.toml")], "missing.toml"),
        (data.clone(), &[("WHARF_CACHE__TAG_TTL", "often")], "WHARF_CACHE__TAG_TTL"),
        (data.clone(), &[("WHARF_CACHE__SIZE", "1")], "WHARF_CACHE__SIZE"),
    ] {
        let said = refusal(&arguments, variables, site.path());
        assert!(said.starts_with("wharf: ") && said.contains(names), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: {said}");
    }
    for arguments in [&["serve", "--listen", "everywhere"][..], &["serve", "--dir", ""]] {
        let said = refusal(arguments, &[], site.path());
        assert!(said.starts_with("error: ") && said.contains(arguments[1]), "{said}");
    }
}

#[test]
fn a_second_wharf_on_one_directory_is_refused_and_disturbs_nothing() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let (daemon, _) = Daemon::start(site.path());
    let said = refusal(&["serve", "--listen", "127.0.0.1:0", "--dir", "data"], &[], site.path());
    assert!(said.starts_with("wharf: \"data\" is in use by another wharf"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code(), Some(0));
    let (again, _) = Daemon::start(site.path());
    again.signal("TERM");
    assert_eq!(again.end().code(), Some(0), "its directory is free again");
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let site = tempfile::tempdir().expect("a temporary directory");
    fs::write(site.path().join("good.toml"), "[cache]\ntag_ttl = \"5m\"\n").expect("written");
    fs::write(site.path().join("bad.toml"), "[cache]\ntag_ttl = 5\n").expect("written");

    let said = ended(&["config", "check", "--config", "good.toml"], site.path());
    assert_eq!(said, (Some(0), "ok: good.toml\n".into(), String::new()));

    let (code, _, why) = ended(&["config", "check", "--config", "bad.toml"], site.path());
    assert_eq!(code, Some(2));
    assert!(why.starts_with("wharf: bad.toml:2: cache.tag_ttl: "), "{why}");

    let (code, shown, _) = ended(&["config", "show", "--config", "good.toml"], site.path());
    assert_eq!(code, Some(0));
    assert!(shown.contains("tag_ttl = \"5m\"\n"), "{shown}");

    let mut command = wharf(&["config", "show"], site.path());
    let mut child = command
        .env("WHARF_CONFIG", "good.toml")
        .env("WHARF_CACHE__TAG_TTL", "7m")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut shown = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut shown).expect("UTF-8");
    assert!(child.wait().expect("its own child").success());
    assert!(shown.contains("tag_ttl = \"7m\"\n"), "the variable lies over the file: {shown}");
}

#[test]
fn looking_at_nothing_says_so_and_leaves_no_trace() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let nothing = |dir: &str| format!("wharf: nothing is kept in {dir:?}\n");
    let said = ended(&["ls"], site.path());
    assert_eq!(said, (Some(0), String::new(), nothing("wharf-data")));
    assert!(!site.path().join("wharf-data").exists(), "looking makes no directory");

    fs::create_dir(site.path().join("data")).expect("made");
    for dir in ["data", "elsewhere"] {
        let said = ended(&["ls", "--dir", dir], site.path());
        assert_eq!(said, (Some(0), String::new(), nothing(dir)));
        let said = ended(&["ls", "--dir", dir, "--json"], site.path());
        assert_eq!(said, (Some(0), "[]\n".into(), String::new()));
        let (code, said, why) = ended(&["ls", "--dir", dir, "alpine:3"], site.path());
        assert_eq!((code, said.as_str()), (Some(1), ""));
        assert_eq!(why, format!("wharf: nothing called alpine:3 is kept in {dir:?}\n"));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_code_2_before_anything_is_opened() {
    let site = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in [
        ("bad.txt", "# ours\nalpine:3.20\n\nBad Name # here\n"),
        ("empty.txt", "# nothing yet\n\n"),
        ("bad.toml", "[cache]\nsize = 1\n"),
    ] {
        fs::write(site.path().join(name), text).expect("written");
    }
    for (arguments, says) in [
        (&["pull"][..], "<IMAGE>..."),
        (&["pull", "Alpine"], "invalid value 'Alpine'"),
        (&["pull", ""], "not a repository name"),
        (&["pull", "alpine:"], "not a tag"),
        (&["pull", "alpine@sha256:12"], "invalid value"),
        (&["pull", "--platform", "arm64", "alpine"], "write os/architecture"),
        (&["pull", "--platform", "", "alpine"], "--platform"),
        (&["pull", "--file", "bad.txt"], "wharf: bad.txt:4: \"Bad Name\": not a repository name"),
        (&["pull", "--file", "bad.txt", "alpine"], "bad.txt:4"),
        (&["pull", "--file", "empty.txt"], "wharf: the list names no image"),
        (&["pull", "--file", "-"], "wharf: the list names no image"),
        (&["pull", "--file", "missing.txt"], "wharf: missing.txt: No such file"),
        (&["pull", "--file", "."], "wharf: .: "),
        (&["pull", "--file", "/dev/zero"], "longer than 1 MiB"),
        (&["pull", "--config", "bad.toml", "alpine"], "bad.toml:2: cache.size: unknown key"),
        (&["pull", "--dir", "bad.txt", "alpine"], "the cache directory \"bad.txt\" cannot"),
        (&["ls", "Alpine"], "invalid value 'Alpine'"),
        (&["ls", "alpine", "busybox"], "unexpected argument"),
        (&["ls", "--dir", "bad.txt"], "the cache directory \"bad.txt\" cannot"),
        (&["inspect"], "<IMAGE>"),
        (&["inspect", "a/../b"], "invalid value"),
        (&["explain", "alpine:3 20"], "not a tag"),
        (&["explain", "--client", "pi.local", "alpine"], "invalid value 'pi.local'"),
    ] {
        let (code, said, why) = ended(arguments, site.path());
        assert_eq!((code, said.as_str()), (Some(2), ""), "{arguments:?}: {why}");
        assert!(why.contains(says), "{arguments:?}: {why}");
        assert!(!why.contains("panicked"), "{why}");
    }
    assert!(!site.path().join("wharf-data").exists(), "nothing was opened");

    let mut command = wharf(&["pull", "--file", "-"], site.path());
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut names = child.stdin.take().expect("piped");
    names.write_all(b"alpine\n\xc3\xa9\n").expect("it reads");
    drop(names);
    let ended = child.wait_with_output().expect("its own child");
    assert_eq!(ended.status.code(), Some(2));
    let why = String::from_utf8_lossy(&ended.stderr);
    assert!(why.starts_with("wharf: -:2: \"\u{e9}\": not a repository name"), "{why}");
}

#[test]
fn commands_do_the_same_with_a_daemon_and_without() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let two = ["pull", "--dir", "data", "--json", "a.example/app:1", "a.example/app:2"];
    let all = || {
        [
            &["ls", "--dir", "data"][..],
            &["ls", "--dir", "data", "--json"],
            &["ls", "--dir", "data", "alpine"],
            // Of a registry that is not configured, so that nobody is asked.
            &["inspect", "--dir", "data", "a.example/app:1"],
            &["explain", "--dir", "data", "--client", "10.0.7.12", "a.example/app:1"],
            &["pull", "--dir", "data", "a.example/app:1"],
            &two,
        ]
        .map(|arguments| ended(arguments, site.path()))
    };
    let (daemon, _) = Daemon::start(site.path());
    let socket = site.path().join("data/control.sock");
    let mode = fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let asked = all();
    daemon.signal("TERM");
    assert_eq!(daemon.end().code(), Some(0));
    assert!(!socket.exists(), "it goes with its wharf");
    assert_eq!(asked, all());

    let [_, _, _, inspected, explained, pulled, both] = asked;
    for (code, said, why) in [inspected, explained, pulled] {
        assert_eq!((code, said.as_str()), (Some(1), ""), "{why}");
        assert_eq!((why.starts_with("wharf: "), why.lines().count()), (true, 1), "{why}");
    }
    let (code, events, why) = both;
    assert_eq!(code, Some(1));
    assert!(why.ends_with("wharf: 2 of 2 images could not be fetched\n"), "{why}");
    assert_eq!(why.matches("wharf: a.example/app:").count(), 2, "each with its reason: {why}");
    let failed = "{\"event\":\"failed\",\"name\":\"a.example/app:";
    assert_eq!(events.lines().filter(|line| line.starts_with(failed)).count(), 2, "{events}");
}

#[test]
fn a_daemon_that_cannot_be_reached_is_said_with_what_to_do() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let (daemon, _) = Daemon::start(site.path());
    let socket = site.path().join("data/control.sock");
    fs::remove_file(&socket).expect("it was there");
    for arguments in
        [&["ls"][..], &["inspect", "alpine"], &["explain", "alpine"], &["pull", "alpine"]]
    {
        let (code, said, why) = ended(&[arguments, &["--dir", "data"]].concat(), site.path());
        assert_eq!((code, said.as_str()), (Some(1), ""), "{why}");
        assert!(why.starts_with("wharf: \"data\" is in use by another wharf that cannot"), "{why}");
        assert!(why.contains("restart it") && why.lines().count() == 1, "{why}");
    }
    drop(daemon);
}

#[test]
fn the_cache_of_another_user_is_not_opened() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let mine = site.path().join("data");
    fs::create_dir(&mine).expect("made");
    // Who may give it away is root; to anyone else, / is another user's.
    let dir = match chown(&mine, Some(12_345), None) {
        Ok(()) => "data",
        Err(_) => "/",
    };
    for arguments in [&["ls"][..], &["inspect", "alpine"], &["pull", "alpine"]] {
        let (code, said, why) = ended(&[arguments, &["--dir", dir]].concat(), site.path());
        assert_eq!((code, said.as_str()), (Some(1), ""), "{why}");
        assert!(
            why.starts_with(&format!("wharf: {dir:?} belongs to the user with number ")),
            "{why}"
        );
        assert_eq!(why.lines().count(), 1, "{why}");
    }
    assert_eq!(fs::read_dir(&mine).expect("readable").count(), 0, "nothing is written there");
}

#[test]
fn the_socket_of_a_killed_wharf_is_in_nobodys_way() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let nothing = (Some(0), String::new(), "wharf: nothing is kept in \"data\"\n".to_owned());
    let (killed, _) = Daemon::start(site.path());
    killed.signal("KILL");
    killed.end();
    assert!(site.path().join("data/control.sock").exists());
    assert_eq!(ended(&["ls", "--dir", "data"], site.path()), nothing, "opened here");

    let (daemon, _) = Daemon::start(site.path());
    assert_eq!(ended(&["ls", "--dir", "data"], site.path()), nothing, "asked of the new one");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code(), Some(0));
    assert!(!site.path().join("data/control.sock").exists());
}

#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let (gone, stdout) = UnixStream::pair().expect("a pair");
    drop(gone);
    let mut command = wharf(&["ls", "--dir", "data", "--json"], site.path());
    let ended = command.stdout(OwnedFd::from(stdout)).output().expect("it runs");
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn setup_prints_what_belongs_into_a_file_and_nothing_else() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let config = "[server]\nlisten = [\"127.0.0.1:5000\", \"10.0.0.2:5443\"]\n[[upstream]]\nregistry = \"ghcr.io\"\n";
    fs::write(site.path().join("wharf.toml"), config).expect("written");
    let setup =
        |more: &[&str]| ended(&[&["setup", "--config", "wharf.toml"], more].concat(), site.path());

    let (code, said, how) = setup(&["docker"]);
    assert_eq!(code, Some(0), "{how}");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON and nothing else");
    assert_eq!(said["registry-mirrors"], serde_json::json!(["http://10.0.0.2:5443"]));
    assert!(how.starts_with("wharf: 1. Put this into /etc/docker/daemon.json.\n"), "{how}");

    // A name without a port has the one that wharf listens on.
    let (_, said, _) = setup(&["containerd", "--registry", "ghcr.io", "--address", "wharf.lan"]);
    let file = "# /etc/containerd/certs.d/ghcr.io/hosts.toml\nserver = \"https://ghcr.io\"\n\n\
                [host.\"http://wharf.lan:5443\"]\n  capabilities = [\"pull\", \"resolve\"]\n";
    assert_eq!(said, file);

    let write = ["docker", "--hosts", "--write-to", "card", "--address", "wharf.lan"];
    let (code, said, _) = setup(&write);
    let paths =
        ["docker.io", "ghcr.io"].map(|name| format!("card/etc/docker/certs.d/{name}/hosts.toml"));
    assert_eq!((code, said), (Some(0), paths.join("\n") + "\n"));
    let written = fs::read_to_string(site.path().join(&paths[1])).expect("written");
    assert_eq!(written, file.replace("/etc/containerd", "/etc/docker"));
    fs::write(site.path().join(&paths[1]), "mine").expect("written");
    let (code, said, why) = setup(&write);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(why.contains("hosts.toml is there already: run this without --write-to"), "{why}");
    assert_eq!(fs::read_to_string(site.path().join(&paths[1])).expect("there"), "mine");

    for (arguments, says) in [
        (
            &["docker", "--registry", "quay.io"][..],
            "write an [[upstream]] with registry = \"quay.io\"",
        ),
        (&["k3s", "--hosts"], "--hosts is about docker"),
        (&["lxc"], "[possible values: docker, containerd, k3s, podman, buildkit, crio]"),
        (&["podman", "--address", "http://wharf"], "invalid value 'http://wharf'"),
        (&["podman", "--platform", "arm"], "invalid value 'arm'"),
        (&[], "<CLIENT>"),
    ] {
        let (code, said, why) = setup(arguments);
        assert_eq!((code, said.as_str()), (Some(2), ""), "{arguments:?}: {why}");
        assert!(why.contains(says), "{arguments:?}: {why}");
    }
}

#[test]
fn setup_sends_a_client_to_the_address_that_serves_its_kind() {
    let site = tempfile::tempdir().expect("a temporary directory");
    // The password is "U*U", of the test vectors of crypt_blowfish.
    let users = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
    fs::write(site.path().join("users"), users).expect("written");
    let config = "[server]\nlisten = [\"10.0.0.2:5000\"]\n[[listener]]\naddress = \"10.0.0.2:5443\"\nusers = \"users\"\n\
                  sign_in = true\nusers_without_tls = true\n";
    fs::write(site.path().join("wharf.toml"), config).expect("written");
    let setup =
        |more: &[&str]| ended(&[&["setup", "--config", "wharf.toml"], more].concat(), site.path());
    let (code, said, how) = setup(&["docker"]);
    assert_eq!(code, Some(0), "{how}");
    assert!(said.contains("http://10.0.0.2:5000") && !said.contains("5443"), "{said}");

    let (code, said, how) = setup(&["podman", "--address", "wharf.lan:5443"]);
    assert_eq!(code, Some(0), "{how}");
    assert!(said.contains("wharf.lan:5443/docker.io"), "{said}");
    assert!(how.contains("podman login wharf.lan:5443"), "{how}");
    let (_, _, how) = setup(&["podman", "--address", "wharf.lan:5000"]);
    assert!(!how.contains("podman login"), "{how}");

    // Its engine would answer with another password.
    let (code, said, why) = setup(&["docker", "--address", "wharf.lan:5443"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(why.contains("a [[listener]] without sign_in"), "{why}");
}
