//! Nobody gets a wrong body that looks right, and nothing wrong is kept (bug class: bytes are handed out, or put
//! under their digest, before anyone has looked at all of them).

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use wharf::oci::{Algorithm, Digest, media_type};

use crate::support::{
    Challenge, FakeHub, Fault, Gate, On, Wharf, blob_path,
    client::{self, Answer},
    noise,
};

const REPO: &str = "library/busybox";
const SIZE: usize = 300_000;
const BLOB_FAILURES: &str = r#"wharf_verify_failures_total{stage="blob"}"#;

/// A hub that serves its blob itself, and a wharf in front of it that has not seen it.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    blob: Bytes,
    digest: Digest,
    path: String,
}

impl Site {
    /// The blob is a layer of an image; wharf knows the manifest if it `is_known`.
    async fn start(is_known: bool) -> Self {
        let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
        let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[SIZE]);
        let wharf = Wharf::start(&hub).await;
        if is_known {
            wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
        }
        let layer = &image.layers[0];
        let path = blob_path(REPO, &layer.digest);
        Self { hub, wharf, blob: layer.bytes.clone(), digest: layer.digest, path }
    }

    async fn get(&self) -> Answer {
        self.wharf.get(&self.path).await
    }

    /// Nothing of the blob was kept; once the hub is well again, wharf asks it anew and gets it right.
    async fn recovers(self) {
        self.wharf.quiet().await;
        assert!(!self.wharf.blob_file(&self.digest).exists());
        assert_eq!(self.wharf.partials(), [""; 0]);
        self.hub.clear_faults();
        self.hub.clear_log();
        self.wharf.open(&self.path, &[]).await.expect(&self.blob).await;
        let gets = self.hub.blob_gets(&self.digest);
        assert_eq!((gets.len(), gets[0].range.as_deref()), (1, None), "{gets:?}");
        self.wharf.quiet().await;
        assert!(self.wharf.blob_file(&self.digest).exists());
        self.wharf.end().await;
    }
}

/// The answer broke off before its end.
fn assert_cut(answer: &Answer, case: &str) {
    let cut = answer.cut();
    assert!(cut.len() < SIZE, "{case}: all {} bytes were handed out", cut.len());
}

#[tokio::test]
async fn a_flipped_byte_is_never_part_of_a_whole_body() {
    let last = SIZE as u64 - 1;
    for is_known in [false, true] {
        for (case, fault) in [
            ("the first byte", Fault::FlipByte(0)),
            ("one in the middle", Fault::FlipByte(123_456)),
            ("the last byte", Fault::FlipByte(last)),
            ("no length", Fault::All(vec![Fault::NoLength, Fault::FlipByte(last)])),
        ] {
            let site = Site::start(is_known).await;
            site.hub.fault(On::Blobs, fault);
            assert_cut(&site.get().await, case);
            let end = site.wharf.open(&site.path, &[("range", "bytes=-1")]).await.rest().await;
            if end.status == 206 {
                assert!(end.body.is_err(), "{case}: the end of an unverified blob was handed out");
            }
            site.wharf.quiet().await;
            assert_eq!(site.wharf.metric(BLOB_FAILURES), 2.0, "{case}");
            site.recovers().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_the_end_of_the_connection_for_the_end_is_not_deceived() {
    let site = Site::start(false).await;
    site.hub.fault(On::Blobs, Fault::All(vec![Fault::NoLength, Fault::FlipByte(5)]));
    // HTTP/1.0 has no chunks: without a length, nothing but the last byte tells a cut from an end.
    let request = format!("GET {} HTTP/1.0\r\n\r\n", site.path);
    let answer = client::send_raw(site.wharf.addr, request.as_bytes()).await;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(answer.len() - head < SIZE, "a body of full length");
    site.recovers().await;
}

#[tokio::test]
async fn whoever_reads_slowly_gets_no_whole_wrong_body_either() {
    let site = Site::start(true).await;
    let gate = Gate::after(200_000);
    let fault = Fault::All(vec![Fault::FlipByte(250_000), Fault::Gate(gate.clone())]);
    site.hub.fault(On::Blobs, fault);
    let mut slow = Vec::new();
    for range in ["bytes=0-", "bytes=100000-", "bytes=-60000"] {
        slow.push(site.wharf.open(&site.path, &[("range", range)]).await);
    }
    let begun = slow[0].read(50_000).await;
    assert_eq!(begun, site.blob[..begun.len()]);
    gate.open();
    site.wharf.quiet().await;
    for stream in slow {
        assert_eq!(stream.status, 206);
        assert!(stream.rest().await.body.is_err());
    }
    assert_eq!(site.wharf.metric(BLOB_FAILURES), 1.0);
    site.recovers().await;
}

#[tokio::test]
async fn a_wrong_length_is_refused_or_cut() {
    let (short, long) = (Fault::WrongLength(-10), Fault::WrongLength(10));
    let body = |bytes: Bytes, rest: Vec<Fault>| {
        let other = Fault::Status(200, Vec::new(), bytes);
        Fault::All([vec![other], rest].concat())
    };
    let (more, less) = (noise("more", SIZE + 10), noise("less", SIZE - 10));
    let cases = [
        ("says less", true, short.clone(), true),
        ("says more", true, long.clone(), true),
        ("says less", false, short, false),
        ("says more", false, long, false),
        ("is longer", true, body(more.clone(), vec![]), true),
        ("is shorter", true, body(less.clone(), vec![]), true),
        ("is longer and does not say", true, body(more, vec![Fault::NoLength]), false),
        ("is shorter and does not say", true, body(less, vec![Fault::NoLength]), false),
    ];
    let checked = cases.map(|(case, is_known, fault, refused)| async move {
        let case = format!("{case}, with the manifest known: {is_known}");
        let site = Site::start(is_known).await;
        site.hub.fault(On::Blobs, fault);
        let answer = site.get().await;
        assert_eq!(answer.status == 502, refused, "{case}: {}", answer.status);
        if !refused {
            assert!(answer.body.is_err(), "{case}");
        }
        site.wharf.quiet().await;
        assert_eq!(site.wharf.metric(BLOB_FAILURES), 1.0, "{case}");
        site.recovers().await;
    });
    join_all(checked).await;
}

#[tokio::test]
async fn a_connection_that_dies_before_the_last_byte_leaves_no_blob() {
    for refusal in [404, 400] {
        let site = Site::start(true).await;
        site.hub.fault_next(1, On::Blobs, Fault::CutAfter(SIZE as u64 - 1));
        site.hub.fault(On::Blobs, Fault::status(refusal));
        assert_cut(&site.get().await, "dies");
        site.wharf.quiet().await;
        assert!(!site.wharf.blob_file(&site.digest).exists());
        site.hub.clear_faults();
        site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
        site.wharf.end().await;
    }
}

#[tokio::test]
async fn the_bytes_count_and_not_what_the_header_says_of_them() {
    let site = Site::start(false).await;
    site.hub.fault(On::Blobs, Fault::LieDigest(Digest::sha256(b"another")));
    let answer = site.get().await;
    assert_eq!(answer.bytes(), &site.blob);
    assert_eq!(answer.header("docker-content-digest"), Some(&*site.digest.to_string()));
    site.wharf.end().await;

    let site = Site::start(true).await;
    let wrong = noise("other bytes", SIZE);
    let headers = vec![("docker-content-digest", site.digest.to_string())];
    site.hub.fault(On::Blobs, Fault::Status(200, headers, wrong));
    assert_cut(&site.get().await, "a header that vouches for other bytes");
    site.recovers().await;
}

#[tokio::test]
async fn sha512_is_verified_as_well() {
    let hub = FakeHub::start().await;
    let blob = noise("sha512", SIZE);
    let digest = hub.put_blob_as(Algorithm::Sha512, REPO, blob.clone());
    let path = blob_path(REPO, &digest);
    let wharf = Wharf::start(&hub).await;
    hub.fault_next(1, On::Blobs, Fault::FlipByte(7));
    assert_cut(&wharf.get(&path).await, "flipped");
    wharf.quiet().await;
    assert!(!wharf.blob_file(&digest).exists());
    for outcome in ["miss", "hit"] {
        let answer = wharf.get(&path).await;
        assert_eq!((answer.header("wharf-cache"), answer.bytes()), (Some(outcome), &blob));
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest.to_string()));
        wharf.quiet().await;
    }
    assert!(wharf.blob_file(&digest).starts_with(wharf.cache().join("blobs/sha512")));
    assert!(wharf.blob_file(&digest).exists());
    wharf.end().await;
}

#[tokio::test]
async fn a_blob_without_a_byte_is_a_blob() {
    for length in [None, Some(Fault::NoLength)] {
        let hub = FakeHub::start().await;
        let digest = hub.put_blob(REPO, Bytes::new());
        let path = blob_path(REPO, &digest);
        let wharf = Wharf::start(&hub).await;
        length.into_iter().for_each(|fault| hub.fault(On::Blobs, fault));
        for outcome in ["miss", "hit"] {
            let answer = wharf.get(&path).await;
            assert_eq!((answer.status.as_u16(), answer.bytes().len()), (200, 0));
            assert_eq!(answer.header("wharf-cache"), Some(outcome));
            wharf.quiet().await;
        }
        assert_eq!(wharf.head(&path).await.header("content-length"), Some("0"));
        wharf.end().await;
    }
    let hub = FakeHub::start().await;
    let digest = hub.put_blob(REPO, "not empty");
    let wharf = Wharf::start(&hub).await;
    hub.fault_next(1, On::Blobs, Fault::Status(200, Vec::new(), Bytes::new()));
    let answer = wharf.get(&blob_path(REPO, &digest)).await;
    assert!(answer.status == 502 || answer.body.is_err(), "empty, where there should be bytes");
    assert_eq!(wharf.get(&blob_path(REPO, &digest)).await.bytes(), "not empty");
    wharf.end().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_right_and_kept() {
    let site = Site::start(false).await;
    site.hub.fault(On::Blobs, Fault::NoLength);
    let cold = site.wharf.open(&site.path, &[("range", "bytes=5-9")]).await;
    assert_eq!((cold.status.as_u16(), cold.header("content-length")), (200, None));
    cold.expect(&site.blob).await;
    site.wharf.quiet().await;
    let kept = site.wharf.open(&site.path, &[("range", "bytes=5-9")]).await;
    assert_eq!((kept.status.as_u16(), kept.header("content-length")), (206, Some("5")));
    kept.expect(&site.blob.slice(5..10)).await;
    site.wharf.end().await;
}

#[tokio::test]
async fn a_manifest_of_another_digest_is_not_kept() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[10]);
    let other = hub.push_single(REPO, "other", ("linux", "arm64", None), &[20]);
    let digest = image.manifest.digest;
    let path = format!("/v2/{REPO}/manifests/{digest}");
    let wharf = Wharf::start(&hub).await;
    let typed = |bytes: &Bytes| {
        let headers = vec![
            ("content-type", image.manifest.media_type.to_owned()),
            ("docker-content-digest", digest.to_string()),
        ];
        Fault::Status(200, headers, bytes.clone())
    };
    for (n, fault) in [Fault::FlipByte(20), typed(&other.manifest.bytes), typed(&Bytes::new())]
        .into_iter()
        .enumerate()
    {
        hub.fault(On::Manifests, fault);
        assert_eq!(wharf.get(&path).await.status, 502);
        hub.clear_faults();
        assert!(!wharf.blob_file(&digest).exists());
        let failures = wharf.metric(r#"wharf_verify_failures_total{stage="manifest"}"#);
        assert_eq!(failures, (n + 1) as f64);
    }
    // By tag, the header is all there is to tell a byte that was lost on the way.
    let by_tag = format!("/v2/{REPO}/manifests/other");
    for fault in [Fault::LieDigest(digest), Fault::FlipByte(20)] {
        hub.fault(On::Manifests, fault);
        assert_eq!(wharf.get(&by_tag).await.status, 502);
        hub.clear_faults();
    }
    let named = other.manifest.digest.to_string();
    assert_eq!(wharf.get(&by_tag).await.header("docker-content-digest"), Some(&*named));
    assert!(!wharf.blob_file(&digest).exists());
    let right = wharf.get(&path).await;
    assert_eq!((right.header("wharf-cache"), right.bytes()), (Some("miss"), &image.manifest.bytes));
    assert!(wharf.blob_file(&digest).exists());
    wharf.end().await;
}

/// Of an image index whose one manifest is said to be `off` bytes longer than it is.
#[tokio::test]
async fn a_manifest_of_another_length_than_its_index_says_is_not_kept() {
    for off in [-1_i64, 1, 1 << 40] {
        let hub = FakeHub::start().await;
        let child = hub.push_single(REPO, "child", ("linux", "arm64", None), &[10]).manifest;
        let index = |size: i64, annotation: &str| {
            let entry = json!({
                "mediaType": media_type::OCI_MANIFEST, "digest": child.digest, "size": size,
                "platform": { "os": "linux", "architecture": "arm64" },
            });
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry],
                "annotations": { "for": annotation } })
        };
        let size = child.bytes.len() as i64;
        for (tag, size) in [("wrong", size + off), ("right", size)] {
            let index = index(size, tag).to_string();
            hub.put_manifest(REPO, Some(tag), media_type::OCI_INDEX, index.clone());
            hub.put_manifest("other/app", Some(tag), media_type::OCI_INDEX, index);
        }
        hub.put_manifest("other/app", Some("own"), media_type::OCI_MANIFEST, child.bytes.clone());
        let wharf = Wharf::start(&hub).await;
        let tagged = |repo: &str, tag: &str| format!("/v2/{repo}/manifests/{tag}");
        let path = tagged(REPO, &child.digest.to_string());
        wharf.get(&tagged(REPO, "wrong")).await.bytes();
        for _ in 0..2 {
            let refused = wharf.get(&path).await;
            assert_eq!(refused.status, 502, "{off}");
            assert_eq!(refused.json()["errors"][0]["code"], "MANIFEST_INVALID", "{off}");
            assert_eq!(wharf.head(&path).await.status, 502, "{off}");
        }
        wharf.quiet().await;
        assert!(!wharf.blob_file(&child.digest).exists(), "{off}");
        // Nor because another repository has it.
        wharf.get(&tagged("other/app", "own")).await.bytes();
        assert_eq!(wharf.get(&path).await.status, 502, "{off}");
        // What its registry has sent, or lists as it is, is not taken away by one index.
        wharf.get(&tagged("other/app", "wrong")).await.bytes();
        let other = tagged("other/app", &child.digest.to_string());
        assert_eq!(wharf.get(&other).await.bytes(), &child.bytes, "{off}");
        // Its registry is not asked for it again and again.
        hub.clear_log();
        assert_eq!(wharf.get(&path).await.status, 502, "{off}");
        assert_eq!(hub.manifest_gets(), 0, "{off}");
        wharf.get(&tagged(REPO, "right")).await.bytes();
        assert_eq!(wharf.get(&path).await.bytes(), &child.bytes, "{off}");
        wharf.end().await;
        // The right index first.
        let wharf = Wharf::start(&hub).await;
        for tag in ["right", "wrong"] {
            wharf.get(&tagged(REPO, tag)).await.bytes();
        }
        assert_eq!(wharf.get(&path).await.bytes(), &child.bytes, "{off}");
        wharf.end().await;
        // A tag of its own, by either way that clients have.
        hub.put_manifest(REPO, Some("own"), media_type::OCI_MANIFEST, child.bytes.clone());
        for by_head in [true, false] {
            let wharf = Wharf::start(&hub).await;
            wharf.get(&tagged(REPO, "wrong")).await.bytes();
            let own = tagged(REPO, "own");
            if by_head {
                assert_eq!(wharf.head(&own).await.status, 200, "{off}");
                assert_eq!(wharf.get(&path).await.bytes(), &child.bytes, "{off}");
            }
            assert_eq!(wharf.get(&own).await.bytes(), &child.bytes, "{off}");
            wharf.end().await;
        }
    }
}
