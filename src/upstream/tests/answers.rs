//! What is asked, and what is made of the answers.

use super::*;

async fn answering(
    script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) -> (Fake, Bench) {
    let fake = Fake::start(script).await;
    let bench = bench(config(&[&fake]));
    (fake, bench)
}

#[tokio::test]
async fn asks_for_lists_and_images_and_no_encoding() {
    let (fake, bench) = answering(|_| {
        let digest = Digest::sha256(IMAGE.as_bytes()).to_string();
        let headers = [
            ("content-type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            ("docker-content-digest", &digest),
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ];
        reply(200, &headers, IMAGE)
    })
    .await;
    let head = bench.upstream.manifest_head(&name(), &tag(), Urgency::Must).await.expect("a head");
    assert_eq!(head.digest, Digest::sha256(IMAGE.as_bytes()));
    assert_eq!(head.media_type.as_str(), media_type::OCI_MANIFEST);
    assert_eq!(head.size, Some(IMAGE.len() as u64));
    let got = bench.upstream.manifest(&name(), &tag(), Urgency::Must).await.expect("the image");
    assert_eq!((got.bytes, got.media_type), (Bytes::from(IMAGE), head.media_type));

    let seen = fake.seen();
    assert_eq!((seen[0].method.as_str(), seen[1].method.as_str()), ("HEAD", "GET"));
    for seen in seen {
        let accept = seen.header("accept").expect("Accept");
        for kind in [
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
        ] {
            assert!(accept.split(", ").any(|one| one == kind), "{kind} in {accept}");
        }
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("wharf/")));
        assert_eq!(seen.header("authorization"), None);
    }
    let registry = r#"{registry="registry.example"}"#;
    assert!(bench.metric(&format!("wharf_upstream_ratelimit_limit{registry} 100")));
    assert!(bench.metric(&format!("wharf_upstream_ratelimit_remaining{registry} 76")));
    assert!(bench.metric(&format!("wharf_upstream_bytes_total{registry} {}", IMAGE.len())));
}

#[tokio::test]
async fn a_head_needs_a_digest_unless_one_was_asked_for() {
    let asked = Digest::sha256(b"asked");
    let other = Digest::sha256(b"other").to_string();
    let sha512 = Digest::of(crate::oci::Algorithm::Sha512, b"asked").to_string();
    for (told, by_tag, by_digest) in [
        (None, false, true),
        (Some("blake3:00".to_owned()), false, true),
        (Some(other), true, false),
        (Some(sha512), true, true),
        (Some(asked.to_string()), true, true),
    ] {
        let (_fake, bench) = answering(move |_| {
            let mut headers = vec![("content-type", media_type::OCI_INDEX)];
            headers.extend(told.as_deref().map(|digest| ("docker-content-digest", digest)));
            reply(200, &headers, "")
        })
        .await;
        for (reference, want) in [(tag(), by_tag), (Reference::Digest(asked), by_digest)] {
            let head = bench.upstream.manifest_head(&name(), &reference, Urgency::Must).await;
            assert_eq!(head.is_ok(), want, "{reference}: {head:?}");
            assert!(want || is_protocol(&head));
        }
    }
}

#[tokio::test]
async fn a_manifest_that_is_too_long_is_refused() {
    let kind = ("content-type", media_type::OCI_INDEX);
    let (_fake, bench) =
        answering(move |_| stalled(200, &[kind, ("content-length", "4194305")], "{")).await;
    assert!(is_protocol(&bench.manifest(Urgency::Must).await), "announced");
    let (_fake, bench) = answering(move |_| {
        let chunked = [kind, ("transfer-encoding", "chunked")];
        reply(200, &chunked, vec![b' '; crate::oci::MANIFEST_MAX_BYTES + 1])
    })
    .await;
    assert!(is_protocol(&bench.manifest(Urgency::Must).await), "not announced");
    let (_fake, bench) =
        answering(move |_| reply(200, &[kind], vec![b' '; crate::oci::MANIFEST_MAX_BYTES])).await;
    assert!(bench.manifest(Urgency::Must).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_taken_at_its_word_is_refused() {
    let kind = ("content-type", media_type::OCI_MANIFEST);
    let cases: [(u16, Vec<(&str, &str)>); 6] = [
        (200, vec![]),
        (200, vec![("content-type", "nonsense")]),
        (200, vec![kind, ("content-encoding", "gzip")]),
        (204, vec![kind]),
        (206, vec![kind]),
        (307, vec![kind]),
    ];
    for (status, headers) in cases {
        let shown = format!("{status} {headers:?}");
        let (_fake, bench) = answering(move |_| reply(status, &headers, "")).await;
        assert!(is_protocol(&bench.manifest(Urgency::Must).await), "{shown}");
    }
}

#[tokio::test]
async fn tags_come_by_the_page() {
    let (fake, bench) = answering(|seen| match seen.target.as_str() {
        "/v2/library/alpine/tags/list" => reply(
            200,
            &[("link", r#"</v2/library/alpine/tags/list?last=b&n=2>; rel="next""#)],
            r#"{"name":"library/alpine","tags":["a","not a tag","b"]}"#,
        ),
        "/v2/library/alpine/tags/list?n=2&last=b" => reply(200, &[], r#"{"tags":null}"#),
        _ => reply(200, &[], "[]"),
    })
    .await;
    let page = bench.upstream.tags(&name(), None, None, Urgency::Must).await.expect("a page");
    let tags: Vec<_> = page.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!((tags, page.next), (vec!["a", "b"], Some(("b".to_owned(), Some(2)))));
    let page =
        bench.upstream.tags(&name(), Some(2), Some("b"), Urgency::Must).await.expect("a page");
    assert_eq!((page.tags.len(), page.next), (0, None));
    assert!(is_protocol(&bench.upstream.tags(&name(), Some(1), None, Urgency::Must).await));
    assert_eq!(fake.count("/tags/list"), 3);
}

#[tokio::test]
async fn referrers_are_json() {
    let (fake, bench) = answering(|_| reply(200, &[], r#"{"manifests":[]}"#)).await;
    let index = bench.upstream.referrers(&name(), &blob(), Urgency::Must).await;
    assert_eq!(index.expect("an index"), r#"{"manifests":[]}"#);
    assert_eq!(fake.count(&format!("/v2/library/alpine/referrers/{}", blob())), 1);
    let (_fake, bench) = answering(|_| reply(200, &[], "<html>")).await;
    assert!(is_protocol(&bench.upstream.referrers(&name(), &blob(), Urgency::Must).await));
    let (_fake, bench) = answering(|_| reply(404, &[], "")).await;
    let index = bench.upstream.referrers(&name(), &blob(), Urgency::Must).await;
    assert_eq!(index, Err(Error::NotFound));
}
