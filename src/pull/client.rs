//! Who asks: from what a request shows of its client to the platforms that the client runs.

use std::net::{IpAddr, SocketAddr};

use crate::oci::{Platform, Rules};

/// What a request shows of the client that sent it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Where it comes from.
    pub address: IpAddr,
    /// Its `User-Agent`; empty if it sent none.
    pub user_agent: String,
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
}

/// What told a client's platform, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// A rule of the configuration.
    Rule,
    /// The header `Wharf-Platform`.
    Header,
    /// The prefix of the path.
    Path,
    /// What it chose from lists before.
    Learned,
    /// Its User-Agent.
    UserAgent,
    /// Nothing: the site's default.
    Default,
}

impl Signal {
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
            user_agent: String::new(),
            subjects: Vec::new(),
            listener: None,
            host: None,
            in_path: None,
            in_header: None,
            reads_index: true,
        }
    }
}
