//! [`Endpoint`]: one address of a registry, which rests after a failure.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use url::Url;

use super::{Error, account::Who};
use crate::clock::Clock;

/// The first rest; each further failure in a row doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Accounts and kinds of one endpoint that are known to be limited: beyond these, whoever asks finds out each time.
const COOL_DOWNS: usize = 1024;

/// One base address of a registry.
pub(super) struct Endpoint {
    base: Url,
    clock: Clock,
    health: Mutex<Health>,
    /// Until when what is asked is refused, by who asks: there are few kinds, and each has a limit of its own. Docker Hub
    /// counts `GET`s of manifests, and neither `HEAD`s nor blobs. At most [`COOL_DOWNS`].
    cool_downs: Mutex<HashMap<(Who, Asked), Instant>>,
}

/// What is asked: whether by `HEAD`, and the kind of endpoint.
pub(super) type Asked = (bool, &'static str);

#[derive(Default)]
struct Health {
    /// Failures in a row.
    failures: u32,
    /// Until when other endpoints are asked first.
    rests_until: Option<Instant>,
    /// Whether it rests because it did not answer, rather than because a body broke off.
    is_silent: bool,
    /// Whether nothing at all was said to the last request.
    is_mute: bool,
    /// Whether the last request was answered, and since when that is so, in seconds since 1970; `None`: never asked.
    seen: Option<(bool, u64)>,
}

impl Endpoint {
    pub(super) fn new(base: Url, clock: Clock) -> Self {
        Self { base, clock, health: Mutex::default(), cool_downs: Mutex::default() }
    }

    /// The configured address.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The address of `path` (`/v2/…`) below this base.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    /// Whether others should be asked first.
    pub(super) fn rests(&self) -> bool {
        self.health().rests_until.is_some_and(|until| self.clock.now() < until)
    }

    /// Whether it is too soon after a request without an answer for a question that can do without one.
    pub(super) fn is_silent(&self) -> bool {
        self.rests() && self.health().is_silent
    }

    /// Whether the last request here had no answer, however long ago that was.
    pub(super) fn is_down(&self) -> bool {
        let health = self.health();
        health.failures > 0 && health.is_silent
    }

    /// Whether nothing at all was said to the last request here, as when the uplink is gone.
    pub(super) fn is_mute(&self) -> bool {
        self.health().is_mute
    }

    /// Whether the last request here was answered, and since when that is so, in seconds since 1970; `None`: nothing was
    /// asked yet.
    pub(super) fn seen(&self) -> Option<(bool, u64)> {
        self.health().seen
    }

    /// Too much of this kind was asked by `who`: for so long, nothing more of it is.
    pub(super) fn cool_down(&self, who: Who, asked: Asked, for_so_long: Duration) {
        let now = self.clock.now();
        {
            let mut cool_downs = self.cool_downs();
            cool_downs.retain(|_, until| *until > now);
            if cool_downs.len() < COOL_DOWNS {
                cool_downs.insert((who, asked), now + for_so_long);
            }
        }
        let (by_head, kind) = asked;
        tracing::warn!(endpoint = %self.base, kind, by_head, ?for_so_long, "the endpoint's limit is reached");
    }

    /// For how long nothing of this kind is to be asked by `who`.
    pub(super) fn cools(&self, who: Who, asked: Asked) -> Option<Duration> {
        let left =
            self.cool_downs().get(&(who, asked))?.saturating_duration_since(self.clock.now());
        (!left.is_zero()).then_some(left)
    }

    /// A request here was not answered as it should be; `is_heard`: but something was said.
    pub(super) fn failed(&self, error: &Error, is_heard: bool) {
        // Who sets a limit is there.
        self.see(matches!(error, Error::RateLimited { .. }));
        self.health().is_mute = !is_heard;
        self.rest(error, true);
    }

    /// It was asked whether it is there, and said something; `is_back`: it had not for a while, so that its rest is over.
    pub(super) fn spoke(&self, is_back: bool) {
        if is_back {
            self.worked();
        } else {
            self.see(true);
            self.health().is_mute = false;
        }
    }

    /// It was asked whether it is there, and said nothing.
    pub(super) fn said_nothing(&self) {
        self.see(false);
        self.health().is_mute = true;
    }

    /// A body that came from here, or from where this endpoint redirects to, broke off.
    pub(super) fn broke_off(&self, error: &Error) {
        self.rest(error, false);
    }

    /// Failures while the endpoint already rests are of the same outage: a burst of requests that fail
    /// together counts once.
    fn rest(&self, error: &Error, is_silent: bool) {
        let now = self.clock.now();
        let rest = {
            let mut health = self.health();
            if health.rests_until.is_some_and(|until| now < until) {
                health.is_silent |= is_silent;
                return;
            }
            health.is_silent = is_silent;
            let rest = FIRST_REST.saturating_mul(1 << health.failures.min(10)).min(LONGEST_REST);
            health.failures = health.failures.saturating_add(1);
            health.rests_until = Some(now + rest);
            rest
        };
        tracing::warn!(endpoint = %self.base, %error, ?rest, "the endpoint failed and rests");
    }

    /// A request here was answered.
    pub(super) fn worked(&self) {
        self.see(true);
        let failures = {
            let mut health = self.health();
            let seen = health.seen;
            std::mem::replace(&mut *health, Health { seen, ..Health::default() }).failures
        };
        if failures > 0 {
            tracing::info!(endpoint = %self.base, "the endpoint answers again");
        }
    }

    fn see(&self, up: bool) {
        let now = self.clock.unix_seconds();
        let mut health = self.health();
        if health.seen.is_none_or(|(was, _)| was != up) {
            health.seen = Some((up, now));
        }
    }

    fn cool_downs(&self) -> std::sync::MutexGuard<'_, HashMap<(Who, Asked), Instant>> {
        self.cool_downs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Plain values: whatever a panicking holder left is still a health.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_longer_after_each_failure_and_not_at_all_after_a_success() {
        let clock = Clock::system();
        let base = "https://registry.example/sub/".parse().expect("an address");
        let endpoint = Endpoint::new(base, clock.clone());
        let error = Error::unavailable("test");
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!endpoint.rests());
            endpoint.failed(&error, true);
            endpoint.failed(&error, true);
            clock.advance(Duration::from_secs(rest) - Duration::from_millis(500));
            assert!(endpoint.rests(), "after {rest} s");
            clock.advance(Duration::from_millis(500));
        }
        endpoint.failed(&error, true);
        endpoint.worked();
        assert!(!endpoint.rests());
        endpoint.failed(&error, true);
        clock.advance(Duration::from_secs(1));
        assert!(!endpoint.rests());
    }

    #[test]
    fn is_seen_up_or_down_since_it_became_so() {
        let clock = Clock::system();
        let base = "https://registry.example".parse().expect("an address");
        let endpoint = Endpoint::new(base, clock.clone());
        let error = Error::unavailable("test");
        assert_eq!(endpoint.seen(), None);
        endpoint.worked();
        let (up, begun) = endpoint.seen().expect("asked");
        assert!(up);
        clock.advance(Duration::from_secs(100));
        endpoint.worked();
        endpoint.broke_off(&error);
        assert_eq!(endpoint.seen(), Some((true, begun)), "a body that breaks off was an answer");
        endpoint.failed(&error, true);
        let (up, down) = endpoint.seen().expect("asked");
        assert!(!up && down >= begun + 100);
        clock.advance(Duration::from_secs(100));
        endpoint.failed(&error, true);
        assert_eq!(endpoint.seen(), Some((false, down)));
    }

    #[test]
    fn a_body_that_broke_off_is_no_silence() {
        let clock = Clock::system();
        let base = "https://registry.example".parse().expect("an address");
        let endpoint = Endpoint::new(base, clock.clone());
        let error = Error::unavailable("test");
        endpoint.broke_off(&error);
        assert!(endpoint.rests() && !endpoint.is_silent());
        endpoint.failed(&error, true);
        assert!(endpoint.is_silent());
        clock.advance(Duration::from_secs(1));
        assert!(!endpoint.is_silent());
        endpoint.broke_off(&error);
        assert!(endpoint.rests() && !endpoint.is_silent());
    }

    #[test]
    fn puts_paths_below_its_own() {
        for (base, want) in [
            ("https://r.example", "https://r.example/v2/a/tags/list"),
            ("https://r.example/", "https://r.example/v2/a/tags/list"),
            ("https://r.example/sub/", "https://r.example/sub/v2/a/tags/list"),
            ("https://r.example/sub?x=1#y", "https://r.example/sub/v2/a/tags/list"),
        ] {
            let endpoint = Endpoint::new(base.parse().expect("an address"), Clock::system());
            assert_eq!(endpoint.url("/v2/a/tags/list").as_str(), want);
        }
    }
}
