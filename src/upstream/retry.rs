//! How often to ask, and where: endpoints in turn, back-off between rounds, `Retry-After`.

use std::{cmp::Ordering, future::Future, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout};

use super::{Error, Urgency, health::Endpoint};

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// A `Retry-After` beyond this is not waited for: whoever asks should know now.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// All rounds of one question together.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why one try brought no answer, and when the next may.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) retry_after: Option<Duration>,
    /// Whether the endpoint was asked at all.
    pub(super) is_asked: bool,
    /// Whether it said anything, be it of no use.
    pub(super) is_heard: bool,
    /// Whether the account that it was shown is what it did not take, whatever is asked for with it.
    pub(super) is_of_account: bool,
}

impl Failure {
    /// Nothing was asked.
    pub(super) const fn unasked(error: Error) -> Self {
        Self { error, retry_after: None, is_asked: false, is_heard: false, is_of_account: false }
    }

    /// What two accounts came to at one endpoint: what tells more, and what passes sooner.
    pub(super) fn or(self, other: Self) -> Self {
        let is_asked = self.is_asked || other.is_asked;
        let is_heard = self.is_heard || other.is_heard;
        let sooner = |failure: &Self| failure.error.retry_after().unwrap_or_default();
        let told = match self.error.weight().cmp(&other.error.weight()) {
            Ordering::Less => other,
            Ordering::Equal if sooner(&other) < sooner(&self) => other,
            _ => self,
        };
        let retry_after = told.retry_after.or_else(|| told.error.retry_after());
        Self { is_asked, is_heard, retry_after, ..told }
    }

    /// The same, where it is the account that was refused.
    pub(super) fn of_account(self) -> Self {
        Self { is_of_account: true, ..self }
    }

    /// Nothing was said.
    pub(super) fn silence(error: Error) -> Self {
        Self { is_heard: false, ..error.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            retry_after: error.retry_after(),
            error,
            is_asked: true,
            is_heard: true,
            is_of_account: false,
        }
    }
}

/// Asks `endpoints`, each by `attempt`, as far as `urgency` goes.
///
/// In a round every endpoint gets one try and its share of the time left: healthy ones first, in their order,
/// then those that rest; a question that can do without an answer leaves out those that gave none a moment ago.
/// Those that failed in a way that may pass take part in the next round, after a pause. The first answer ends it all; so does a dropped future.
///
/// # Errors
/// What tells most of what the endpoints said last ([`Error::weight`]): an endpoint that was not asked because
/// it rests has failed, too.
pub(super) async fn ask<'a, T, F>(
    endpoints: &'a [Arc<Endpoint>],
    attempts: u32,
    urgency: Urgency,
    attempt: impl Fn(&'a Arc<Endpoint>) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let (mut resting, mut asked): (Vec<_>, Vec<_>) = endpoints.iter().partition(|e| e.rests());
    let mut verdict = Verdict::default();
    let (patience, pauses) = match urgency {
        Urgency::Fallback(patience) => {
            let all = resting.len();
            resting.retain(|endpoint| !endpoint.is_silent());
            if resting.len() < all {
                verdict.add(Error::unavailable("an endpoint that just failed is left in peace"));
            }
            (patience, 0)
        }
        // The first question of an outage has found out by patience; the next ones need not.
        Urgency::Must if endpoints.iter().all(|endpoint| endpoint.is_down()) => (PATIENCE, 0),
        Urgency::Must => (PATIENCE, attempts.saturating_sub(1)),
    };
    asked.extend(resting);
    let deadline = Instant::now() + patience;
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_BACKOFF)
        .with_max_delay(LONGEST_BACKOFF)
        .with_max_times(pauses as usize)
        .with_jitter()
        .build();
    loop {
        // What endpoints that may be asked again said in this round; it counts if they are not.
        let mut passing = Verdict::default();
        let mut again = Vec::new();
        let mut pause = Duration::ZERO;
        for (index, endpoint) in asked.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(asked.len() - index).unwrap_or(u32::MAX);
            let failure = match timeout(share, attempt(endpoint)).await {
                Ok(Ok(answer)) => {
                    endpoint.worked();
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
                Err(_) => {
                    Failure::silence(Error::unavailable(format!("no answer within {share:?}")))
                }
            };
            let Failure { error, retry_after, is_asked, is_heard, .. } = failure;
            if !is_asked {
                verdict.add(error);
                continue;
            }
            if !error.is_failure() {
                if !error.is_outage() {
                    endpoint.worked();
                }
                verdict.add(error);
                continue;
            }
            endpoint.failed(&error, is_heard);
            let retry_after = retry_after.unwrap_or_default();
            if retry_after > LONGEST_WAIT {
                verdict.add(error);
                continue;
            }
            pause = pause.max(retry_after);
            again.push(*endpoint);
            passing.add(error);
        }
        let next = pauses.next().filter(|_| !again.is_empty()).map(|backoff| backoff.max(pause));
        match next {
            Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
            _ => return Err(verdict.with(passing)),
        }
        asked = again;
    }
}

/// The most telling error so far.
#[derive(Default)]
struct Verdict(Option<Error>);

impl Verdict {
    fn add(&mut self, error: Error) {
        if self.0.as_ref().is_none_or(|kept| kept.weight() <= error.weight()) {
            self.0 = Some(error);
        }
    }

    fn with(mut self, other: Self) -> Error {
        if let Some(error) = other.0 {
            self.add(error);
        }
        self.0.unwrap_or_else(|| Error::unavailable("no endpoint"))
    }
}
