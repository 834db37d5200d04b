//! Every metric wharf exposes, as one value whose methods are named after events.
//!
//! Labels are bounded by construction: an endpoint kind, an outcome, a status class, a *known* platform or a *configured* registry;
//! never a repository, digest, address or path that a client can invent.

mod limit;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::limit::Limit;

/// The metrics of one wharf. Clones share the same values.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    time_to_first_byte: HistogramVec,
    served_bytes: IntCounterVec,
    upstream_bytes: IntCounterVec,
    upstream_requests: IntCounterVec,
    upstream_up: IntGaugeVec,
    mode: IntGaugeVec,
    ratelimit_limit: IntGaugeVec,
    ratelimit_remaining: IntGaugeVec,
    account_limit: IntGaugeVec,
    account_remaining: IntGaugeVec,
    cache_bytes: IntGauge,
    cache_limit_bytes: IntGauge,
    cache_reserved_bytes: IntGauge,
    evictions: IntCounter,
    evicted_bytes: IntCounter,
    no_room: IntCounter,
    cache_blobs: IntGauge,
    cache_images: IntGauge,
    downloads_in_flight: IntGauge,
    waiting_for_turn: IntGaugeVec,
    download_resumes: IntCounter,
    verify_failures: IntCounterVec,
    store_failures: IntCounter,
    open_connections: IntGauge,
    /// The most that were open since somebody looked.
    most_connections: AtomicI64,
    connections_refused: IntCounterVec,
    sign_ins: IntCounterVec,
    account_refused: IntGaugeVec,
    requests_delayed: IntCounter,
    /// In the order of [`Limit::ALL`].
    limits: [IntCounter; Limit::ALL.len()],
    imports: IntCounterVec,
    volume_sets: IntGauge,
    prefetch: IntCounterVec,
    prefetch_used_bytes: IntCounter,
    platform_resolutions: IntCounterVec,
    platform_mismatch: IntCounterVec,
    skipped_platform_bytes: IntCounter,
    log_lines_dropped: IntCounter,
    /// Tells how many lines of the log were dropped.
    log: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    /// What is counted of requests, by endpoint and outcome, in the order of [`ENDPOINTS`] and [`OUTCOMES`].
    done: [[OnceLock<Done>; OUTCOMES.len()]; ENDPOINTS.len()],
}

/// What registries answer with. The code is theirs to choose: one that is not listed makes no series of its own.
const STATUSES: [(u16, &str); 18] = [
    (200, "200"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (408, "408"),
    (416, "416"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// Every kind of endpoint, and every outcome: the labels of what is counted of requests.
const ENDPOINTS: [&str; 7] = ["manifest", "blob", "ping", "tags", "referrers", "catalog", "other"];
const OUTCOMES: [&str; 8] =
    ["hit", "miss", "coalesced", "stale", "relay", "client_error", "upstream_error", "cut"];

/// What is counted of the requests that have the same labels: found once, since finding it takes longer than counting.
struct Done {
    requests: IntCounter,
    duration: Histogram,
    first_byte: Histogram,
    bytes: IntCounter,
}

/// One request as it ended, for the metrics and the log line alike.
#[derive(Clone, Copy, Debug)]
pub struct RequestDone {
    /// Which kind of endpoint: `ping`, `manifest`, `blob`, `tags`, `referrers`, `catalog` or `other`.
    pub endpoint: &'static str,
    /// `hit`, `miss`, `coalesced`, `stale`, `relay`, or how it failed: `client_error`, `upstream_error`, `cut`.
    pub outcome: &'static str,
    /// From the request's head to the last byte handed to the connection.
    pub duration: Duration,
    /// From the request's head to the first byte of the body; `None` when there was no body.
    pub first_byte: Option<Duration>,
    /// Bytes of body handed to the connection.
    pub bytes: u64,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    pub fn new() -> Self {
        let registry = Registry::new();
        let limits = counters(
            &registry,
            "wharf_limit_reached_total",
            "Times that a limit refused or cut something, by limit.",
            &["limit"],
        );
        let inner = Inner {
            requests: counters(
                &registry,
                "wharf_requests_total",
                "Requests on the registry address, by kind of endpoint and outcome.",
                &["endpoint", "outcome"],
            ),
            request_duration: histograms(
                &registry,
                "wharf_request_duration_seconds",
                "Time from a request's head to the last byte of its answer.",
                &["endpoint", "outcome"],
            ),
            time_to_first_byte: histograms(
                &registry,
                "wharf_time_to_first_byte_seconds",
                "Time from a request's head to the first byte of the answer's body.",
                &["outcome"],
            ),
            served_bytes: counters(
                &registry,
                "wharf_served_bytes_total",
                "Bytes of body sent to clients, by outcome.",
                &["outcome"],
            ),
            upstream_bytes: counters(
                &registry,
                "wharf_upstream_bytes_total",
                "Bytes of body received from a registry: what crossed the uplink.",
                &["registry"],
            ),
            upstream_requests: counters(
                &registry,
                "wharf_upstream_requests_total",
                "Requests sent to a registry, by kind of endpoint and status.",
                &["registry", "endpoint", "status"],
            ),
            upstream_up: gauges(
                &registry,
                "wharf_upstream_up",
                "1 when an endpoint of the registry answered when it was last asked, 0 when none did.",
                &["registry"],
            ),
            mode: gauges(
                &registry,
                "wharf_mode",
                "1 for the mode that wharf is in ([server] mode), 0 for the others.",
                &["mode"],
            ),
            ratelimit_limit: gauges(
                &registry,
                "wharf_upstream_ratelimit_limit",
                "Pulls that the registry allows in its window with all accounts, as it last said.",
                &["registry"],
            ),
            ratelimit_remaining: gauges(
                &registry,
                "wharf_upstream_ratelimit_remaining",
                "Pulls left in the registry's window with all accounts, as it last said.",
                &["registry"],
            ),
            account_limit: gauges(
                &registry,
                "wharf_upstream_account_ratelimit_limit",
                "Pulls that the registry allows the account in its window, as it last said.",
                &["registry", "account"],
            ),
            account_remaining: gauges(
                &registry,
                "wharf_upstream_account_ratelimit_remaining",
                "Pulls left to the account in the registry's window, as the registry last said.",
                &["registry", "account"],
            ),
            account_refused: gauges(
                &registry,
                "wharf_upstream_account_refused",
                "1 if the account was answered with 401 when it was last shown, by the registry or its token service.",
                &["registry", "account"],
            ),
            cache_bytes: gauge(
                &registry,
                "wharf_cache_bytes",
                "Bytes of the blobs kept, of unfinished downloads and of quarantined blobs.",
            ),
            cache_limit_bytes: gauge(
                &registry,
                "wharf_cache_limit_bytes",
                "Most bytes that may be kept: the budget.",
            ),
            cache_reserved_bytes: gauge(
                &registry,
                "wharf_cache_reserved_bytes",
                "Bytes promised to downloads that run, and not written yet.",
            ),
            evictions: counter(
                &registry,
                "wharf_evictions_total",
                "Images that were removed because room was needed.",
            ),
            evicted_bytes: counter(
                &registry,
                "wharf_evicted_bytes_total",
                "Bytes of blobs that went with them.",
            ),
            no_room: counter(
                &registry,
                "wharf_no_room_total",
                "Downloads and documents for which there was no room, whatever could be evicted; they were passed on.",
            ),
            cache_blobs: gauge(&registry, "wharf_cache_blobs", "Blobs kept, manifests included."),
            cache_images: gauge(&registry, "wharf_cache_images", "Image names kept."),
            downloads_in_flight: gauge(
                &registry,
                "wharf_downloads_in_flight",
                "Blob downloads that run or wait for their turn.",
            ),
            waiting_for_turn: gauges(
                &registry,
                "wharf_waiting_for_turn",
                "What waits for its client's turn: downloads, questions to registries, and relays past the disk.",
                &["kind"],
            ),
            download_resumes: counter(
                &registry,
                "wharf_download_resumes_total",
                "Downloads taken up again by Range after a broken connection.",
            ),
            verify_failures: counters(
                &registry,
                "wharf_verify_failures_total",
                "Contents thrown away because they did not match their digest or length, or could not be read, by stage.",
                &["stage"],
            ),
            store_failures: counter(
                &registry,
                "wharf_store_failures_total",
                "Writes to the cache directory that failed; the pulls went on as relays.",
            ),
            open_connections: gauge(
                &registry,
                "wharf_open_connections",
                "Client connections open on the registry address.",
            ),
            sign_ins: counters(
                &registry,
                "wharf_sign_ins_total",
                "Requests with a name and a password, by what came of them: good, wrong, too_often, busy.",
                &["outcome"],
            ),
            connections_refused: counters(
                &registry,
                "wharf_connections_refused_total",
                "Client connections that were refused (not_allowed, too_many of one client), or closed for another (idle).",
                &["reason"],
            ),
            requests_delayed: counter(
                &registry,
                "wharf_requests_delayed_total",
                "Requests that waited because many of the same client were worked on.",
            ),
            limits: Limit::ALL.map(|limit| limits.with_label_values(&[limit.as_str()])),
            imports: counters(
                &registry,
                "wharf_imports_total",
                "Archives that came by hand, by what came of it: taken, volume (waits for others), refused, failed (no room, or the disk).",
                &["outcome"],
            ),
            volume_sets: gauge(
                &registry,
                "wharf_volume_sets",
                "Bundles of which some volumes are here, and others are not.",
            ),
            prefetch: counters(
                &registry,
                "wharf_prefetch_total",
                "Images fetched ahead, by what came of it: fetched, kept (all was here), skipped, retried, paused, failed.",
                &["outcome"],
            ),
            prefetch_used_bytes: counter(
                &registry,
                "wharf_prefetch_used_bytes_total",
                "Bytes of blobs that were fetched ahead and then asked for by a client.",
            ),
            platform_resolutions: counters(
                &registry,
                "wharf_platform_resolutions_total",
                "Manifests served, by the platform that the client was taken to have and the signal that told it.",
                &["platform", "signal"],
            ),
            platform_mismatch: counters(
                &registry,
                "wharf_platform_mismatch_total",
                "Manifests served to clients that cannot run them, by the manifests' platform.",
                &["platform"],
            ),
            skipped_platform_bytes: counter(
                &registry,
                "wharf_skipped_platform_bytes_total",
                "Bytes of images for other platforms that nobody asked for, estimated from those that were taken of the same index.",
            ),
            log_lines_dropped: counter(
                &registry,
                "wharf_log_lines_dropped_total",
                "Lines of the log that were dropped because its reader was too slow.",
            ),
            most_connections: AtomicI64::new(0),
            log: OnceLock::new(),
            done: Default::default(),
            registry,
        };
        let process = prometheus::process_collector::ProcessCollector::for_self();
        inner.registry.register(Box::new(process)).expect("registered once");
        Self(Arc::new(inner))
    }

    /// A request on the registry address was answered to its end, or cut.
    pub fn request_done(&self, done: &RequestDone) {
        let endpoint = ENDPOINTS.iter().position(|known| *known == done.endpoint);
        let outcome = OUTCOMES.iter().position(|known| *known == done.outcome);
        let unlisted;
        let counts = match (endpoint, outcome) {
            (Some(endpoint), Some(outcome)) => {
                self.0.done[endpoint][outcome].get_or_init(|| self.0.counts_of(done))
            }
            _ => {
                unlisted = self.0.counts_of(done);
                &unlisted
            }
        };
        counts.requests.inc();
        observe(&counts.duration, done.duration);
        if let Some(first_byte) = done.first_byte {
            observe(&counts.first_byte, first_byte);
        }
        counts.bytes.inc_by(done.bytes);
    }

    /// A client connected to the registry address.
    pub fn connection_opened(&self) {
        self.0.open_connections.inc();
        self.0.most_connections.fetch_max(self.0.open_connections.get(), Ordering::Relaxed);
    }

    /// How many connections of clients are open, and the most that were since this was last asked.
    pub fn connections(&self) -> (u64, u64) {
        let open = self.0.open_connections.get();
        let most = self.0.most_connections.swap(open, Ordering::Relaxed).max(open);
        (u64::try_from(open).unwrap_or_default(), u64::try_from(most).unwrap_or_default())
    }

    /// A client got no connection, or has to make room for another.
    pub fn connection_refused(&self, reason: &'static str) {
        self.0.connections_refused.with_label_values(&[reason]).inc();
    }

    /// A client has signed in with name and password, or tried to.
    pub fn sign_in(&self, outcome: &'static str) {
        self.0.sign_ins.with_label_values(&[outcome]).inc();
    }

    /// A request has to wait for others of the same client.
    pub fn request_delayed(&self) {
        self.0.requests_delayed.inc();
    }

    /// A limit refused or cut something.
    pub fn limit_reached(&self, limit: Limit) {
        let at = Limit::ALL.iter().position(|known| *known == limit);
        if let Some(counter) = at.and_then(|at| self.0.limits.get(at)) {
            counter.inc();
        }
    }

    /// A client's connection ended.
    pub fn connection_closed(&self) {
        self.0.open_connections.dec();
    }

    /// A registry answered a request, or did not: `status` is the code if it is one of those that registries
    /// are known to send, else `other`, or `error` without one.
    pub fn upstream_request(&self, registry: &str, endpoint: &'static str, status: Option<u16>) {
        let known = |status| STATUSES.iter().find(|(code, _)| *code == status);
        let status =
            status.map_or("error", |status| known(status).map_or("other", |(_, label)| label));
        self.0.upstream_requests.with_label_values(&[registry, endpoint, status]).inc();
    }

    /// Body bytes arrived from a registry.
    pub fn upstream_bytes(&self, registry: &str, bytes: u64) {
        self.0.upstream_bytes.with_label_values(&[registry]).inc_by(bytes);
    }

    /// A registry is now known to answer, or not to.
    pub fn upstream_up(&self, registry: &str, up: bool) {
        self.0.upstream_up.with_label_values(&[registry]).set(i64::from(up));
    }

    /// Which of the modes holds now.
    pub fn mode(&self, modes: &[(&'static str, bool)]) {
        for (mode, holds) in modes {
            self.0.mode.with_label_values(&[*mode]).set(i64::from(*holds));
        }
    }

    /// A registry told its pull limit.
    pub fn ratelimit(&self, registry: &str, limit: Option<u64>, remaining: Option<u64>) {
        if let Some(limit) = limit {
            self.0.ratelimit_limit.with_label_values(&[registry]).set(clamped(limit));
        }
        if let Some(remaining) = remaining {
            self.0.ratelimit_remaining.with_label_values(&[registry]).set(clamped(remaining));
        }
    }

    /// Whether a registry refuses an account; `account` is a configured name.
    pub fn account_refused(&self, registry: &str, account: &str, is_refused: bool) {
        self.0.account_refused.with_label_values(&[registry, account]).set(is_refused.into());
    }

    /// A registry told the pull limit of an account; `account` is a configured name.
    pub fn account_ratelimit(
        &self,
        registry: &str,
        account: &str,
        limit: Option<u64>,
        remaining: Option<u64>,
    ) {
        let labels = &[registry, account];
        if let Some(limit) = limit {
            self.0.account_limit.with_label_values(labels).set(clamped(limit));
        }
        if let Some(remaining) = remaining {
            self.0.account_remaining.with_label_values(labels).set(clamped(remaining));
        }
    }

    /// How many blobs the cache now holds, of how many bytes; how many are promised, and how many there may be.
    pub fn cache_holds(&self, blobs: u64, bytes: u64, reserved: u64, limit: u64) {
        self.0.cache_blobs.set(clamped(blobs));
        self.0.cache_bytes.set(clamped(bytes));
        self.0.cache_reserved_bytes.set(clamped(reserved));
        self.0.cache_limit_bytes.set(clamped(limit));
    }

    /// How many names of images it holds.
    pub fn cache_names(&self, images: u64) {
        self.0.cache_images.set(clamped(images));
    }

    /// So many images went because room was needed, with so many bytes; so often there was none all the same.
    pub fn evicted(&self, images: u64, bytes: u64, no_room: u64) {
        self.0.evictions.inc_by(images);
        self.0.evicted_bytes.inc_by(bytes);
        self.0.no_room.inc_by(no_room);
    }

    /// A blob download was asked for.
    pub fn download_started(&self) {
        self.0.downloads_in_flight.inc();
    }

    /// A blob download ended, whichever way.
    pub fn download_ended(&self) {
        self.0.downloads_in_flight.dec();
    }

    /// Something of this kind waits for its client's turn, for as long as what is returned is held.
    pub fn waits_for_turn(&self, kind: &'static str) -> WaitsForTurn {
        let gauge = self.0.waiting_for_turn.with_label_values(&[kind]);
        gauge.inc();
        WaitsForTurn(gauge)
    }

    /// A download went on by `Range` after its connection broke.
    pub fn download_resumed(&self) {
        self.0.download_resumes.inc();
    }

    /// Content was thrown away as wrong; `stage` is `manifest`, `blob` or `relay` of what came from a registry,
    /// `kept` of what was in the cache.
    pub fn verify_failed(&self, stage: &'static str) {
        self.0.verify_failures.with_label_values(&[stage]).inc();
    }

    /// The cache directory did not take a write.
    pub fn store_failed(&self) {
        self.0.store_failures.inc();
    }

    /// So many bundles wait for volumes.
    pub fn volume_sets(&self, sets: u64) {
        self.0.volume_sets.set(clamped(sets));
    }

    /// An archive was to be taken in: `taken`, `volume`, `refused` or `failed`.
    pub fn imported(&self, outcome: &'static str) {
        self.0.imports.with_label_values(&[outcome]).inc();
    }

    /// Something was fetched ahead, or could not be: `fetched`, `kept`, `skipped`, `retried`, `paused` or `failed`.
    pub fn prefetched(&self, outcome: &'static str) {
        self.0.prefetch.with_label_values(&[outcome]).inc();
    }

    /// A client asked for a blob of this many bytes that was fetched ahead.
    pub fn prefetch_used(&self, bytes: u64) {
        self.0.prefetch_used_bytes.inc_by(bytes);
    }

    /// The count of manifests that were served to clients that were taken to have a platform, one of the few hundred labels of
    /// platforms.
    pub fn platform_resolutions(&self, platform: &str, signal: &'static str) -> Count {
        Count(self.0.platform_resolutions.with_label_values(&[platform, signal]))
    }

    /// A client took a manifest for a platform, by its label, that it cannot run.
    pub fn platform_mismatch(&self, platform: &str) {
        self.0.platform_mismatch.with_label_values(&[platform]).inc();
    }

    /// Images of other platforms were left where they are.
    pub fn platform_skipped(&self, bytes: u64) {
        self.0.skipped_platform_bytes.inc_by(bytes);
    }

    /// From now on, `dropped` is asked how many lines of the log were dropped.
    pub fn watch_log(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.0.log.set(Box::new(dropped));
    }

    /// All metrics in Prometheus' text format, and its content type.
    pub fn render(&self) -> (Vec<u8>, String) {
        if let Some(dropped) = self.0.log.get() {
            let counter = &self.0.log_lines_dropped;
            counter.inc_by(dropped().saturating_sub(counter.get()));
        }
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        if let Err(error) = encoder.encode(&self.0.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be rendered");
        }
        (text, encoder.format_type().to_owned())
    }
}

impl Inner {
    /// Finds what is to be counted under the labels of `done`.
    fn counts_of(&self, done: &RequestDone) -> Done {
        let (both, outcome) = ([done.endpoint, done.outcome], [done.outcome]);
        Done {
            requests: self.requests.with_label_values(&both),
            duration: self.request_duration.with_label_values(&both),
            first_byte: self.time_to_first_byte.with_label_values(&outcome),
            bytes: self.served_bytes.with_label_values(&outcome),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// One of a metric's counts, found once.
#[derive(Clone, Debug)]
pub struct Count(IntCounter);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.0.inc();
    }
}

/// Counts one that waits, for as long as this is held.
#[derive(Debug)]
pub struct WaitsForTurn(IntGauge);

impl Drop for WaitsForTurn {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn observe(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}

// A metric whose name or labels are malformed, or registered twice, is a mistake in this file that any
// start of wharf shows: hence the `expect`s.

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect("well-formed");
    registry.register(Box::new(counter.clone())).expect("registered once");
    counter
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("well-formed");
    registry.register(Box::new(counters.clone())).expect("registered once");
    counters
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect("well-formed");
    registry.register(Box::new(gauge.clone())).expect("registered once");
    gauge
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("well-formed");
    registry.register(Box::new(gauges.clone())).expect("registered once");
    gauges
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    // 1 ms (an answer from memory) to 10 min (a large layer over a thin uplink).
    let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0];
    let opts = HistogramOpts::new(name, help).buckets(buckets);
    let histograms = HistogramVec::new(opts, labels).expect("well-formed");
    registry.register(Box::new(histograms.clone())).expect("registered once");
    histograms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_there_before_it_is_reached_and_counts_for_itself() {
        let metrics = Metrics::new();
        let series = || {
            let text = String::from_utf8(metrics.render().0).expect("text");
            let of_limits = |line: &&str| line.starts_with("wharf_limit_reached_total{");
            text.lines().filter(of_limits).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(series().len(), Limit::ALL.len());
        assert!(series().iter().all(|line| line.ends_with(" 0")), "{:#?}", series());
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| metrics.limit_reached(limit));
            let line = format!("wharf_limit_reached_total{{limit=\"{}\"}} {times}", limit.as_str());
            assert!(series().contains(&line), "{line}");
        }
    }

    #[test]
    fn a_registry_cannot_make_up_series() {
        let metrics = Metrics::new();
        for status in (100..1000).map(Some).chain([None]) {
            metrics.upstream_request("registry.example", "blob", status);
        }
        let text = String::from_utf8(metrics.render().0).expect("text");
        let series: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("wharf_upstream_requests_total{"))
            .collect();
        assert!(series.len() <= 20, "{} series", series.len());
        for (status, count) in [("200", 1), ("307", 1), ("429", 1), ("error", 1), ("other", 882)] {
            let end = format!("status=\"{status}\"}} {count}");
            assert!(series.iter().any(|line| line.ends_with(&end)), "{end} in {series:#?}");
        }
    }
}
