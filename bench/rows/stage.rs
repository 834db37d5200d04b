//! The servers of warm rows, each of which has the same content, pinned in memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Setting,
    support::{
        Result,
        content::Content,
        load::{Target, Work},
        nginx::Nginx,
        pinned::Pinned,
        process::Process,
        registry::Registry,
        report::print,
        running::Running,
        tls::Tls,
        upstream::Upstream,
        wharf::Wharf,
    },
    warm::Server,
};

/// Of a wharf that writes no line for a request, beside others that write none.
pub(crate) const QUIET: &str = "[log]\nlevel = \"warn\"\n";

/// A content, and all who have it.
pub(crate) struct Stage<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) upstream: &'a Upstream,
    pub(crate) content: Content,
    /// What caches are asked for.
    pub(crate) path: String,
    /// What a server of files is asked for.
    pub(crate) file: String,
    pub(crate) tls: Option<&'a Tls>,
    pinned: Vec<Pinned>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        setting: &'a Setting,
        upstream: &'a Upstream,
        tls: Option<&'a Tls>,
        content: Content,
        path: String,
    ) -> Self {
        let file = format!("/{}", content.digest.encoded());
        Self { setting, upstream, content, path, file, tls, pinned: Vec::new() }
    }

    /// A wharf that has it; `more` is a part of its configuration.
    pub(crate) fn wharf(&mut self, more: &str) -> Result<Wharf> {
        let tls = self.tls.map_or_else(String::new, |Tls { certificate, key, .. }| {
            format!(
                "[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n",
                certificate.display(),
                key.display()
            )
        });
        let wharf = self.setting.wharf(self.upstream, &format!("{tls}{more}"))?;
        let server = (wharf.addr, wharf.process);
        self.target(server, &self.path, self.tls).check(&self.setting.client)?;
        wharf.settle(&self.setting.client)?;
        self.pin(&wharf.kept(&self.content.digest))?;
        Ok(wharf)
    }

    /// docker-registry that has it, if it is installed; in plain HTTP.
    pub(crate) fn registry(&mut self) -> Result<Option<Registry>> {
        let Setting { options, client, .. } = self.setting;
        let cpus = options.wharf_cpus.as_deref();
        let Some(registry) = Registry::start(self.upstream.addr, &options.dir, cpus)? else {
            return Ok(None);
        };
        let server = (registry.0.addr, registry.0.process);
        self.target(server, &self.path, None).check(client)?;
        registry.settle(&self.content.digest)?;
        self.pin(&registry.kept(&self.content.digest))?;
        Ok(Some(registry))
    }

    /// nginx with a cache of its own that has it, if it is installed; in plain HTTP.
    pub(crate) fn nginx_cache(&mut self) -> Result<Option<Running>> {
        let nginx = self.nginx(&Nginx::cache(self.upstream.addr))?;
        if let Some(nginx) = &nginx {
            let server = (nginx.addr, nginx.process);
            self.target(server, &self.path, None).check(&self.setting.client)?;
            let kept = only_file(&nginx.dir().join("kept"))?.ok_or("nginx kept nothing")?;
            self.pin(&kept)?;
        }
        Ok(nginx)
    }

    /// nginx as it is described, if it is installed.
    pub(crate) fn nginx(&self, nginx: &Nginx<'_>) -> Result<Option<Running>> {
        let options = &self.setting.options;
        nginx.start(&options.dir, options.wharf_cpus.as_deref())
    }

    pub(crate) fn on_wharf<'b>(
        &'b self,
        name: &'static str,
        wharf: &Wharf,
        work: Work,
    ) -> Server<'b> {
        let target = self.target((wharf.addr, wharf.process), &self.path, self.tls);
        Server { name, target, work }
    }

    /// A cache of somebody else.
    pub(crate) fn on_cache<'b>(
        &'b self,
        name: &'static str,
        of: &Running,
        work: Work,
    ) -> Server<'b> {
        let target = self.target((of.addr, of.process), &self.path, None);
        Server { name, target, work }
    }

    /// nginx over the files that wharf keeps.
    pub(crate) fn on_files<'b>(
        &'b self,
        name: &'static str,
        of: &Running,
        work: Work,
    ) -> Server<'b> {
        Server { name, target: self.target((of.addr, of.process), &self.file, self.tls), work }
    }

    fn target<'b>(
        &'b self,
        (addr, process): (std::net::SocketAddr, Process),
        path: &'b str,
        tls: Option<&'b Tls>,
    ) -> Target<'b> {
        Target { addr, process, path, digest: &self.content.digest, tls }
    }

    fn pin(&mut self, file: &Path) -> Result<()> {
        let pinned = Pinned::new(file)?;
        if !pinned.holds() && self.pinned.iter().all(Pinned::holds) {
            print(
                "a kept file could not be locked into memory: raise RLIMIT_MEMLOCK, or run as root\n",
            );
        }
        self.pinned.push(pinned);
        Ok(())
    }
}

/// A file somewhere below `dir`.
fn only_file(dir: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() { only_file(&path)? } else { Some(path) };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
