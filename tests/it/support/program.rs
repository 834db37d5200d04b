//! The real program as a process of its own: for what only a process has, limits and resident memory.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::{FakeHub, Host, client, deadline, wharf::value};

/// A running `wharf serve` with a cache of its own; killed when dropped.
pub(crate) struct Program {
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    child: Child,
    dir: Arc<TempDir>,
}

impl Program {
    /// Starts it in front of `hub` as Docker Hub, with everything else as it is by default.
    pub(crate) async fn start(hub: &FakeHub) -> Self {
        Self::start_in(Self::site(hub, "")).await
    }

    /// A directory with a `config.toml` for wharf in front of `hub` as Docker Hub, and `more` at the file's end.
    pub(crate) fn site(hub: &FakeHub, more: &str) -> Arc<TempDir> {
        Self::site_in(tempfile::tempdir().expect("a temporary directory"), hub, more)
    }

    /// The same, beside what cargo builds, which is not in memory.
    pub(crate) fn site_on_disk(hub: &FakeHub, more: &str) -> Arc<TempDir> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self::site_in(dir.expect("a temporary directory"), hub, more)
    }

    fn site_in(dir: TempDir, hub: &FakeHub, more: &str) -> Arc<TempDir> {
        let endpoint = hub.url(Host::Registry);
        let config = format!(
            "[prefetch]\non_pull = false\n[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [[upstream]]\nregistry = \"docker.io\"\nendpoints = [\"{endpoint}\"]\n{more}"
        );
        fs::write(dir.path().join("config.toml"), config).expect("the directory can be written");
        Arc::new(dir)
    }

    /// Starts it as the `config.toml` in `dir` says, with its cache beside that.
    pub(crate) async fn start_in(dir: Arc<TempDir>) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// The same, with these variables in its environment.
    pub(crate) async fn start_with(dir: Arc<TempDir>, variables: &[(String, String)]) -> Self {
        let mut child = Self::spawn_in(&dir, variables);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let said = spawn_blocking(|| stdout.lines().map_while(Result::ok).take(4).collect());
        let said: Vec<String> =
            deadline("wharf to say where it listens", said).await.expect("read");
        if said.len() < 4 {
            let log = fs::read_to_string(dir.path().join("log"));
            panic!("it did not start: {}", log.expect("it is made at the start"));
        }
        let address = |line: usize, before: &str| {
            let (_, rest) = said[line].split_once(before).expect("it says so");
            rest[..rest.find([',', '/']).expect("an end")].parse().expect("an address")
        };
        Self { addr: address(0, " on "), admin: address(3, "http://"), child, dir }
    }

    /// Starts it and kills it on the way, or soon after, when it was looked at so often.
    pub(crate) async fn killed_at_start(dir: &TempDir, looks: u64) {
        let mut child = Self::spawn_in(dir, &[]);
        let mut stdout = child.stdout.take().expect("piped");
        let ended = spawn_blocking(move || {
            for _ in 0..looks {
                assert_eq!(child.try_wait().expect("its own child"), None, "it ended by itself");
            }
            child.kill().expect("its own child");
            child.wait().expect("its own child");
            // What it said meanwhile fits into a pipe.
            let _ = std::io::Read::read_to_end(&mut stdout, &mut Vec::new());
        });
        deadline("a start to be killed", ended).await.expect("joined");
    }

    fn spawn_in(dir: &TempDir, variables: &[(String, String)]) -> Child {
        // A write beyond a limit is then an error like that of a full disk, and not the end of the process.
        let mut command = Command::new("env");
        command.arg("--ignore-signal=XFSZ").arg(env!("CARGO_BIN_EXE_wharf"));
        command.args(["serve", "--config", "config.toml", "--dir", "cache"]);
        let log = OpenOptions::new().create(true).append(true).open(dir.path().join("log"));
        command.stderr(log.expect("the directory can be written"));
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).spawn().expect("it runs")
    }

    /// Kills it, as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().expect("its own child");
        let ended = spawn_blocking(move || self.child.wait().expect("its own child"));
        deadline("the killed to be gone", ended).await.expect("joined");
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("it is made at the start")
    }

    /// Waits until the log has `what` in it.
    pub(crate) async fn until_logged(&self, what: &str) {
        let logged = async {
            while !self.log().contains(what) {
                tokio::task::yield_now().await;
            }
        };
        deadline(&format!("{what:?} in the log"), logged).await;
    }

    /// The cache directory.
    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Lets no file grow beyond this many bytes from now on: what a full disk does to those who write.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut command = Command::new("prlimit");
        command.arg(format!("--pid={}", self.child.id())).arg(format!("--fsize={limit}:unlimited"));
        assert!(command.status().expect("prlimit runs").success());
    }

    /// `GET` of a path at the admin address.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let answer = client::get(self.admin, path, &[]).await;
        String::from_utf8(answer.bytes().to_vec()).expect("UTF-8")
    }

    /// As [`Wharf::metric`](super::Wharf::metric).
    pub(crate) async fn metric(&self, line_start: &str) -> f64 {
        value(&self.admin("/metrics").await, line_start)
    }

    /// Waits until a metric is zero.
    pub(crate) async fn until_zero(&self, line_start: &str) {
        let zero = async { while self.metric(line_start).await > 0.0 {} };
        deadline(&format!("{line_start} to be 0"), zero).await;
    }

    /// The most memory that it has had resident so far, in bytes.
    pub(crate) fn peak_resident_bytes(&self) -> u64 {
        self.kib("VmHWM:") * 1024
    }

    /// The memory of its own that it has resident, without pages of its files, in mebibytes.
    pub(crate) fn own_mib(&self) -> f64 {
        self.kib("RssAnon:") as f64 / 1024.0
    }

    fn kib(&self, line_start: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a running process has one");
        let line = status.lines().find_map(|line| line.strip_prefix(line_start));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("Linux tells");
        kib.parse().expect("a number")
    }

    /// Bytes that it has caused to be written to disks so far, as the kernel counts pages that become dirty.
    pub(crate) fn written_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.child.id()));
        let text = text.expect("a running process has one");
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        line.and_then(|line| line.trim().parse().ok()).expect("Linux tells")
    }

    /// Ends a test: no download is left, the program ends well when asked to, and nothing half lies about.
    pub(crate) async fn end(self) {
        self.until_zero("wharf_downloads_in_flight").await;
        let dir = Arc::clone(&self.dir);
        self.stop().await;
        assert_eq!(names(&dir.path().join("cache/wharf/partial")), [""; 0], "left behind");
    }

    /// Has it end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let ended = spawn_blocking(move || self.child.wait().expect("its own child"));
        let status = deadline("wharf to stop", ended).await.expect("joined");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a child a signal, such as `TERM`.
pub(crate) fn send_signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

/// The names of the files of downloads in a cache directory, sorted. Beside them wharf replaces small files, at
/// any time: those have names of their own.
pub(crate) fn partials(cache: &Path) -> Vec<String> {
    let mut names = names(&cache.join("wharf/partial"));
    names.retain(|name| !name.starts_with(".new-"));
    names
}

/// The names of the files in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("readable").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}
