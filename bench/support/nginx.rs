//! Debian's nginx, serving files as its own configuration would: what a kept blob's speed is compared with.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Result, machine, now, pause,
    process::{Process, pinned},
};

const PROGRAM: &str = "/usr/sbin/nginx";

/// How long it may take to listen.
const START: Duration = Duration::from_secs(5);

/// A running nginx. Ends when it is dropped.
pub(crate) struct Nginx {
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    child: Child,
    _dir: TempDir,
}

/// How it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As in Debian's nginx.conf: `tcp_nopush on`.
    Stock,
    /// With wharf's own socket settings: no `tcp_nopush`, a send buffer of 256 KiB.
    Tuned,
}

/// Its version, or that there is none.
pub(crate) fn version() -> String {
    match Path::new(PROGRAM).exists() {
        true => machine::version(Command::new(PROGRAM).arg("-v")),
        false => "nginx is not installed".to_owned(),
    }
}

impl Nginx {
    /// Serves the files below `root`, on the cores `cpus` alone if given; `None` if nginx is not installed. One process,
    /// with `sendfile`.
    pub(crate) fn start(
        root: &Path,
        parent: &Path,
        manner: Manner,
        cpus: Option<&str>,
    ) -> Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() {
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("nginx-bench-").tempdir_in(parent)?;
        // The port is free again when the listener is dropped, and nobody else is likely to take it.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush {nopush};\n  tcp_nodelay on;\n\
             \x20 open_file_cache max=1000 inactive=60s;\n  open_file_cache_valid 60s;\n\
             \x20 keepalive_requests 1000000;\n\
             \x20 default_type application/octet-stream;\n\
             \x20 client_body_temp_path {at}/a;\n  proxy_temp_path {at}/b;\n\
             \x20 fastcgi_temp_path {at}/c;\n  uwsgi_temp_path {at}/d;\n  scgi_temp_path {at}/e;\n\
             \x20 server {{ listen {addr}{buffer}; root {root}; }}\n}}\n",
            at = dir.path().display(),
            root = root.display(),
            nopush = if manner == Manner::Stock { "on" } else { "off" },
            buffer = if manner == Manner::Stock { "" } else { " sndbuf=256k" },
        );
        let path = dir.path().join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = pinned(Path::new(PROGRAM), cpus);
        command.arg("-c").arg(&path).arg("-e").arg(dir.path().join("error.log"));
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut nginx = Self { addr, process: Process(child.id()), child, _dir: dir };
        let until = now() + START;
        while TcpStream::connect(addr).is_err() {
            if nginx.child.try_wait()?.is_some() || now() >= until {
                return Err("nginx did not start".into());
            }
            pause(Duration::from_millis(10));
        }
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
