//! The API: what it answers on the admin address, on the control socket, and within the process.

use std::path::PathBuf;

use hyper::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{script::DIGEST, *};
use crate::{
    oci::{ImageName, Platform},
    pull::PullEvent,
};

/// The same images on the admin address, on a control socket, and within this process.
struct Site {
    script: Arc<Script>,
    admin: Admin,
    tcp: SocketAddr,
    socket: PathBuf,
    shutdown: CancellationToken,
    running: JoinSet<()>,
    _dir: TempDir,
}

/// An answer, taken apart.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Site {
    async fn start() -> Self {
        let script = Arc::new(Script::default());
        let images: Arc<dyn Images> = Arc::clone(&script) as _;
        let admin = Admin::new(Metrics::new(), Arc::new(|| Readiness::Ready), images);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let tcp = listener.local_addr().expect("bound");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("control.sock");
        let control = Control::bind(&socket).expect("bound");
        let (shutdown, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(admin.clone().run(listener, shutdown.clone()));
        running.spawn(admin.clone().run_control(control, shutdown.clone()));
        Self { script, admin, tcp, socket, shutdown, running, _dir: dir }
    }

    async fn on_tcp(&self, request: &str) -> Answer {
        exchange(TcpStream::connect(self.tcp).await.expect("connected"), request).await
    }

    async fn on_control(&self, request: &str) -> Answer {
        exchange(UnixStream::connect(&self.socket).await.expect("connected"), request).await
    }

    /// The client of the control socket, and the one within this process.
    async fn clients(&self) -> [Client; 2] {
        let here = Client::here(self.admin.clone(), self.shutdown.clone());
        [Client::at(&self.socket).await.expect("it listens"), here]
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no panic");
        }
        self.admin.finish().await;
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: wharf\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: wharf\r\nContent-Length: {length}\r\n\r\n{body}")
}

impl Answer {
    /// What an answer that says no says.
    fn error(&self) -> String {
        assert!(self.head.contains("content-type: application/json\r\n"), "{}", self.head);
        assert!(self.head.contains("cache-control: no-store"), "{}", self.head);
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body.as_object().expect("an object").len(), 1, "{body}");
        body["error"].as_str().expect("a sentence").to_owned()
    }
}

fn image(name: &str) -> ImageName {
    name.parse().expect("a name")
}

fn done(name: &str) -> PullEvent {
    let digest = DIGEST.parse().expect("a digest");
    PullEvent::Done { name: name.to_owned(), digest, size: 10, fetched: 5 }
}

fn piece(here: u64) -> PullEvent {
    let digest = DIGEST.parse().expect("a digest");
    PullEvent::Blob { digest, size: 100, platform: None, here, hit: false }
}

#[tokio::test]
async fn questions_are_answered_alike_on_both_addresses() {
    let site = Site::start().await;
    for (path, says) in [
        ("/api/v1/images", "[{\"name\":\"docker.io/library/alpine:3.20\""),
        ("/api/v1/inspect?image=alpine", "{\"name\":\"docker.io/library/alpine:latest\""),
        ("/api/v1/inspect?image=a.example%3A5000%2Fapp%3A1", "{\"name\":\"a.example:5000/app:1\""),
        ("/api/v1/explain?image=alpine", "\"client\":null"),
        ("/api/v1/explain?image=alpine&client=10.0.7.12", "\"client\":\"10.0.7.12\""),
        ("/api/v1/explain?image=alpine&client=::ffff:10.0.7.12", "\"client\":\"10.0.7.12\""),
        ("/api/v1/explain?user_agent=docker%2F1+x%26y&image=alpine", r#"says \"docker/1 x&y\""#),
        ("/api/v1/clients", "[{\"client\":\"10.0.7.12\""),
        ("/api/v1/mismatches", "[]"),
        ("/api/v1/mismatches?", "[]"),
    ] {
        let answers = [site.on_tcp(&get(path)).await, site.on_control(&get(path)).await];
        for answer in answers {
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert!(answer.body.contains(says), "{path}: {}", answer.body);
            assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
            assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
        }
    }
    let head = site.on_tcp("HEAD /api/v1/clients HTTP/1.1\r\nHost: wharf\r\n\r\n").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    site.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_a_sentence() {
    let site = Site::start().await;
    let long = format!("/api/v1/inspect?image={}", "a".repeat(300));
    for (path, status, says) in [
        ("/api/v1/inspect", 400, "no image is named"),
        ("/api/v1/inspect?", 400, "no image is named"),
        ("/api/v1/inspect?image", 400, "image \"\": not a repository name"),
        ("/api/v1/inspect?image=", 400, "image \"\": not a repository name"),
        ("/api/v1/inspect?image=Alpine", 400, "image \"Alpine\": not a repository name"),
        ("/api/v1/inspect?image=alpine:", 400, "not a tag"),
        ("/api/v1/inspect?image=alpine:3%202", 400, "not a tag"),
        ("/api/v1/inspect?image=alpine@sha256:12", 400, "image \"alpine@sha256:12\""),
        ("/api/v1/inspect?image=a..b/c", 400, "not a registry host"),
        ("/api/v1/inspect?image=../../etc/passwd", 400, "image \"../../etc/passwd\""),
        ("/api/v1/inspect?image=%ff", 400, "not a repository name"),
        ("/api/v1/inspect?image=%zz", 400, "not a repository name"),
        ("/api/v1/inspect?image=%00", 400, "not a repository name"),
        (&long, 400, "not a repository name"),
        ("/api/v1/inspect?image=alpine&image=alpine", 400, "\"image\" is given twice"),
        ("/api/v1/inspect?name=alpine", 400, "\"name\" in the query: write image"),
        ("/api/v1/inspect?image=alpine&client=10.0.0.1", 400, "\"client\" in the query"),
        ("/api/v1/explain?client=10.0.0.1", 400, "no image is named"),
        ("/api/v1/explain?image=alpine&client=", 400, "client \"\": not an address"),
        ("/api/v1/explain?image=alpine&client=pi.local", 400, "not an address such as 10.0.7.12"),
        ("/api/v1/explain?image=alpine&client=10.0.0.0/8", 400, "not an address"),
        ("/api/v1/explain?image=alpine&client=10.0.0.1:80", 400, "not an address"),
        ("/api/v1/explain?image=alpine&Client=10.0.0.1", 400, "\"Client\" in the query: write"),
        ("/api/v1/images?image=alpine", 400, "nothing is asked by query here"),
        ("/api/v1/clients?x", 400, "\"x\" in the query"),
        ("/api/v1/mismatches?&&=", 400, "\"\" in the query"),
        ("/api/v1/", 404, "nothing here"),
        ("/api/v2/images", 404, "nothing here"),
        ("/api/v1/images/", 404, "nothing here"),
        ("/api/v1/../v1/images", 404, "nothing here"),
    ] {
        let answer = site.on_tcp(&get(path)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.error().contains(says), "{path}: {}", answer.error());
    }
    site.stop().await;
}

#[tokio::test]
async fn a_failure_has_the_status_of_whose_side_failed() {
    let site = Site::start().await;
    for (name, status, says) in [
        ("blob", 404, "no such blob"),
        ("busy", 503, "too many requests"),
        ("denied", 403, "denies access"),
        ("invalid", 502, "upside down"),
        ("unknown", 404, "no such manifest"),
        ("nameless", 404, "no such repository"),
        ("limited", 429, "pull limit"),
        ("elsewhere", 404, "registry docker.io is not configured here"),
        ("closed", 500, "being closed"),
        ("offline", 502, "no route"),
    ] {
        for path in ["inspect", "explain"] {
            let answer = site.on_tcp(&get(&format!("/api/v1/{path}?image={name}"))).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
            assert!(answer.error().contains(says), "{name}: {}", answer.error());
            let waits = answer.head.contains("retry-after: ");
            assert_eq!(waits, matches!(name, "busy" | "limited"), "{name}: {}", answer.head);
        }
        for client in site.clients().await {
            let refused = client.inspect(&image(name)).await.expect_err("refused");
            assert!(
                matches!(&refused, CallError::Refused { status: code, sentence }
                    if code.as_u16() == status && sentence.contains(says)),
                "{refused}"
            );
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn each_path_takes_its_own_methods() {
    let site = Site::start().await;
    for path in ["images", "inspect?image=alpine", "inspect", "explain", "clients", "mismatches"] {
        for request in
            [post(&format!("/api/v1/{path}"), ""), post(&format!("/api/v1/{path}"), "{}")]
        {
            for answer in [site.on_tcp(&request).await, site.on_control(&request).await] {
                assert_eq!(answer.status, 405, "{path}: {}", answer.body);
                assert!(answer.head.contains("allow: GET, HEAD"), "{}", answer.head);
                answer.error();
            }
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "BREW"] {
        let request = format!("{method} /api/v1/pull HTTP/1.1\r\nHost: wharf\r\n\r\n");
        for answer in [site.on_tcp(&request).await, site.on_control(&request).await] {
            assert_eq!(answer.status, 405, "{method}: {}", answer.body);
            assert!(answer.head.contains("allow: POST"), "{}", answer.head);
        }
    }
    let missing = site.on_control(&post("/api/v1/sink", "{}")).await;
    assert_eq!(missing.status, 404);
    site.stop().await;
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

#[tokio::test(start_paused = true)]
async fn every_question_has_an_answer_in_time() {
    let ready = Arc::new(|| Readiness::Ready);
    let admin = Admin::new(Metrics::new(), ready, Arc::new(Script::default()));
    for (access, seconds) in [(Access::Look, 25), (Access::Change, 180)] {
        let (near, far) = tokio::io::duplex(1024);
        let serving = admin.clone().serve(far, access, CancellationToken::new());
        let request = get("/api/v1/inspect?image=never");
        let (answer, ()) = tokio::join!(exchange(near, &request), serving);
        assert_eq!(answer.status, 504, "{}", answer.body);
        assert_eq!(answer.error(), format!("no answer within {seconds} s"));

        let (near, far) = tokio::io::duplex(1024);
        let serving = admin.clone().serve(far, access, CancellationToken::new());
        let begun = time::Instant::now();
        tokio::join!(serving, async {
            let mut silent = near;
            let mut rest = Vec::new();
            // The end of the connection: nothing was asked.
            let _ = silent.read_to_end(&mut rest).await;
        });
        assert!(begun.elapsed() <= CONNECTION_TIMEOUT, "a silent connection ends");
    }
}
