//! The way to a connection: name resolution, TCP and TLS within one deadline, and no way inward.
//!
//! Where a redirect or a token service lives is the registry's word. A registry outside must not make wharf
//! knock at addresses of the site (a router, a metadata service, the loopback): only hosts of the
//! configuration may have such addresses, unless the registry lives at one itself.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
};
use tower_service::Service;

use super::{Config, tls};

type Https = HttpsConnector<HttpConnector<Resolver>>;
type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Makes the connections of one registry's client.
#[derive(Clone)]
pub(super) struct Connector {
    https: Https,
    inside: Inside,
    limit: Duration,
}

/// Looks names up, and leaves out the addresses that lead inside without leave.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    inside: Inside,
}

/// Which hosts may have addresses of the inside. Clones share what they learn.
#[derive(Clone)]
struct Inside {
    endpoints: Arc<BTreeSet<String>>,
    realms: Arc<BTreeSet<String>>,
    /// Set once an endpoint turned out to have such an address: then its redirects may have, too.
    registry_is_inside: Arc<AtomicBool>,
}

impl Connector {
    /// A connector for the hosts that `config` leads to.
    ///
    /// # Errors
    /// What is wrong with the configured certificates.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let inside = Inside {
            endpoints: Arc::new(
                config.endpoints.iter().filter_map(|url| url.host_str()).map(bare).collect(),
            ),
            realms: Arc::new(config.realms.iter().map(|host| bare(host)).collect()),
            registry_is_inside: Arc::default(),
        };
        let limit = config.patience.connect;
        let resolver = Resolver { system: GaiResolver::new(), inside: inside.clone() };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limit));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        Ok(Self { https: tls::over(tcp, &config.ca_pem)?, inside, limit })
    }
}

impl Service<Uri> for Connector {
    type Response = <Https as Service<Uri>>::Response;
    type Error = <Https as Service<Uri>>::Error;
    type Future = Pending<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The resolver is never asked about an address.
        let host = bare(uri.host().unwrap_or_default());
        if let Ok(address) = host.parse() {
            if !self.inside.permits(&host, address) {
                return Box::pin(async { Err(leads_inside().into()) });
            }
        }
        let (connecting, limit) = (self.https.call(uri), self.limit);
        Box::pin(async move {
            tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
                let reason = format!("no connection within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
            })
        })
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pending<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = bare(name.as_str());
        let (looking_up, inside) = (self.system.call(name), self.inside.clone());
        Box::pin(async move {
            let mut addresses: Vec<_> = looking_up.await?.collect();
            let found = addresses.len();
            addresses.retain(|address| inside.permits(&host, address.ip()));
            if addresses.is_empty() && found > 0 {
                return Err(leads_inside());
            }
            Ok(addresses.into_iter())
        })
    }
}

impl Inside {
    /// Whether `host`, which has this address, may be dialled.
    fn permits(&self, host: &str, address: IpAddr) -> bool {
        if !is_inside(address) {
            return true;
        }
        if self.endpoints.contains(host) {
            self.registry_is_inside.store(true, Ordering::Relaxed);
            return true;
        }
        self.realms.contains(host) || self.registry_is_inside.load(Ordering::Relaxed)
    }
}

fn leads_inside() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "a registry outside leads to an address of the inside",
    )
}

/// A host without the brackets of an IPv6 address, in lower case.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// Whether packets to this address stay on the machine or the site (RFC 6890, as far as it is routed at all).
fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || shared
                || a == 0
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn tells_inside_from_outside() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_inside(address(inside)), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "::ffff:1.1.1.1"] {
            assert!(!is_inside(address(outside)), "{outside}");
        }
    }

    #[test]
    fn only_a_registry_inside_may_lead_inside() {
        let inside = Inside {
            endpoints: Arc::new(BTreeSet::from([bare("Registry.example")])),
            realms: Arc::new(BTreeSet::from([bare("auth.example")])),
            registry_is_inside: Arc::default(),
        };
        assert!(inside.permits("cdn.example", address("1.1.1.1")));
        assert!(inside.permits("auth.example", address("10.0.0.2")));
        assert!(inside.permits("registry.example", address("1.1.1.1")));
        assert!(!inside.permits("cdn.example", address("10.0.0.1")));
        assert!(!inside.permits("169.254.169.254", address("169.254.169.254")));

        assert!(inside.permits("registry.example", address("10.0.0.3")));
        assert!(inside.permits("cdn.example", address("10.0.0.1")));
    }
}
