//! Whom a registry's account is for: which endpoints, and which token services.
//!
//! A registry may be asked at somebody else's address, a mirror first and itself after it. What a mirror says must
//! not earn it the account, nor a token that was bought with it.

use std::{fmt, str::FromStr};

use url::Url;

use super::Config;
use crate::oci::{NameError, RegistryName};

/// A host, with its port if no other one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As addresses write it: in lower case, an IPv6 address in brackets.
    name: String,
    port: Option<u16>,
}

/// Whom one registry trusts, by configuration.
pub(super) struct Kin {
    /// The registry's own host.
    registry: String,
    realms: Vec<Host>,
    account_for: Vec<Host>,
    /// Whether there is one endpoint, so that nobody else can be meant.
    is_alone: bool,
}

impl Config {
    /// The endpoints that get neither the account nor a token that was bought with it.
    pub fn endpoints_without_account(&self) -> impl Iterator<Item = &Url> {
        let kin = Kin::of(self);
        self.endpoints.iter().filter(move |endpoint| !kin.may_have_account(endpoint))
    }
}

impl Kin {
    pub(super) fn of(config: &Config) -> Self {
        let registry = config.registry.as_str();
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        Self {
            registry: host.to_owned(),
            realms: config.realms.clone(),
            account_for: config.account_for.clone(),
            is_alone: config.endpoints.len() == 1,
        }
    }

    /// Whether the account is for `endpoint`: it is the only one, on the registry's host or a host under it, or on a host
    /// that the operator named.
    pub(super) fn may_have_account(&self, endpoint: &Url) -> bool {
        self.is_alone || self.owns(endpoint) || names(&self.account_for, endpoint)
    }

    /// Whether the token service at `realm` belongs to the registry: it is on the endpoint's host, on the
    /// registry's host or a host under it, or on a host that the operator named.
    pub(super) fn includes(&self, realm: &Url, endpoint: &Url) -> bool {
        realm.host_str().is_some_and(|host| endpoint.host_str() == Some(host))
            || self.owns(realm)
            || names(&self.realms, realm)
    }

    fn owns(&self, url: &Url) -> bool {
        let registry = &self.registry;
        url.host_str()
            .and_then(|host| host.strip_suffix(registry.as_str()))
            .is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    }
}

/// Whether `url` is on one of `hosts`.
pub(super) fn names(hosts: &[Host], url: &Url) -> bool {
    hosts.iter().any(|host| host.is_of(url))
}

impl Host {
    /// Whether `url` is on this host, and on this port if there is one.
    pub fn is_of(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.name)
            && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            Some(port) if is_number(port) => Some(port.parse().map_err(|_| NameError::Registry)?),
            Some(_) => return Err(NameError::Registry),
            None => None,
        };
        // The one form of a host that no registry's name has.
        if !name.starts_with('[') {
            name.parse::<RegistryName>()?;
        }
        let name = url::Host::parse(name).map_err(|_| NameError::Registry)?.to_string();
        Ok(Self { name, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Patience;
    use std::time::Duration;

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    fn hosts(texts: &[&str]) -> Vec<Host> {
        texts.iter().map(|text| text.parse().expect("a host")).collect()
    }

    fn config(registry: &str, endpoints: &[&str]) -> Config {
        let wait = Duration::from_secs(1);
        Config {
            registry: registry.parse().expect("a registry"),
            rules: crate::upstream::RepositoryRules::default(),
            public: false,
            endpoints: endpoints.iter().map(|text| url(text)).collect(),
            accounts: Vec::new(),
            clients: None,
            account_for: Vec::new(),
            ca_pem: Vec::new(),
            realms: Vec::new(),
            internal: None,
            patience: Patience {
                connect: wait,
                first_byte: wait,
                idle: wait,
                least_rate: None,
                attempts: 1,
            },
        }
    }

    #[test]
    fn reads_hosts_and_ports_and_nothing_else() {
        for (text, shown) in [
            ("Auth.example", "auth.example"),
            ("auth.example:8443", "auth.example:8443"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:5000", "10.0.0.1:5000"),
            ("[FD00:0::1]", "[fd00::1]"),
            ("[fd00::1]:5000", "[fd00::1]:5000"),
        ] {
            let host: Host = text.parse().expect(text);
            assert_eq!(host.to_string(), shown);
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        for bad in [
            "",
            ":",
            "auth.example:",
            "auth.example:+80",
            "auth.example:99999",
            "a b",
            "::1",
            "[::1",
            "[auth.example]",
            "https://auth.example",
            "me@auth.example",
            "auth.example/x",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_named_is_the_only_one() {
        let with = |text: &str| hosts(&[text]);
        assert!(names(&with("auth.example"), &url("https://auth.example:8443/token")));
        assert!(names(&with("auth.example:8443"), &url("https://auth.example:8443/token")));
        assert!(names(&with("auth.example:443"), &url("https://auth.example/token")));
        assert!(!names(&with("auth.example:8443"), &url("https://auth.example/token")));
        assert!(!names(&with("auth.example:443"), &url("http://auth.example/token")));
        assert!(names(&with("[fd00::1]:5000"), &url("http://[fd00::1]:5000")));
    }

    #[test]
    fn credentials_go_to_the_registrys_own_token_service_only() {
        let hub = Kin::of(&Config {
            realms: hosts(&["Auth.Example", "login.example:8443"]),
            ..config("docker.io", &[])
        });
        let endpoint = url("https://registry-1.docker.io");
        for own in [
            "https://auth.docker.io/token",
            "https://registry-1.docker.io/token",
            "https://docker.io/token",
            "https://auth.example/token",
            "https://login.example:8443/token",
        ] {
            assert!(hub.includes(&url(own), &endpoint), "{own}");
        }
        for foreign in [
            "https://auth.docker.io.evil.example/token",
            "https://evildocker.io/token",
            "https://evil.example/auth.docker.io",
            "https://docker.io@evil.example/token",
            "https://sub.auth.example/token",
            "https://login.example/token",
            "https://io/token",
        ] {
            assert!(!hub.includes(&url(foreign), &endpoint), "{foreign}");
        }
        let local = Kin::of(&config("registry.lan:5000", &[]));
        let endpoint = url("http://10.0.0.1:5000");
        assert!(local.includes(&url("https://auth.registry.lan/"), &endpoint));
        assert!(local.includes(&url("http://10.0.0.1:6000/"), &endpoint));
        assert!(!local.includes(&url("http://10.0.0.2:5000/"), &endpoint));
    }

    #[test]
    fn the_account_is_for_the_registry_itself_or_whom_the_operator_names() {
        let mirrored = config(
            "docker.io",
            &[
                "http://mirror.lan:5000",
                "http://mirror.lan:6000",
                "https://docker.io.mirror.example",
                "https://registry-1.docker.io",
                "https://docker.io",
            ],
        );
        let without = |config: &Config| {
            config.endpoints_without_account().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            without(&mirrored),
            [
                "http://mirror.lan:5000/",
                "http://mirror.lan:6000/",
                "https://docker.io.mirror.example/"
            ]
        );
        let named = Config { account_for: hosts(&["mirror.lan:5000"]), ..mirrored.clone() };
        assert_eq!(
            without(&named),
            ["http://mirror.lan:6000/", "https://docker.io.mirror.example/"]
        );
        let named = Config { account_for: hosts(&["Mirror.LAN"]), ..mirrored };
        assert_eq!(without(&named), ["https://docker.io.mirror.example/"]);
        // A registry that is asked under another name only.
        assert_eq!(without(&config("docker.io", &["http://mirror.lan:5000"])), [""; 0]);
    }
}
