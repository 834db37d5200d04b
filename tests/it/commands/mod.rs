//! The commands as a person runs them, with a daemon and without: an operator who fills the cache before the ship leaves
//! must be able to believe what they say (bug classes: a pull that says done and is not; one that takes the whole list
//! down with one bad name; a command that means something else when the daemon runs).

mod bars;
mod failing;
mod keeping;
mod looking;
mod minding;
mod mirror;
mod pulling;
mod reloading;
mod secrets;
mod stopping;

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use wharf::oci::Digest;

use crate::support::{
    Blob, FakeHub, Program, PushedImage, PushedManifest, blob_path,
    client::{self, Answer},
    deadline, send_signal,
};

const REPO: &str = "library/busybox";

const PLATFORMS: [(&str, &str, Option<&str>); 4] = [
    ("linux", "amd64", None),
    ("linux", "arm64", None),
    ("linux", "arm", Some("v7")),
    ("linux", "s390x", None),
];

/// Whether a daemon runs.
pub(crate) const BOTH: [bool; 2] = [true, false];

/// A directory with a configuration and a cache.
pub(crate) struct Site {
    pub(crate) dir: Arc<TempDir>,
    daemon: Option<Program>,
    /// What the daemon and the commands find in their environment; the commands, nothing else.
    variables: Vec<(String, String)>,
}

impl Site {
    pub(crate) async fn start(hub: &FakeHub, daemon: bool) -> Self {
        Self::start_with(hub, daemon, "").await
    }

    /// With `more` at the end of the configuration.
    pub(crate) async fn start_with(hub: &FakeHub, daemon: bool, more: &str) -> Self {
        let mut site = Self { dir: Program::site(hub, more), daemon: None, variables: Vec::new() };
        if daemon {
            site.serve().await;
        }
        site
    }

    /// Starts the daemon, unless it runs.
    pub(crate) async fn serve(&mut self) -> &Program {
        if self.daemon.is_none() {
            self.daemon = Some(Program::start_with(Arc::clone(&self.dir), &self.variables).await);
        }
        self.daemon.as_ref().expect("just started")
    }

    /// Ends the daemon and, if there was one, starts it again: what was only in memory is forgotten.
    pub(crate) async fn restart(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
            self.serve().await;
        }
    }

    /// Kills the daemon, which runs, as `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill().await;
    }

    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        self.begin_reading(arguments, "")
    }

    /// Runs a command with these arguments and no others.
    async fn run_as_written(&self, arguments: &[&str]) -> Said {
        self.start_command(arguments, "").ended().await
    }

    /// Begins a command with `input` to read.
    fn begin_reading(&self, arguments: &[&str], input: &str) -> Running {
        self.start_command(&self.complete(arguments), input)
    }

    fn start_command(&self, arguments: &[&str], input: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.args(arguments);
        command.current_dir(self.dir.path()).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Running::begin(&mut command, input)
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.begin(arguments).ended().await
    }

    /// What a command that must succeed writes to standard output.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments).await;
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}: {said:?}");
        said.out
    }

    /// The same, read as JSON.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.ok(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&said).expect("one JSON value")
    }

    /// The steps of a pull that must succeed.
    pub(crate) async fn pull(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.ok(&[&["pull", "--json"], arguments].concat()).await;
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The command, its configuration and cache, and its other arguments.
    fn complete<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        let (command, others) = arguments.split_first().expect("a command");
        [&[command, "--config", "config.toml", "--dir", "cache"], others].concat()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Changes the configuration's text.
    fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let path = self.dir.path().join("config.toml");
        let text = fs::read_to_string(&path).expect("written at the start");
        fs::write(path, change(text)).expect("the directory can be written");
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("the directory can be written");
    }

    fn keeps(&self, part: &Blob) -> bool {
        let digest = &part.digest;
        let path = self.cache().join("blobs").join(digest.algorithm().as_str());
        path.join(digest.encoded()).exists()
    }

    /// Of manifest, config and layers: how many are kept, of how many.
    fn kept(&self, child: &PushedManifest) -> (usize, usize) {
        let parts = || child.layers.iter().chain([&child.config, &child.manifest]);
        (parts().filter(|part| self.keeps(part)).count(), parts().count())
    }

    fn is_whole(&self, child: &PushedManifest) -> bool {
        let (kept, all) = self.kept(child);
        kept == all
    }

    /// Which of the image's platforms are kept at all, and of these none is only half there.
    fn platforms_kept(&self, image: &PushedImage) -> Vec<String> {
        let kept = |child: &&PushedManifest| match self.kept(child) {
            (0, _) => false,
            (kept, all) => {
                assert_eq!(kept, all, "{}", child.platform);
                true
            }
        };
        image.children.iter().filter(kept).map(|child| child.platform.clone()).collect()
    }

    pub(crate) async fn end(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.end().await;
        }
    }
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: JoinHandle<String>,
    err: JoinHandle<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Running {
    fn begin(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("piped");
        // Who has no use for the input may be gone before it has it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let out = read(child.stdout.take().expect("piped"));
        let err = read(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    pub(crate) async fn ended(mut self) -> Said {
        let ended = async {
            let out = (&mut self.out).await.expect("read");
            let err = (&mut self.err).await.expect("read");
            let code = self.child.wait().expect("its own child").code();
            Said { code, out, err }
        };
        deadline("the command to end", ended).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, on a thread of its own: a pipe that is full holds a command up.
fn read(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A terminal whose other side is gone ends with an error.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8(bytes).expect("UTF-8")
    })
}

impl Said {
    /// It failed, and standard error is this one sentence and nothing else.
    pub(crate) fn sentence(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        let said = self.err.strip_prefix("wharf: ").and_then(|said| said.strip_suffix('\n'));
        let said = said.unwrap_or_else(|| panic!("{self:?}"));
        assert!(!said.contains('\n') && !said.contains("panicked"), "{self:?}");
        said
    }

    fn steps(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A device behind the daemon.
struct Device<'a> {
    wharf: &'a Program,
    user_agent: &'a str,
}

impl Device<'_> {
    async fn get(&self, path: &str) -> Answer {
        client::get(self.wharf.addr, path, &[("user-agent", self.user_agent)]).await
    }

    /// A pull of a list by its tag, and of the child that the device takes.
    async fn pull(&self, tag: &str, image: &PushedImage, platform: &str) {
        let list = self.get(&format!("/v2/{REPO}/manifests/{tag}")).await;
        assert_eq!(list.bytes(), &image.index.bytes);
        self.take(image.child(platform)).await;
    }

    async fn take(&self, child: &PushedManifest) {
        self.get(&manifest_path(&child.manifest.digest)).await.expect(&child.manifest.bytes);
        for blob in child.layers.iter().chain([&child.config]) {
            self.get(&blob_path(REPO, &blob.digest)).await.expect(&blob.bytes);
        }
    }
}

fn manifest_path(digest: &Digest) -> String {
    format!("/v2/{REPO}/manifests/{digest}")
}

fn size(blob: &Blob) -> u64 {
    blob.bytes.len() as u64
}

/// Of manifest, config and layers.
fn whole_size(child: &PushedManifest) -> u64 {
    child.layers.iter().chain([&child.config, &child.manifest]).map(size).sum()
}

/// What a step is called.
fn event(step: &Value) -> &str {
    step["event"].as_str().expect("a name")
}

/// Requests for manifests' and blobs' content.
fn contents(hub: &FakeHub) -> usize {
    hub.count(|seen| {
        let blob = seen.path.contains("/blobs/") && seen.method == "GET";
        blob || (seen.is_manifest() && seen.method == "GET")
    })
}
