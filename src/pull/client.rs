//! Who asks: from what a request shows of its client to the platforms that the client runs.

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    config::{ClientRule, Platforms},
    learned::{ClientKey, Learned},
};
use crate::{
    lately::Lately,
    oci::{ImageIndex, Platform, Rules},
};

/// What a request shows of the client that sent it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Where it comes from.
    pub address: IpAddr,
    /// Its `User-Agent`; empty if it sent none.
    pub user_agent: Arc<str>,
    /// The names in its certificate: common name and subject alternative names; empty without one.
    pub subjects: Vec<String>,
    /// Which of wharf's addresses it came to.
    pub listener: Option<SocketAddr>,
    /// By which host name it called wharf, without a port.
    pub host: Option<String>,
    /// The platform in the path's prefix.
    pub in_path: Option<Platform>,
    /// The platform in the header `Wharf-Platform`, which counts only where it is allowed.
    pub in_header: Option<Platform>,
    /// Whether it can read an image index.
    pub reads_index: bool,
}

/// Which platforms a client runs, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The most wanted first; at least one.
    pub platforms: Vec<Platform>,
    /// How this is known.
    pub signal: Signal,
    /// Whose rules it chooses by.
    pub rules: Rules,
    /// What it runs for certain; empty where that is not known well enough to call another platform wrong.
    pub(super) runs: Vec<Platform>,
}

/// What told a client's platform, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The prefix of the path: it was put into this one client's own configuration.
    Path,
    /// The header `Wharf-Platform`, likewise.
    Header,
    /// A rule of wharf's configuration.
    Rule,
    /// What it chose from lists before.
    Learned,
    /// Its User-Agent.
    UserAgent,
    /// Nothing: the site's default.
    Default,
}

impl Signal {
    /// How many there are.
    pub(super) const COUNT: usize = Self::Default as usize + 1;

    /// The word for logs, metrics and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Header => "header",
            Self::Path => "path",
            Self::Learned => "learned",
            Self::UserAgent => "user_agent",
            Self::Default => "default",
        }
    }
}

impl Asker {
    /// A client of which nothing is known but where it is.
    pub fn at(address: IpAddr) -> Self {
        Self {
            address,
            user_agent: "".into(),
            subjects: Vec::new(),
            listener: None,
            host: None,
            in_path: None,
            in_header: None,
            reads_index: true,
        }
    }
}

impl Resolution {
    /// The platform to fetch ahead for; `None` on nothing but a guess that nobody configured.
    pub(super) fn fetched_ahead(&self, has_default: bool) -> Option<&Platform> {
        let sign = self.signal != Signal::Default || has_default;
        self.platforms.first().filter(|_| sign)
    }

    /// What the client runs for certain, or else most likely.
    pub fn runs(&self) -> Option<&Platform> {
        self.runs.first().or_else(|| self.platforms.first())
    }

    /// Whether the client is known not to run what is built for `image`. By whose rules it chooses says nothing of its
    /// processor.
    pub(super) fn cannot_run(&self, image: &Platform) -> bool {
        let runs = |host: &Platform| {
            let host = at_most(host);
            host.runs(image, Rules::Containerd) || host.runs(image, Rules::ContainersImage)
        };
        !image.is_unknown() && !self.runs.is_empty() && !self.runs.iter().any(runs)
    }
}

/// Who is which: the configuration's rules, and what was learned.
#[derive(Debug)]
pub(super) struct Clients {
    config: Platforms,
    learned: Learned,
    /// Of which edition of what was learned.
    lately: Lately<Seen, (u64, Arc<Resolution>)>,
}

/// Clients of which it is remembered what they were found to run.
const SEEN: usize = 256;

/// Bytes of a User-Agent that is remembered so: Docker's have some 200.
const SEEN_NAME_MAX: usize = 512;

/// All that most requests show of their client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    address: IpAddr,
    user_agent: Arc<str>,
    listener: Option<SocketAddr>,
}

impl Seen {
    /// `None` where more is shown, or too much.
    fn of(asker: &Asker) -> Option<Self> {
        let Asker { subjects, host, in_path, in_header, .. } = asker;
        let is_all = subjects.is_empty()
            && host.is_none()
            && in_path.is_none()
            && in_header.is_none()
            && asker.user_agent.len() <= SEEN_NAME_MAX;
        is_all.then(|| Self {
            address: asker.address,
            user_agent: Arc::clone(&asker.user_agent),
            listener: asker.listener,
        })
    }
}

impl Clients {
    pub(super) fn new(config: Platforms) -> Self {
        Self { config, learned: Learned::default(), lately: Lately::new(SEEN) }
    }

    /// Whether a rule asks by which host name a client calls wharf.
    pub(super) fn heed_hosts(&self) -> bool {
        self.config.clients.iter().any(|rule| rule.host.is_some())
    }

    pub(super) const fn learned(&self) -> &Learned {
        &self.learned
    }

    /// The platform of clients that give no sign, if the operator chose one: in so many words, or by keeping one only.
    pub(super) fn default(&self) -> Option<&Platform> {
        let only = || Some(&self.config.keep).filter(|keep| keep.len() == 1)?.first();
        self.config.default.as_ref().or_else(only)
    }

    /// The platform of clients that give no sign.
    pub(super) fn site(&self) -> &Platform {
        self.default().unwrap_or(&self.config.host)
    }

    /// What the client runs, and how that is known.
    pub(super) fn resolve(&self, asker: &Asker) -> Arc<Resolution> {
        let Some(seen) = Seen::of(asker) else { return Arc::new(self.found_out(asker)) };
        // Before the look: what is learned meanwhile makes it one of an older edition.
        let edition = self.learned.edition();
        match self.lately.get(&seen) {
            Some((of, known)) if of == edition => known,
            _ => {
                let found = Arc::new(self.found_out(asker));
                self.lately.put(seen, (edition, Arc::clone(&found)));
                found
            }
        }
    }

    fn found_out(&self, asker: &Asker) -> Resolution {
        let rules = rules(&asker.user_agent);
        let told = |platforms: Vec<Platform>, signal| {
            let runs = platforms.clone();
            Resolution { platforms, signal, rules, runs }
        };
        if let Some(platform) = &asker.in_path {
            return told(vec![platform.clone()], Signal::Path);
        }
        let may_announce = |_: &&Platform| self.may_announce(asker.address);
        if let Some(platform) = asker.in_header.as_ref().filter(may_announce) {
            return told(vec![platform.clone()], Signal::Header);
        }
        if let Some(rule) = self.config.clients.iter().find(|rule| fits(rule, asker)) {
            return told(rule.platforms.clone(), Signal::Rule);
        }
        let agent = Agent::read(&asker.user_agent);
        let learned = self.learned.of(&ClientKey::of(asker));
        let Some(agent) = agent else {
            return match learned {
                Some(platforms) => {
                    // What it never took from a list says nothing of what it cannot run, but it is known to run these.
                    Resolution { platforms, signal: Signal::Learned, rules, runs: Vec::new() }
                }
                None => {
                    let platform = self.site().clone();
                    let (platforms, runs) = (vec![platform], Vec::new());
                    Resolution { platforms, signal: Signal::Default, rules, runs }
                }
            };
        };
        let (mut own, mut others): (Vec<_>, Vec<_>) =
            learned.unwrap_or_default().into_iter().partition(|learned| agent.is(learned));
        let said = self.refined(&agent);
        let signal = match own.is_empty() && others.is_empty() {
            true => Signal::UserAgent,
            false => Signal::Learned,
        };
        let runs = match own.is_empty() {
            true => vec![agent.most()],
            false => own.clone(),
        };
        if own.is_empty() {
            // Chosen against its own architecture, and nothing else: `--platform` in every command of that host.
            others.push(said);
        }
        own.append(&mut others);
        Resolution { platforms: own, signal, rules, runs }
    }

    /// Whether `Wharf-Platform` counts when this client sends it.
    pub(super) fn may_announce(&self, client: IpAddr) -> bool {
        let address = client.to_canonical();
        self.config.header_from.iter().any(|net| net.contains(&address))
    }

    /// Whether anything can be learned from what a client of which so much is `known` took.
    pub(super) fn learns_from(&self, known: &Resolution, chosen: &Platform) -> bool {
        let configured = matches!(known.signal, Signal::Path | Signal::Header | Signal::Rule);
        !configured && chosen.plain().is_known()
    }

    /// The client took the entry for `chosen` from `index`. What it runs may be more than that: a host of arm/v7 takes
    /// arm/v6 where there is nothing better.
    pub(super) fn chose(
        &self,
        asker: &Asker,
        known: &Resolution,
        index: Option<&ImageIndex>,
        chosen: &Platform,
        now: u64,
    ) {
        if !self.learns_from(known, chosen) {
            return;
        }
        let chosen = &chosen.plain();
        let would_take = |platform: &&Platform| {
            let taken = index.and_then(|index| index.select(platform, known.rules));
            taken
                .and_then(|taken| taken.platform.as_ref())
                .is_some_and(|taken| taken.plain() == *chosen)
        };
        let guess = known.signal == Signal::Default;
        let confirmed = known.platforms.iter().filter(|_| !guess).find(would_take);
        self.learned.learn(ClientKey::of(asker), confirmed.unwrap_or(chosen), now);
    }

    /// What a User-Agent's words mean here. Of an ARM variant they say nothing: the configuration may, if it knows one
    /// only, else the kernel's name hints at it.
    fn refined(&self, agent: &Agent) -> Platform {
        let mut configured: Vec<&Platform> =
            self.config.default.iter().filter(|default| agent.is(default)).collect();
        if configured.is_empty() {
            configured = self.config.keep.iter().filter(|kept| agent.is(kept)).collect();
        }
        match configured.as_slice() {
            [only] => (*only).clone(),
            _ => agent.hint().unwrap_or_else(|| agent.platform.clone()),
        }
    }
}

/// What a User-Agent says of its host (Docker Engine, balenaEngine, CRI-O: `os/linux arch/arm64`).
struct Agent {
    /// Without a variant where there may be one: `arm` reads as arm/v7.
    platform: Platform,
    /// The release of its kernel, with the flavours of Raspberry Pi OS: `6.6.31+rpt-rpi-v8`.
    kernel: Option<String>,
}

impl Agent {
    fn read(user_agent: &str) -> Option<Self> {
        let word = |key: &str| user_agent.split(' ').find_map(|word| word.strip_prefix(key));
        let platform = Platform::new(word("os/")?, word("arch/")?, None);
        let kernel = word("kernel/").map(str::to_owned);
        platform.is_known().then_some(Self { platform, kernel })
    }

    /// Whether `platform` is one of this host's, whatever the variant.
    fn is(&self, platform: &Platform) -> bool {
        self.platform.os() == platform.os()
            && self.platform.architecture() == platform.architecture()
    }

    fn is_arm(&self) -> bool {
        self.platform.architecture() == "arm"
    }

    /// The variant that a 32-bit ARM kernel's flavour hints at.
    fn hint(&self) -> Option<Platform> {
        let kernel = self.kernel.as_ref().filter(|_| self.is_arm())?;
        let variant = kernel.split(['-', '+']).rev().find_map(|part| match part {
            "v6" => Some("v6"),
            "v7" | "v7l" => Some("v7"),
            // A 32-bit userland on a 64-bit kernel.
            "v8" => Some("v8"),
            _ => None,
        })?;
        Some(Platform::new(self.platform.os(), "arm", Some(variant)))
    }

    /// The most that this host may run: nothing that it might is called wrong.
    fn most(&self) -> Platform {
        match self.is_arm() {
            true => Platform::new(self.platform.os(), "arm", Some("v8")),
            false => self.platform.clone(),
        }
    }
}

/// A host whose processor may be of a later level than is said: nothing that it might run is called wrong.
fn at_most(host: &Platform) -> Platform {
    let latest = match (host.architecture(), host.variant()) {
        ("amd64", None) => "v4",
        ("arm64", None) => "v9.9",
        _ => return host.clone(),
    };
    Platform::new(host.os(), host.architecture(), Some(latest))
        .with_os_version(host.os_version().unwrap_or_default())
        .with_os_features(host.os_features())
}

fn fits(rule: &ClientRule, asker: &Asker) -> bool {
    let address = asker.address.to_canonical();
    let ClientRule { net, subject, listener, host, platforms: _ } = rule;
    net.is_none_or(|net| net.contains(&address))
        && subject.as_ref().is_none_or(|subject| asker.subjects.contains(subject))
        && listener.is_none_or(|listener| asker.listener == Some(listener))
        && host.as_ref().is_none_or(|host| asker.host.as_ref() == Some(host))
}

/// Whose rules a client chooses by. Those that say nothing of it choose as containerd does.
fn rules(user_agent: &str) -> Rules {
    let names = ["containers/", "skopeo/", "libpod/", "podman/", "buildah/", "cri-o/"];
    let product = user_agent.split(' ').next().unwrap_or_default().as_bytes();
    let begins = |name: &str| {
        product.get(..name.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(name.as_bytes()))
    };
    match names.into_iter().any(begins) {
        true => Rules::ContainersImage,
        false => Rules::Containerd,
    }
}
