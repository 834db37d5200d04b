//! Clients that take their time: with a request's head, with an answer, or with what comes behind it; and many names.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{raw, run, site::Site};
use crate::support::{Challenge, FakeHub, Wharf, blob_path, deadline, noise};

/// Long enough for a machine that is busy with other tests to send a head.
const PATIENCE: Duration = Duration::from_millis(500);

/// A connection on which little can be on its way.
async fn narrow(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a TCP socket has the option");
    socket.connect(addr).await.expect("wharf listens")
}

/// A wharf that keeps a blob of this many bytes, with little patience for clients.
async fn large_blob(size: usize) -> (FakeHub, Wharf, Bytes, String) {
    let hub = FakeHub::builder().challenge(Challenge::None).start().await;
    let blob = noise("large", size);
    let path = blob_path("library/large", &hub.put_blob("library/large", blob.clone()));
    let impatient = |config: &mut wharf::config::Config| config.server.client_timeout = PATIENCE;
    let wharf = Wharf::start_with(&hub, impatient).await;
    (hub, wharf, blob, path)
}

#[test]
fn a_head_that_takes_too_long_is_cut_short() {
    run(async {
        let site = Site::start_with(|config| config.server.header_timeout = PATIENCE).await;
        let addr = site.wharf.addr;
        let kept_alive = "GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\n";
        let half_behind = format!("{kept_alive}GET /v2/");
        let waiting = [
            ("silence", "", 0),
            ("half a line", "GET /v2/ HT", 0),
            ("half a head", "GET /v2/ HTTP/1.1\r\nhost: wharf\r\naccept", 0),
            ("silence behind an answer", kept_alive, 1),
            ("half a line behind an answer", &*half_behind, 1),
        ]
        .map(async |(what, begins, answers)| {
            let heard = raw::exchange(addr, begins.as_bytes()).await.expect(what);
            let heard = raw::answers(&heard, &vec!["GET"; answers]).expect(what);
            assert!(heard.iter().all(|answer| answer.status == 200), "{what}: {heard:?}");
        });
        join_all(waiting).await;
        let dripping = async {
            let mut socket = TcpStream::connect(addr).await.expect("wharf listens");
            socket.write_all(b"GET /v2/ HTTP/1.1\r\nx: ").await.expect("sent");
            // One more byte whenever nothing came back for a moment.
            while timeout(PATIENCE / 10, socket.read(&mut [0])).await.is_err() {
                if socket.write_all(b"x").await.is_err() {
                    break;
                }
            }
        };
        deadline("wharf to cut a head short that comes byte by byte", dripping).await;
        site.end().await;
    });
}

#[test]
fn whoever_does_not_read_is_cut_off_and_stops_nothing() {
    run(async {
        let (_hub, wharf, blob, path) = large_blob(12 * 1024 * 1024).await;
        let mut cold = narrow(wharf.addr).await;
        cold.write_all(&raw::request("GET", &path, &[])).await.expect("sent");
        wharf.quiet().await;
        // The download had to begin with a request that has been read by now.
        wharf.open(&path, &[]).await.expect(&blob).await;
        let mut kept = narrow(wharf.addr).await;
        kept.write_all(&raw::request("GET", &path, &[])).await.expect("sent");
        wharf.deserted().await;
        for mut client in [cold, kept] {
            let mut received = Vec::new();
            let ended = client.read_to_end(&mut received);
            let ended = deadline("the end of the connection", ended).await;
            assert!(ended.is_err() || received.len() < blob.len(), "the whole blob in no time");
        }
        wharf.end().await;
    });
}
