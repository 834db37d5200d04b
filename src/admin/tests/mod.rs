//! The admin address over real sockets.

mod api;
mod control;
mod orders;
mod pulls;
mod script;
mod site;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use self::script::Script;
use super::*;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(readiness: Readiness) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let images = Arc::new(Script::default());
        let admin = Admin::new(Metrics::new(), Arc::new(move || readiness.clone()), images);
        let task = tokio::spawn(admin.run(listener, shutdown.clone()));
        Self { address, shutdown, task }
    }

    /// Everything that is sent back for `request`, up to the end of the connection.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: wharf\r\n\r\n")).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic");
        assert!(TcpStream::connect(self.address).await.is_err(), "the socket is closed");
    }
}

#[tokio::test]
async fn answers_what_it_lists_and_nothing_else() {
    let running = Running::start(Readiness::Ready).await;
    for (path, status, said) in [
        ("/", "200 OK", "/metrics"),
        ("/livez", "200 OK", "\r\n\r\nok\n"),
        ("/readyz", "200 OK", "\r\n\r\nok\n"),
        ("/readyz?verbose", "200 OK", "ok\n"),
        ("/metrics", "200 OK", "# TYPE wharf_cache_bytes gauge"),
        ("/metrics/", "404 Not Found", "nothing here"),
        ("/../livez", "404 Not Found", "nothing here"),
        ("/v2/", "404 Not Found", "nothing here"),
    ] {
        let answer = running.get(path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        assert!(answer.contains(said), "{path}: {answer}");
    }
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let running = Running::start(Readiness::Ready).await;
    let answer = running.exchange("HEAD /livez HTTP/1.1\r\nHost: wharf\r\n\r\n").await;
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn methods_that_change_something_are_refused() {
    let running = Running::start(Readiness::Ready).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request =
            format!("{method} /livez HTTP/1.1\r\nHost: wharf\r\nContent-Length: 0\r\n\r\n");
        let answer = running.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{method}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let running = Running::start(Readiness::Ready).await;
    for nonsense in ["\x16\x03\x01\x02 \r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = running.exchange(nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{nonsense:?}: {answer}");
    }
    assert!(running.get("/livez").await.contains("200 OK"), "and others are served");
    running.stop().await;
}

#[tokio::test]
async fn readiness_is_said_with_its_reason() {
    let patience = Duration::from_secs(20);

    let running = Running::start(Readiness::Degraded("the disk takes no writes".into())).await;
    let said = ask_ready(running.address, patience).await.expect("degraded still pulls");
    assert_eq!(said, "degraded: the disk takes no writes");
    running.stop().await;

    let running = Running::start(Readiness::Unready("starting".into())).await;
    let refused = ask_ready(running.address, patience).await.expect_err("not ready");
    assert!(
        matches!(&refused, NotReady::Refused(_, status, why) if status.as_u16() == 503 && why == "starting"),
        "{refused}"
    );
    running.stop().await;
}

#[tokio::test]
async fn asking_where_nobody_answers_ends() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = silent.local_addr().expect("bound");
    let late = ask_ready(address, Duration::from_millis(50)).await;
    assert!(matches!(late, Err(NotReady::Late(..))), "{late:?}");

    drop(silent);
    let gone = ask_ready(address, Duration::from_secs(20)).await;
    assert!(matches!(gone, Err(NotReady::Unreachable(..))), "{gone:?}");
}

#[tokio::test]
async fn a_hundred_idle_connections_do_not_outlive_the_shutdown() {
    let running = Running::start(Readiness::Ready).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(running.address).await.expect("connected or queued"));
    }
    running.stop().await;
    for mut stream in idle {
        let mut rest = Vec::new();
        // The end of the connection, or a reset of what was never accepted.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}
