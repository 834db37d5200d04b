//! What a request's head tells of its client, as `pull` wants to know it.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT, AUTHORIZATION, HOST},
};

use super::{
    peer::Peer,
    route::{Endpoint, Route},
};
use crate::{
    oci::{Platform, PlatformError, media_type},
    pull::{Asker, Claim, Wanted},
};

/// In which a client may say what it is; the second is how Docker passes on a header of its own configuration file.
const PLATFORM_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("wharf-platform"), HeaderName::from_static("x-meta-wharf-platform")];

/// The client behind `peer` that sent this head. What platform it announces is read where that is heard, and by which host
/// name it calls wharf where that is of any matter.
pub(super) fn asker(
    peer: &Peer,
    route: &Route,
    headers: &HeaderMap,
    user_agent: &Arc<str>,
    (hears, heeds_hosts): (bool, bool),
) -> Asker {
    Asker {
        address: peer.address.ip(),
        user_agent: Arc::clone(user_agent),
        subjects: peer.subjects.to_vec(),
        listener: Some(peer.listener),
        host: heeds_hosts.then(|| host(headers)).flatten(),
        in_path: route.platform.clone(),
        in_header: hears.then(|| announced(headers)?.ok()).flatten(),
        reads_index: reads_index(headers),
    }
}

/// What the client brings for a registry to which clients bring their own accounts.
pub(super) fn claim(headers: &HeaderMap) -> Claim {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Claim::of(value.as_bytes()),
        _ => Claim::default(),
    }
}

/// What of its repository a request is to see.
pub(super) fn wanted(endpoint: &Endpoint) -> Wanted {
    match endpoint {
        Endpoint::Blob(_, digest) => Wanted::Blob(*digest),
        Endpoint::Manifest(_, reference) => Wanted::Manifest(reference.clone()),
        Endpoint::Referrers(_, subject) => Wanted::Manifest((*subject).into()),
        Endpoint::Tags(_) | Endpoint::Catalog | Endpoint::Ping => Wanted::Tags,
    }
}

/// The platform that a client announces, if it does.
pub(super) fn announced(headers: &HeaderMap) -> Option<Result<Platform, PlatformError>> {
    let value = PLATFORM_HEADERS.iter().find_map(|name| headers.get(name))?;
    Some(value.to_str().map_err(|_| PlatformError::Form).and_then(|text| text.trim().parse()))
}

/// The host name by which wharf was called, without the port, in lower case.
fn host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    // An IPv6 address stands in brackets.
    let end = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let end = host[end..].find(':').map_or(host.len(), |colon| end + colon);
    Some(host[..end].to_ascii_lowercase())
}

/// Whether the client can read an index. One that sends no `Accept` takes anything (RFC 9110 §12.5.1); order and weights
/// mean nothing: Docker sends the types in any order.
fn reads_index(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return true;
    }
    let indexes = ["*/*", "application/*", media_type::OCI_INDEX, media_type::DOCKER_LIST];
    let manifests = [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];
    lines.any(|line| {
        let line = line.as_bytes();
        // Most clients send a line for each type.
        if manifests.iter().any(|manifest| line == manifest.as_bytes()) {
            return false;
        }
        line.split(|byte| *byte == b',').any(|range| {
            let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            indexes.iter().any(|index| range.eq_ignore_ascii_case(index.as_bytes()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                ((*name).parse().expect("a name"), value.parse().expect("a value"))
            })
            .collect()
    }

    #[test]
    fn who_reads_an_index_says_so_or_says_nothing() {
        let manifest = media_type::DOCKER_MANIFEST;
        for (accept, reads) in [
            (vec![], true),
            (vec!["*/*"], true),
            (vec!["application/*"], true),
            (vec![media_type::OCI_INDEX], true),
            (vec![manifest, media_type::DOCKER_LIST], true),
            (
                vec![
                    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json;q=0.1",
                ],
                true,
            ),
            (vec!["Application/Vnd.OCI.Image.Index.v1+JSON"], true),
            (vec![manifest], false),
            (vec![manifest, media_type::OCI_MANIFEST], false),
            (vec!["application/json"], false),
            (vec![""], false),
        ] {
            let lines: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(name, value.parse().expect("a value"));
            }
            assert_eq!(reads_index(&map), reads, "{accept:?}");
        }
    }

    #[test]
    fn the_host_loses_its_port() {
        for (header, name) in [
            ("wharf", "wharf"),
            ("Wharf.LAN:5000", "wharf.lan"),
            ("10.0.0.1:5000", "10.0.0.1"),
            ("[::1]:5000", "[::1]"),
            ("[fe80::1]", "[fe80::1]"),
            ("", ""),
            ("]:", "]"),
        ] {
            assert_eq!(host(&headers(&[("host", header)])).as_deref(), Some(name), "{header}");
        }
        assert_eq!(host(&HeaderMap::new()), None);
    }

    #[test]
    fn an_announcement_is_a_platform_or_wrong() {
        let said = |name, value| announced(&headers(&[(name, value)]));
        let arm: Platform = "linux/arm/v7".parse().expect("a platform");
        assert_eq!(said("wharf-platform", " linux/arm/v7 "), Some(Ok(arm.clone())));
        assert_eq!(said("x-meta-wharf-platform", "linux/arm/v7"), Some(Ok(arm)));
        assert_eq!(said("x-platform", "linux/arm/v7"), None);
        assert!(matches!(said("wharf-platform", "toaster"), Some(Err(_))));
    }
}
