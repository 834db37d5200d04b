//! The way to a connection: name resolution, TCP and TLS within one deadline, and no way inward.
//!
//! Where a redirect or a token service lives is the registry's word. A registry outside must not make wharf
//! knock at addresses of the site (a router, a metadata service, the loopback): only hosts of the
//! configuration may have such addresses, unless it says that the registry is inside. Nothing is learnt from what
//! names resolve to, and what is looked at is the address that is dialled.

use std::{
    error::Error,
    fmt, io, iter,
    net::{IpAddr, SocketAddr},
    pin::Pin,
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
use url::{Host as UrlHost, Url};

use super::{
    Config,
    inside::is_inside,
    kin::{Host, names},
    tls::{self, Trust},
};

type Https = HttpsConnector<HttpConnector<Resolver>>;
type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Where connections may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// Anywhere.
    Anywhere,
    /// At no address of the site.
    Outside,
}

/// How far each endpoint of one registry may lead.
pub(super) struct Reach {
    internal: Option<bool>,
    realms: Vec<Host>,
}

/// Makes connections within its bounds. Those of other bounds are not to be used in their stead, so each has its pool.
#[derive(Clone)]
pub(super) struct Connector {
    https: Https,
    bounds: Bounds,
    limit: Duration,
}

/// Looks names up, and leaves out the addresses that are out of bounds.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    bounds: Bounds,
}

/// Why a connection was not made: it would have been to an address of the site.
#[derive(Debug)]
pub(super) struct LeadsInside;

impl Reach {
    pub(super) fn of(config: &Config) -> Self {
        Self { internal: config.internal, realms: config.realms.clone() }
    }

    /// The bounds of a request to `url`, to which `endpoint` led, or which is its own.
    pub(super) fn bounds(&self, endpoint: &Url, url: &Url) -> Bounds {
        let is_named = endpoint.host() == url.host() || names(&self.realms, url);
        let leads_inside = self.internal.unwrap_or_else(|| is_written_inside(endpoint));
        if is_named || leads_inside { Bounds::Anywhere } else { Bounds::Outside }
    }
}

/// Whether the address itself says that it is inside, whatever names resolve to.
fn is_written_inside(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(UrlHost::Ipv4(v4)) => is_inside(v4.into()),
        Some(UrlHost::Ipv6(v6)) => is_inside(v6.into()),
        Some(UrlHost::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Connector {
    /// A connector that takes at most `limit` for a connection.
    pub(super) fn new(bounds: Bounds, limit: Duration, trust: Trust) -> Self {
        let mut tcp =
            HttpConnector::new_with_resolver(Resolver { system: GaiResolver::new(), bounds });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limit));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        Self { https: tls::over(tcp, trust), bounds, limit }
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
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.parse().is_ok_and(|address| !self.bounds.include(address)) {
            return Box::pin(async { Err(LeadsInside.into()) });
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
        let (looking_up, bounds) = (self.system.call(name), self.bounds);
        Box::pin(async move {
            let mut addresses: Vec<_> = looking_up.await?.collect();
            let found = addresses.len();
            addresses.retain(|address| bounds.include(address.ip()));
            if addresses.is_empty() && found > 0 {
                return Err(io::Error::other(LeadsInside));
            }
            Ok(addresses.into_iter())
        })
    }
}

impl Bounds {
    fn include(self, address: IpAddr) -> bool {
        self == Self::Anywhere || !is_inside(address)
    }
}

impl LeadsInside {
    /// Whether this is what `error` comes from.
    pub(super) fn caused(error: &(dyn Error + 'static)) -> bool {
        iter::successors(Some(error), |&error| error.source()).any(|error| {
            // What an `io::Error` wraps is not its source.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            error.is::<Self>() || wrapped.is_some_and(|error| error.is::<Self>())
        })
    }
}

impl fmt::Display for LeadsInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a registry outside leads to an address of the inside")
    }
}

impl Error for LeadsInside {}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    fn reach(internal: Option<bool>) -> Reach {
        Reach { internal, realms: vec!["auth.lan:8443".parse().expect("a host")] }
    }

    /// Whether `endpoint` may lead to `to` when nothing is said, when it is denied, and when it is said.
    fn leads(endpoint: &str, to: &str) -> [bool; 3] {
        [None, Some(false), Some(true)]
            .map(|internal| reach(internal).bounds(&url(endpoint), &url(to)) == Bounds::Anywhere)
    }

    #[test]
    fn only_an_endpoint_that_is_written_inside_leads_inside_unasked() {
        let (storage, own) = ("https://storage.lan/x", [true; 3]);
        for inside in [
            "http://10.0.0.5:5000",
            "http://127.0.0.1:5000",
            "http://localhost:5000",
            "http://[::1]:5000",
            "http://[fd00::1]:5000/mirror",
        ] {
            assert_eq!(leads(inside, storage), [true, false, true], "{inside}");
            assert_eq!(leads(inside, inside), own, "{inside}");
        }
        for outside in [
            "http://registry.lan:5000",
            "https://registry-1.docker.io",
            "https://localhost.example",
            "http://1.1.1.1:5000",
        ] {
            assert_eq!(leads(outside, storage), [false, false, true], "{outside}");
            assert_eq!(leads(outside, outside), own, "{outside}");
        }
        // The same host is allowed whatever its port, a token service that the operator names by its own.
        assert_eq!(leads("http://registry.lan:5000", "http://registry.lan:5001/token"), own);
        assert_eq!(leads("http://registry.lan:5000", "https://auth.lan:8443/token"), own);
        assert_eq!(
            leads("http://registry.lan:5000", "https://auth.lan/token"),
            [false, false, true]
        );
    }

    #[test]
    fn one_endpoint_inside_opens_no_way_for_the_next() {
        let reach = reach(None);
        let (cache, hub) = (url("http://10.0.0.5:5000"), url("https://registry-1.docker.io"));
        for inward in ["http://10.0.0.5:5000/v2/", "https://10.0.0.1/", "https://storage.lan/"] {
            for _ in 0..2 {
                assert_eq!(reach.bounds(&cache, &url(inward)), Bounds::Anywhere, "{inward}");
                assert_eq!(reach.bounds(&hub, &url(inward)), Bounds::Outside, "{inward}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_looked_at_is_the_address_that_is_dialled() {
        let trust = tls::trust(b"").expect("the public roots");
        let limit = Duration::from_secs(30);
        let mut outside = Connector::new(Bounds::Outside, limit, trust.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        for scheme in ["http", "https"] {
            for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]"] {
                let uri = format!("{scheme}://{host}:{port}/").parse().expect("an address");
                let refused = outside.call(uri).await.expect_err("no way");
                assert!(LeadsInside::caused(&*refused), "{host}: {refused:?}");
            }
        }
        let nobody = listener.accept().expect_err("nobody knocks");
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);

        let mut anywhere = Connector::new(Bounds::Anywhere, limit, trust);
        let uri = format!("http://127.0.0.1:{port}/").parse().expect("an address");
        assert!(anywhere.call(uri).await.is_ok());
    }
}
