//! What fuzz targets call, which is nobody else's to see.
#![expect(missing_docs, reason = "built for fuzzing alone")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{
    Door, asker,
    credentials::Claim,
    filter,
    peer::Peer,
    range::{RangeRequest, Selected},
    route::Route,
    tls,
};
use crate::pull::Asker;

pub fn range(header: &str, size: u64) -> Option<Range<u64>> {
    match RangeRequest::parse(header)?.select(size) {
        Selected::Part(range) => Some(range),
        Selected::Unsatisfiable => None,
    }
}

pub fn route(path: &str, query: Option<&str>) {
    let _ = Route::parse(path, query, |registry| registry.is_docker_hub());
}

pub fn referrers(index: &[u8], artifact_type: &str) -> Option<Vec<u8>> {
    filter::filtered(index, artifact_type)
}

/// The name and the password in an `Authorization`.
pub fn signs_in(authorization: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let mut headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.clone())]);
    let claim = Claim::take(&mut headers);
    assert!(headers.is_empty(), "nobody gets it behind this");
    match claim {
        Claim::Basic(credentials) => Some((credentials.name, credentials.password)),
        Claim::None | Claim::Other => None,
    }
}

/// What a head shows of the client that sent it, which may say what platform it is.
pub fn asker(headers: &HeaderMap, user_agent: &str) -> Asker {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    let peer = Peer::new(address, address, Arc::new(Door::default()));
    let route = Route::parse("/v2/", None, |_| true).expect("an address");
    asker::asker(&peer, &route, headers, &user_agent.into(), (true, true))
}

/// The names in a client's certificate.
pub fn subjects(certificate: &[u8]) -> Vec<String> {
    tls::subjects(certificate)
}

/// Why lists of revoked certificates will not do for `authority`; `None` where they do.
pub fn revoked(pem: &[u8], authority: &[u8]) -> Option<String> {
    tls::fuzzing::revoked(pem, authority)
}
