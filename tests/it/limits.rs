//! What is beyond a limit is refused in the registry's own words and counted, and what is within goes on (bug class: a limit
//! that nobody can see or move, or that does not hold).

mod documents;

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use wharf::config::Config;

use crate::support::{
    Challenge, FakeHub, Fault, Gate, On, Wharf, blob_path,
    client::{self, Answer},
    deadline, noise,
};

const REPO: &str = "library/app";

fn reached(wharf: &Wharf, limit: &str) -> f64 {
    wharf.metric(&format!("wharf_limit_reached_total{{limit=\"{limit}\"}}"))
}

async fn start(change: impl FnOnce(&mut Config)) -> (FakeHub, Wharf) {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let wharf = Wharf::start_with(&hub, change).await;
    (hub, wharf)
}

fn assert_busy(answer: &Answer) {
    assert_eq!(answer.refusal(), (503, "TOOMANYREQUESTS".to_owned()));
    assert!(answer.header("retry-after").is_some());
}

/// Waits until `limit` was reached so often.
async fn until_reached(wharf: &Wharf, limit: &str, times: f64) {
    let counted = async {
        while reached(wharf, limit) < times {
            tokio::task::yield_now().await;
        }
    };
    deadline(&format!("{limit} to be reached"), counted).await;
}

/// What comes back to `sent`.
async fn said(addr: SocketAddr, sent: &str) -> String {
    String::from_utf8_lossy(&client::send_raw(addr, sent.as_bytes()).await).into_owned()
}

#[tokio::test]
async fn a_head_of_too_many_lines_or_bytes_is_refused_and_counted() {
    let (_hub, wharf) = start(|config| {
        (config.server.headers, config.server.header_bytes) = (16, 4096);
    })
    .await;
    let head =
        |more: &str| format!("GET /v2/ HTTP/1.1\r\nhost: wharf\r\nconnection: close\r\n{more}\r\n");
    let lines = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    assert!(said(wharf.addr, &head(&lines(10))).await.starts_with("HTTP/1.1 200 "));
    let refused = said(wharf.addr, &head(&lines(15))).await;
    assert!(refused.starts_with("HTTP/1.1 431 ") && refused.contains("UNSUPPORTED"), "{refused}");
    let long = format!("x: {}\r\n", "y".repeat(5000));
    assert!(said(wharf.addr, &head(&long)).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(reached(&wharf, "head"), 2.0);
    wharf.end().await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_and_an_answer_that_is_not_taken_are_counted() {
    let (hub, wharf) = start(|config| {
        config.server.header_timeout = Duration::from_secs(1);
        config.server.client_timeout = Duration::from_secs(1);
        config.server.send_buffer = Some(16 * 1024);
    })
    .await;
    let mut slow = TcpStream::connect(wharf.addr).await.expect("wharf listens");
    slow.write_all(b"GET /v2/ HT").await.expect("sent");
    until_reached(&wharf, "head_time", 1.0).await;
    deadline("its end", slow.read_to_end(&mut Vec::new())).await.expect("closed");
    // A client that has asked, and leaves its connection open for longer than that, is like any other.
    let mut kept = TcpStream::connect(wharf.addr).await.expect("wharf listens");
    kept.write_all(b"GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\n").await.expect("sent");
    deadline("its end", kept.read_to_end(&mut Vec::new())).await.expect("closed");
    assert_eq!(reached(&wharf, "head_time"), 1.0);
    let path = blob_path(REPO, &hub.put_blob(REPO, noise("large", 12 << 20)));
    let mut idler = TcpStream::connect(wharf.addr).await.expect("wharf listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: wharf\r\n\r\n");
    idler.write_all(request.as_bytes()).await.expect("sent");
    until_reached(&wharf, "answer_time", 1.0).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_page_is_no_longer_than_the_limit_and_says_where_the_next_is() {
    let (hub, wharf) = start(|config| config.pull.limits.list_entries = 2).await;
    for tag in ["1", "2", "3"] {
        hub.push_single(REPO, tag, ("linux", "arm64", None), &[10]);
    }
    let page = wharf.get(&format!("/v2/{REPO}/tags/list")).await;
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "2"]));
    assert!(page.header("link").is_some_and(|link| link.contains("last=2")));
    assert_eq!(reached(&wharf, "list_entries"), 0.0, "nobody asked for more");
    let page = wharf.get(&format!("/v2/{REPO}/tags/list?n=3")).await;
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "2"]));
    assert_eq!(wharf.get("/v2/_catalog?n=1000000").await.status, 200);
    assert_eq!(reached(&wharf, "list_entries"), 2.0);
    wharf.end().await;
}

#[tokio::test]
async fn a_question_more_than_may_be_open_is_refused_and_the_others_are_answered() {
    let (hub, wharf) = start(|config| config.pull.limits.questions = 2).await;
    for tag in ["1", "2", "3"] {
        hub.push_single(REPO, tag, ("linux", "arm64", None), &[10]);
    }
    let gate = Gate::after(0);
    hub.fault(On::Manifests, Fault::Hold(gate.clone()));
    let addr = wharf.addr;
    let path = |tag: usize| format!("/v2/{REPO}/manifests/{tag}");
    let open: Vec<_> = (1..=2)
        .map(|tag| tokio::spawn(async move { client::get(addr, &path(tag), &[]).await }))
        .collect();
    let asked = async {
        while hub.count(|seen| seen.path.contains("/manifests/")) < 2 {
            tokio::task::yield_now().await;
        }
    };
    deadline("two questions", asked).await;
    assert_busy(&wharf.get(&path(3)).await);
    assert_eq!(reached(&wharf, "questions"), 1.0);
    gate.open();
    for answer in join_all(open).await {
        assert_eq!(answer.expect("no panic").status, 200);
    }
    hub.clear_faults();
    assert_eq!(wharf.get(&path(3)).await.status, 200);
    wharf.end().await;
}

#[tokio::test]
async fn a_download_or_reader_more_than_may_wait_is_refused_and_the_others_come_whole() {
    let (hub, wharf) = start(|config| {
        config.pull.max_downloads = 1;
        config.pull.limits.waiting_downloads = 1;
        config.pull.limits.waiting_readers = 3;
    })
    .await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[100_000; 3]);
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    let blobs: Vec<_> = image.layers.iter().map(|layer| layer.bytes.clone()).collect();
    let paths: Vec<_> = image.layers.iter().map(|layer| blob_path(REPO, &layer.digest)).collect();
    let gate = Gate::after(0);
    hub.fault(On::Blobs, Fault::Hold(gate.clone()));
    let addr = wharf.addr;
    let get = |at: usize| {
        let path = paths[at].clone();
        tokio::spawn(async move { client::get(addr, &path, &[]).await })
    };
    let open = [get(0), get(1)];
    let begun = async {
        while wharf.metric("wharf_downloads_in_flight") < 2.0 {
            tokio::task::yield_now().await;
        }
    };
    deadline("two downloads", begun).await;
    assert_busy(&wharf.get(&paths[2]).await);
    assert_eq!(
        (reached(&wharf, "waiting_downloads"), reached(&wharf, "waiting_readers")),
        (1.0, 0.0)
    );
    // One more follows, and then there is no place for a fourth.
    let followers = join_all([get(0), get(0)]);
    until_reached(&wharf, "waiting_readers", 1.0).await;
    gate.open();
    let answers = join_all(open).await.into_iter().chain(followers.await);
    let answers: Vec<Answer> = answers.map(|answer| answer.expect("no panic")).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    answers.iter().filter(|answer| answer.status != 200).for_each(assert_busy);
    hub.clear_faults();
    wharf.quiet().await;
    for (path, blob) in paths.iter().zip(&blobs) {
        assert_eq!(wharf.get(path).await.bytes(), blob, "every place was given back");
    }
    wharf.end().await;
}

#[tokio::test]
async fn what_a_registry_sends_too_much_of_is_refused_and_counted() {
    let (hub, wharf) = start(|config| config.upstreams[0].patience.attempts = 1).await;
    hub.push_single(REPO, "1", ("linux", "arm64", None), &[10]);
    hub.fault(On::Manifests, Fault::HugeBody(5 << 20));
    let answer = wharf.get(&format!("/v2/{REPO}/manifests/1")).await;
    assert_eq!(answer.status, 502);
    assert!(reached(&wharf, "manifest_bytes") >= 1.0);
    wharf.end().await;
}

#[tokio::test]
async fn an_idle_connection_that_makes_room_for_another_client_is_counted() {
    let (_hub, wharf) = start(|config| config.server.max_connections = 1).await;
    let mut idle = TcpStream::connect(wharf.addr).await.expect("wharf listens");
    let open = async {
        while wharf.metric("wharf_open_connections") < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    deadline("a connection", open).await;
    assert_eq!(reached(&wharf, "connections"), 0.0);
    // A second idle, it is given up.
    assert_eq!(wharf.get("/v2/").await.status, 200);
    assert_eq!(reached(&wharf, "connections"), 1.0);
    deadline("its end", idle.read_to_end(&mut Vec::new())).await.expect("closed");
    wharf.end().await;
}

#[tokio::test]
async fn a_request_that_waits_too_long_for_others_of_its_client_is_refused_and_counted() {
    let (hub, wharf) = start(|config| {
        config.server.max_requests_per_client = 1;
        let hour = Duration::from_secs(3600);
        (config.server.header_timeout, config.server.client_timeout) = (hour, hour);
        let patience = &mut config.upstreams[0].patience;
        (patience.first_byte, patience.idle) = (hour, hour);
    })
    .await;
    let gate = Gate::after(0);
    hub.fault(On::Blobs, Fault::Hold(gate.clone()));
    let path = blob_path(REPO, &hub.put_blob(REPO, noise("held", 1000)));
    let addr = wharf.addr;
    let get = || {
        let path = path.clone();
        tokio::spawn(async move {
            // Whose deadline is passed over here is the test's own.
            let socket = TcpStream::connect(addr).await.expect("wharf listens");
            let asked = client::over(socket, "GET", addr, &path, &[]).await;
            asked.unwrap_or_else(|why| panic!("no answer: {why:?}"))
        })
    };
    let first = get();
    hub.until("the first to be asked for", |log| !log.is_empty()).await;
    let second = get();
    let waits = async {
        while wharf.metric("wharf_requests_delayed_total") < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    deadline("the second to wait", waits).await;
    assert_eq!(reached(&wharf, "requests_per_client"), 0.0);
    tokio::time::pause();
    // Timers go by whole milliseconds: what the first and the second wait for has passed in the same moment.
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let refused = deadline("the second's answer", second).await.expect("no panic").rest().await;
    assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(reached(&wharf, "requests_per_client"), 1.0);
    gate.open();
    // For the registry a minute has passed as well: what it says by now is not looked at.
    deadline("the first's end", first).await.expect("no panic").rest().await;
    assert_eq!(wharf.get("/v2/").await.status, 200, "its place was given back");
    wharf.end().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_counted_as_such() {
    let (_hub, wharf) = start(|config| config.server.max_connections_per_client = 1).await;
    let first = TcpStream::connect(wharf.addr).await.expect("wharf listens");
    let open = async {
        while wharf.metric("wharf_open_connections") < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    deadline("a connection", open).await;
    let refused = wharf.get("/v2/").await;
    assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(reached(&wharf, "connections_per_client"), 1.0);
    drop(first);
    wharf.end().await;
}

#[tokio::test]
async fn who_makes_up_names_is_told_late_and_what_there_is_comes_at_once() {
    let (hub, wharf) = start(|config| config.server.misses_per_client = 3).await;
    hub.push_single(REPO, "1", ("linux", "arm64", None), &[10]);
    let miss = async |n: usize| {
        let begun = Instant::now();
        let answer = wharf.get(&format!("/v2/invented/name-{n}/manifests/latest")).await;
        (answer.status.as_u16(), begun.elapsed() >= Duration::from_secs(1))
    };
    for n in 0..3 {
        assert_eq!(miss(n).await.0, 404);
    }
    assert_eq!(reached(&wharf, "misses_per_client"), 0.0);
    let mut late = Box::pin(miss(3));
    assert!(timeout(Duration::ZERO, &mut late).await.is_err());
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    assert_eq!((&mut late).await, (404, true));
    drop(late);
    assert_eq!(reached(&wharf, "misses_per_client"), 1.0);
    wharf.end().await;
}
