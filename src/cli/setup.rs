//! `wharf setup`: the files that point a client here.

mod clients;
mod docker;

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use super::{ConfigFile, Failure, complain, healthcheck::reachable, load, say, serve::lan_address};
use crate::{
    config::{Config, DoorFiles, Overrides},
    oci::{Platform, RegistryName},
};

const EXAMPLES: &str = "\
Examples:
  wharf setup docker                              what goes into /etc/docker/daemon.json, and how to have it read
  wharf setup docker 2>/dev/null | ssh pi 'sudo tee /etc/docker/daemon.json'
  wharf setup containerd --address wharf.lan:5000 for every registry that wharf serves
  wharf setup podman --registry docker.io         for one of them
  wharf setup k3s --platform linux/arm/v7         for a device that wharf is to take for that platform
  wharf setup containerd --write-to /mnt/card     write the files on the card of a device

On standard output is what belongs into files, whose paths stand in comments where their syntax has comments; on
standard error, how to have them read, and what differs between versions.

Exit codes: 0 done, 1 a file could not be written, 2 wrong usage or configuration.";

/// Print the files that point a client here
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Setup {
    #[command(flatten)]
    config: ConfigFile,
    /// What pulls
    client: Client,
    /// How the client reaches wharf [default: this machine's address in the network of its default route, and the port that
    /// wharf listens on]
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Option<RegistryName>,
    /// Have wharf take the client for this platform, such as linux/arm/v7
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Only this one of the registries that wharf serves; may be repeated
    #[arg(long, value_name = "REGISTRY")]
    registry: Vec<RegistryName>,
    /// For docker: the hosts.toml files, which Engine 28 and later reads for any registry with containerd's image store
    #[arg(long)]
    hosts: bool,
    /// Write the files below this directory, "/" for the client's own, instead of printing them; none is overwritten
    #[arg(long, value_name = "DIR")]
    write_to: Option<PathBuf>,
}

/// What pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Docker Engine, balenaEngine
    Docker,
    Containerd,
    /// k3s and RKE2
    K3s,
    /// podman, buildah and skopeo
    Podman,
    Buildkit,
    Crio,
}

/// How a client is to reach wharf, and for what.
#[derive(Clone, Debug)]
struct Target {
    /// Host and port.
    address: String,
    tls: Option<Mutual>,
    /// Whether nobody is served there who has not signed in with name and password.
    signs_in: bool,
    platform: Option<Platform>,
    registries: Vec<RegistryName>,
}

/// Whether clients have certificates of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutual {
    Never,
    Maybe,
    Always,
}

/// What makes a client pull from here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Guide {
    files: Vec<File>,
    /// What to do with them, and what to know; one sentence or two each.
    steps: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct File {
    /// Absolute, on the client.
    path: String,
    text: String,
    has_comments: bool,
}

impl Setup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = load(&self.config.sources(Overrides::default()))?;
        if self.hosts && self.client != Client::Docker {
            return Err(Failure::Usage(
                "--hosts is about docker: leave it out, the other clients have one form".to_owned(),
            ));
        }
        let guide = match self.client {
            _ if self.hosts => docker::hosts,
            Client::Docker => docker::daemon,
            Client::Containerd => clients::containerd,
            Client::K3s => clients::k3s,
            Client::Podman => clients::podman,
            Client::Buildkit => clients::buildkit,
            Client::Crio => clients::crio,
        };
        let target = self.target(&loaded.config)?;
        let mut guide = guide(&target);
        guide.steps.extend(target.sign_in(self.client));
        match &self.write_to {
            Some(dir) => {
                for file in &guide.files {
                    let path = dir.join(file.path.trim_start_matches('/'));
                    file.write(&path).map_err(|error| cannot_write(&path, &error))?;
                    say(&path.display().to_string());
                }
            }
            None => {
                let texts: Vec<_> = guide.files.iter().map(File::commented).collect();
                say(texts.join("\n").trim_end());
            }
        }
        for (number, step) in (1..).zip(guide.steps(self.write_to.is_some())) {
            complain(&format!("{number}. {step}"));
        }
        Ok(())
    }

    fn target(&self, config: &Config) -> Result<Target, Failure> {
        let served: Vec<_> = config.upstreams.iter().map(|upstream| &upstream.registry).collect();
        if let Some(other) = self.registry.iter().find(|registry| !served.contains(registry)) {
            let served: Vec<_> = served.iter().map(|registry| registry.as_str()).collect();
            return Err(Failure::Usage(format!(
                "{other} is not among the registries that wharf serves ({}): write an [[upstream]] with registry = \
                 \"{other}\" into its configuration, or give that file by --config",
                served.join(", ")
            )));
        }
        let is_wanted =
            |registry: &&RegistryName| self.registry.is_empty() || self.registry.contains(registry);
        let (listens, signs_in, files) = self.way_in(config)?;
        let tls = files.tls.as_ref().map(|files| match files.client_ca {
            None => Mutual::Never,
            Some(_) if files.need_certificates() => Mutual::Always,
            Some(_) => Mutual::Maybe,
        });
        Ok(Target {
            address: self.address(listens),
            tls,
            signs_in,
            platform: self.platform.clone(),
            registries: served.into_iter().filter(is_wanted).cloned().collect(),
        })
    }

    /// By which of wharf's addresses the client comes, whether it has to sign in there, and the files that say what is
    /// asked: the one whose port was given, else one that other machines reach, and that serves this kind of client.
    fn way_in<'a>(&self, config: &'a Config) -> Result<(SocketAddr, bool, &'a DoorFiles), Failure> {
        let port = self.address.as_ref().and_then(|given| port_of(given.as_str()));
        let ways = || {
            config.doors().flat_map(|(addresses, door, files)| {
                addresses.iter().map(move |address| (*address, door.sign_in, files))
            })
        };
        // Another port is that of something in front of wharf.
        let by_port = ways().filter(|(address, ..)| Some(address.port()) == port);
        let by_port: Vec<_> = by_port.collect();
        let ways = if by_port.is_empty() { ways().collect() } else { by_port };
        let is_mirror = self.client == Client::Docker;
        let best = ways.into_iter().min_by_key(|(address, signs_in, _)| {
            (is_mirror && *signs_in, address.ip().to_canonical().is_loopback())
        });
        // At least one, by the configuration's own promise.
        let (address, signs_in, files) = best.expect("an address to listen on");
        if is_mirror && signs_in {
            return Err(Failure::Usage(format!(
                "{address} asks clients to sign in (sign_in), and Docker Engine does not sign in to its mirrors, or sends them \
                 its password for Docker Hub: write a [[listener]] without sign_in into wharf's configuration, or name \
                 images by wharf's own name, after docker login {}",
                self.address(address)
            )));
        }
        Ok((address, signs_in, files))
    }

    /// What the client calls wharf, which listens on `listens`.
    fn address(&self, listens: SocketAddr) -> String {
        let Some(given) = &self.address else {
            return reachable(listens, lan_address()).to_string();
        };
        let given = given.as_str();
        match port_of(given) {
            Some(_) => given.to_owned(),
            None => format!("{given}:{}", listens.port()),
        }
    }
}

/// The port of `HOST:PORT`, if there is one.
fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

impl Target {
    const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The path that names the platform: empty, or `/platform/linux-arm-v7`.
    fn path(&self) -> String {
        let platform = self.platform.as_ref();
        let dashed = |platform: &Platform| platform.to_string().replace('/', "-");
        platform.map_or_else(String::new, |platform| format!("/platform/{}", dashed(platform)))
    }

    fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.address, self.path())
    }

    /// What to put into `dir`, on the client, for TLS; nothing for plain HTTP.
    fn certificates(&self, dir: &str) -> Option<String> {
        let ca = format!(
            "Put the certificate of the authority that signed wharf's into {dir}/ca.crt, unless the client's system \
             trusts it already: then leave out what names it"
        );
        let own = format!(
            "the client's own certificate into {dir}/client.cert and its key into {dir}/client.key"
        );
        Some(match self.tls? {
            Mutual::Never => format!("{ca}."),
            Mutual::Maybe => {
                format!("{ca}. Put {own}, or leave out what names them: wharf asks for none.")
            }
            Mutual::Always => format!("{ca}. Put {own}: wharf serves nobody without."),
        })
    }

    /// How `client` comes to sign in, where wharf asks for that.
    fn sign_in(&self, client: Client) -> Option<String> {
        let Self { address, .. } = self;
        let url = self.url();
        let how = match client {
            _ if !self.signs_in => return None,
            // Never sent here, see `way_in`.
            Client::Docker => return None,
            Client::Containerd => format!(
                "add to each file a table [host.\"{url}\".header] with authorization = \"Basic …\", where … is the base64 \
                 of NAME:PASSWORD, and let root alone read it (chmod 600)"
            ),
            Client::K3s => format!(
                "add auth: with username: and password: below \"{address}\": of configs:, and let root alone read the file \
                 (chmod 600)"
            ),
            Client::Podman => format!("podman login {address}"),
            Client::Buildkit => format!("docker login {address}, as the user who builds"),
            Client::Crio => format!(
                "podman login --authfile FILE {address}, where FILE is what global_auth_file of crio.conf names"
            ),
        };
        Some(format!(
            "wharf serves nobody there who has not signed in with name and password: {how}."
        ))
    }
}

impl Guide {
    /// The steps, the first about the files unless they are written.
    fn steps(&self, are_written: bool) -> impl Iterator<Item = String> {
        let paths: Vec<_> = self.files.iter().map(|file| &*file.path).collect();
        let first = match paths[..] {
            [path] => format!("Put this into {path}."),
            _ => "Put each of these into the file that its first line names.".to_owned(),
        };
        (!are_written).then_some(first).into_iter().chain(self.steps.clone())
    }
}

impl File {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), has_comments: true }
    }

    fn commented(&self) -> String {
        if self.has_comments {
            format!("# {}\n{}", self.path, self.text)
        } else {
            self.text.clone()
        }
    }

    fn write(&self, path: &std::path::Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::File::create_new(path)?.write_all(self.commented().as_bytes())
    }
}

fn cannot_write(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Failed(match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{} is there already: run this without --write-to, and add what it prints to that file",
            path.display()
        ),
        _ => format!("cannot write {}: {error}", path.display()),
    })
}

/// In double quotes, as TOML, YAML and JSON agree on for what stands here.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
