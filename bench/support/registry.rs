//! Debian's docker-registry as a pull-through cache, its own `proxy` mode: what wharf takes the place of.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use wharf::oci::Digest;

use super::{
    Result, machine, now, pause,
    process::pinned,
    running::{Running, free_address},
};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// How long a blob that was answered may take to be kept.
const SETTLING: Duration = Duration::from_secs(60);

/// A running docker-registry.
pub(crate) struct Registry(pub(crate) Running);

/// Its version, or that there is none.
pub(crate) fn version() -> String {
    match is_there() {
        true => machine::version(Command::new(PROGRAM).arg("--version")),
        false => "docker-registry is not installed".to_owned(),
    }
}

pub(crate) fn is_there() -> bool {
    Path::new(PROGRAM).exists()
}

impl Registry {
    /// Starts one that keeps what it pulls from `upstream` below `parent`; descriptors in memory, as in Debian's
    /// configuration, and no line per request. `None` if it is not installed.
    pub(crate) fn start(
        upstream: SocketAddr,
        parent: &Path,
        cpus: Option<&str>,
    ) -> Result<Option<Self>> {
        if !is_there() {
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("registry-bench-").tempdir_in(parent)?;
        let addr = free_address()?;
        let path = dir.path().join("config.yml");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  cache:\n    blobdescriptor: inmemory\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {addr}\nproxy:\n  remoteurl: http://{upstream}\n",
            dir.path().join("kept").display(),
        );
        fs::write(&path, config)?;
        let mut command = pinned(Path::new(PROGRAM), cpus);
        command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
        Ok(Some(Self(Running::start(command, addr, dir)?)))
    }

    /// Where a blob is when it is kept.
    pub(crate) fn kept(&self, digest: &Digest) -> PathBuf {
        let hex = digest.encoded();
        let blobs = self.0.dir().join("kept/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Waits until the blob is kept: it is fetched for the cache beside the answer.
    pub(crate) fn settle(&self, digest: &Digest) -> Result<()> {
        let (kept, until) = (self.kept(digest), now() + SETTLING);
        while !kept.exists() {
            if now() >= until {
                return Err(format!("docker-registry kept no blob within {SETTLING:?}").into());
            }
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}
