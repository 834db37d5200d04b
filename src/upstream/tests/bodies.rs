//! Blobs: ranges, offsets, lengths, and bodies that stop.

use std::{pin::pin, sync::Mutex, task::Poll};

use tokio::sync::mpsc;

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

/// Time is moved on while a byte is waited for, so that nothing depends on how long bytes are under way.
#[tokio::test]
async fn a_registry_that_drips_is_given_up_and_the_rest_comes_from_elsewhere() {
    let (feed, pieces) = mpsc::channel(1);
    let pieces = Mutex::new(Some(pieces));
    let first = Fake::start(move |_| {
        let pieces = pieces.lock().expect("no panic").take()?;
        fed(200, &[("content-length", "1000")], pieces)
    })
    .await;
    let second =
        Fake::start(|_| reply(206, &[("content-range", "bytes 30-999/1000")], vec![b'y'; 970]))
            .await;
    let patience = Patience { least_rate: Some(10), ..config(&[]).patience };
    let bench = bench(Config { patience, ..config(&[&first, &second]) });
    let mut body = bench.upstream.blob(&name(), &blob(), 0).await.expect("a head");
    let mut received = 0;
    let error = loop {
        let mut chunk = pin!(body.chunk());
        let came = match futures_util::poll!(chunk.as_mut()) {
            Poll::Ready(came) => came,
            Poll::Pending => {
                bench.clock.advance(Duration::from_secs(2));
                feed.send("x".into()).await.expect("the body is open");
                chunk.await
            }
        };
        match came {
            Ok(Some(piece)) => received += piece.len(),
            Ok(None) => panic!("the blob came whole"),
            Err(error) => break error,
        }
    };
    assert!(error.is_outage() && error.to_string().contains("too slowly"), "{error}");
    assert_eq!(received, 30, "no byte is lost that came in its minute");
    assert!(bench.metric(r#"wharf_limit_reached_total{limit="least_rate"} 1"#));
    let mut body = bench.upstream.blob(&name(), &blob(), 30).await.expect("the rest");
    assert_eq!(rest(&mut body).await.map(|rest| rest.len()), Ok(970));
    assert_eq!((first.count(""), second.count("")), (1, 1));
}
