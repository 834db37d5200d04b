//! Asking a running wharf whether it is ready: the other end of `/readyz`.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

/// Much more than `/readyz` ever says.
const BODY_MAX_BYTES: usize = 4096;

/// Why a wharf does not count as ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nothing answers there.
    #[error("nothing answers on {0}: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// What answers does not speak HTTP, or broke off.
    #[error("no proper answer from {0}: {1}")]
    Broken(SocketAddr, #[source] hyper::Error),
    /// No answer in time.
    #[error("no answer from {0} within {seconds} s", seconds = .1.as_secs())]
    Late(SocketAddr, Duration),
    /// Something answers, and says no.
    #[error("{0} answers {1}: {2}")]
    Refused(SocketAddr, StatusCode, String),
}

/// Asks the admin address `address` once for `/readyz`; returns what it says when that is yes.
///
/// # Errors
/// When the answer is no, or does not come within `deadline`.
pub async fn ask_ready(address: SocketAddr, deadline: Duration) -> Result<String, NotReady> {
    time::timeout(deadline, ask(address)).await.map_err(|_| NotReady::Late(address, deadline))?
}

async fn ask(address: SocketAddr) -> Result<String, NotReady> {
    let broken = |error| NotReady::Broken(address, error);
    let stream =
        TcpStream::connect(address).await.map_err(|error| NotReady::Unreachable(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get("/readyz")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .expect("a fixed path, and an address is a header's text");
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX_BYTES).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&bytes).trim().to_owned()))
    };
    // The connection must be polled for the answer to come; it ends with the answer, or before it.
    let (answer, _) = tokio::join!(answer, connection);
    match answer? {
        (StatusCode::OK, said) => Ok(said),
        (status, said) => Err(NotReady::Refused(address, status, said)),
    }
}
