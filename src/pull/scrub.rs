//! The slow check of all blobs (`[cache] scrub`): each is read once in a period, while no client's download runs.
//!
//! A round begins a period after the one before it. What is due is told by the part of the period that has passed, so that a
//! wharf that is switched off at night, or was for a month, catches up; never faster than [`RATE`]. How far it is stands in
//! `wharf/scrub.json`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{Error, Inner, Pull, ScrubStatus, pace::Rate, verify::Survey};
use crate::{clock::Clock, oci::Digest, store::Checked};

/// Most bytes read per second: a fifth or so of what a poor card gives.
const RATE: u64 = 4 << 20;

/// All is read in this part of the period, in tenths: what is left is for days on which clients always pull.
const TENTHS: u64 = 8;

/// Blobs that are listed at once.
const PAGE: usize = 64;

/// For how long one piece gives way to clients' downloads. The next piece does again.
const GIVE_WAY: Duration = Duration::from_secs(600);

/// How long it is until what is damaged and could not be had is asked for once more.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// For how long a clock that is behind the round's begin is thought to be wrong: a box without a clock of its own starts
/// in the past, until it hears the time.
const BEHIND: Duration = Duration::from_secs(24 * 3600);

/// Where the scrub is, and what it does next.
#[derive(Debug)]
pub(super) struct Scrubber {
    state: Mutex<State>,
    /// Held by whoever reads: one at a time.
    reads: tokio::sync::Mutex<()>,
    changed: Notify,
    /// Downloads that run and that a client waits for.
    wanted: watch::Receiver<usize>,
}

#[derive(Debug, Default)]
struct State {
    period: Option<Duration>,
    round: Round,
    /// Whether `round` is not written down as it is.
    is_unwritten: bool,
    /// When it was last asked for what is damaged.
    asked: Option<Instant>,
    /// Since when the clock has been behind the round's begin.
    behind: Option<Instant>,
}

/// What is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    /// When it began, in seconds since 1970; 0: none has yet.
    since: u64,
    /// The blob that was read last.
    last: Option<Digest>,
    /// What was read in this round.
    blobs: u64,
    bytes: u64,
    /// What of it was not what its name says, and in the round before.
    bad: u64,
    bad_before: u64,
    /// Whether all of this round is read.
    is_over: bool,
    /// When the last round that is over ended.
    finished: Option<u64>,
}

impl Scrubber {
    pub(super) fn new(period: Option<Duration>, wanted: watch::Receiver<usize>) -> Self {
        let state = State { period, ..State::default() };
        let (state, reads) = (Mutex::new(state), tokio::sync::Mutex::default());
        Self { state, reads, changed: Notify::new(), wanted }
    }

    /// Goes on where an earlier run was.
    pub(super) fn restore(&self, bytes: &[u8]) {
        if let Ok(round) = serde_json::from_slice(bytes) {
            self.state().round = round;
        }
    }

    /// What is to be written down, if it is not.
    pub(super) fn unwritten(&self) -> Option<Bytes> {
        let mut state = self.state();
        let json = serde_json::to_vec(&state.round).expect("strings and numbers serialise");
        std::mem::take(&mut state.is_unwritten).then(|| json.into())
    }

    pub(super) fn not_written(&self) {
        self.state().is_unwritten = true;
    }

    pub(super) fn status(&self) -> Option<ScrubStatus> {
        let State { period, round, .. } = *self.state();
        let Round { since, blobs, bytes, bad, bad_before, finished, .. } = round;
        let period = period?.as_secs();
        Some(ScrubStatus {
            period,
            since,
            bytes,
            blobs,
            bad: bad.saturating_add(bad_before),
            finished,
        })
    }

    /// The blob behind which to read on, if more than was read is due `now` of a cache of `kept` bytes.
    fn due(&self, clock: &Clock, kept: u64) -> Option<Option<Digest>> {
        let now = clock.unix_seconds();
        let mut state = self.state();
        let State { period, round, behind, .. } = &mut *state;
        let period = (*period)?.as_secs().max(1);
        if round.since > now {
            let since = *behind.get_or_insert_with(|| clock.now());
            if clock.now() < since + BEHIND {
                return None;
            }
        }
        *behind = None;
        let is_next = round.is_over && now >= round.since.saturating_add(period);
        // A round that was begun by a wrong clock is no reason to wait for years.
        if round.since == 0 || is_next || round.since > now {
            let (bad_before, finished) = (round.bad, round.finished);
            // Written down once something is read: a start writes nothing.
            *round = Round { since: now, bad_before, finished, ..Round::default() };
        }
        let passed = u128::from(now - round.since) * 10;
        let due = u128::from(kept) * passed / (u128::from(period) * u128::from(TENTHS));
        // At the end of that time all is due, whatever came meanwhile.
        let all = passed >= u128::from(period) * u128::from(TENTHS);
        (!round.is_over && (all || u128::from(round.bytes) < due)).then_some(round.last)
    }

    pub(super) fn read(&self, digest: Digest, bytes: u64, is_bad: bool) {
        let mut state = self.state();
        let round = &mut state.round;
        round.last = Some(digest);
        // The disk may have made up what was there.
        round.blobs = round.blobs.saturating_add(1);
        round.bytes = round.bytes.saturating_add(bytes);
        round.bad = round.bad.saturating_add(u64::from(is_bad));
        state.is_unwritten = true;
    }

    fn is_over(&self, now: u64) {
        let mut state = self.state();
        state.round.is_over = true;
        state.round.finished = Some(now);
        state.is_unwritten = true;
        let Round { blobs, bytes, bad, .. } = state.round;
        tracing::info!(blobs, bytes, bad, "all that is kept was read once more");
    }

    /// Whether it is time to ask for what is damaged.
    fn asks(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_time = state.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        let asks = state.period.is_some() && is_time;
        if asks {
            state.asked = Some(now);
        }
        asks
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pull {
    /// Changes in what time all blobs are read once; `None`: they are not.
    pub fn set_scrub(&self, period: Option<Duration>) {
        let scrub = &self.0.scrub;
        scrub.state().period = period;
        scrub.changed.notify_one();
    }

    /// Reads what is due, and asks for what was found damaged. To be called every minute. Can be dropped at any time: the
    /// blob that was being read is read again.
    pub async fn scrub(&self) {
        if let Err(error) = self.0.scrub_due().await {
            tracing::warn!(%error, "what is kept could not be read once more");
        }
    }

    /// Waits until [`Pull::set_scrub`] is called.
    pub async fn scrub_changed(&self) {
        self.0.scrub.changed.notified().await;
    }

    pub(super) fn scrub_status(&self) -> Option<ScrubStatus> {
        self.0.scrub.status()
    }
}

impl Inner {
    async fn scrub_due(self: &Arc<Self>) -> Result<(), Error> {
        let _alone = self.scrub.reads.lock().await;
        let read = self.read_due().await;
        // Whatever became of the reading.
        if self.scrub.asks(self.clock.now()) && !self.store.quarantined().await?.is_empty() {
            self.ask_for_what_is_aside().await?;
        }
        read
    }

    async fn read_due(self: &Arc<Self>) -> Result<(), Error> {
        let (rate, mut survey) = (Arc::new(Rate::new(RATE)), None);
        while let Some(last) = self.scrub_position() {
            let page = self.store.blobs_after(last.as_ref(), PAGE).await?;
            if page.is_empty() {
                self.scrub.is_over(self.clock.unix_seconds());
                break;
            }
            for (digest, _) in page {
                if self.scrub_position().is_none() {
                    break;
                }
                self.scrub_blob(digest, &rate, &mut survey).await?;
            }
        }
        Ok(())
    }

    fn scrub_position(&self) -> Option<Option<Digest>> {
        let usage = self.store.usage();
        let whole = usage.bytes.saturating_sub(usage.partial).saturating_sub(usage.quarantined);
        self.scrub.due(&self.clock, whole)
    }

    /// Reads a blob. `survey` is made when it is first needed: it takes a look at every manifest.
    async fn scrub_blob(
        self: &Arc<Self>,
        digest: Digest,
        rate: &Arc<Rate>,
        survey: &mut Option<Survey>,
    ) -> Result<(), Error> {
        let (wanted, rate) = (self.scrub.wanted.clone(), Arc::clone(rate));
        let pace = move |bytes: u64| {
            let (mut wanted, rate) = (wanted.clone(), Arc::clone(&rate));
            async move {
                rate.spend(bytes).await;
                // Whether clients are served or it has waited for long: the next piece comes.
                let _ = timeout(GIVE_WAY, wanted.wait_for(|running| *running == 0)).await;
            }
        };
        let mut wanted = self.scrub.wanted.clone();
        let _ = timeout(GIVE_WAY, wanted.wait_for(|running| *running == 0)).await;
        match self.store.check(&digest, pace).await? {
            Checked::Missing => self.scrub.read(digest, 0, false),
            Checked::Right(size) => self.scrub.read(digest, size, false),
            Checked::Wrong { size, why, seen } => {
                // First of all, before anybody is served more of it.
                self.condemn(&digest, seen, &why, &[]).await;
                self.scrub.read(digest, size, true);
                self.scrub.state().asked = None;
                if survey.is_none() {
                    *survey = self.survey().await.ok();
                }
                let images = survey.as_ref().map(|survey| self.images_of(survey, &digest));
                let images = images.unwrap_or_default();
                if !images.is_empty() {
                    tracing::warn!(%digest, ?images, "images need what was damaged");
                }
            }
            Checked::Unreadable(why) => {
                tracing::error!(%digest, why, "a kept blob cannot be looked at");
                self.scrub.read(digest, 0, true);
            }
        }
        Ok(())
    }

    /// Fetches again, ahead of clients, what was put aside and images need.
    async fn ask_for_what_is_aside(self: &Arc<Self>) -> Result<(), Error> {
        let (mut silent, mut here) = (HashSet::new(), HashSet::new());
        for (repository, blob) in self.needed_again().await? {
            let digest = blob.digest;
            let registry = self.home(&repository, &digest).registry;
            if here.contains(&digest) || silent.contains(&registry) {
                continue;
            }
            match self.ahead_again(&repository, &blob).await {
                Ok(()) => {
                    here.insert(digest);
                    tracing::info!(%digest, %repository, "what was damaged is here again");
                }
                Err(error @ Error::NotTaken(_)) => return Err(error),
                Err(error) if error.is_silence() => {
                    tracing::warn!(%digest, %repository, %error, "what is damaged cannot be had now; it is asked for again in an hour");
                    silent.insert(registry);
                }
                Err(error) => {
                    tracing::warn!(%digest, %repository, %error, "what is damaged cannot be had");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_the_disk_made_up_do_no_harm() {
        let (_running, wanted) = watch::channel(0);
        let scrubber = Scrubber::new(Some(Duration::from_secs(1)), wanted);
        let round = Round {
            blobs: u64::MAX,
            bytes: u64::MAX,
            bad: u64::MAX,
            bad_before: u64::MAX,
            ..Round::default()
        };
        scrubber.restore(&serde_json::to_vec(&round).expect("numbers"));
        scrubber.read(Digest::sha256(b""), 1, true);
        let status = scrubber.status().expect("there is a period");
        assert_eq!((status.blobs, status.bytes, status.bad), (u64::MAX, u64::MAX, u64::MAX));
    }
}
