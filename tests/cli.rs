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

#[test]
fn what_cannot_be_served_is_said_in_one_sentence_with_code_2() {
    let site = tempfile::tempdir().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    std::fs::write(site.path().join("file"), "").expect("written");
    std::fs::write(site.path().join("bad.toml"), "[cache]\nsize = 1\n").expect("written");
    let free = ["serve", "--listen", "127.0.0.1:0"];
    for (arguments, names) in [
        (&["serve", "--listen", &address, "--dir", "data"][..], address.as_str()),
        (&[&free[..], &["--dir", "file/data"]].concat(), "file/data"),
        (&[&free[..], &["--config", "bad.toml"]].concat(), "bad.toml:2: cache.size: unknown key"),
        (&[&free[..], &["--config", "missing.toml"]].concat(), "missing.toml"),
        (&["serve", "--listen", "everywhere"], "everywhere"),
    ] {
        let mut command = wharf(arguments, site.path());
        let output = command.env("WHARF_ADMIN__LISTEN", "off").output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} says nothing as if it ran");
        assert!(said.contains(names), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
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
