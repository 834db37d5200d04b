//! Pulls by the API: who may ask, what is told, and what ends them.

use hyper::StatusCode;
use tokio::sync::mpsc;

use super::{
    script::DIGEST,
    site::{Site, image, post},
    *,
};
use crate::{oci::Platform, pull::PullEvent};

fn done(name: &str) -> PullEvent {
    let digest = DIGEST.parse().expect("a digest");
    PullEvent::Done { name: name.to_owned(), digest, size: 10, fetched: 5 }
}

fn piece(here: u64) -> PullEvent {
    let digest = DIGEST.parse().expect("a digest");
    PullEvent::Blob { digest, size: 100, platform: None, here, hit: false }
}

#[tokio::test]
async fn pulls_are_asked_for_on_the_control_socket_alone() {
    let site = Site::start().await;
    let answer = site.on_tcp(&post("/api/v1/pull", "{\"image\":\"alpine\"}")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("control.sock"), "{}", answer.body);
    assert!(site.script.brought.lock().expect("whole").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn what_is_no_order_begins_no_pull() {
    let site = Site::start().await;
    let many = format!(
        "{{\"image\":\"a\",\"platforms\":[{}\"linux/arm64\"]}}",
        "\"linux/arm64\",".repeat(64)
    );
    let long = format!("{{\"image\":\"{}\"}}", "a".repeat(64 * 1024));
    for (body, status, says) in [
        ("", 400, "not a pull to ask for"),
        ("alpine", 400, "not a pull to ask for"),
        ("{}", 400, "missing field `image`"),
        ("[]", 400, "not a pull to ask for"),
        ("{\"image\":1}", 400, "not a pull to ask for"),
        ("{\"image\":\"alpine\",\"platform\":[]}", 400, "unknown field `platform`"),
        ("{\"image\":\"alpine\"} x", 400, "trailing characters"),
        ("{\"image\":\"Alpine\"}", 400, "image \"Alpine\": not a repository name"),
        ("{\"image\":\"\"}", 400, "not a repository name"),
        ("{\"image\":\"a\",\"platforms\":[\"arm64\"]}", 400, "platform \"arm64\": write os/arch"),
        ("{\"image\":\"a\",\"platforms\":\"linux/arm64\"}", 400, "not a pull to ask for"),
        (&many, 400, "more than 64 platforms"),
        (&long, 413, "longer than 64 KiB"),
    ] {
        let answer = site.on_control(&post("/api/v1/pull", body)).await;
        assert_eq!(answer.status, status, "{body:.80}: {}", answer.body);
        assert!(answer.error().contains(says), "{body:.80}: {}", answer.error());
    }
    let deep = "[".repeat(60_000);
    assert_eq!(site.on_control(&post("/api/v1/pull", &deep)).await.status, 400);
    assert!(site.script.brought.lock().expect("whole").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn the_steps_of_a_pull_come_one_by_one_as_they_are_told() {
    let site = Site::start().await;
    let platforms: Vec<Platform> = vec!["linux/arm64".parse().expect("a platform")];
    for client in site.clients().await {
        let told = site.script.next_pull();
        let mut events = client.pull(&image("alpine"), &platforms).await.expect("begun");
        // Each is read before the next one is told: nothing waits for company.
        for here in 0..5 {
            told.send(piece(here)).await.expect("taken");
            assert_eq!(events.next().await.expect("read"), Some(piece(here)));
        }
        told.send(done("alpine")).await.expect("taken");
        assert_eq!(events.next().await.expect("read"), Some(done("alpine")));
        assert_eq!(events.next().await.expect("it has ended"), None);
    }
    let brought = site.script.brought.lock().expect("whole").clone();
    assert_eq!(brought, ["docker.io/library/alpine:latest linux/arm64"; 2]);

    let told = site.script.next_pull();
    told.send(done("alpine")).await.expect("taken");
    drop(told);
    let answer = site.on_control(&post("/api/v1/pull", "{\"image\":\"alpine\"}")).await;
    assert!(answer.head.contains("content-type: application/x-ndjson"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    assert!(answer.body.contains("{\"event\":\"done\",\"name\":\"alpine\""), "{}", answer.body);
    site.stop().await;
}

#[tokio::test]
async fn a_pull_that_fails_says_why_in_its_last_step() {
    let site = Site::start().await;
    for client in site.clients().await {
        let told = site.script.next_pull();
        let mut events = client.pull(&image("offline:1"), &[]).await.expect("begun");
        told.send(piece(1)).await.expect("taken");
        drop(told);
        assert_eq!(events.next().await.expect("read"), Some(piece(1)));
        let last = events.next().await.expect("read");
        assert!(
            matches!(&last, Some(PullEvent::Failed { name, why })
                if name == "docker.io/library/offline:1" && why.contains("no route")),
            "{last:?}"
        );
        assert_eq!(events.next().await.expect("it has ended"), None);
    }
    site.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_no_pull() {
    let site = Site::start().await;
    for client in site.clients().await {
        let told = site.script.next_pull();
        let mut events = client.pull(&image("alpine"), &[]).await.expect("begun");
        told.send(piece(0)).await.expect("taken");
        events.next().await.expect("read");
        drop(events);
        // More than any buffer on the way holds: they are taken though nobody reads.
        for here in 0..10_000 {
            told.send(piece(here)).await.expect("the pull goes on");
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn a_stop_ends_pulls_and_says_so() {
    let site = Site::start().await;
    let mut open: Vec<(mpsc::Sender<PullEvent>, Events)> = Vec::new();
    for client in site.clients().await {
        let told = site.script.next_pull();
        open.push((told, client.pull(&image("alpine"), &[]).await.expect("begun")));
    }
    site.shutdown.cancel();
    for (told, events) in &mut open {
        let last = events.next().await.expect("read");
        let stops = |why: &str| why.contains("stopping");
        assert!(matches!(&last, Some(PullEvent::Failed { why, .. }) if stops(why)), "{last:?}");
        told.closed().await;
    }
    site.stop().await;
}

#[tokio::test]
async fn pulls_are_bounded() {
    let site = Site::start().await;
    let [client, _] = site.clients().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let told = site.script.next_pull();
        open.push((told, client.pull(&image("alpine"), &[]).await.expect("begun")));
    }
    let refused = client.pull(&image("alpine"), &[]).await.err().expect("one too many");
    assert!(
        matches!(&refused, CallError::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE),
        "{refused}"
    );
    let (told, mut events) = open.remove(0);
    told.send(done("alpine")).await.expect("taken");
    drop(told);
    while events.next().await.expect("read").is_some() {}
    let told = site.script.next_pull();
    // Its end is heard a moment before its place is free.
    let again = async { while client.pull(&image("alpine"), &[]).await.is_err() {} };
    time::timeout(Duration::from_secs(10), again).await.expect("there is room again");
    drop((told, open));
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_may_take_long_but_not_be_silent_for_long() {
    let script = Arc::new(Script::default());
    let images: Arc<dyn Images> = Arc::clone(&script) as _;
    let admin = Admin::new(Metrics::new(), Arc::new(|| Readiness::Ready), images);
    let client = Client::here(admin.clone(), CancellationToken::new());
    let told = script.next_pull();
    let mut events = client.pull(&image("alpine"), &[]).await.expect("begun");
    for here in 0..6 {
        time::advance(Duration::from_secs(9 * 60)).await;
        told.send(piece(here)).await.expect("taken");
        assert_eq!(events.next().await.expect("read"), Some(piece(here)));
    }
    let last = events.next().await.expect("read");
    assert!(
        matches!(&last, Some(PullEvent::Failed { why, .. }) if why.contains("for 10 minutes")),
        "{last:?}"
    );
    drop(told);
    admin.finish().await;
}
