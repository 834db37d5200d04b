//! What the policy is told: how fresh is fresh, which platforms, and what is fetched before it is asked for.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use crate::{
    bundle::PublicKey,
    oci::{DESCRIPTORS_MAX, Platform, Repository, Tag, TagPattern},
};

/// How fresh is fresh, how much at once, and for whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// For how long a tag is answered without asking the registry; zero asks every time.
    pub tag_ttl: Duration,
    /// For how long an unknown name is remembered as unknown.
    pub unknown_ttl: Duration,
    /// Whether a kept tag is served when no upstream gives a good answer.
    pub serve_stale: bool,
    /// For how long a client waits for a tag to be confirmed while a kept copy could be served.
    pub revalidate_timeout: Duration,
    /// Blob downloads that run at once; more wait for their turn.
    pub max_downloads: usize,
    /// Connections to its registry over which one large blob is fetched, where more than one is faster; at least 1.
    pub connections_per_blob: usize,
    /// In what time all kept blobs are read once, to find those that have rotted; `None`: they are not.
    pub scrub: Option<Duration>,
    /// How much may be open, and remembered.
    pub limits: Limits,
    /// Which platforms the site runs, and which client is which.
    pub platforms: Platforms,
    /// What is fetched before anybody asks for it.
    pub prefetch: Prefetch,
    /// Indexes that wharf makes of images of one platform each.
    pub compose: Vec<Composed>,
    /// What comes by hand.
    pub airgap: Airgap,
}

/// `[airgap]`.
#[derive(Clone, Debug)]
pub struct Airgap {
    /// Keys of which one must have signed every archive that is taken in; empty: none need be signed.
    pub trusted: Vec<PublicKey>,
    /// Where archives that appear are taken in.
    pub watch: Option<PathBuf>,
    /// For how long volumes of a bundle wait for the others, from when the last came.
    pub volumes_kept: Duration,
}

impl Default for Airgap {
    fn default() -> Self {
        let volumes_kept = Duration::from_secs(30 * 24 * 60 * 60);
        Self { trusted: Vec::new(), watch: None, volumes_kept }
    }
}

/// `[limits]`, as far as they are of what clients ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Names in one page of a list, at most ([CVE-2023-2253](https://nvd.nist.gov/vuln/detail/CVE-2023-2253): `n` is the
    /// client's to choose).
    pub list_entries: u32,
    /// Names that are remembered as unknown; the least used are forgotten first.
    pub unknown_names: u64,
    /// Different questions of one kind that may be open at once; more are refused.
    pub questions: usize,
    /// Of these, how many are asked of one registry at once, each on a connection; the others wait.
    pub questions_per_registry: usize,
    /// Downloads that wait for their turn, besides those that run; more are refused.
    pub waiting_downloads: usize,
    /// Clients that wait for downloads, or follow them; more are refused.
    pub waiting_readers: usize,
    /// What one manifest or index of a registry may list; longer ones are refused.
    pub manifest_entries: usize,
    /// What registries said of clients with accounts of their own is remembered of so many of these and repositories; the
    /// least used is forgotten first.
    pub verdicts: u64,
}

/// `[platforms]`.
#[derive(Clone, Debug)]
pub struct Platforms {
    /// What wharf itself runs on.
    pub host: Platform,
    /// The platforms whose images are kept; empty: whatever clients ask for.
    pub keep: Vec<Platform>,
    /// Of clients that give no sign; `None`: the platform that wharf runs on.
    pub default: Option<Platform>,
    /// What happens to platforms outside `keep`.
    pub others: Others,
    /// What a request for a tag is answered with.
    pub answer: AnswerWith,
    /// Clients that may say by the header `Wharf-Platform` what they are; none by default.
    pub header_from: Vec<IpNet>,
    /// Which clients are what; the first rule that fits counts.
    pub clients: Vec<ClientRule>,
}

/// What happens to an image of a platform outside `keep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// It is kept all the same.
    Keep,
    /// It is passed on, and not kept.
    #[default]
    Relay,
    /// It is refused.
    Refuse,
}

/// What a request for a tag is answered with when the tag means an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerWith {
    /// The index, to clients that can read one.
    #[default]
    Index,
    /// The manifest for the client's platform, to all.
    Manifest,
}

/// `[[platforms.client]]`: everything that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRule {
    /// The client's address lies in this network.
    pub net: Option<IpNet>,
    /// Its certificate has this common name or subject alternative name.
    pub subject: Option<String>,
    /// It came to this one of wharf's addresses.
    pub listener: Option<SocketAddr>,
    /// It called wharf by this host name, without a port; in lower case.
    pub host: Option<String>,
    /// What it runs, the most wanted first; at least one.
    pub platforms: Vec<Platform>,
}

/// `[prefetch]`.
#[derive(Clone, Debug)]
pub struct Prefetch {
    /// Whether a pull of a list or manifest fetches all that the client's platform needs of it.
    pub on_pull: bool,
    /// Prefetched blobs that are downloaded at once.
    pub concurrency: usize,
    /// Most bytes per second of prefetched blobs that no client waits for; `None`: as fast as they come.
    pub rate: Option<u64>,
    /// Whether a kept tag that a `HEAD` finds moved is brought up to date.
    pub follow: bool,
    /// With fewer pulls than this left at a registry, nothing is prefetched that costs one.
    pub quota_floor: u64,
    /// How long after it failed something is fetched again; after each further failure twice as long.
    pub retry_after: Duration,
    /// Images that are kept up to date whether anybody asks or not.
    pub images: Vec<WarmImage>,
}

/// `[[prefetch.image]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmImage {
    /// Of this repository.
    pub repository: Repository,
    /// The tag, or tags.
    pub tags: WarmTags,
    /// For these platforms; empty: those in `keep`, else the site's default.
    pub platforms: Vec<Platform>,
    /// How often the registry is asked.
    pub every: Duration,
    /// When in the day it may be asked and downloaded; `None`: at any time.
    pub window: Option<Window>,
}

/// Which tags of an image are kept up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarmTags {
    /// This one.
    One(Tag),
    /// So many of those that match, the newest by their names.
    Newest(usize, TagPattern),
}

/// A part of each day, in the machine's local time; one whose end comes before its begin goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first minute of the day, 0 to 1439.
    pub from: u16,
    /// The minute behind the last, 0 to 1439; not equal to `from`.
    pub to: u16,
}

/// `[[compose]]`: one image made of images of one platform each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// What clients call it.
    pub repository: Repository,
    /// The one tag that it has; `None`: whatever tag is asked for, each part under the same one.
    pub tag: Option<Tag>,
    /// Where the image of each platform is; at least one.
    pub parts: BTreeMap<Platform, Part>,
}

/// Where the image of one platform is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its repository.
    pub repository: Repository,
    /// Its tag; `None`: the tag that the composed image was asked for by.
    pub tag: Option<Tag>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            list_entries: 1000,
            unknown_names: 10_000,
            questions: 4096,
            questions_per_registry: 64,
            waiting_downloads: 960,
            waiting_readers: 4096,
            manifest_entries: DESCRIPTORS_MAX,
            verdicts: 10_000,
        }
    }
}

impl fmt::Display for WarmTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(tag) => tag.fmt(f),
            Self::Newest(_, pattern) => pattern.fmt(f),
        }
    }
}

impl Default for Platforms {
    fn default() -> Self {
        Self {
            host: Platform::host(),
            keep: Vec::new(),
            default: None,
            others: Others::default(),
            answer: AnswerWith::default(),
            header_from: Vec::new(),
            clients: Vec::new(),
        }
    }
}

impl Default for Prefetch {
    fn default() -> Self {
        Self {
            on_pull: true,
            concurrency: 3,
            rate: None,
            follow: false,
            quota_floor: 10,
            retry_after: Duration::from_secs(30),
            images: Vec::new(),
        }
    }
}

impl Window {
    /// Whether `minute` of the day lies in it.
    pub const fn contains(self, minute: u16) -> bool {
        if self.from <= self.to {
            self.from <= minute && minute < self.to
        } else {
            self.from <= minute || minute < self.to
        }
    }
}
