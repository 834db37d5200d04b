//! Whom to ask next, how long to wait, and what to say when they disagree.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

async fn always(status: u16) -> Fake {
    Fake::start(move |_| if status == 200 { image() } else { reply(status, &[], "{}") }).await
}

fn up(bench: &Bench, up: u8) -> bool {
    bench.metric(&format!(r#"wharf_upstream_up{{registry="registry.example"}} {up}"#))
}

#[tokio::test]
async fn a_failed_endpoint_rests_while_another_answers() {
    let (first, second) = (always(500).await, always(200).await);
    let bench = bench(config(&[&first, &second]));
    let fallback = Urgency::Fallback(LONG);
    for (step, want) in [(0, (1, 1)), (0, (1, 2)), (1, (2, 3)), (1, (2, 4)), (1, (3, 5))] {
        bench.clock.advance(Duration::from_secs(step));
        bench.manifest(fallback).await.expect("the image");
        assert_eq!((first.count(""), second.count("")), want);
    }
    assert!(up(&bench, 1));
}

#[tokio::test]
async fn nothing_is_dialled_for_a_fallback_while_all_rest() {
    let fake = always(503).await;
    let bench = bench(config(&[&fake]));
    let fallback = Urgency::Fallback(LONG);
    for (step, want) in [(0, 1), (0, 1), (1, 2), (1, 2), (1, 3)] {
        bench.clock.advance(Duration::from_secs(step));
        assert!(is_unavailable(&bench.manifest(fallback).await));
        assert_eq!(fake.count(""), want);
    }
    assert!(up(&bench, 0));
    assert!(is_unavailable(&bench.manifest(Urgency::Must).await));
    assert_eq!(fake.count(""), 4);
}

#[tokio::test]
async fn what_tells_most_is_reported() {
    type Is = fn(&Error) -> bool;
    let outage: Is = |error| matches!(error, Error::Unavailable { .. });
    let cases: [(u16, u16, Is, u8); 9] = [
        (404, 404, |error| *error == Error::NotFound, 1),
        (404, 403, |error| *error == Error::Denied, 1),
        (401, 404, |error| *error == Error::Unauthorized, 1),
        (500, 404, outage, 1),
        (404, 500, outage, 1),
        (403, 408, outage, 1),
        (500, 429, |error| matches!(error, Error::RateLimited { .. }), 1),
        (400, 404, |error| matches!(error, Error::Protocol { .. }), 1),
        (500, 503, outage, 0),
    ];
    for (one, other, is_told, is_up) in cases {
        let (first, second) = (always(one).await, always(other).await);
        let bench = bench(config(&[&first, &second]));
        let told = bench.manifest(Urgency::Must).await.expect_err("no image");
        assert!(is_told(&told), "{one} {other}: {told:?}");
        assert!(up(&bench, is_up), "{one} {other}");
        assert_eq!((first.count(""), second.count("")), (1, 1));
    }
    let (first, second) = (always(404).await, always(200).await);
    bench(config(&[&first, &second])).manifest(Urgency::Must).await.expect("the image");
}

#[tokio::test]
async fn a_resting_endpoint_might_have_had_it() {
    let (first, second) = (always(500).await, always(404).await);
    let bench = bench(config(&[&first, &second]));
    for _ in 0..2 {
        assert!(is_unavailable(&bench.manifest(Urgency::Fallback(LONG)).await));
    }
    assert_eq!((first.count(""), second.count("")), (1, 2));
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for status in [408, 429, 500, 503] {
        let tries = AtomicU32::new(0);
        let fake = Fake::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => reply(status, &[("retry-after", "0")], ""),
            _ => image(),
        })
        .await;
        let patience = Patience { attempts: 2, ..config(&[]).patience };
        let bench = bench(Config { patience, ..config(&[&fake]) });
        assert!(bench.manifest(Urgency::Fallback(LONG)).await.is_err());
        let tries = bench.manifest(Urgency::Must).await;
        assert_eq!((tries.is_ok(), fake.count("")), (true, 2), "{status}");
    }
}

#[tokio::test]
async fn no_more_attempts_than_allowed() {
    let fake = always(502).await;
    let patience = Patience { attempts: 2, ..config(&[]).patience };
    let bench = bench(Config { patience, ..config(&[&fake]) });
    assert!(is_unavailable(&bench.manifest(Urgency::Must).await));
    assert_eq!(fake.count(""), 2);
}

#[tokio::test]
async fn a_long_retry_after_is_passed_on_instead_of_waited_for() {
    let fake = Fake::start(|_| reply(429, &[("retry-after", "7200")], "HAP429")).await;
    let patience = Patience { attempts: 5, ..config(&[]).patience };
    let bench = bench(Config { patience, ..config(&[&fake]) });
    let hour = Some(Duration::from_secs(3600));
    let told = bench.manifest(Urgency::Must).await;
    assert_eq!(told, Err(Error::RateLimited { retry_after: hour }));
    assert_eq!(fake.count(""), 1);
}

#[tokio::test]
async fn what_is_limited_is_not_asked_for_until_it_may_be_and_all_else_is() {
    let fake =
        Fake::start(|seen| match (seen.method.as_str(), seen.target.contains("/manifests/")) {
            ("GET", true) => reply(429, &[("retry-after", "120")], ""),
            ("HEAD", true) => reply(
                200,
                &[
                    ("content-type", media_type::OCI_MANIFEST),
                    ("docker-content-digest", &Digest::sha256(IMAGE.as_bytes()).to_string()),
                ],
                "",
            ),
            _ => reply(200, &[], "0123456789"),
        })
        .await;
    let bench = bench(config(&[&fake]));
    let limited = async |urgency| match bench.manifest(urgency).await {
        Err(Error::RateLimited { retry_after: Some(left) }) => left,
        other => panic!("{other:?}"),
    };
    let gets = || fake.count("/manifests/");
    assert_eq!((limited(Urgency::Must).await, gets()), (Duration::from_secs(120), 1));
    bench.clock.advance(Duration::from_secs(100));
    for urgency in [Urgency::Must, Urgency::Fallback(LONG)] {
        let left = limited(urgency).await;
        assert!(left > Duration::from_secs(15) && left <= Duration::from_secs(20), "{left:?}");
    }
    assert_eq!(gets(), 1, "it is not asked again before its time");
    bench.upstream.manifest_head(&name(), &tag(), Urgency::Must).await.expect("it is not limited");
    bench.upstream.blob(&name(), &blob(), 0).await.expect("nor are blobs");
    bench.clock.advance(Duration::from_secs(21));
    limited(Urgency::Must).await;
    assert_eq!(gets(), 3, "with the HEAD");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let fake = Fake::start(|_| None).await;
    let patience = Patience { first_byte: MOMENT, ..config(&[]).patience };
    let by_patience = bench(Config { patience, ..config(&[&fake]) });
    assert!(is_unavailable(&by_patience.manifest(Urgency::Must).await));
    let by_urgency = bench(config(&[&fake]));
    assert!(is_unavailable(&by_urgency.manifest(Urgency::Fallback(MOMENT)).await));
    let labels = r#"endpoint="manifest",registry="registry.example",status="error""#;
    for bench in [by_patience, by_urgency] {
        assert!(bench.metric(&format!("wharf_upstream_requests_total{{{labels}}} 1")));
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_leaves_time_for_the_next() {
    let (first, second) = (Fake::start(|_| None).await, always(200).await);
    let bench = bench(config(&[&first, &second]));
    bench.manifest(Urgency::Fallback(MOMENT * 10)).await.expect("the image");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable() {
    let gone = always(200).await;
    let config = config(&[&gone]);
    drop(gone);
    assert!(is_unavailable(&bench(config).manifest(Urgency::Must).await));
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let fake = Fake::start(|seen| reply(301, &[("location", &seen.target)], "")).await;
    let bench = bench(config(&[&fake]));
    assert!(is_protocol(&bench.manifest(Urgency::Must).await));
    assert_eq!(fake.count(""), 11);
}
