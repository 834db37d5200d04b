//! What registries, token services and their refusals may send in one piece.

use serde_json::{Value, json};
use wharf::{config::Config, oci::media_type};

use super::{REPO, reached, start, until_reached};
use crate::support::{
    Challenge, FakeHub, Fault, On, Wharf,
    client::{self, Answer},
    docker_hub,
};

async fn pulled(wharf: &Wharf, tag: &str) -> Answer {
    wharf.get(&format!("/v2/{REPO}/manifests/{tag}")).await
}

/// The document `value` under two tags of REPO is refused while `tight` holds, counted as `limit` and not kept, and served
/// without that.
async fn assert_bounded(value: &Value, limit: &str, tight: fn(&mut Config)) {
    let (hub, wharf) = start(|config| {
        config.upstreams[0].patience.attempts = 1;
        tight(config);
    })
    .await;
    let image = hub.push_single(REPO, "good", ("linux", "arm64", None), &[10]);
    let digest = hub.put_manifest(REPO, Some("1"), media_type::OCI_INDEX, value.to_string());
    for reference in ["1".to_owned(), digest.to_string()] {
        let before = reached(&wharf, limit);
        assert_eq!(pulled(&wharf, &reference).await.status, 502, "{limit}: {reference}");
        assert_eq!(reached(&wharf, limit), before + 1.0, "{limit}: {reference}");
    }
    assert_eq!(wharf.metric("wharf_cache_bytes"), 0.0, "{limit}");
    assert_eq!(pulled(&wharf, "good").await.bytes(), &image.manifest.bytes, "{limit}");
    wharf.end().await;
    let wharf = Wharf::start(&hub).await;
    assert_eq!(pulled(&wharf, "1").await.status, 200, "{limit}");
    assert_eq!(reached(&wharf, limit), 0.0);
    wharf.end().await;
}

fn index(more: Value) -> Value {
    let mut index =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] });
    index.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    index
}

#[tokio::test]
async fn a_document_is_no_longer_than_the_operator_says() {
    let long = index(json!({ "annotations": { "padding": "x".repeat(70_000) } }));
    assert_bounded(&long, "manifest_bytes", |config| {
        config.documents.manifest_bytes = 64 * 1024;
    })
    .await;
}

#[tokio::test]
async fn a_document_is_no_deeper_than_the_operator_says() {
    let deep = (0..9).fold(json!(1), |inner, _| json!([inner]));
    assert_bounded(&index(json!({ "x": deep })), "json_depth", |config| {
        config.documents.json_depth = 9;
    })
    .await;
}

#[tokio::test]
async fn a_document_lists_no_more_than_the_operator_says() {
    // What wharf cannot verify counts as well: clients may.
    for digest in [wharf::oci::Digest::sha256(b"").to_string(), "blake3:00".to_owned()] {
        let entry = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 0 });
        let long = index(json!({ "manifests": vec![entry; 17] }));
        assert_bounded(&long, "manifest_entries", |config| {
            config.pull.limits.manifest_entries = 16;
        })
        .await;
    }
    let (hub, wharf) = start(|config| config.pull.limits.manifest_entries = 16).await;
    for (layers, status) in [(16, 200), (17, 502)] {
        let tag = layers.to_string();
        hub.push_single(REPO, &tag, ("linux", "arm64", None), &vec![1; layers]);
        assert_eq!(pulled(&wharf, &tag).await.status, status, "{layers} layers");
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_document_of_ten_thousand_levels_is_refused_by_default() {
    let (hub, wharf) = start(|config| config.upstreams[0].patience.attempts = 1).await;
    let levels = 10_000;
    let deep = format!(r#"{{"manifests":[],"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    hub.put_manifest(REPO, Some("1"), media_type::OCI_INDEX, deep);
    assert_eq!(pulled(&wharf, "1").await.status, 502);
    assert_eq!(reached(&wharf, "json_depth"), 1.0);
    wharf.end().await;
}

/// Whatever is asked for, and by whom.
#[tokio::test]
async fn no_list_and_no_token_is_deeper_than_the_operator_says() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[10]);
    let deep = (0..9).fold(json!(1), |inner, _| json!([inner]));
    let token = json!({ "token": hub.issue_token(REPO), "x": deep });
    let tags = json!({ "name": REPO, "tags": ["1"], "x": deep });
    let referrers = index(json!({ "x": deep }));
    for (on, body, path, refused) in [
        (On::Token, token, format!("/v2/{REPO}/manifests/1"), 502),
        (On::Path("/tags/list"), tags, format!("/v2/{REPO}/tags/list"), 502),
        // Docker would go to Docker Hub: it is told of none.
        (
            On::Path("/referrers/"),
            referrers,
            format!("/v2/{REPO}/referrers/{}", image.manifest.digest),
            200,
        ),
    ] {
        let kind = ("content-type", media_type::OCI_INDEX.to_owned());
        hub.fault(on, Fault::Status(200, vec![kind], body.to_string().into()));
        for (depth, status, counted) in [(9, refused, 1.0), (10, 200, 0.0)] {
            let wharf = Wharf::start_with(&hub, |config| {
                config.upstreams[0].patience.attempts = 1;
                config.documents.json_depth = depth;
            })
            .await;
            assert_eq!(wharf.get(&path).await.status, status, "{path}: {depth}");
            assert_eq!(reached(&wharf, "json_depth"), counted, "{path}: {depth}");
            wharf.end().await;
        }
        hub.clear_faults();
    }
}

#[tokio::test]
async fn a_token_is_in_no_longer_an_answer_than_the_operator_says() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", ("linux", "arm64", None), &[10]);
    let answer = json!({ "token": hub.issue_token(REPO), "padding": "x".repeat(70_000) });
    let body = answer.to_string();
    hub.fault(On::Token, Fault::Status(200, Vec::new(), body.into()));
    for (bytes, status, counted) in [(64 * 1024, 502, 1.0), (1024 * 1024, 200, 0.0)] {
        let wharf = Wharf::start_with(&hub, |config| {
            config.upstreams[0].patience.attempts = 1;
            config.documents.token_bytes = bytes;
        })
        .await;
        assert_eq!(pulled(&wharf, "1").await.status, status, "{bytes}");
        assert_eq!(reached(&wharf, "token_bytes"), counted, "{bytes}");
        wharf.end().await;
    }
}

#[tokio::test]
async fn of_a_refusal_no_more_is_read_than_the_operator_says() {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let digest = hub.push_single(REPO, "1", ("linux", "arm64", None), &[10]).manifest.digest;
    let body = "x".repeat(100_000);
    hub.fault(On::Manifests, Fault::Status(404, Vec::new(), body.into()));
    for (bytes, counted) in [(64 * 1024, 1.0), (128 * 1024, 0.0)] {
        let wharf = Wharf::start_with(&hub, |config| config.documents.error_bytes = bytes).await;
        // By digest: about a tag only the head of an answer is asked for first.
        assert_eq!(pulled(&wharf, &digest.to_string()).await.status, 404, "{bytes}");
        assert_eq!(reached(&wharf, "error_body"), counted, "{bytes}");
        wharf.end().await;
    }
}

#[tokio::test]
async fn verdicts_beyond_the_limit_are_forgotten_and_asked_for_again() {
    let hub = FakeHub::builder().challenge(Challenge::Basic).without_redirect().start().await;
    for (repo, user) in [("team/app", "alice"), ("bob/own", "bob")] {
        hub.push_single(repo, "1", ("linux", "arm64", None), &[10]);
        hub.allow(user, "secret", repo);
    }
    let wharf = Wharf::start_with(&hub, |config| {
        let minute = std::time::Duration::from_secs(60);
        let terms = wharf::upstream::Terms { ttl: minute, offline_grace: minute };
        config.upstreams =
            vec![wharf::upstream::Config { clients: Some(terms), ..docker_hub(&hub) }];
        config.pull.limits.verdicts = 1;
    })
    .await;
    let asked = async {
        for (repo, user) in [("team/app", "alice"), ("bob/own", "bob")].iter().cycle() {
            let account = http_auth::basic::encode_credentials(user, "secret");
            let path = format!("/v2/{repo}/manifests/1");
            let answer = client::get(wharf.addr, &path, &[("authorization", &*account)]).await;
            assert_eq!(answer.status, 200, "{user}");
        }
    };
    tokio::select! {
        () = asked => unreachable!("they go on"),
        () = until_reached(&wharf, "verdicts", 1.0) => {}
    }
    wharf.end().await;
}
