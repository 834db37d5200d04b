//! Holes that others of this kind have had, each under the name it was published by. `SECURITY.md` tells what closes it.

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;
use wharf::oci::{Algorithm, Digest, ImageName, media_type};

use crate::support::{Challenge, FakeHub, Fault, On, Program, Wharf, blob_path, client, upstream};

const REPO: &str = "library/app";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

fn image(name: &str) -> ImageName {
    name.parse().expect("a name")
}

/// zot gave a blob that it had of one repository to whoever asked for it through another.
#[tokio::test]
async fn cve_2024_39897_bytes_of_one_repository_are_not_given_through_another() {
    let hub = FakeHub::start().await;
    let secret = hub.push_single("team/secret", "1", ARM64, &[5000]);
    hub.push_single(REPO, "1", ARM64, &[10]);
    let wharf = Wharf::start(&hub).await;
    let layer = blob_path(REPO, &secret.layers[0].digest);
    let manifest = format!("/v2/{REPO}/manifests/{}", secret.manifest.digest);
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    for warm in [false, true] {
        if warm {
            assert_eq!(wharf.get("/v2/team/secret/manifests/1").await.status, 200);
            let own = blob_path("team/secret", &secret.layers[0].digest);
            assert_eq!(wharf.get(&own).await.bytes(), &secret.layers[0].bytes);
            // What was said before it was here is forgotten.
            wharf.clock.advance(std::time::Duration::from_secs(3600));
        }
        for path in [&layer, &manifest] {
            assert_eq!(wharf.get(path).await.status, 404, "{path}, warm: {warm}");
            assert_eq!(wharf.head(path).await.status, 404, "{path}, warm: {warm}");
        }
    }
    wharf.end().await;
}

/// distribution went on giving what was deleted, because a cache still said that the repository had it.
#[tokio::test]
async fn cve_2026_35172_what_is_removed_is_given_no_more() {
    const OTHER: &str = "library/other";
    let mut hub = FakeHub::start().await;
    let gone = hub.push_single(REPO, "1", ARM64, &[5000]);
    // Another repository has the same image, so that its bytes stay.
    for blob in gone.layers.iter().chain([&gone.config]) {
        hub.put_blob(OTHER, blob.bytes.clone());
    }
    hub.put_manifest(OTHER, Some("1"), gone.manifest.media_type, gone.manifest.bytes.clone());
    let wharf = Wharf::start(&hub).await;
    let paths = |repository: &str| {
        [
            format!("/v2/{repository}/manifests/1"),
            format!("/v2/{repository}/manifests/{}", gone.manifest.digest),
            blob_path(repository, &gone.layers[0].digest),
        ]
    };
    for path in paths(REPO).iter().chain(&paths(OTHER)) {
        assert_eq!(wharf.get(path).await.status, 200, "{path}");
    }
    wharf.quiet().await;
    hub.stop().await;
    wharf.pull.remove(&image("docker.io/library/app:1")).await.expect("removed");
    let check = async |wharf: &Wharf| {
        assert!(wharf.blob_file(&gone.layers[0].digest).exists());
        for path in paths(REPO) {
            assert_ne!(wharf.get(&path).await.status, 200, "{path}");
        }
        for path in paths(OTHER) {
            assert_eq!(wharf.get(&path).await.status, 200, "{path}");
        }
    };
    check(&wharf).await;
    let wharf = wharf.restart().await;
    check(&wharf).await;
    wharf.end().await;
}

/// containerd sent its password to the address that a manifest named for a layer.
#[tokio::test]
async fn cve_2020_15157_nobody_goes_where_a_manifest_says_that_a_layer_lies() {
    let hub = FakeHub::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let to = elsewhere.local_addr().expect("bound");
    let config = hub.put_blob(REPO, "{}");
    let foreign = Digest::sha256(b"lies elsewhere");
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": { "mediaType": media_type::OCI_CONFIG, "digest": config, "size": 2 },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": foreign, "size": 14, "urls": [format!("http://{to}/layer")],
        }],
    });
    hub.put_manifest(REPO, Some("1"), media_type::OCI_MANIFEST, document.to_string());
    let wharf = Wharf::start_with(&hub, |config| config.pull.prefetch.on_pull = true).await;
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    assert_eq!(wharf.get(&blob_path(REPO, &foreign)).await.status, 404);
    wharf.quiet().await;
    let called = futures_util::poll!(std::pin::pin!(elsewhere.accept()));
    assert!(called.is_pending(), "somebody went there");
    wharf.end().await;
}

/// distribution kept, and gave to others, a manifest that was not what its digest says.
#[tokio::test]
async fn cve_2026_85747_a_manifest_that_is_not_what_its_digest_says_is_given_to_nobody() {
    let hub = FakeHub::start().await;
    let good = hub.push_single(REPO, "1", ARM64, &[10]);
    let other = hub.push_single(REPO, "2", ARM64, &[20]);
    let wharf = Wharf::start(&hub).await;
    let path = format!("/v2/{REPO}/manifests/{}", good.manifest.digest);
    let headers = vec![
        ("content-type", media_type::OCI_MANIFEST.to_owned()),
        ("docker-content-digest", good.manifest.digest.to_string()),
    ];
    hub.fault(On::Manifests, Fault::Status(200, headers, other.manifest.bytes.clone()));
    assert_eq!(wharf.get(&path).await.status, 502);
    hub.clear_faults();
    assert_eq!(wharf.get(&path).await.bytes(), &good.manifest.bytes);
    wharf.end().await;
}

/// Libraries built paths and addresses from what stood in the place of a digest.
#[tokio::test]
async fn cve_2024_3727_ghsa_f689_what_is_no_digest_is_no_part_of_a_path() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start(&hub).await;
    let hex = "0".repeat(64);
    for digest in [
        "sha256:../../../../etc/passwd".to_owned(),
        "sha256:..%2f..%2f..%2fetc%2fpasswd".to_owned(),
        format!("sha256:{}/..", &hex[..61]),
        format!("../sha256:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{}", hex.replace('0', "A")),
        format!("sha256:{hex}%00"),
    ] {
        for kind in ["blobs", "manifests"] {
            let answer = wharf.get(&format!("/v2/{REPO}/{kind}/{digest}")).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{digest}: {}", answer.status);
        }
    }
    assert_eq!(hub.count(|seen| !seen.path.ends_with("/v2/")), 0, "{:?}", hub.log());
    wharf.end().await;
}

/// distribution took in manifests of any length, and containers/image what any registry sent.
#[tokio::test]
async fn cve_2017_11468_cve_2020_1702_a_manifest_without_end_is_not_taken_in() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", ARM64, &[10]);
    let wharf = Wharf::start(&hub).await;
    hub.fault(On::Manifests, Fault::HugeBody(64 << 20));
    let answer = wharf.get(&format!("/v2/{REPO}/manifests/1")).await;
    assert_eq!(answer.status, 502);
    wharf.end().await;
}

/// distribution made room for as many names as `n` says.
#[tokio::test]
async fn cve_2023_2253_a_page_is_as_long_as_wharf_says() {
    let hub = FakeHub::start().await;
    for tag in ["1", "2", "3"] {
        hub.push_single(REPO, tag, ARM64, &[10]);
        hub.push_single(&format!("{REPO}-{tag}"), "1", ARM64, &[10]);
    }
    let wharf = Wharf::start_with(&hub, |config| config.pull.limits.list_entries = 2).await;
    for tag in ["1", "2", "3"] {
        assert_eq!(wharf.get(&format!("/v2/{REPO}-{tag}/manifests/1")).await.status, 200);
    }
    for n in ["4294967295", "3"] {
        for (list, key) in
            [(format!("{REPO}/tags/list"), "tags"), ("_catalog".to_owned(), "repositories")]
        {
            let answer = wharf.get(&format!("/v2/{list}?n={n}")).await;
            assert_eq!(answer.json()[key].as_array().map(Vec::len), Some(2), "{list}, {n}");
        }
    }
    for n in [u32::MAX.to_string(), u64::MAX.to_string(), "-1".to_owned(), "9".repeat(400)] {
        let answer = wharf.get(&format!("/v2/_catalog?n={n}")).await;
        assert!(matches!(answer.status.as_u16(), 200 | 400), "{n}: {}", answer.status);
        let tags = wharf.get(&format!("/v2/{REPO}/tags/list?n={n}")).await;
        assert!(matches!(tags.status.as_u16(), 200 | 400), "{n}: {}", tags.status);
    }
    assert_eq!(
        hub.count(|seen| seen.path.contains("4294967295")),
        0,
        "nor is the registry asked so"
    );
    wharf.end().await;
}

/// oras made room for a blob by what a descriptor says of its size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_f36w_a_size_that_is_only_said_takes_no_memory() {
    const SAID: [u64; 4] = [1 << 30, 1 << 40, u64::MAX / 2, u64::MAX];
    let hub = FakeHub::start().await;
    let config = hub.put_blob(REPO, "{}");
    let layer = hub.put_blob(REPO, "short");
    let child = hub.push_single(REPO, "child", ARM64, &[10]).manifest;
    for (n, size) in SAID.into_iter().enumerate() {
        let image = json!({
            "schemaVersion": 2,
            "config": { "mediaType": media_type::OCI_CONFIG, "digest": config, "size": size },
            "layers": [{ "mediaType": "a/b", "digest": layer, "size": size }],
        });
        let list = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": media_type::OCI_MANIFEST, "digest": child.digest, "size": size,
                "platform": { "os": "linux", "architecture": "arm64" },
            }],
        });
        let put = |tag: &str, kind, document: serde_json::Value| {
            hub.put_manifest(REPO, Some(&format!("{tag}-{n}")), kind, document.to_string());
        };
        put("image", media_type::OCI_MANIFEST, image);
        put("list", media_type::OCI_INDEX, list);
    }
    let wharf = Program::start(&hub).await;
    let quiet = wharf.peak_resident_bytes();
    for n in 0..SAID.len() {
        for tag in ["image", "list"] {
            let path = format!("/v2/{REPO}/manifests/{tag}-{n}");
            assert_eq!(client::get(wharf.addr, &path, &[]).await.status, 200, "{path}");
        }
        for digest in [config, layer] {
            let asked = client::open("GET", wharf.addr, &blob_path(REPO, &digest), &[]).await;
            assert!(asked.is_ok_and(|answer| answer.status != 200
                || answer.header("content-length").is_none_or(|length| length.len() < 2)));
        }
        let path = format!("/v2/{REPO}/manifests/{}", child.digest);
        assert_eq!(client::get(wharf.addr, &path, &[]).await.status, 502);
    }
    wharf.until_zero("wharf_downloads_in_flight").await;
    let grown = wharf.peak_resident_bytes() - quiet;
    assert!(grown < 32 << 20, "{grown} bytes more");
    wharf.end().await;
}

/// Of two algorithms, what one says is never held against the other, and others are none.
#[tokio::test]
async fn one_algorithm_is_not_taken_for_another() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2,\"config\":{},\"layers\":[]}");
    let (short, long) = (Digest::sha256(&bytes), Digest::of(Algorithm::Sha512, &bytes));
    let wharf = Wharf::start(&hub).await;
    // The same hexadecimal digits under the other's name, cut or filled up, name nothing.
    for name in [
        format!("sha256:{}", long.encoded()),
        format!("sha512:{}", short.encoded()),
        format!("sha384:{}", &long.encoded()[..96]),
        format!("sha1:{}", &short.encoded()[..40]),
        format!("sha256+sha512:{}", short.encoded()),
        format!("SHA256:{}", short.encoded()),
    ] {
        for kind in ["blobs", "manifests"] {
            let answer = wharf.get(&format!("/v2/{REPO}/{kind}/{name}")).await;
            assert_eq!(answer.status, 400, "{kind}/{name}");
        }
    }
    assert_eq!(hub.log().len(), 0, "nothing of it is asked for");
    // Bytes that are right by one name and wrong by the other.
    let other = Digest::of(Algorithm::Sha512, b"others");
    for (digest, is_right) in [(short, true), (long, true), (other, false)] {
        hub.fault(On::Path("/blobs/"), Fault::Status(200, Vec::new(), bytes.clone()));
        let answer = wharf.get(&blob_path(REPO, &digest)).await;
        assert_eq!(answer.body.as_ref().ok() == Some(&bytes), is_right, "{digest}: {answer:?}");
        wharf.quiet().await;
        assert_eq!(wharf.blob_file(&digest).exists(), is_right, "{digest}");
        hub.clear_faults();
    }
    assert_ne!(wharf.blob_file(&short), wharf.blob_file(&long));
    wharf.end().await;
}

/// zot and distribution let themselves be told to delete, and to push, by requests that should not have come so far.
#[tokio::test]
async fn cve_2026_41888_cve_2026_61833_nothing_is_changed_at_the_registry_address() {
    let hub = FakeHub::start().await;
    let kept = hub.push_single(REPO, "1", ARM64, &[10]);
    let wharf = Wharf::start(&hub).await;
    let tag = format!("/v2/{REPO}/manifests/1");
    let layer = blob_path(REPO, &kept.layers[0].digest);
    for path in [&tag, &layer] {
        assert_eq!(wharf.get(path).await.status, 200);
    }
    wharf.quiet().await;
    hub.clear_log();
    for method in ["DELETE", "PUT", "POST", "PATCH", "CONNECT", "TRACE"] {
        for path in [&tag, &layer, "/v2/library/app/blobs/uploads/"] {
            let answer = client::request(method, wharf.addr, path, &[]).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 405),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    assert_eq!(hub.log().len(), 0);
    assert_eq!(wharf.get(&tag).await.cache(), "hit");
    assert_eq!(wharf.get(&layer).await.cache(), "hit");
    wharf.end().await;
}

/// Quay asked whatever address its proxy cache was told; here `ns` is a name that is looked up.
#[tokio::test]
async fn cve_2026_32591_ghsa_33p6_ns_is_no_address() {
    let hub = FakeHub::start().await;
    let elsewhere = FakeHub::builder().challenge(Challenge::None).start().await;
    elsewhere.push_single(REPO, "1", ARM64, &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config
            .upstreams
            .push(upstream("known.example".parse().expect("a registry"), &["http://127.0.0.1:1"]));
    })
    .await;
    let address = elsewhere.addr(crate::support::Host::Registry);
    for ns in [
        address.to_string(),
        format!("http://{address}"),
        "169.254.169.254".to_owned(),
        "localhost".to_owned(),
    ] {
        let answer = wharf.get(&format!("/v2/{REPO}/manifests/1?ns={ns}")).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{ns}: {}", answer.status);
    }
    assert_eq!(elsewhere.log().len(), 0);
    wharf.end().await;
}
