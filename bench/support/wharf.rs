//! wharf as its operator runs it: the release program, a process of its own, an empty cache on a real disk.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Result,
    client::Client,
    now, pause,
    process::{Process, pinned},
};

/// How long a download's end may take to reach the disk.
const SETTLING: Duration = Duration::from_secs(60);

/// A running wharf in front of one upstream. Ends when it is dropped, and its cache with it.
pub(crate) struct Wharf {
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    admin: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Wharf {
    /// Starts `program`, on the cores `cpus` alone if given (as `taskset -c` takes them), with everything at its
    /// default but the ports, the directory (a new one below `parent`), where Docker Hub is, and what `more` says.
    pub(crate) fn start(
        program: &Path,
        cpus: Option<&str>,
        upstream: SocketAddr,
        parent: &Path,
        more: &str,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("wharf-bench-").tempdir_in(parent)?;
        let config = dir.path().join("config.toml");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nmax_connections_per_client = 4096\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [[upstream]]\nregistry = \"docker.io\"\nendpoints = [\"http://{upstream}\"]\n{more}"
        );
        fs::write(&config, text)?;
        let mut command = pinned(program, cpus);
        let cache = dir.path().join("cache");
        command.arg("serve").arg("--config").arg(&config).arg("--dir").arg(&cache);
        // As the systemd unit and the container image have it.
        command.env("MALLOC_ARENA_MAX", "2");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(dir.path().join("log"))?);
        let mut child = command.spawn()?;
        let process = Process(child.id());
        let told = addresses(&mut child);
        // Made first, so that whatever fails from here on ends the process.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut wharf = Self { addr: nowhere, process, admin: nowhere, child, dir };
        let (addr, admin) = told.map_err(|error| {
            let log = fs::read_to_string(wharf.dir.path().join("log")).unwrap_or_default();
            format!("wharf did not start: {error}\n{log}")
        })?;
        (wharf.addr, wharf.admin) = (addr, admin);
        Ok(wharf)
    }

    /// Waits until no download runs: all is on the disk.
    pub(crate) fn settle(&self, client: &Client) -> Result<()> {
        let until = now() + SETTLING;
        while now() < until {
            let metrics = String::from_utf8(client.document(self.admin, "/metrics")?)?;
            let running =
                metrics.lines().find_map(|line| line.strip_prefix("wharf_downloads_in_flight "));
            if running.ok_or("a metric is missing")?.trim() == "0" {
                return Ok(());
            }
            pause(Duration::from_millis(5));
        }
        Err(format!("wharf still downloads after {SETTLING:?}").into())
    }

    /// The file of a blob that is kept.
    pub(crate) fn kept(&self, digest: &wharf::oci::Digest) -> std::path::PathBuf {
        self.dir.path().join("cache/blobs/sha256").join(digest.encoded())
    }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        // The cache goes with it, so there is nothing to drain.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses that wharf prints when it is ready: of the registry and of the metrics.
fn addresses(child: &mut Child) -> Result<(SocketAddr, SocketAddr)> {
    let output = child.stdout.take().ok_or("no output")?;
    let (mut registry, mut lines) = (None, BufReader::new(output).lines());
    loop {
        let line = lines.next().ok_or("it ended")??;
        registry = registry.or_else(|| {
            let (_, rest) = line.split_once(" on ")?;
            rest.split(',').next()?.parse().ok()
        });
        if let Some(url) = line.strip_prefix("Metrics: http://") {
            let admin = url.trim_end_matches("/metrics").parse()?;
            return Ok((registry.ok_or("it told no address")?, admin));
        }
    }
}
