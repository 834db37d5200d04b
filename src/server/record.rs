//! One request, as it will stand in the log and be counted: once, when its answer is over.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;

use super::route::Route;
use crate::{
    metrics::{Metrics, RequestDone},
    pull::{Cut, Resolution},
};

/// What is known of a request; written to the log and the metrics when dropped.
pub(super) struct Record {
    pub(super) metrics: Metrics,
    pub(super) method: Method,
    pub(super) client: SocketAddr,
    pub(super) user_agent: Arc<str>,
    /// Who has signed in.
    pub(super) user: Option<Arc<str>>,
    pub(super) asked: Asked,
    pub(super) status: StatusCode,
    /// `hit`, `miss`, `coalesced`, `stale`, `relay`, or how it failed.
    pub(super) outcome: &'static str,
    /// For manifests: which platform the client was taken to have, and why.
    pub(super) resolution: Option<Arc<Resolution>>,
    begun: Instant,
    first_byte: Option<Duration>,
    /// When all was handed over at once.
    at_once: Option<Duration>,
    bytes: u64,
    /// The whole body was handed to the connection, or there was none to send.
    complete: bool,
}

/// What a request is for.
pub(super) enum Asked {
    /// Nothing that could be read yet.
    Nothing,
    /// This address, which names no endpoint.
    Address(Uri),
    Endpoint(Arc<Route>),
}

/// Longest text of a client's choosing in a log line.
const TEXT_MAX: usize = 300;

impl Record {
    /// In a box: it moves from hand to hand, from the request's future to the answer's body.
    pub(super) fn new(metrics: &Metrics, method: Method, client: SocketAddr) -> Box<Self> {
        Box::new(Self {
            metrics: metrics.clone(),
            method,
            client,
            user_agent: unsaid(),
            user: None,
            asked: Asked::Nothing,
            status: StatusCode::OK,
            outcome: "client_error",
            resolution: None,
            begun: Instant::now(),
            first_byte: None,
            at_once: None,
            bytes: 0,
            complete: false,
        })
    }

    /// A piece of the body goes to the connection.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.first_byte.get_or_insert_with(|| self.begun.elapsed());
        self.bytes += bytes;
    }

    /// All of the body goes to the connection in one piece.
    pub(super) fn sent_at_once(&mut self, bytes: u64) {
        self.sent(bytes);
        self.at_once = self.first_byte;
    }

    /// The body cannot be finished; the connection is cut.
    pub(super) fn cut(&self, cut: &Cut) {
        tracing::warn!(
            repository = %self.asked.repository(), reference = %self.asked.reference(),
            client = %self.client,
            sent = self.bytes, "cut a client off: {cut}"
        );
    }

    /// All of the body was sent.
    pub(super) const fn completed(&mut self) {
        self.complete = true;
    }
}

impl Asked {
    /// `manifest`, `blob`, …; `other` for what is no endpoint.
    fn kind(&self) -> &'static str {
        match self {
            Self::Nothing | Self::Address(_) => "other",
            Self::Endpoint(route) => route.endpoint.kind(),
        }
    }

    /// The full repository name, or the path as it came if it names none.
    pub(super) fn repository(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Address(uri) => uri.path().to_owned(),
            Self::Endpoint(route) => {
                route.endpoint.repository().map_or_else(String::new, ToString::to_string)
            }
        }
    }

    /// The tag or digest; empty where there is none.
    pub(super) fn reference(&self) -> String {
        match self {
            Self::Endpoint(route) => route.endpoint.reference(),
            Self::Nothing | Self::Address(_) => String::new(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.at_once.unwrap_or_else(|| self.begun.elapsed());
        let outcome = if self.complete { self.outcome } else { "cut" };
        self.metrics.request_done(&RequestDone {
            endpoint: self.asked.kind(),
            outcome,
            duration,
            first_byte: self.first_byte,
            bytes: self.bytes,
        });
        let resolution = self.resolution.as_deref();
        let platform =
            resolution.and_then(|known| known.platforms.first()).map(tracing::field::display);
        tracing::info!(
            target: "wharf::request",
            method = %self.method,
            endpoint = self.asked.kind(),
            repository = shortened(&self.asked.repository()),
            reference = shortened(&self.asked.reference()),
            outcome,
            status = self.status.as_u16(),
            bytes = self.bytes,
            ms = duration.as_micros() as f64 / 1000.0,
            client = %self.client,
            user = self.user.as_deref(),
            platform,
            signal = resolution.map(|known| known.signal.as_str()),
            user_agent = shortened(&self.user_agent),
        );
    }
}

/// What a client calls itself that does not say so.
fn unsaid() -> Arc<str> {
    static UNSAID: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
    Arc::clone(&UNSAID)
}

fn shortened(text: &str) -> &str {
    if text.len() <= TEXT_MAX {
        return text;
    }
    let end = text.char_indices().nth(TEXT_MAX).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
