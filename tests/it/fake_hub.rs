//! The fake is as Docker Hub is: a test that trusts it tests the real thing.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use wharf::oci::{Algorithm, Digest, Manifest, MediaType, media_type};

use crate::support::{
    Challenge, FakeHub, Host, TestCa,
    client::{self, Answer, NoAnswer},
    deadline, noise,
};

const REPO: &str = "library/busybox";
const LISTS: (&str, &str) = ("accept", media_type::OCI_INDEX);

#[tokio::test]
async fn a_token_opens_one_repository_until_it_is_revoked() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "latest", ("linux", "amd64", None), &[10]);
    hub.push_single("library/alpine", "latest", ("linux", "amd64", None), &[10]);
    let registry = hub.addr(Host::Registry);

    let refused = client::get(registry, "/v2/", &[]).await;
    assert_eq!((refused.status.as_u16(), refused.bytes().is_empty()), (401, false));
    let refused = client::get(registry, "/v2/library/busybox/manifests/latest", &[]).await;
    let realm = hub.url(Host::Auth);
    let challenge = format!(
        r#"Bearer realm="{realm}/token",service="registry.docker.io",scope="repository:{REPO}:pull""#
    );
    assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()));
    assert_eq!(hub.manifest_gets(), 0, "a challenge is not a pull");

    let path = "/token?service=registry.docker.io&scope=repository%3Alibrary%2Fbusybox%3Apull";
    let token = json(&client::get(hub.addr(Host::Auth), path, &[]).await);
    assert_eq!((&token["expires_in"], &token["access_token"]), (&300.into(), &token["token"]));
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let with_token = [("authorization", bearer.as_str())];
    for (path, status) in [
        ("/v2/", 200),
        ("/v2/library/busybox/manifests/latest", 200),
        ("/v2/library/busybox/manifests/missing", 404),
        ("/v2/library/alpine/manifests/latest", 401),
        ("/v2/library/nothing/manifests/latest", 401),
    ] {
        assert_eq!(client::get(registry, path, &with_token).await.status, status, "{path}");
    }
    hub.revoke_tokens();
    assert_eq!(client::get(registry, "/v2/", &with_token).await.status, 401);
}

#[tokio::test]
async fn an_account_is_asked_for_where_one_is_required() {
    let hub = FakeHub::start().await;
    hub.require_basic("Aladdin", "open sesame");
    let account = [("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")];
    let auth = hub.addr(Host::Auth);
    assert_eq!(client::get(auth, "/token", &[]).await.status, 401);
    assert_eq!(client::get(auth, "/token", &account).await.status, 200);

    let hub = FakeHub::builder().challenge(Challenge::Basic).start().await;
    hub.require_basic("Aladdin", "open sesame");
    let refused = client::get(hub.addr(Host::Registry), "/v2/", &[]).await;
    assert_eq!(refused.header("www-authenticate"), Some(r#"Basic realm="fake hub""#));
    assert_eq!(client::get(hub.addr(Host::Registry), "/v2/", &account).await.status, 200);
}

#[tokio::test]
async fn a_blob_is_on_another_host_that_refuses_authorization() {
    let hub = FakeHub::start().await;
    let bytes = noise("blob", 1000);
    let digest = hub.put_blob(REPO, bytes.clone());
    let bearer = format!("Bearer {}", hub.issue_token(REPO));
    let with_token = [("authorization", bearer.as_str())];
    let path = format!("/v2/{REPO}/blobs/{digest}");

    let moved = client::get(hub.addr(Host::Registry), &path, &with_token).await;
    let location = moved.header("location").expect("a redirect").to_owned();
    let signed = location.strip_prefix(&hub.url(Host::Cdn)).expect("to the CDN");
    assert_eq!(moved.status, 307);

    let cdn = hub.addr(Host::Cdn);
    assert_eq!(client::get(cdn, signed, &with_token).await.status, 400);
    let forged = format!("{signed}0");
    assert_eq!(client::get(cdn, &forged, &[]).await.status, 403);
    assert_eq!(client::get(cdn, signed, &[]).await.bytes(), &bytes);
    for (range, status, content_range, body) in [
        ("bytes=990-", 206, Some("bytes 990-999/1000"), &bytes[990..]),
        ("bytes=5-9", 206, Some("bytes 5-9/1000"), &bytes[5..10]),
        ("bytes=5-2000", 206, Some("bytes 5-999/1000"), &bytes[5..]),
        ("bytes=-1", 206, Some("bytes 999-999/1000"), &bytes[999..]),
        ("bytes=1000-", 416, Some("bytes */1000"), &[]),
        ("bytes=0-1,5-9", 200, None, &bytes),
        ("lines=1", 200, None, &bytes),
    ] {
        let answer = client::get(cdn, signed, &[("range", range)]).await;
        assert_eq!(answer.status, status, "{range}");
        assert_eq!(answer.header("content-range"), content_range, "{range}");
        assert_eq!(answer.bytes().as_ref(), body, "{range}");
    }
    let expected = 3 * 1000 + 10 + 5 + 995 + 1;
    assert_eq!(hub.blob_bytes_sent(&digest), expected);
    hub.expire_redirects();
    assert_eq!(client::get(cdn, signed, &[]).await.status, 403);
    assert_eq!(hub.blob_bytes_sent(&digest), expected, "a refusal is not the blob");
}

#[tokio::test]
async fn a_manifest_is_the_same_by_tag_and_by_digest_and_for_head() {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let platforms =
        [("linux", "arm", Some("v7")), ("linux", "amd64", None), ("linux", "arm64", None)];
    let image = hub.push_image(REPO, "latest", &platforms, &[3000, 0]);
    let registry = hub.addr(Host::Registry);
    let by_tag = format!("/v2/{REPO}/manifests/latest");
    let by_digest = format!("/v2/{REPO}/manifests/{}", image.index.digest);

    let head = client::head(registry, &by_tag, &[LISTS]).await;
    assert!(head.bytes().is_empty());
    for answer in [
        client::get(registry, &by_tag, &[("accept", "text/html"), LISTS]).await,
        client::get(registry, &by_digest, &[]).await,
    ] {
        assert_eq!(answer.bytes(), &image.index.bytes);
        for name in ["content-type", "content-length", "docker-content-digest", "etag"] {
            assert!(head.header(name).is_some(), "{name}");
            assert_eq!(head.header(name), answer.header(name), "{name}");
        }
        assert_eq!(answer.header("ratelimit-limit"), Some("100;w=21600"));
    }
    assert_eq!(head.header("content-type"), Some(image.index.media_type));
    assert_eq!(head.header("ratelimit-remaining"), Some("100;w=21600"));
    assert_eq!((hub.manifest_heads(), hub.manifest_gets()), (1, 2));

    let chosen = client::get(registry, &by_tag, &[("accept", "*/*")]).await;
    assert_eq!(chosen.bytes(), &image.child("linux/amd64").manifest.bytes);
    assert_eq!(chosen.header("ratelimit-remaining"), Some("97;w=21600"));

    let child = image.child("linux/arm/v7");
    let kind: MediaType = child.manifest.media_type.parse().expect("a media type");
    let manifest = Manifest::parse(&kind, &child.manifest.bytes).expect("a manifest");
    let blobs: Vec<_> = manifest.references().iter().map(|blob| blob.digest).collect();
    assert_eq!(blobs, [child.config.digest, child.layers[0].digest, child.layers[1].digest]);
    assert_eq!(child.layers[0].bytes.len(), 3000);
}

#[tokio::test]
async fn tags_move_go_and_are_listed_in_pages() {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let registry = hub.addr(Host::Registry);
    let digest = hub.put_manifest(REPO, Some("a"), "text/plain", "not a manifest at all");
    for tag in ["c", "b", "d"] {
        hub.move_tag(REPO, tag, digest);
    }
    hub.delete_tag(REPO, "b");

    let first = client::get(registry, "/v2/library/busybox/tags/list?n=2", &[]).await;
    assert_eq!(json(&first)["tags"], serde_json::json!(["a", "c"]));
    let next = r#"</v2/library/busybox/tags/list?last=c&n=2>; rel="next""#;
    assert_eq!(first.header("link"), Some(next));
    let last = client::get(registry, "/v2/library/busybox/tags/list?last=c&n=2", &[]).await;
    assert_eq!((&json(&last)["tags"], last.header("link")), (&serde_json::json!(["d"]), None));

    let path = format!("/v2/{REPO}/referrers/{digest}");
    assert_eq!(client::get(registry, &path, &[]).await.status, 404);
    hub.referrers(REPO, digest, Some("{}".into()));
    let answer = client::get(registry, &path, &[]).await;
    assert_eq!(answer.header("content-type"), Some(media_type::OCI_INDEX));
    hub.referrers(REPO, digest, None);
    for (method, path, status) in [
        ("GET", path.as_str(), 404),
        ("GET", "/v2/nothing/here/tags/list", 404),
        ("GET", "/v2/library/busybox/manifests/b", 404),
        ("GET", "/v2/library/busybox/blobs/sha256:00", 400),
        ("DELETE", "/v2/library/busybox/manifests/a", 405),
    ] {
        assert_eq!(client::request(method, registry, path, &[]).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_log_has_what_was_asked_and_what_was_sent() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let digest = hub.put_blob_as(Algorithm::Sha512, REPO, noise("blob", 100));
    let path = format!("/v2/{REPO}/blobs/{digest}");
    let headers = [
        ("accept", "a/b, c/d;q=0.5"),
        ("accept", "e/f"),
        ("accept-encoding", "identity"),
        ("range", "bytes=90-"),
        ("x-meta-name", "value"),
    ];
    let answer =
        client::get(hub.addr(Host::Registry), &format!("{path}?ns=docker.io"), &headers).await;
    assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    hub.until("the range", |log| log.iter().any(|seen| seen.body_bytes_sent == 10)).await;

    let log = hub.log();
    let [seen] = log.as_slice() else { panic!("one request: {log:?}") };
    assert_eq!(
        (seen.host, seen.method.as_str(), seen.path.as_str()),
        (Host::Registry, "GET", path.as_str())
    );
    assert_eq!((seen.query.as_str(), seen.range.as_deref()), ("ns=docker.io", Some("bytes=90-")));
    assert_eq!((seen.authorization, seen.status), (false, Some(206)));
    assert_eq!(seen.accept, ["a/b", "c/d", "e/f"]);
    assert_eq!(seen.accept_encoding.as_deref(), Some("identity"));
    assert_eq!(seen.headers["x-meta-name"], "value");
    hub.clear_log();
    assert_eq!(hub.count(|_| true), 0);
}

#[tokio::test]
async fn a_stopped_hub_refuses_connections_and_comes_back_on_its_ports() {
    let mut hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let addr = hub.addr(Host::Registry);
    for _ in 0..3 {
        assert_eq!(client::get(addr, "/v2/", &[]).await.status, 200);
        hub.stop().await;
        assert_eq!(client::open("GET", addr, "/v2/", &[]).await.err(), Some(NoAnswer::Refused));
        hub.resume();
    }
    assert_eq!(client::get(addr, "/v2/", &[]).await.status, 200);
    drop(hub);
    // The accept loops end when the runtime comes to them.
    let gone = async {
        while client::open("GET", addr, "/v2/", &[]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    deadline("the listeners to close", gone).await;
}

#[tokio::test]
async fn two_requests_share_a_connection_that_is_not_http_by_halves() {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let requests = b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\nGET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = client::send_raw(hub.addr(Host::Registry), requests).await;
    let answer = String::from_utf8(answer).expect("text");
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answer}");
    let nothing = client::send_raw(hub.addr(Host::Registry), b"\0\r\n\r\n").await;
    assert_eq!(nothing, b"");
}

#[tokio::test]
async fn https_is_served_with_a_certificate_of_the_authority() {
    let ca = TestCa::new();
    let hub = FakeHub::builder().tls(&ca).start().await;
    assert!(hub.url(Host::Registry).starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("PEM");
    roots.add(certificate).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let exchange = async {
        let socket = TcpStream::connect(hub.addr(Host::Registry)).await?;
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = deadline("an answer over TLS", exchange).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.contains(r#"realm="https://127.0.0.1:"#), "{answer}");
}

#[test]
fn noise_is_the_same_in_every_run() {
    assert_eq!(noise("a", 100), noise("a", 1000).slice(..100));
    assert_ne!(noise("a", 100), noise("b", 100));
    let known = "sha256:9f7e419d42c1f19407349cbc183f8131284ae05a6a91311a3986f6796e1fb1fd";
    assert_eq!(Digest::sha256(&noise("a", 1_000_000)).to_string(), known);
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(answer.bytes()).expect("JSON")
}
