//! Debian's nginx: over files that wharf keeps, or with a cache of its own in front of an upstream.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use super::{
    Result, machine,
    process::pinned,
    running::{Running, free_address},
    tls::Tls,
};

const PROGRAM: &str = "/usr/sbin/nginx";

/// How one nginx is set up. One process, with `sendfile` and `open_file_cache`.
#[derive(Clone, Copy)]
pub(crate) struct Nginx<'a> {
    pub(crate) of: Of<'a>,
    pub(crate) manner: Manner,
    /// Whether it writes a line for each request, as Debian's does: to a file, at once.
    pub(crate) logs: bool,
    /// TLS 1.3 on its port, without resumption.
    pub(crate) tls: Option<&'a Tls>,
}

/// What it serves.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    /// The files in a directory.
    Files(&'a Path),
    /// What an upstream sends, kept by `proxy_cache`; one request for a thing that many want (`proxy_cache_lock`). Buffers of
    /// 8 KiB: smaller ones cost more, and larger ones hold back the first byte.
    Upstream(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As in Debian's nginx.conf: `tcp_nopush on`.
    Stock,
    /// With wharf's own socket settings: no `tcp_nopush`, a send buffer of 256 KiB.
    Tuned,
}

/// Its version, or that there is none.
pub(crate) fn version() -> String {
    match is_there() {
        true => machine::version(Command::new(PROGRAM).arg("-v")),
        false => "nginx is not installed".to_owned(),
    }
}

pub(crate) fn is_there() -> bool {
    Path::new(PROGRAM).exists()
}

impl<'a> Nginx<'a> {
    /// Over the files in `root`, in plain HTTP, without a log.
    pub(crate) const fn files(root: &'a Path, manner: Manner) -> Self {
        Self { of: Of::Files(root), manner, logs: false, tls: None }
    }

    /// With a cache in front of `upstream`, tuned, without a log.
    pub(crate) const fn cache(upstream: SocketAddr) -> Self {
        Self { of: Of::Upstream(upstream), manner: Manner::Tuned, logs: false, tls: None }
    }

    /// Starts it with its files below `parent`, on the cores `cpus` alone if given; `None` if it is not installed.
    pub(crate) fn start(&self, parent: &Path, cpus: Option<&str>) -> Result<Option<Running>> {
        if !is_there() {
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("nginx-bench-").tempdir_in(parent)?;
        let addr = free_address()?;
        let path = dir.path().join("nginx.conf");
        fs::write(&path, self.config(addr, dir.path()))?;
        let mut command = pinned(Path::new(PROGRAM), cpus);
        command.arg("-c").arg(&path).arg("-e").arg(dir.path().join("error.log"));
        Running::start(command, addr, dir).map(Some)
    }

    fn config(&self, addr: SocketAddr, dir: &Path) -> String {
        let at = dir.display();
        let (nopush, buffer) = match self.manner {
            Manner::Stock => ("on", ""),
            Manner::Tuned => ("off", " sndbuf=256k"),
        };
        let log = if self.logs { format!("{at}/access.log") } else { "off".to_owned() };
        let (tls, keys) = match self.tls {
            Some(Tls { certificate, key, .. }) => (
                " ssl",
                format!(
                    "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; \
                     ssl_session_cache off; ssl_session_tickets off;",
                    certificate.display(),
                    key.display()
                ),
            ),
            None => ("", String::new()),
        };
        let (hub, serve) = match self.of {
            Of::Files(root) => (String::new(), format!("root {};", root.display())),
            Of::Upstream(upstream) => (
                format!("upstream hub {{ server {upstream}; keepalive 64; }}"),
                "location / { proxy_pass http://hub; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_cache kept; proxy_cache_valid 200 1d; \
                 proxy_cache_lock on; proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s; \
                 proxy_buffer_size 8k; proxy_buffers 64 8k; proxy_busy_buffers_size 64k; }"
                    .to_owned(),
            ),
        };
        format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log {log};\n  sendfile on;\n  tcp_nopush {nopush};\n  tcp_nodelay on;\n\
             \x20 open_file_cache max=1000 inactive=60s;\n  open_file_cache_valid 60s;\n\
             \x20 keepalive_requests 1000000;\n\
             \x20 default_type application/octet-stream;\n\
             \x20 client_body_temp_path {at}/a;\n  proxy_temp_path {at}/b;\n\
             \x20 fastcgi_temp_path {at}/c;\n  uwsgi_temp_path {at}/d;\n  scgi_temp_path {at}/e;\n\
             \x20 proxy_cache_path {at}/kept levels=1:2 keys_zone=kept:10m max_size=100g inactive=1d use_temp_path=off;\n\
             \x20 {hub}\n  server {{ listen {addr}{tls}{buffer}; {keys} {serve} }}\n}}\n"
        )
    }
}
