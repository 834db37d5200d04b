//! Blobs: ranges, offsets, lengths, and bodies that stop.

use super::*;
use crate::upstream::BlobBody;

/// A registry that answers each blob by `script`.
async fn blobs(script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> (Fake, Bench) {
    let fake = Fake::start(script).await;
    // Enough for a byte that comes, on a busy machine, too.
    let patience = Patience { idle: 5 * MOMENT, ..config(&[]).patience };
    let bench = bench(Config { patience, ..config(&[&fake]) });
    (fake, bench)
}

async fn rest(body: &mut BlobBody) -> Result<String, Error> {
    let mut text = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(text).expect("digits"))
}

#[tokio::test]
async fn a_blob_comes_from_its_start_and_from_an_offset() {
    let (fake, bench) = blobs(|seen| match seen.header("range") {
        None => reply(200, &[], "0123456789"),
        Some("bytes=4-") => reply(206, &[("content-range", "bytes 4-9/10")], "456789"),
        Some("bytes=5-") => reply(206, &[("content-range", "bytes 5-9/*")], "56789"),
        _ => reply(416, &[], ""),
    })
    .await;
    for (from, want) in [(0, "0123456789"), (4, "456789"), (5, "56789")] {
        let mut body = bench.upstream.blob(&name(), &blob(), from).await.expect("the blob");
        assert_eq!(body.total(), Some(10));
        assert_eq!(rest(&mut body).await.as_deref(), Ok(want));
        assert_eq!(body.chunk().await, Ok(None));
    }
    let beyond = bench.upstream.blob(&name(), &blob(), 10).await;
    assert_eq!(beyond.err(), Some(Error::BeyondEnd));
    let target = format!("/v2/library/alpine/blobs/{}", blob());
    assert!(fake.seen().iter().all(|seen| seen.target == target));
    assert!(bench.metric(r#"wharf_upstream_bytes_total{registry="registry.example"} 21"#));
}

#[tokio::test]
async fn a_registry_that_ignores_the_range_is_skipped_through() {
    let (_fake, bench) = blobs(|_| reply(200, &[], "0123456789")).await;
    for (from, want) in [(4, "456789"), (10, "")] {
        let mut body = bench.upstream.blob(&name(), &blob(), from).await.expect("the blob");
        assert_eq!((body.total(), rest(&mut body).await.as_deref()), (Some(10), Ok(want)));
    }
    assert!(is_protocol(&bench.upstream.blob(&name(), &blob(), 11).await));
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let ranges = ["bytes 3-9/10", "bytes 5-9/10", "bytes 4-9/9", "bytes 0-9/10", "nonsense", ""];
    for range in ranges {
        let (_fake, bench) =
            blobs(move |_| reply(206, &[("content-range", range)], "456789")).await;
        let answer = bench.upstream.blob(&name(), &blob(), 4).await;
        assert!(is_protocol(&answer), "{range}: {answer:?}");
    }
    let (_fake, bench) =
        blobs(|_| reply(206, &[("content-range", "bytes 0-9/10")], "0123456789")).await;
    assert!(is_protocol(&bench.upstream.blob(&name(), &blob(), 0).await));
}

#[tokio::test]
async fn a_body_that_stops_ends_in_an_error_each_time_it_is_asked() {
    let (_fake, bench) = blobs(|seen| match seen.header("range") {
        None => stalled(200, &[("content-length", "10")], "0123"),
        Some("bytes=1-") => broken(206, &[("content-range", "bytes 1-9/10")], "123"),
        Some("bytes=2-") => reply(206, &[("content-range", "bytes 2-4/10")], "234"),
        _ => stalled(200, &[], "0"),
    })
    .await;
    for (from, want) in [(0, Some("0123")), (1, Some("123")), (2, Some("234")), (3, None)] {
        let mut body = bench.upstream.blob(&name(), &blob(), from).await.expect("a head");
        if let Some(want) = want {
            assert_eq!(body.chunk().await.expect("bytes").expect("more"), want);
        }
        for _ in 0..2 {
            let answer = body.chunk().await;
            assert!(is_unavailable(&answer), "from {from}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_longer_than_the_blob_is_refused() {
    let (_fake, bench) =
        blobs(|_| reply(206, &[("content-range", "bytes 4-9/10")], "456789abc")).await;
    let mut body = bench.upstream.blob(&name(), &blob(), 4).await.expect("a head");
    assert!(is_protocol(&rest(&mut body).await));
}

#[tokio::test]
async fn a_body_that_breaks_sends_the_next_call_elsewhere() {
    let first = Fake::start(|_| broken(200, &[("content-length", "10")], "0123")).await;
    let second = Fake::start(|_| reply(206, &[("content-range", "bytes 4-9/10")], "456789")).await;
    let bench = bench(config(&[&first, &second]));
    let mut body = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    assert!(is_unavailable(&rest(&mut body).await));
    let mut body = bench.upstream.blob(&name(), &blob(), 4).await.expect("the rest");
    assert_eq!(rest(&mut body).await.as_deref(), Ok("456789"));
    assert_eq!((first.count(""), second.count("")), (1, 1));
}

#[tokio::test]
async fn the_head_of_a_blob_tells_its_length() {
    let (fake, bench) = blobs(|_| reply(200, &[("content-length", "12345678901")], "")).await;
    assert_eq!(bench.upstream.blob_head(&name(), &blob()).await, Ok(12_345_678_901));
    assert_eq!(fake.seen()[0].method, "HEAD");
    let (_fake, bench) = blobs(|_| stalled(200, &[], "")).await;
    assert!(is_protocol(&bench.upstream.blob_head(&name(), &blob()).await));
}

/// A registry whose blob of 1000 bytes comes one byte every so often, with and without a range.
async fn drips(every: Duration) -> Fake {
    Fake::start(move |seen| {
        let from = seen.header("range").and_then(|range| range.strip_prefix("bytes="));
        let from: usize =
            from.map_or(0, |from| from.trim_end_matches('-').parse().expect("an offset"));
        let length = (1000 - from).to_string();
        let range = format!("bytes {from}-999/1000");
        let headers = [("content-length", length.as_str()), ("content-range", range.as_str())];
        let (status, headers) = if from > 0 { (206, &headers[..]) } else { (200, &headers[..1]) };
        dripping(status, headers, vec![b'x'; 1000 - from].into(), every)
    })
    .await
}

fn with_least_rate(endpoints: &[&Fake], least_rate: Option<u64>) -> Bench {
    let patience = Patience { least_rate, ..config(&[]).patience };
    bench(Config { patience, ..config(endpoints) })
}

const GIVEN_UP: &str = r#"wharf_limit_reached_total{limit="least_rate"}"#;

/// Paused time: whenever nothing else is to be done, it goes on.
#[tokio::test(start_paused = true)]
async fn a_registry_that_drips_is_given_up_and_the_rest_comes_from_elsewhere() {
    let first = drips(Duration::from_secs(2)).await;
    let second = Fake::start(|_| {
        let range = "bytes 30-999/1000";
        reply(206, &[("content-range", range)], vec![b'y'; 970])
    })
    .await;
    let bench = with_least_rate(&[&first, &second], Some(10));
    let mut body = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    let begun = tokio::time::Instant::now();
    let mut received = 0;
    let error = loop {
        match body.chunk().await {
            Ok(Some(piece)) => received += piece.len(),
            Ok(None) => panic!("the blob came whole"),
            Err(error) => break error,
        }
    };
    assert!(error.is_outage() && error.to_string().contains("too slowly"), "{error}");
    assert_eq!(received, 30, "no byte is lost that came in its minute");
    assert!((60..70).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(bench.metric(&format!("{GIVEN_UP} 1")));
    let mut body = bench.upstream.blob(&name(), &blob(), 30).await.expect("the rest");
    assert_eq!(rest(&mut body).await.map(|rest| rest.len()), Ok(970));
    assert_eq!((first.count(""), second.count("")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_thin_line_that_ten_downloads_share_is_not_taken_for_a_registry_that_drips() {
    // Two bytes a second for each, and all ten together twenty, of which ten are enough.
    let fake = drips(Duration::from_millis(500)).await;
    let bench = with_least_rate(&[&fake], Some(10));
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(bench.upstream.blob(&name(), &blob(), 0).await.expect("a head"));
    }
    for ended in futures_util::future::join_all(bodies.iter_mut().map(rest)).await {
        assert_eq!(ended.map(|rest| rest.len()), Ok(1000));
    }
    assert!(bench.metric(&format!("{GIVEN_UP} 0")));
    // Of one that has the line for itself, the same is too little.
    let fake = drips(Duration::from_millis(500)).await;
    let bench = with_least_rate(&[&fake], Some(10));
    let mut alone = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    let error = rest(&mut alone).await.expect_err("it drips").to_string();
    assert!(error.contains("too slowly"), "{error}");
    assert!(bench.metric(&format!("{GIVEN_UP} 1")));
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_a_body_at_leisure_does_not_hold_that_against_the_registry() {
    let fake = drips(Duration::from_millis(50)).await;
    let bench = with_least_rate(&[&fake], Some(10));
    let mut body = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    let mut received = 0;
    while let Some(piece) = body.chunk().await.expect("it is not given up") {
        received += piece.len();
        tokio::time::sleep(MOMENT * 50).await;
    }
    assert_eq!(received, 1000);
}

#[tokio::test(start_paused = true)]
async fn without_a_least_rate_no_body_is_given_up() {
    let fake = drips(Duration::from_secs(2)).await;
    let bench = with_least_rate(&[&fake], None);
    let mut body = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    assert_eq!(rest(&mut body).await.map(|rest| rest.len()), Ok(1000));
}
