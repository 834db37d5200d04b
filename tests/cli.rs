//! The real program: what it says, and with which exit code it ends.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
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
    let write = |name: &str, text: &[u8]| std::fs::write(site.path().join(name), text);
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
        std::fs::create_dir_all(site.path().join(parent)).expect("made");
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
    std::fs::write(site.path().join("good.toml"), "[cache]\ntag_ttl = \"5m\"\n").expect("written");
    std::fs::write(site.path().join("bad.toml"), "[cache]\ntag_ttl = 5\n").expect("written");

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
