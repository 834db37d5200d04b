//! What the tests share: a registry that misbehaves on purpose, and a client that sees everything.

mod blobs;
mod certs;
pub(crate) mod client;
mod fault;
mod gate;
pub(crate) mod http2;
mod hub;
mod images;
mod log;
mod program;
mod reply;
mod serve;
mod store;
mod tls;
mod wharf;
mod wire;

use std::time::Duration;

pub(crate) use blobs::blob_path;
pub(crate) use certs::{Identity, TestCa};
pub(crate) use fault::{Fault, On};
pub(crate) use gate::Gate;
pub(crate) use hub::{Challenge, FakeHub, Host};
pub(crate) use images::{Blob, PushedImage, PushedManifest, noise};
pub(crate) use log::Seen;
pub(crate) use program::{Program, names, partials, send_signal};
pub(crate) use tls::TlsClient;
pub(crate) use wharf::{Wharf, copy, docker_hub, upstream};

/// Runs `future` to its end.
///
/// # Panics
/// After 10 seconds, naming `what` was waited for: no test hangs.
pub(crate) async fn deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(10), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 10 s in vain for {what}"),
    }
}
