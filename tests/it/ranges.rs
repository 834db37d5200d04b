//! Ranges and conditions, from the cache and from a download alike (bug class: a range that is off by one, or
//! answered otherwise while the blob is still on its way).

use bytes::Bytes;
use wharf::oci::Digest;

use crate::support::{
    FakeHub, Wharf, blob_path,
    client::{self, Answer, Headers},
    noise,
};

const REPO: &str = "library/busybox";
const SIZE: usize = 200_000;

/// A wharf in front of a hub, with a blob of [`SIZE`] bytes for each of many cold requests.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    /// Kept by wharf.
    warm: (Bytes, Digest),
    blobs: u32,
}

impl Site {
    async fn start() -> Self {
        let hub = FakeHub::start().await;
        let wharf = Wharf::start(&hub).await;
        let bytes = noise("warm", SIZE);
        let digest = hub.put_blob(REPO, bytes.clone());
        wharf.get(&blob_path(REPO, &digest)).await.expect(&bytes);
        wharf.quiet().await;
        Self { hub, wharf, warm: (bytes, digest), blobs: 0 }
    }

    /// A blob that wharf has never been asked for.
    fn cold(&mut self) -> (Bytes, Digest) {
        self.blobs += 1;
        let bytes = noise(&format!("cold {}", self.blobs), SIZE);
        let digest = self.hub.put_blob(REPO, bytes.clone());
        (bytes, digest)
    }

    /// Asks for a warm and a cold blob with `headers` (in which `<etag>` stands for the blob's own), and has
    /// both answers checked.
    async fn both(&mut self, headers: Headers<'_>, check: impl Fn(&Answer, &Bytes, &str)) {
        for (temperature, (bytes, digest)) in [("warm", self.warm.clone()), ("cold", self.cold())] {
            let etag = format!("\"{digest}\"");
            let headers: Vec<(&str, String)> = headers
                .iter()
                .map(|(name, value)| (*name, value.replace("<etag>", &etag)))
                .collect();
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answer = client::get(self.wharf.addr, &blob_path(REPO, &digest), &headers).await;
            let what = format!("{temperature}, {headers:?}");
            let outcome = if temperature == "warm" { "hit" } else { "miss" };
            let said = answer.header("wharf-cache").unwrap_or(outcome);
            assert_eq!(said, outcome, "{what}");
            check(&answer, &bytes, &what);
            self.wharf.quiet().await;
        }
    }

    /// 206 with the bytes from `first` to `last`.
    async fn part(&mut self, headers: Headers<'_>, first: usize, last: usize) {
        self.both(headers, |answer, bytes, what| {
            assert_eq!(answer.status, 206, "{what}");
            let range = format!("bytes {first}-{last}/{SIZE}");
            assert_eq!(answer.header("content-range"), Some(&*range), "{what}");
            let length = (last + 1 - first).to_string();
            assert_eq!(answer.header("content-length"), Some(&*length), "{what}");
            answer.expect(&bytes[first..=last]);
        })
        .await;
    }

    /// 200 with everything.
    async fn whole(&mut self, headers: Headers<'_>) {
        self.both(headers, |answer, bytes, what| {
            assert_eq!(answer.status, 200, "{what}");
            assert_eq!(answer.header("content-range"), None, "{what}");
            assert_eq!(answer.header("content-length"), Some("200000"), "{what}");
            assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{what}");
            answer.expect(bytes);
        })
        .await;
    }
}

#[tokio::test]
async fn a_single_range_gets_its_very_bytes() {
    let mut site = Site::start().await;
    for (range, first, last) in [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=199999-", SIZE - 1, SIZE - 1),
        ("bytes=70000-", 70_000, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=65535-131072", 65_535, 131_072),
        ("bytes=199000-200000", 199_000, SIZE - 1),
        ("bytes=199999-99999999999999999999", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-65537", SIZE - 65_537, SIZE - 1),
        ("bytes=-200000", 0, SIZE - 1),
        ("bytes=-99999999999999999999", 0, SIZE - 1),
        ("Bytes=5-9", 5, 9),
    ] {
        site.part(&[("range", range)], first, last).await;
    }
    site.wharf.end().await;
}

#[tokio::test]
async fn a_range_behind_the_end_is_416_and_says_how_long_the_blob_is() {
    let mut site = Site::start().await;
    for range in ["bytes=200000-", "bytes=200000-200001", "bytes=99999999999999999999-", "bytes=-0"]
    {
        site.both(&[("range", range)], |answer, _, what| {
            assert_eq!(answer.status, 416, "{what}");
            assert_eq!(answer.header("content-range"), Some("bytes */200000"), "{what}");
            let body: wharf::oci::ErrorBody = serde_json::from_slice(answer.bytes()).expect(what);
            assert_eq!(body.errors.len(), 1, "{what}");
        })
        .await;
    }
    let empty = blob_path(REPO, &site.hub.put_blob(REPO, Bytes::new()));
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        let answer = client::get(site.wharf.addr, &empty, &[("range", range)]).await;
        assert_eq!(answer.status, 416, "{range} of nothing");
        assert_eq!(answer.header("content-range"), Some("bytes */0"));
        site.wharf.quiet().await;
    }
    site.wharf.end().await;
}

#[tokio::test]
async fn several_ranges_and_what_is_none_get_the_whole_blob() {
    let mut site = Site::start().await;
    for range in [
        "bytes=0-1,5-6",
        "bytes=0-1, -1",
        "bytes=9-5",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x5-",
        "bytes 5-9",
        "items=5-9",
        "5-9",
    ] {
        site.whole(&[("range", range)]).await;
    }
    site.whole(&[("range", "bytes=5-9"), ("range", "bytes=7-8")]).await;
    site.wharf.end().await;
}

#[tokio::test]
async fn a_range_of_another_content_gets_the_whole_blob() {
    let mut site = Site::start().await;
    let range = ("range", "bytes=5-9");
    site.part(&[range, ("if-range", "<etag>")], 5, 9).await;
    // A weak tag is never the same (RFC 9110 §13.1.5), and there is no date to be the same.
    for other in ["\"sha256:0\"", "W/<etag>", "Tue, 14 Nov 2023 22:13:20 GMT", "*", ""] {
        site.whole(&[range, ("if-range", other)]).await;
    }
    site.wharf.end().await;
}

#[tokio::test]
async fn a_client_that_has_the_blob_is_told_so() {
    let mut site = Site::start().await;
    let same = ["<etag>", "W/<etag>", "*", "\"another\", <etag>"];
    for known in same {
        // A condition goes before a range, also one that cannot be had (RFC 9110 §13.2.2).
        for range in [None, Some(("range", "bytes=5-9")), Some(("range", "bytes=200000-"))] {
            let headers: Vec<_> = range.into_iter().chain([("if-none-match", known)]).collect();
            site.both(&headers, |answer, _, what| {
                assert_eq!(answer.status, 304, "{what}");
                assert_eq!(answer.bytes().len(), 0, "{what}");
                assert!(answer.header("etag").is_some(), "{what}");
                for absent in ["content-range", "content-length"] {
                    assert_eq!(answer.header(absent), None, "{what}");
                }
            })
            .await;
        }
    }
    site.whole(&[("if-none-match", "\"another\"")]).await;
    site.part(&[("if-none-match", "\"another\""), ("range", "bytes=5-9")], 5, 9).await;
    site.wharf.end().await;
}

/// The head of an answer as it is on the wire, without the time of day.
async fn head_on_the_wire(wharf: &Wharf, method: &str, path: &str, headers: &str) -> Vec<u8> {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    let answer = client::send_raw(wharf.addr, request.as_bytes()).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    if method == "HEAD" {
        assert_eq!(answer.len(), end + 4, "a HEAD has no body");
    }
    let lines = answer[..end].split(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"date:")).collect::<Vec<_>>().join(&b'\n')
}

#[tokio::test]
async fn head_and_get_have_the_same_head_to_the_byte() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[("linux", "arm64", None)], &[SIZE]);
    let child = image.child("linux/arm64");
    let wharf = Wharf::start(&hub).await;
    let manifest = |reference: &dyn std::fmt::Display| format!("/v2/{REPO}/manifests/{reference}");
    let etag = format!("if-none-match: \"{}\"\r\n", child.layers[0].digest);
    let paths = [
        manifest(&"latest"),
        manifest(&image.index.digest),
        manifest(&child.manifest.digest),
        blob_path(REPO, &child.config.digest),
        blob_path(REPO, &child.layers[0].digest),
        blob_path(REPO, &Digest::sha256(b"no such blob")),
        manifest(&"no-such-tag"),
    ];
    for path in &paths {
        wharf.get(path).await;
        wharf.quiet().await;
    }
    for path in &paths {
        for headers in ["", "accept: */*\r\n", &etag] {
            let get = head_on_the_wire(&wharf, "GET", path, headers).await;
            let head = head_on_the_wire(&wharf, "HEAD", path, headers).await;
            let text = |head: &[u8]| String::from_utf8_lossy(head).into_owned();
            assert_eq!(text(&head), text(&get), "{path} {headers}");
        }
    }
    wharf.end().await;
}
