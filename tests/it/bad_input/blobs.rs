//! What registries and their storage may answer to questions about blobs, and where redirects may lead.

use bytes::Bytes;
use wharf::oci::ErrorCode::{BlobUnknown, Denied, NameUnknown, TooManyRequests, Unknown};

use super::{
    Gets,
    upstream::{Asks, Row, all},
};
use crate::support::{Fault, On};

const NO_ANSWER: Gets = Gets::error(502, Unknown);

/// A challenge, a token, a question, and ten redirects.
const REDIRECTED: usize = 13;

fn with_header(status: u16, name: &'static str, value: &str) -> Fault {
    Fault::Status(status, vec![(name, value.to_owned())], Bytes::from_static(b"no blob"))
}

#[test]
fn statuses_of_blobs() {
    let foreign = [
        (401, NO_ANSWER),
        (403, NO_ANSWER),
        (404, Gets::error(404, BlobUnknown)),
        (429, Gets::error(429, TooManyRequests)),
    ];
    let own = [
        (401, Gets::error(404, NameUnknown)),
        (403, Gets::error(403, Denied)),
        (404, Gets::error(404, BlobUnknown)),
        (410, Gets::error(404, BlobUnknown)),
        (429, Gets::error(429, TooManyRequests)),
        (451, Gets::error(403, Denied)),
    ];
    let both =
        [100, 101, 103, 201, 204, 206, 300, 304, 307, 400, 405, 408, 416, 418, 500, 503, 599];
    let mut rows = Vec::new();
    for (status, gets) in foreign.into_iter().chain(both.map(|status| (status, NO_ANSWER))) {
        let (what, fault) = (format!("{status} of the storage"), Fault::status(status));
        rows.push(Row::new(&*what, Asks::Blob, On::Blobs, fault.clone(), gets));
        rows.push(Row::new(what, Asks::Blob, On::Blobs, fault, gets).by_head());
    }
    for (status, gets) in own.into_iter().chain(both.map(|status| (status, NO_ANSWER))) {
        let (what, fault) = (format!("{status} of the registry"), Fault::status(status));
        rows.push(Row::new(what, Asks::Blob, On::BlobRedirects, fault, gets));
    }
    all(rows, 60);
}

#[test]
fn transfers_of_blobs() {
    let all_of = |faults: &[Fault]| Fault::All(faults.to_vec());
    let good = Gets::ok(200).with(&[("content-length", "500")]);
    let cut = Gets::CUT;
    let rows = [
        ("stalls", Fault::Stall, NO_ANSWER, 6),
        ("closes", Fault::CloseBeforeHead, NO_ANSWER, 6),
        ("speaks SSH", Fault::GarbageHead, NO_ANSWER, 6),
        ("cuts before the body, each time", Fault::CutAfter(0), cut, 20),
        ("cuts each time", Fault::CutAfter(200), good, 20),
        ("says too long a length", Fault::WrongLength(10), cut, 20),
        ("says too short a length", Fault::WrongLength(-10), cut, 20),
        ("says no length", Fault::NoLength, Gets::ok(200), 6),
        ("says no length and cuts", all_of(&[Fault::NoLength, Fault::CutAfter(0)]), cut, 20),
        ("sends another byte", Fault::FlipByte(5), cut, 6),
        ("sends another last byte", Fault::FlipByte(499), cut, 6),
        ("sends an encoding", Fault::ContentEncoding("gzip"), NO_ANSWER, 6),
        ("sends a Content-Range", Fault::WrongContentRange("bytes 5-9/10"), good, 6),
        ("sends a header of 1 MB", Fault::HugeHeader(1_000_000), NO_ANSWER, 6),
        ("sends 5 MiB of something", Fault::HugeBody(5 << 20), cut, 6),
        ("sends a page", with_header(200, "content-type", "text/html"), cut, 6),
        ("sends nothing", Fault::HugeBody(0), NO_ANSWER, 6),
        ("says an absurd length", Fault::WrongLength(i64::MAX), cut, 20),
        ("cuts, and ignores ranges", all_of(&[Fault::CutAfter(450), Fault::IgnoreRange]), cut, 20),
        (
            "cuts, and sends other ranges",
            all_of(&[Fault::CutAfter(200), Fault::WrongContentRange("bytes 0-9/10")]),
            cut,
            20,
        ),
        (
            "cuts, and sends ranges of a longer blob",
            all_of(&[Fault::CutAfter(200), Fault::WrongContentRange("bytes 200-499/501")]),
            cut,
            20,
        ),
        (
            "cuts, and sends no range",
            all_of(&[Fault::CutAfter(200), Fault::WrongContentRange("nonsense")]),
            cut,
            20,
        ),
    ];
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(what, fault, gets, requests)| {
            Row::new(what, Asks::Blob, On::Blobs, fault, gets).within(requests)
        })
        .collect();
    for (what, fault, gets) in [
        ("stalls", Fault::Stall, NO_ANSWER),
        ("says no length", Fault::NoLength, NO_ANSWER),
        ("sends an encoding", Fault::ContentEncoding("gzip"), NO_ANSWER),
        ("speaks SSH", Fault::GarbageHead, NO_ANSWER),
    ] {
        rows.push(Row::new(what, Asks::Blob, On::Blobs, fault, gets).by_head());
    }
    all(rows, 25);
}

#[test]
fn redirects_that_lead_nowhere() {
    let mut rows = Vec::new();
    for to in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "data:application/octet-stream,x",
        "unix:/run/docker.sock",
        "http://",
        "http://:80/",
        "http:///x",
        "//",
        "http://[::1",
        "http://a b/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:1/",
        "http://me:secret@127.0.0.1:1/",
        "http://nowhere.invalid/",
        "https://127.0.0.1:1/",
        "\\\\x",
    ] {
        let fault = Fault::RedirectTo(to.to_owned());
        rows.push(Row::new(
            format!("to {to}"),
            Asks::Blob,
            On::BlobRedirects,
            fault.clone(),
            NO_ANSWER,
        ));
        rows.push(Row::new(format!("to {to}"), Asks::Tag, On::Manifests, fault, NO_ANSWER));
    }
    for (what, asks, on, fault) in [
        ("loop", Asks::Blob, On::BlobRedirects, Fault::RedirectLoop),
        ("loop of the storage", Asks::Blob, On::Blobs, Fault::RedirectLoop),
        ("loop", Asks::Manifest, On::Manifests, Fault::RedirectLoop),
        ("without Location", Asks::Blob, On::BlobRedirects, Fault::status(302)),
        ("to nothing", Asks::Blob, On::BlobRedirects, Fault::RedirectTo(String::new())),
        ("to itself below itself", Asks::Blob, On::Blobs, Fault::RedirectTo("data/x".into())),
        (
            "of 70 kB",
            Asks::Blob,
            On::BlobRedirects,
            Fault::RedirectTo(format!("/{}", "x".repeat(70_000))),
        ),
        (
            "with a body of 5 MiB",
            Asks::Blob,
            On::BlobRedirects,
            Fault::All(vec![Fault::RedirectTo("file:///x".into()), Fault::HugeBody(5 << 20)]),
        ),
    ] {
        rows.push(Row::new(what, asks, on, fault, NO_ANSWER).within(REDIRECTED));
    }
    // What is there is not the registry's, but it is somebody's answer.
    let long = Fault::RedirectTo(format!("/{}", "x".repeat(50_000)));
    let unknown = Gets::error(404, BlobUnknown);
    rows.push(Row::new("of 50 kB", Asks::Blob, On::BlobRedirects, long, unknown));
    let stalls = [Fault::RedirectTo("/v2/".into()), Fault::HugeBody(10), Fault::StallAfter(1)];
    let stalls = Fault::All(stalls.into());
    let what = "to something else, with a body that stalls";
    rows.push(Row::new(what, Asks::Blob, On::BlobRedirects, stalls, Gets::CUT));
    all(rows, 40);
}
