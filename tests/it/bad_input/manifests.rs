//! What registries may answer to questions about manifests and lists.

use bytes::Bytes;
use wharf::oci::{
    Digest,
    ErrorCode::{Denied, ManifestInvalid, ManifestUnknown, NameUnknown, TooManyRequests, Unknown},
    media_type,
};

use super::{
    Gets,
    upstream::{Asks, Row, all},
};
use crate::support::{Fault, On};

const NO_ANSWER: Gets = Gets::error(502, Unknown);
const INVALID: Gets = Gets::error(502, ManifestInvalid);
const UNKNOWN: Gets = Gets::error(404, ManifestUnknown);
const DENIED: Gets = Gets::error(403, Denied);
const LIMITED: Gets = Gets::error(429, TooManyRequests);
const GOOD: Gets = Gets::ok(200);

/// 200, with this `Content-Type`.
fn document(kind: &str, body: impl Into<Bytes>) -> Fault {
    Fault::Status(200, vec![("content-type", kind.to_owned())], body.into())
}

fn with_header(status: u16, name: &'static str, value: &str) -> Fault {
    Fault::Status(status, vec![(name, value.to_owned())], Bytes::from_static(b"{}"))
}

fn bomb(open: &str, close: &str) -> String {
    format!("{}{}", open.repeat(100_000), close.repeat(100_000))
}

#[test]
fn statuses_of_manifests() {
    let mut rows: Vec<_> = [
        (201, NO_ANSWER),
        (204, NO_ANSWER),
        (206, NO_ANSWER),
        (300, NO_ANSWER),
        (301, NO_ANSWER),
        (304, NO_ANSWER),
        (307, NO_ANSWER),
        (400, NO_ANSWER),
        (402, NO_ANSWER),
        (403, DENIED),
        (404, UNKNOWN),
        (405, NO_ANSWER),
        (406, NO_ANSWER),
        (408, NO_ANSWER),
        (410, UNKNOWN),
        (413, NO_ANSWER),
        (416, NO_ANSWER),
        (418, NO_ANSWER),
        (429, LIMITED),
        (431, NO_ANSWER),
        (451, DENIED),
        (500, NO_ANSWER),
        (501, NO_ANSWER),
        (503, NO_ANSWER),
        (511, NO_ANSWER),
        (599, NO_ANSWER),
        (999, NO_ANSWER),
        // hyper takes what follows for the answer, which it is not.
        (100, NO_ANSWER),
        (101, NO_ANSWER),
        (103, NO_ANSWER),
        // The token that came with it is refused.
        (401, Gets::error(404, NameUnknown)),
    ]
    .into_iter()
    .flat_map(|(status, gets)| {
        let row =
            |asks| Row::new(format!("{status}"), asks, On::Manifests, Fault::status(status), gets);
        [row(Asks::Tag), row(Asks::Manifest).by_head()]
    })
    .collect();
    let captive = "<html><body>Sign in to the network</body></html>";
    for status in [200, 404, 500] {
        let fault =
            Fault::Status(status, vec![("content-type", "text/html".into())], captive.into());
        let gets = if status == 404 { UNKNOWN } else { NO_ANSWER };
        rows.push(Row::new(format!("{status} with a page"), Asks::Tag, On::Manifests, fault, gets));
    }
    all(rows, 60);
}

#[test]
fn retry_after_that_means_nothing() {
    let none = LIMITED.with(&[("retry-after", "")]);
    let clamped = LIMITED.with(&[("retry-after", "3600")]);
    let rows = [
        ("soon", none),
        ("", none),
        ("-1", none),
        ("1.5", none),
        ("1e9", none),
        ("0x10", none),
        ("120, 60", none),
        ("Thu, 32 Foo 2026 25:61:61 GMT", none),
        ("99999999999999999999999", clamped),
        ("4294967296", clamped),
        ("86400", clamped),
        ("Fri, 31 Dec 9999 23:59:59 GMT", clamped),
    ]
    .into_iter()
    .map(|(value, gets)| {
        let fault = Fault::too_many_requests(value);
        Row::new(format!("Retry-After: {value:?}"), Asks::Manifest, On::Manifests, fault, gets)
    });
    all(rows.collect(), 12);
}

#[test]
fn transfers_of_manifests() {
    let other = Digest::sha256(b"another manifest");
    let all_of = |faults: &[Fault]| Fault::All(faults.to_vec());
    let many = |name: usize| -> &'static str { Box::leak(format!("x-{name}").into_boxed_str()) };
    let headers = (0..150).map(|name| (many(name), "x".to_owned())).collect();
    let mut rows = Vec::new();
    for (what, fault, gets) in [
        ("stalls", Fault::Stall, NO_ANSWER),
        ("stalls in the body", Fault::StallAfter(10), NO_ANSWER),
        ("closes", Fault::CloseBeforeHead, NO_ANSWER),
        ("speaks SSH", Fault::GarbageHead, NO_ANSWER),
        ("cuts before the body", Fault::CutAfter(0), NO_ANSWER),
        ("cuts the body", Fault::CutAfter(10), NO_ANSWER),
        ("cuts chunks", all_of(&[Fault::NoLength, Fault::CutAfter(10)]), NO_ANSWER),
        ("says too long a length", Fault::WrongLength(10), NO_ANSWER),
        ("says too short a length", Fault::WrongLength(-10), NO_ANSWER),
        ("says an absurd length", Fault::WrongLength(i64::MAX), NO_ANSWER),
        ("says no length", Fault::NoLength, GOOD),
        ("sends another byte", Fault::FlipByte(5), NO_ANSWER),
        ("sends an encoding", Fault::ContentEncoding("gzip"), NO_ANSWER),
        ("sends two encodings", Fault::ContentEncoding("identity, br"), NO_ANSWER),
        ("names no encoding", Fault::ContentEncoding("identity"), GOOD),
        ("sends 5 MiB", Fault::HugeBody(5 << 20), NO_ANSWER),
        ("sends 5 MiB in chunks", all_of(&[Fault::HugeBody(5 << 20), Fault::NoLength]), NO_ANSWER),
        ("sends a header of 1 MB", Fault::HugeHeader(1_000_000), NO_ANSWER),
        ("sends 150 headers", Fault::Status(200, headers, Bytes::new()), NO_ANSWER),
        ("sends a Content-Range", Fault::WrongContentRange("bytes 5-9/10"), GOOD),
    ] {
        rows.push(Row::new(what, Asks::Manifest, On::Manifests, fault.clone(), gets));
        rows.push(Row::new(what, Asks::Tag, On::Manifests, fault, gets));
    }
    for (what, asks, fault, gets) in [
        ("lies of its digest", Asks::Tag, Fault::LieDigest(other), NO_ANSWER),
        ("lies of its digest", Asks::Manifest, Fault::LieDigest(other), GOOD),
        ("names no digest", Asks::Tag, Fault::NoDigestHeader, GOOD),
        ("names no digest", Asks::Manifest, Fault::NoDigestHeader, GOOD),
    ] {
        rows.push(Row::new(what, asks, On::Manifests, fault, gets));
    }
    for (what, asks, fault, gets) in [
        ("lies of its digest", Asks::Manifest, Fault::LieDigest(other), NO_ANSWER),
        ("names no digest", Asks::Tag, Fault::NoDigestHeader, GOOD),
        ("says no length", Asks::Tag, Fault::NoLength, GOOD),
        ("stalls", Asks::Tag, Fault::Stall, NO_ANSWER),
        (
            "a digest that is none",
            Asks::Tag,
            with_header(200, "docker-content-digest", "sha256:../../x"),
            NO_ANSWER,
        ),
        ("no type", Asks::Manifest, with_header(200, "content-type", "///"), NO_ANSWER),
    ] {
        rows.push(Row::new(what, asks, On::Manifests, fault, gets).by_head());
    }
    all(rows, 50);
}

#[test]
fn documents_that_are_no_manifest() {
    let (index, image) = (media_type::OCI_INDEX, media_type::OCI_MANIFEST);
    let config = |size: &str| {
        format!(r#"{{"mediaType":"a/b","digest":"{}","size":{size}}}"#, Digest::sha256(b"x"))
    };
    let (one, list) = (config("1"), media_type::DOCKER_LIST);
    let ambiguous = format!(r#"{{"manifests":[{one}],"layers":[{one}],"config":{one}}}"#);
    let rows = [
        ("manifests and layers, as an index", index, ambiguous.clone(), INVALID),
        ("manifests and layers, as an image", image, ambiguous, INVALID),
        ("manifests and a config", list, format!(r#"{{"manifests":[],"config":{one}}}"#), INVALID),
        ("an image as an index", index, format!(r#"{{"config":{one},"layers":[]}}"#), INVALID),
        ("an index as an image", image, format!(r#"{{"manifests":[{one}]}}"#), INVALID),
        ("nothing", image, String::new(), INVALID),
        ("no object", image, "[]".into(), INVALID),
        ("null", index, "null".into(), INVALID),
        ("an empty object", image, "{}".into(), INVALID),
        ("two documents", image, format!(r#"{{"config":{one}}}{{}}"#), INVALID),
        ("a key twice", image, format!(r#"{{"config":{one},"config":{one}}}"#), INVALID),
        ("half a document", image, r#"{"config":{"mediaType":"#.into(), INVALID),
        ("not UTF-8", image, "\u{feff}{}".into(), INVALID),
        ("a negative size", image, format!(r#"{{"config":{}}}"#, config("-1")), INVALID),
        (
            "a size beyond all",
            image,
            format!(r#"{{"config":{}}}"#, config("18446744073709551616")),
            INVALID,
        ),
        ("a size with a fraction", image, format!(r#"{{"config":{}}}"#, config("1.5")), INVALID),
        ("a size in quotes", image, format!(r#"{{"config":{}}}"#, config("\"1\"")), INVALID),
        ("manifests that are none", index, r#"{"manifests":{}}"#.into(), INVALID),
        ("100,000 arrays", image, bomb("[", "]"), INVALID),
        ("100,000 objects", image, bomb(r#"{"config":"#, "}"), NO_ANSWER),
        (
            "100,000 arrays where nobody looks",
            index,
            format!(r#"{{"x":{},"manifests":[]}}"#, bomb("[", "]")),
            NO_ANSWER,
        ),
        ("100,000 arrays without end", index, "[".repeat(100_000), INVALID),
        ("4 MiB of digits", image, "9".repeat(4 << 20), INVALID),
        (
            "the greatest size",
            image,
            format!(r#"{{"config":{}}}"#, config("18446744073709551615")),
            GOOD,
        ),
        (
            "digests that cannot be verified",
            index,
            r#"{"manifests":[{"mediaType":"","digest":"../../x","size":1}]}"#.into(),
            GOOD,
        ),
        (
            "another type than its Content-Type says (GHSA-qq97-vm5h-rrhg, CVE-2021-41190)",
            image,
            format!(r#"{{"mediaType":"{index}","config":{one}}}"#),
            INVALID,
        ),
        (
            "Docker's type under OCI's",
            image,
            format!(r#"{{"mediaType":"{}","config":{one}}}"#, media_type::DOCKER_MANIFEST),
            INVALID,
        ),
        (
            "its own type, with a charset",
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            format!(r#"{{"mediaType":"{image}","config":{one}}}"#),
            GOOD,
        ),
        (
            "manifests that Go's clients see",
            image,
            format!(r#"{{"config":{one},"Manifests":[{one}]}}"#),
            INVALID,
        ),
        (
            "manifests and layers, as an unknown type",
            "application/vnd.example.manifest.v9+json",
            r#"{"manifests":[],"layers":[]}"#.into(),
            INVALID,
        ),
        (
            "16,385 layers",
            image,
            format!(r#"{{"config":{one},"layers":[{}]}}"#, vec![one.as_str(); 16_385].join(",")),
            INVALID,
        ),
        ("itself, nothing else", index, r#"{"manifests":[]}"#.into(), GOOD),
    ]
    .into_iter()
    .map(|(what, kind, body, gets)| {
        Row::new(what, Asks::Tag, On::Manifests, document(kind, body), gets)
    });
    let kinds = [
        "application/json",
        "text/html; charset=utf-8",
        "application/octet-stream",
        "",
        "///",
        "application",
        "a/b/c",
        "application/vnd.oci.image.manifest.v1+json\t<script>",
    ];
    let kinds = kinds.into_iter().map(|kind| {
        let what = format!("type {kind:?}");
        Row::new(what, Asks::Tag, On::Manifests, document(kind, "{}"), NO_ANSWER)
    });
    all(rows.chain(kinds).collect(), 30);
}

#[test]
fn lists_that_are_none() {
    let json = |body: &str| document("application/json", body.to_owned());
    let list = |tags: &str| json(&format!(r#"{{"name":"x","tags":{tags}}}"#));
    let empty = Gets::ok(200).with(&[("content-length", "36"), ("link", "")]);
    let mut rows: Vec<_> = [
        ("no JSON", json("tags: latest"), NO_ANSWER),
        ("an array", json("[]"), NO_ANSWER),
        ("no tags", json("{}"), empty),
        ("null", list("null"), empty),
        ("numbers", list("[1,2]"), NO_ANSWER),
        ("what are no tags", list(r#"["../../x","-a","a b","","\u0000"]"#), empty),
        ("100,000 arrays", list(&bomb("[", "]")), NO_ANSWER),
        ("5 MiB", Fault::HugeBody(5 << 20), NO_ANSWER),
        ("cut", Fault::CutAfter(10), NO_ANSWER),
        ("stall", Fault::Stall, NO_ANSWER),
        ("401", Fault::status(401), Gets::error(404, NameUnknown)),
        ("404", Fault::status(404), Gets::error(404, NameUnknown)),
        ("500", Fault::status(500), NO_ANSWER),
        ("a redirect into a file", Fault::RedirectTo("file:///etc/passwd".into()), NO_ANSWER),
    ]
    .into_iter()
    .map(|(what, fault, gets)| Row::new(what, Asks::Tags, On::Path("/tags/list"), fault, gets))
    .collect();
    for (link, gets) in [
        (
            "<https://elsewhere.example/v2/x/tags/list?last=a&n=1>; rel=\"next\"",
            "</v2/library/busybox/tags/list?last=a>; rel=\"next\"",
        ),
        (
            "<?last=%0d%0aset-cookie:%20x>; rel=next",
            "</v2/library/busybox/tags/list?last=%0D%0Aset-cookie%3A+x>; rel=\"next\"",
        ),
        ("<javascript:alert(1)>; rel=next", ""),
        ("<<<>>>; rel=\"next", ""),
        ("next", ""),
    ] {
        let fault = with_header(200, "link", link);
        let headers: &'static [_] = Box::leak(Box::new([("link", gets)]));
        let row = Row::new(
            format!("link {link}"),
            Asks::Tags,
            On::Path("/tags/list"),
            fault,
            GOOD.with(headers),
        );
        rows.push(row);
    }
    // A client that is refused goes to Docker Hub itself.
    for (what, fault) in [
        ("404", Fault::status(404)),
        ("403", Fault::status(403)),
        ("500", Fault::status(500)),
        ("a page", document("text/html", "<html>")),
        ("no JSON", document(media_type::OCI_INDEX, "manifests")),
        ("no index", document(media_type::OCI_INDEX, "{}")),
        ("an image as well", document(media_type::OCI_INDEX, r#"{"manifests":[],"layers":[]}"#)),
        ("100,000 arrays", document(media_type::OCI_INDEX, bomb("[", "]"))),
        ("5 MiB", Fault::HugeBody(5 << 20)),
        ("a stall", Fault::Stall),
        ("a cut", Fault::CutAfter(1)),
        ("a loop", Fault::RedirectLoop),
    ] {
        let row = Row::new(what, Asks::Referrers, On::Path("/referrers/"), fault, GOOD);
        rows.push(row.within(15));
    }
    // A document is filtered, however it is nested.
    let filtered = GOOD.with(&[("oci-filters-applied", "artifactType")]);
    let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    let nested = format!(r#"{{"x":{deep},"manifests":[]}}"#);
    for (what, index, gets) in [
        (
            "entries of no type",
            r#"{"manifests":[{"mediaType":"a","digest":"b","size":1}]}"#,
            filtered,
        ),
        ("60 arrays where nobody looks", &nested, filtered),
    ] {
        let fault = document(media_type::OCI_INDEX, index.to_owned());
        rows.push(Row::new(what, Asks::Filtered, On::Path("/referrers/"), fault, gets));
    }
    all(rows, 30);
}
