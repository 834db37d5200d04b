//! Pins, removals, collections and checks by the API.

use super::{
    site::{Site, image, post},
    *,
};
use crate::pull::{CacheStatus, Collected, PinnedImage, RemovedImage, Status, Verify, VerifyEvent};

fn progress(bytes: u64) -> VerifyEvent {
    VerifyEvent::Progress { blobs: 1, of_blobs: 2, bytes, of_bytes: 100 }
}

const DONE: VerifyEvent = VerifyEvent::Done { blobs: 2, bytes: 100, bad: 1, repaired: 0, lost: 1 };

/// Begins a check when the one before it is over, whose end is heard a moment earlier.
async fn begin_as(client: &Client, how: Verify) -> Events<VerifyEvent> {
    let begun = async {
        loop {
            if let Ok(events) = client.verify(how).await {
                break events;
            }
        }
    };
    time::timeout(Duration::from_secs(10), begun).await.expect("there is room again")
}

async fn begin(client: &Client) -> Events<VerifyEvent> {
    begin_as(client, Verify::default()).await
}

#[tokio::test]
async fn what_is_to_be_done_is_asked_for_on_the_control_socket_alone() {
    let site = Site::start().await;
    for path in ["pin", "unpin", "rm", "gc", "verify", "drop"] {
        let answer = site.on_tcp(&post(&format!("/api/v1/{path}"), "{\"image\":\"a\"}")).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
        assert!(answer.error().contains("control.sock"), "{}", answer.body);
    }
    assert_eq!(*site.script.checked.lock().expect("whole"), []);
    site.stop().await;
}

#[tokio::test]
async fn orders_are_carried_out_alike_by_both_clients() {
    let site = Site::start().await;
    let name = || "docker.io/library/alpine:3".to_owned();
    for client in site.clients().await {
        let pinned = PinnedImage { name: name(), pinned: true, changed: true };
        assert_eq!(client.pin(&image("alpine:3"), true).await.expect("pinned"), pinned);
        let unpinned = PinnedImage { name: name(), pinned: false, changed: false };
        assert_eq!(client.pin(&image("alpine:3"), false).await.expect("unpinned"), unpinned);
        let removed = RemovedImage { name: name(), freed: 3_400_000, blobs: 4 };
        assert_eq!(client.remove(&image("alpine:3")).await.expect("removed"), removed);
        let collected = Collected { bytes: 7, limit: 100, ..Collected::default() };
        assert_eq!(client.collect().await.expect("collected"), collected);
        assert_eq!(client.drop_volumes("e3b0").await.expect("dropped"), script::volume_set());
        let status = Status {
            version: "1.2.3".into(),
            mode: "auto".into(),
            degraded: None,
            cache: CacheStatus { bytes: 7, limit: 100, ..CacheStatus::default() },
            scrub: None,
            volume_sets: Vec::new(),
            upstreams: Vec::new(),
            downloads: 0,
        };
        assert_eq!(client.status().await.expect("told"), status);
    }
    let answer = site.on_control(&post("/api/v1/gc", "")).await;
    assert_eq!(answer.status, 200, "no body is fine: {}", answer.body);
    assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
    site.stop().await;
}

#[tokio::test]
async fn what_is_no_order_changes_nothing() {
    let site = Site::start().await;
    for (path, body, status, says) in [
        ("pin", "", 400, "the body is not a pin to ask for"),
        ("unpin", "{}", 400, "the body is not an unpin to ask for: missing field `image`"),
        ("rm", "{\"image\":\"Alpine\"}", 400, "image \"Alpine\": not a repository name"),
        ("rm", "{\"image\":\"a\",\"force\":true}", 400, "unknown field `force`"),
        ("drop", "", 400, "the body is not a drop of volumes to ask for"),
        ("drop", "{\"set\":\"f00d\"}", 409, "no f00d"),
        ("gc", "{\"image\":\"a\"}", 400, "the body is not a collection to ask for: unknown field"),
        ("verify", "[]x", 400, "the body is not a check to ask for"),
        ("verify", "{\"rate\":-1}", 400, "the body is not a check to ask for"),
        ("verify", "{\"rate\":0}", 400, "a rate of 0 bytes per second"),
        (
            "rm",
            "{\"image\":\"gone\"}",
            404,
            "gone:latest is not kept here; `wharf ls` lists what is",
        ),
        ("rm", "{\"image\":\"pinned\"}", 409, "pinned:latest is pinned: `wharf unpin` it first"),
        (
            "unpin",
            "{\"image\":\"configured\"}",
            409,
            "take pinned = true out of its [[prefetch.image]]",
        ),
        ("rm", "{\"image\":\"closed\"}", 500, "being closed"),
    ] {
        let answer = site.on_control(&post(&format!("/api/v1/{path}"), body)).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.error().contains(says), "{path} {body}: {}", answer.error());
    }
    assert_eq!(*site.script.checked.lock().expect("whole"), []);
    site.stop().await;
}

#[tokio::test]
async fn the_steps_of_a_check_come_as_they_are_told() {
    let site = Site::start().await;
    let how = Verify { repair: true, rate: Some(1 << 20) };
    for client in site.clients().await {
        let told = site.script.next_check();
        let mut events = begin_as(&client, how).await;
        for step in [progress(10), progress(20), DONE] {
            told.send(step.clone()).await.expect("taken");
            assert_eq!(events.next().await.expect("read"), Some(step));
        }
        assert_eq!(events.next().await.expect("it has ended"), None);
        drop(told);
    }
    assert_eq!(site.script.checked.lock().expect("whole")[0], how);
    site.stop().await;
}

#[tokio::test]
async fn one_check_runs_at_a_time_and_ends_with_who_asked_for_it() {
    let site = Site::start().await;
    for client in site.clients().await {
        let told = site.script.next_check();
        let mut events = begin(&client).await;
        told.send(progress(1)).await.expect("taken");
        assert_eq!(events.next().await.expect("read"), Some(progress(1)));
        let refused = client.verify(Verify::default()).await.err().expect("one too many");
        assert!(refused.to_string().contains("being checked already"), "{refused}");
        drop(events);
        told.closed().await;
        let _next = site.script.next_check();
        drop(begin(&client).await);
    }
    site.stop().await;
}

#[tokio::test]
async fn a_check_that_fails_or_is_stopped_says_why_in_its_last_step() {
    let site = Site::start().await;
    let [client, _] = site.clients().await;
    let mut events = client.verify(Verify::default()).await.expect("begun");
    let last = events.next().await.expect("read");
    assert!(
        matches!(&last, Some(VerifyEvent::Failed { why }) if why.contains("being closed")),
        "{last:?}"
    );
    let told = site.script.next_check();
    let mut events = begin(&client).await;
    told.send(progress(1)).await.expect("taken");
    assert_eq!(events.next().await.expect("read"), Some(progress(1)));
    site.shutdown.cancel();
    let last = events.next().await.expect("read");
    assert!(
        matches!(&last, Some(VerifyEvent::Failed { why }) if why.contains("stopping")),
        "{last:?}"
    );
    site.stop().await;
}
