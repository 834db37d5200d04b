//! One set of scripted images, reached in every way there is.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::oci::ImageName;

/// The same images on the admin address, on a control socket, and within this process.
pub(super) struct Site {
    pub(super) script: Arc<Script>,
    pub(super) admin: Admin,
    pub(super) tcp: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) shutdown: CancellationToken,
    running: JoinSet<()>,
    _dir: TempDir,
}

/// An answer, taken apart.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Site {
    pub(super) async fn start() -> Self {
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

    pub(super) async fn on_tcp(&self, request: &str) -> Answer {
        exchange(TcpStream::connect(self.tcp).await.expect("connected"), request).await
    }

    pub(super) async fn on_control(&self, request: &str) -> Answer {
        exchange(UnixStream::connect(&self.socket).await.expect("connected"), request).await
    }

    /// The client of the control socket, and the one within this process.
    pub(super) async fn clients(&self) -> [Client; 2] {
        let here = Client::here(self.admin.clone(), self.shutdown.clone());
        [Client::at(&self.socket).await.expect("it listens"), here]
    }

    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no panic");
        }
        self.admin.finish().await;
    }
}

pub(super) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Answer {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: wharf\r\n\r\n")
}

pub(super) fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: wharf\r\nContent-Length: {length}\r\n\r\n{body}")
}

impl Answer {
    /// What an answer that says no says.
    pub(super) fn error(&self) -> String {
        assert!(self.head.contains("content-type: application/json\r\n"), "{}", self.head);
        assert!(self.head.contains("cache-control: no-store"), "{}", self.head);
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body.as_object().expect("an object").len(), 1, "{body}");
        body["error"].as_str().expect("a sentence").to_owned()
    }
}

pub(super) fn image(name: &str) -> ImageName {
    name.parse().expect("a name")
}
