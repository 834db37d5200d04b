//! Each misbehaviour of the fake is exactly what it is called.

use bytes::Bytes;
use futures_util::FutureExt;
use wharf::oci::Digest;

use crate::support::{
    Challenge, FakeHub, Fault, Gate, Host, On, Seen,
    client::{self, Answer, Headers, NoAnswer},
    noise,
};

const REPO: &str = "library/busybox";

/// A hub that asks for no token and serves its one blob itself.
struct Simple {
    hub: FakeHub,
    bytes: Bytes,
    digest: Digest,
    path: String,
}

impl Simple {
    async fn start() -> Self {
        let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
        let bytes = noise("blob", 200_000);
        let digest = hub.put_blob(REPO, bytes.clone());
        Self { hub, bytes, digest, path: format!("/v2/{REPO}/blobs/{digest}") }
    }

    /// The answer to the next request for the blob, which has this fault.
    async fn with(&self, fault: Fault, headers: Headers<'_>) -> Answer {
        self.hub.fault_next(1, On::Blob(self.digest), fault);
        client::get(self.hub.addr(Host::Registry), &self.path, headers).await
    }

    async fn open(&self, fault: Fault) -> Result<client::Stream, NoAnswer> {
        self.hub.fault_next(1, On::Blob(self.digest), fault);
        client::open("GET", self.hub.addr(Host::Registry), &self.path, &[]).await
    }
}

#[tokio::test]
async fn faults_of_the_head() {
    let simple = Simple::start().await;
    let limited = simple.with(Fault::too_many_requests("17"), &[]).await;
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, Some("17")));
    assert_eq!(simple.with(Fault::status(503), &[]).await.status, 503);

    let other = Digest::sha256(b"another");
    let lying = simple.with(Fault::LieDigest(other), &[]).await;
    assert_eq!(lying.header("docker-content-digest"), Some(other.to_string().as_str()));
    let silent = simple.with(Fault::NoDigestHeader, &[]).await;
    assert_eq!((silent.header("docker-content-digest"), silent.header("etag")), (None, None));
    assert_eq!(
        simple.with(Fault::ContentEncoding("gzip"), &[]).await.header("content-encoding"),
        Some("gzip")
    );
    let huge = simple.with(Fault::HugeHeader(100_000), &[]).await;
    assert_eq!(huge.header("x-padding").map(str::len), Some(100_000));

    let own = format!("{}{}", simple.hub.url(Host::Registry), simple.path);
    let redirect = simple.with(Fault::RedirectLoop, &[]).await;
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (307, Some(own.as_str())));
    let elsewhere = "http://192.0.2.1/";
    let redirect = simple.with(Fault::RedirectTo(elsewhere.to_owned()), &[]).await;
    assert_eq!(redirect.header("location"), Some(elsewhere));

    for fault in [Fault::CloseBeforeHead, Fault::GarbageHead] {
        assert_eq!(simple.open(fault).await.err(), Some(NoAnswer::NoHead));
    }
    assert_eq!(simple.hub.count(|seen| seen.status.is_none()), 2);
    let whole = client::get(simple.hub.addr(Host::Registry), &simple.path, &[]).await;
    assert_eq!(whole.bytes(), &simple.bytes, "every fault is spent");
}

#[tokio::test]
async fn faults_of_the_body() {
    let simple = Simple::start().await;
    let bytes = &simple.bytes;
    let cut = simple.with(Fault::CutAfter(150_000), &[]).await;
    assert_eq!(cut.body.expect_err("is cut").received, bytes[..150_000]);
    assert_eq!(simple.hub.blob_bytes_sent(&simple.digest), 150_000);
    let cut = simple.with(Fault::CutAfter(70_000), &[("range", "bytes=100000-")]).await;
    assert_eq!(cut.body.expect_err("is cut").received, bytes[100_000..170_000]);
    assert_eq!(simple.with(Fault::CutAfter(200_000), &[]).await.bytes(), bytes);

    let short = simple.with(Fault::WrongLength(-10), &[]).await;
    assert_eq!(short.bytes(), &bytes[..199_990]);
    let long = simple.with(Fault::WrongLength(10), &[]).await;
    assert_eq!(long.header("content-length"), Some("200010"));
    assert_eq!(&long.body.expect_err("ends too soon").received, bytes);

    let mut flipped = bytes.to_vec();
    flipped[100_001] ^= 1;
    assert_eq!(simple.with(Fault::FlipByte(100_001), &[]).await.bytes(), &flipped);
    let part = simple.with(Fault::FlipByte(100_001), &[("range", "bytes=100000-100009")]).await;
    assert_eq!(part.bytes(), &flipped[100_000..100_010]);

    let chunked = simple.with(Fault::NoLength, &[]).await;
    assert_eq!((chunked.header("content-length"), chunked.bytes()), (None, bytes));
    let both = Fault::All(vec![Fault::NoLength, Fault::CutAfter(10)]);
    assert_eq!(simple.with(both, &[]).await.body.expect_err("is cut").received, bytes[..10]);

    let all = Fault::All(vec![Fault::FlipByte(100_001), Fault::IgnoreRange]);
    let ignored = simple.with(all, &[("range", "bytes=5-")]).await;
    assert_eq!((ignored.status.as_u16(), ignored.bytes().as_ref()), (200, flipped.as_slice()));
    let wrong = Fault::WrongContentRange("bytes 6-10/11");
    let wrong = simple.with(wrong, &[("range", "bytes=5-")]).await;
    assert_eq!(wrong.header("content-range"), Some("bytes 6-10/11"));
    assert_eq!(wrong.bytes(), &bytes[5..]);

    assert_eq!(simple.with(Fault::HugeBody(5_000_000), &[]).await.bytes().len(), 5_000_000);
    assert_eq!(simple.with(Fault::Pace(100 << 20), &[]).await.bytes(), bytes);
}

#[tokio::test]
async fn a_stalled_answer_says_no_more() {
    let simple = Simple::start().await;
    let mut stream = simple.open(Fault::StallAfter(70_000)).await.expect("a head");
    assert_eq!(stream.read(70_000).await, simple.bytes[..70_000]);
    assert!(stream.chunk().now_or_never().is_none());

    let sent = |log: &[Seen]| log.len() == 2;
    tokio::select! {
        answer = simple.open(Fault::Stall) => panic!("answered {:?}", answer.map(|a| a.status)),
        () = simple.hub.until("the second request", sent) => {}
    }
    assert_eq!(simple.hub.log()[1].status, None);
}

#[tokio::test]
async fn a_gate_holds_the_body_until_it_is_told() {
    let simple = Simple::start().await;
    let gate = Gate::after(100);
    let mut stream = simple.open(Fault::Gate(gate.clone())).await.expect("a head");
    assert_eq!(stream.header("content-length"), Some("200000"));
    assert_eq!(stream.read(100).await, simple.bytes[..100]);
    gate.halted(1).await;
    assert_eq!(simple.hub.blob_bytes_sent(&simple.digest), 100);
    gate.allow(100_000);
    assert_eq!(stream.read(99_900).await, simple.bytes[100..100_000]);
    gate.halted(2).await;
    assert!(stream.chunk().now_or_never().is_none());
    gate.open();
    assert_eq!(stream.rest().await.bytes(), &simple.bytes[100_000..]);

    let gate = Gate::after(0);
    let answer = simple.with(Fault::Hold(gate.clone()), &[]);
    let test = async {
        gate.halted(1).await;
        gate.open();
    };
    assert_eq!(tokio::join!(answer, test).0.bytes(), &simple.bytes);
}

#[tokio::test]
async fn an_answer_at_a_halt_ends_when_its_client_leaves() {
    let simple = Simple::start().await;
    let gate = Gate::after(1);
    let stream = simple.open(Fault::Gate(gate.clone())).await.expect("a head");
    gate.halted(1).await;
    drop(stream);
    gate.left().await;
    assert_eq!(simple.hub.blob_bytes_sent(&simple.digest), 1);
}

#[tokio::test]
async fn a_fault_is_for_the_requests_it_names() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[10]);
    let layer = image.layers[0].digest;
    let bearer = format!("Bearer {}", hub.issue_token(REPO));
    let (manifest, tags) =
        (format!("/v2/{REPO}/manifests/latest"), format!("/v2/{REPO}/tags/list"));
    let blob = format!("/v2/{REPO}/blobs/{layer}");
    let with_token = [("authorization", bearer.as_str())];
    let registry = hub.addr(Host::Registry);
    let moved = client::get(registry, &blob, &with_token).await;
    let location = moved.header("location").expect("a redirect").to_owned();
    let signed = location.strip_prefix(&hub.url(Host::Cdn)).expect("to the CDN");

    let requests: [(&str, Host, &str, Headers<'_>); 8] = [
        ("challenge", Host::Registry, &manifest, &[]),
        ("ping", Host::Registry, "/v2/", &with_token),
        ("head", Host::Registry, &manifest, &with_token),
        ("get", Host::Registry, &manifest, &with_token),
        ("tags", Host::Registry, &tags, &with_token),
        ("redirect", Host::Registry, &blob, &with_token),
        ("blob", Host::Cdn, signed, &[]),
        ("token", Host::Auth, "/token", &[]),
    ];
    for (on, hit) in [
        (On::Any, &["challenge", "ping", "head", "get", "tags", "redirect", "blob", "token"][..]),
        (On::Challenges, &["challenge"]),
        (On::Manifests, &["head", "get"]),
        (On::ManifestHeads, &["head"]),
        (On::BlobRedirects, &["redirect"]),
        (On::Blobs, &["blob"]),
        (On::Blob(layer), &["blob"]),
        (On::Blob(image.config.digest), &[]),
        (On::Token, &["token"]),
        (On::Path("/tags/list"), &["tags"]),
        (On::Path("/manifests/"), &["head", "get"]),
    ] {
        let text = format!("{on:?}");
        hub.fault(on, Fault::status(418));
        for (name, host, path, headers) in requests {
            let method = if name == "head" { "HEAD" } else { "GET" };
            let answer = client::request(method, hub.addr(host), path, headers).await;
            assert_eq!(answer.status == 418, hit.contains(&name), "{text} for {name}");
        }
        hub.clear_faults();
    }

    hub.fault_next(2, On::Any, Fault::status(500));
    hub.fault_next(1, On::Manifests, Fault::status(503));
    for status in [500, 500, 503, 200] {
        assert_eq!(client::get(registry, &manifest, &with_token).await.status, status);
    }
}
