//! Requests that are HTTP, for what is not there or makes no sense.

use wharf::oci::ErrorCode::{
    DigestInvalid, ManifestUnknown, NameInvalid, NameUnknown, PaginationNumberInvalid, Unsupported,
};

use super::{
    Gets, assert_all, raw, run,
    site::{REPO, Row, SIZE, Site},
};

const NO_ADDRESS: Gets = Gets::error(404, NameUnknown);
const NO_NAME: Gets = Gets::error(400, NameInvalid);
const NO_TAG: Gets = Gets::error(404, ManifestUnknown);
const NO_DIGEST: Gets = Gets::error(400, DigestInvalid);
const NO_PAGE: Gets = Gets::error(400, PaginationNumberInvalid);
const NO_METHOD: Gets = Gets::error(405, Unsupported).with(&[("allow", "GET, HEAD")]);

/// Asked by `GET` and by `HEAD`.
fn addresses() -> Vec<(String, Gets)> {
    let hex = "0".repeat(64);
    let mut rows: Vec<(String, Gets)> = [
        ("/", NO_ADDRESS),
        ("//v2/", NO_ADDRESS),
        ("/v2//", NO_ADDRESS),
        ("/v1/", NO_ADDRESS),
        ("/v1/_ping", NO_ADDRESS),
        ("/v3/", NO_ADDRESS),
        ("/V2/", NO_ADDRESS),
        ("/index.html", NO_ADDRESS),
        ("/metrics", NO_ADDRESS),
        ("/v2/../../etc/passwd", NO_ADDRESS),
        ("/v2/busybox", NO_ADDRESS),
        ("/v2/busybox/tags", NO_ADDRESS),
        ("/v2/busybox/tags/list/more", NO_ADDRESS),
        ("/v2/busybox/manifests/latest/", NO_ADDRESS),
        ("/v2/busybox/blobs/uploads/", NO_ADDRESS),
        ("/v2/_catalog/more", NO_ADDRESS),
        ("/v2/%ff%fe/manifests/latest", NO_ADDRESS),
        ("/v2/busybox/manifests/%c3%28", NO_ADDRESS),
        ("/v2/manifests/latest", NO_NAME),
        ("/v2//manifests/latest", NO_NAME),
        ("/v2/a//b/manifests/latest", NO_NAME),
        ("/v2/%2f/manifests/latest", NO_NAME),
        ("/v2/library%2Fbusybox/manifests/latest", NO_NAME),
        ("/v2/library/busybox%2f..%2fx/manifests/latest", NO_NAME),
        ("/v2/a%252fb/manifests/latest", NO_NAME),
        ("/v2/a%00b/manifests/latest", NO_NAME),
        ("/v2/a%0d%0ab/manifests/latest", NO_NAME),
        ("/v2/a%1b%5b31mb/tags/list", NO_NAME),
        ("/v2/busybox/blobs/%1b%5b31m", NO_DIGEST),
        ("/v2/a%zzb/manifests/latest", NO_NAME),
        ("/v2/./manifests/latest", NO_NAME),
        ("/v2/../b/manifests/latest", NO_NAME),
        ("/v2/%2e%2e/%2e%2e/manifests/latest", NO_NAME),
        ("/v2/Library/busybox/manifests/latest", NO_NAME),
        ("/v2/a..b/manifests/latest", NO_NAME),
        ("/v2/a_-b/manifests/latest", NO_NAME),
        ("/v2/-a/manifests/latest", NO_NAME),
        ("/v2/b%C3%BCsybox/manifests/latest", NO_NAME),
        ("/v2/a%20b/tags/list", NO_NAME),
        ("/v2/quay.io/a/manifests/latest", NO_ADDRESS),
        ("/v2/localhost/a/manifests/latest", NO_ADDRESS),
        ("/v2/127.0.0.1:1/a/manifests/latest", NO_ADDRESS),
        ("/quay.io/v2/a/manifests/latest", NO_ADDRESS),
        ("/169.254.169.254/v2/a/manifests/latest", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=quay.io", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=http://127.0.0.1:1/", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io:443", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io:99999", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io:", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=me:secret@docker.io", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io/..", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io%00", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=%ff", NO_ADDRESS),
        ("/v2/busybox/manifests/latest?ns=docker.io&ns=quay.io", NO_ADDRESS),
        ("/v2/?ns=quay.io", NO_ADDRESS),
        ("/v2/_catalog?ns=quay.io", NO_ADDRESS),
        ("/v2/busybox/manifests/", NO_TAG),
        ("/v2/busybox/manifests/-x", NO_TAG),
        ("/v2/busybox/manifests/.x", NO_TAG),
        ("/v2/busybox/manifests/..", NO_TAG),
        ("/v2/busybox/manifests/a%20b", NO_TAG),
        ("/v2/busybox/manifests/%00", NO_TAG),
        ("/v2/busybox/manifests/%F0%9F%90%B3", NO_TAG),
        ("/v2/busybox/manifests/sha256:", NO_DIGEST),
        ("/v2/busybox/manifests/sha256:../../x", NO_ADDRESS),
        ("/v2/busybox/manifests/latest@sha256:0", NO_DIGEST),
        ("/v2/busybox/blobs/", NO_DIGEST),
        ("/v2/busybox/blobs/latest", NO_DIGEST),
        ("/v2/busybox/blobs/:", NO_DIGEST),
        ("/v2/busybox/referrers/latest", NO_DIGEST),
        ("/v2/busybox/tags/list?n=-1", NO_PAGE),
        ("/v2/busybox/tags/list?n=", NO_PAGE),
        ("/v2/busybox/tags/list?n=1e3", NO_PAGE),
        ("/v2/busybox/tags/list?n=99999999999999999999", NO_PAGE),
        ("/v2/_catalog?n=many", NO_PAGE),
        ("/v2/_catalog?n=4294967295", Gets::ok(200)),
        ("/v2/_catalog?n=0&last=zzz", Gets::ok(200)),
        ("/v2/_catalog?%ff=%00&&&=&n", NO_PAGE),
        ("/v2/?%ff=%00&&&=", Gets::ok(200)),
    ]
    .map(|(address, gets)| (address.to_owned(), gets))
    .into();
    for digest in [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "g".repeat(64)),
        format!("SHA256:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("blake3:{hex}"),
        format!("sha512:{hex}"),
        format!("sha256:{hex}%20"),
        format!("sha256%3A{hex}0"),
        format!("sha256+b64:{hex}"),
        hex.clone(),
    ] {
        rows.push((format!("/v2/busybox/blobs/{digest}"), NO_DIGEST));
    }
    rows.extend([
        (format!("/v2/busybox/manifests/md5:{}", &hex[..32]), NO_DIGEST),
        (format!("/v2/busybox/referrers/sha512:{hex}"), NO_DIGEST),
        (format!("/v2/busybox/blobs/sha256:{hex}/more"), NO_ADDRESS),
        (format!("/v2/{}/manifests/latest", "a".repeat(300)), NO_NAME),
        // With Docker Hub's `library/` it is too long.
        (format!("/v2/{}/manifests/latest", "a".repeat(255)), NO_NAME),
        (format!("/v2/{}/manifests/latest", "a/".repeat(200) + "a"), NO_NAME),
        (format!("/v2/{}/manifests/latest", "a".repeat(20_000)), NO_NAME),
        (format!("/v2/busybox/blobs/{}", "a".repeat(20_000)), NO_DIGEST),
        (format!("/v2/busybox/manifests/{}", "a".repeat(129)), NO_TAG),
        (format!("/v2/busybox/manifests/latest?ns={}", "a".repeat(300)), NO_ADDRESS),
        (format!("/v2/busybox/tags/list?last={}", "a".repeat(300)), NO_PAGE),
        (format!("/v2/_catalog?last={}", "a".repeat(300)), NO_PAGE),
        (format!("/v2/?{}", "a=b&".repeat(2000)), Gets::ok(200)),
    ]);
    rows
}

#[test]
fn addresses_that_mean_nothing() {
    run(async {
        let site = Site::start().await;
        let mut results = Vec::new();
        for (address, gets) in addresses() {
            for method in ["GET", "HEAD"] {
                let bytes = raw::request(method, &address, &[]);
                let what = format!("{method} {address}");
                let row = Row { methods: vec![method], ..Row::new(what, bytes, gets) };
                results.push(site.check(&row).await);
            }
        }
        site.end().await;
        assert_all(results, 200);
    });
}

#[test]
fn methods_that_are_not_served() {
    let long = "M".repeat(5000);
    run(async {
        let site = Site::start().await;
        let mut results = Vec::new();
        for method in [
            "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MADE-UP",
            "get", "Get", "GETS", "!", &long,
        ] {
            for target in ["/v2/", &site.blob, "/nowhere", "*"] {
                // `CONNECT` has a target of its own form.
                let target = if method == "CONNECT" { "docker.io:443" } else { target };
                let what = format!("{} {target}", &method[..method.len().min(20)]);
                let row = Row::new(what, raw::request(method, target, &[]), NO_METHOD);
                results.push(site.check(&row).await);
            }
        }
        for (what, headers, body) in [
            ("a push begins", &[("content-length", "0")][..], &b""[..]),
            ("an upload", &[("content-length", "5")], b"hello"),
            ("an upload of which nothing comes", &[("content-length", "999999")], b""),
            ("more than it says", &[("content-length", "5")], b"hello, and more of it"),
            (
                "an upload that waits for leave",
                &[("content-length", "5"), ("expect", "100-continue")],
                b"",
            ),
            ("chunks", &[("transfer-encoding", "chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
            ("chunks that are none", &[("transfer-encoding", "chunked")], b"ZZZ\r\nhello\r\n"),
            (
                "a chunk without end",
                &[("transfer-encoding", "chunked")],
                b"ffffffffffffffff\r\nhello",
            ),
        ] {
            for method in ["POST", "PUT", "PATCH"] {
                let target = format!("/v2/{REPO}/blobs/uploads/");
                let mut bytes = raw::request(method, &target, headers);
                bytes.extend_from_slice(body);
                results.push(
                    site.check(&Row::new(format!("{method}: {what}"), bytes, NO_METHOD)).await,
                );
            }
        }
        let mut large = raw::request("PUT", "/v2/", &[("content-length", "500000")]);
        large.extend(vec![b'x'; 500_000]);
        let row = Row::new("an upload of 500 kB", large, NO_METHOD);
        results.push(site.check(&row).await);
        site.end().await;
        assert_all(results, 80);
    });
}

#[test]
fn ranges_that_make_no_sense() {
    let beyond = Gets::error(416, Unsupported).with(&[("content-range", "bytes */1000")]);
    let all = Gets::ok(200).with(&[("content-length", "1000"), ("content-range", "")]);
    let whole = Gets::ok(206).with(&[("content-range", "bytes 0-999/1000")]);
    let last =
        Gets::ok(206).with(&[("content-length", "1"), ("content-range", "bytes 999-999/1000")]);
    run(async {
        let site = Site::start().await;
        assert_eq!(site.layer.len(), SIZE);
        let mut results = Vec::new();
        for (range, gets) in [
            ("bytes", all),
            ("bytes=", all),
            ("bytes=-", all),
            ("bytes=--1", all),
            ("bytes=a-b", all),
            ("bytes=5-a", all),
            ("bytes=5-4", all),
            ("bytes=+5-9", all),
            ("bytes=0x5-9", all),
            ("bytes=5 - 9", all),
            ("bytes=0-0,999-999", all),
            ("bytes=0-0,", all),
            ("lines=0-5", all),
            ("bytes 0-5", all),
            ("bytes=0-99999999999999999999999", whole),
            ("bytes=1000-", beyond),
            ("bytes=1000-2000", beyond),
            ("bytes=99999999999999999999999-", beyond),
            ("bytes=18446744073709551615-18446744073709551615", beyond),
            ("bytes=-0", beyond),
            ("bytes=999-", last),
            ("bytes=999-18446744073709551615", last),
            ("bytes=-1", last),
            ("Bytes=999-", last),
        ] {
            let bytes = raw::request("GET", &site.blob, &[("range", range)]);
            results.push(site.check(&Row::new(format!("range {range:?}"), bytes, gets)).await);
        }
        for (what, headers, gets) in [
            ("two ranges", &[("range", "bytes=0-1"), ("range", "bytes=3-4")][..], all),
            ("a range of another version", &[("range", "bytes=0-1"), ("if-range", "\"x\"")], all),
            ("a range since a date", &[("range", "bytes=0-1"), ("if-range", "yesterday")], all),
        ] {
            let bytes = raw::request("GET", &site.blob, headers);
            results.push(site.check(&Row::new(what, bytes, gets)).await);
        }
        let manifest = format!("/v2/{REPO}/manifests/{}", site.manifest);
        let range = [("range", "bytes=0-1")];
        let row = Row::new(
            "a range of a manifest",
            raw::request("GET", &manifest, &range),
            Gets::ok(200),
        );
        results.push(site.check(&row).await);
        site.end().await;
        assert_all(results, 25);
    });
}
