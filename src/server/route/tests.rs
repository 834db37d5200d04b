//! Every way in which clients write an address, and what is none.

use proptest::prelude::*;

use super::*;

fn parse(address: &str) -> Result<Route, RouteError> {
    let (path, query) =
        address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    Route::parse(path, query, |registry| {
        matches!(registry.as_str(), "docker.io" | "ghcr.io" | "localhost:5000")
    })
}

fn manifest(address: &str) -> String {
    match parse(address).map(|route| route.endpoint) {
        Ok(Endpoint::Manifest(repository, reference)) => format!("{repository} {reference}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_clients_way_of_writing_it_means_the_same() {
    for address in [
        "/v2/library/alpine/manifests/3.20",
        "/v2/alpine/manifests/3.20",
        "/v2/library/alpine/manifests/3.20?ns=docker.io",
        "/v2/library/alpine/manifests/3.20?ns=index.docker.io",
        "/v2/docker.io/library/alpine/manifests/3.20",
        "/v2/docker.io/alpine/manifests/3.20",
        "/docker.io/v2/library/alpine/manifests/3.20",
        "/v2/docker.io/library/alpine/manifests/3.20?ns=docker.io",
        "/docker.io/v2/library/alpine/manifests/3.20?ns=docker.io",
        "/v2/library/alpine/manifests/3%2E20",
    ] {
        assert_eq!(manifest(address), "docker.io/library/alpine 3.20", "{address}");
    }
    for address in [
        "/v2/ghcr.io/owner/app/manifests/1",
        "/ghcr.io/v2/owner/app/manifests/1",
        "/v2/owner/app/manifests/1?ns=ghcr.io",
        "/v2/owner/app/manifests/1?x=y&ns=GHCR.IO",
    ] {
        assert_eq!(manifest(address), "ghcr.io/owner/app 1", "{address}");
    }
    assert_eq!(manifest("/v2/localhost:5000/a/manifests/1"), "localhost:5000/a 1");
    assert_eq!(manifest("/v2/localhost%3A5000/a/manifests/1"), "localhost:5000/a 1");
    // A repository may be called like an endpoint.
    assert_eq!(manifest("/v2/a/manifests/manifests/tags"), "docker.io/a/manifests tags");
}

#[test]
fn a_platform_may_stand_before_the_registry_in_every_shape() {
    let arm: Platform = "linux/arm/v7".parse().expect("a platform");
    for (address, at) in [
        ("/platform/linux-arm-v7/v2/library/alpine/manifests/3.20", Prefix::BeforeV2),
        ("/platform/linux-arm-v7/v2/alpine/manifests/3.20?ns=docker.io", Prefix::BeforeV2),
        ("/platform/linux-arm-v7/docker.io/v2/library/alpine/manifests/3.20", Prefix::BeforeV2),
        ("/platform/linux-arm-v7/v2/docker.io/library/alpine/manifests/3.20", Prefix::BeforeV2),
        ("/v2/platform/linux-arm-v7/library/alpine/manifests/3.20", Prefix::AfterV2),
        ("/v2/platform/linux-arm-v7/alpine/manifests/3.20?ns=docker.io", Prefix::AfterV2),
        ("/v2/platform/linux-arm-v7/docker.io/library/alpine/manifests/3.20", Prefix::AfterV2),
        ("/docker.io/v2/platform/linux-arm-v7/library/alpine/manifests/3.20", Prefix::AfterV2),
    ] {
        assert_eq!(manifest(address), "docker.io/library/alpine 3.20", "{address}");
        let route = parse(address).expect("an address");
        assert_eq!((route.platform.as_ref(), route.platform_at), (Some(&arm), at), "{address}");
    }
    for address in ["/platform/linux-arm-v7/v2/", "/v2/platform/linux-arm-v7/"] {
        let route = parse(address).expect("an address");
        assert_eq!(
            (route.endpoint, route.platform),
            (Endpoint::Ping, Some(arm.clone())),
            "{address}"
        );
    }
    // A repository that is called like it.
    assert_eq!(manifest("/v2/platform/tools/manifests/1"), "docker.io/platform/tools 1");
    assert_eq!(manifest("/v2/platform/tools/x/manifests/1"), "docker.io/platform/tools/x 1");
    for address in
        ["/platform/toaster/v2/", "/platform/v2/", "/platform/linux-arm-v7/", "/platform//v2/"]
    {
        assert_eq!(
            parse(address).map_err(|error| error.code),
            Err(ErrorCode::NameUnknown),
            "{address}"
        );
    }
}

#[test]
fn the_base_answers_wherever_clients_look_for_it() {
    for address in ["/v2/", "/v2", "/docker.io/v2/", "/v2/docker.io/"] {
        assert_eq!(parse(address).map(|route| route.endpoint), Ok(Endpoint::Ping), "{address}");
    }
}

#[test]
fn what_is_no_address_gets_the_codes_of_the_specification() {
    let digest = "0".repeat(64);
    for (address, code) in [
        ("/", ErrorCode::NameUnknown),
        ("", ErrorCode::NameUnknown),
        ("/v1/", ErrorCode::NameUnknown),
        ("//v2/", ErrorCode::NameUnknown),
        ("/v2/alpine", ErrorCode::NameUnknown),
        ("/v2/alpine/tags", ErrorCode::NameUnknown),
        ("/v2/alpine/tags/list/more", ErrorCode::NameUnknown),
        ("/v2/manifests/latest", ErrorCode::NameInvalid),
        ("/quay.io/v2/a/manifests/1", ErrorCode::NameUnknown),
        ("/v2/quay.io/a/manifests/1", ErrorCode::NameUnknown),
        ("/v2/a/manifests/1?ns=quay.io", ErrorCode::NameUnknown),
        ("/v2/a/manifests/1?ns=http://10.0.0.1/", ErrorCode::NameUnknown),
        ("/v2/a/manifests/1?ns=", ErrorCode::NameUnknown),
        ("/v2/Alpine/manifests/1", ErrorCode::NameInvalid),
        ("/v2/a/../b/manifests/1", ErrorCode::NameInvalid),
        ("/v2/a%2fb/manifests/1", ErrorCode::NameInvalid),
        ("/v2/%2e%2e/manifests/1", ErrorCode::NameInvalid),
        ("/v2/a%252fb/manifests/1", ErrorCode::NameInvalid),
        ("/v2/%ff/manifests/1", ErrorCode::NameUnknown),
        ("/v2/a//manifests/1", ErrorCode::NameInvalid),
        ("/v2/a/manifests/", ErrorCode::ManifestUnknown),
        ("/v2/a/manifests/-x", ErrorCode::ManifestUnknown),
        ("/v2/a/manifests/sha256:xyz", ErrorCode::DigestInvalid),
        ("/v2/a/blobs/latest", ErrorCode::DigestInvalid),
        (&format!("/v2/a/blobs/md5:{digest}"), ErrorCode::DigestInvalid),
        (&format!("/v2/a/blobs/SHA256:{digest}"), ErrorCode::DigestInvalid),
        (&format!("/v2/a/blobs/sha256:{digest}/"), ErrorCode::NameUnknown),
        ("/v2/a/tags/list?n=-1", ErrorCode::PaginationNumberInvalid),
        ("/v2/a/tags/list?n=99999999999", ErrorCode::PaginationNumberInvalid),
    ] {
        assert_eq!(parse(address).map_err(|error| error.code), Err(code), "{address}");
    }
    let long = format!("/v2/{}/manifests/1", "a".repeat(300));
    assert_eq!(parse(&long).map_err(|error| error.code), Err(ErrorCode::NameInvalid));
    let long = format!("/v2/a/tags/list?last={}", "a".repeat(300));
    assert_eq!(parse(&long).map_err(|error| error.code), Err(ErrorCode::PaginationNumberInvalid));
}

proptest! {
    #[test]
    fn never_panics_on_any_address(path in ".{0,100}", query in proptest::option::of(".{0,60}")) {
        let _ = Route::parse(&path, query.as_deref(), |_| true);
    }
}
