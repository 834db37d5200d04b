//! Bytes that rot: `wharf verify`.

mod repair;
mod survey;

use std::{
    collections::HashSet,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

pub(super) use self::survey::Survey;
use super::{Error, Inner, Pull, VerifyEvent, pace::Rate};
use crate::{
    oci::Digest,
    store::{Checked, Seen},
};

/// How often it is told how far a check is.
const TELL: Duration = Duration::from_millis(500);

/// How often it is told that a check goes on, while it waits.
const STILL: Duration = Duration::from_secs(5);

/// Blobs that are listed at once.
const PAGE: usize = 1000;

/// How a check of all blobs is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Whether what is damaged or lost is fetched again.
    pub repair: bool,
    /// Most bytes read per second; `None`: as fast as the disk gives them.
    pub rate: Option<u64>,
}

/// Nobody listens any more: the check ends.
struct Left;

/// Why a check ends early.
enum Stop {
    Left,
    Failed(Error),
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// What was not what its name says, just now.
    bad: HashSet<Digest>,
    repaired: u64,
}

/// How far the reading is, and who is told of it.
struct Reading {
    pull: Arc<Inner>,
    events: mpsc::Sender<VerifyEvent>,
    rate: Option<Rate>,
    blobs: AtomicU64,
    bytes: AtomicU64,
    told: Mutex<Instant>,
}

/// One check, and who is told of it.
struct Check<'a> {
    pull: &'a Arc<Inner>,
    events: &'a mpsc::Sender<VerifyEvent>,
    survey: Survey,
    found: Found,
    reading: Arc<Reading>,
}

impl Pull {
    /// Reads every kept blob and looks whether kept images are whole, and tells of it. A blob that is not what its name says
    /// is put aside, and with [`Verify::repair`] fetched again, as is what else images have lost.
    ///
    /// The last event is [`VerifyEvent::Done`], unless this fails or nobody listens. It can be dropped at any time: what was
    /// put aside stays so.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub async fn verify(
        &self,
        how: Verify,
        events: &mpsc::Sender<VerifyEvent>,
    ) -> Result<(), Error> {
        let (pull, survey) = (&self.0, self.0.survey().await?);
        let reading = Arc::new(Reading {
            pull: Arc::clone(pull),
            events: events.clone(),
            rate: how.rate.map(Rate::new),
            blobs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
        });
        let mut check = Check { pull, events, survey, found: Found::default(), reading };
        match check.run(how).await {
            Ok(()) | Err(Stop::Left) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

impl Check<'_> {
    async fn run(&mut self, how: Verify) -> Result<(), Stop> {
        for bad in std::mem::take(&mut self.survey.damaged) {
            let aside = !self.pull.store.is_condemned(&bad.digest);
            self.tell_bad(bad.digest, bad.size, bad.why, aside).await?;
        }
        self.read_all().await?;
        if how.repair {
            self.repair().await?;
        }
        let lost = self.tell_incomplete().await?;
        let (blobs, bytes) = self.reading.so_far();
        let (bad, repaired) = (self.found.bad.len() as u64, self.found.repaired);
        Ok(self.tell(VerifyEvent::Done { blobs, bytes, bad, repaired, lost }).await?)
    }

    async fn read_all(&mut self) -> Result<(), Stop> {
        let mut last = None;
        loop {
            let page = self.pull.store.blobs_after(last.as_ref(), PAGE).await?;
            let Some((end, _)) = page.last() else { break };
            last = Some(*end);
            for (digest, _) in page {
                self.read(digest).await?;
            }
        }
        Ok(self.reading.tell(true).await?)
    }

    async fn read(&mut self, digest: Digest) -> Result<(), Stop> {
        let reading = Arc::clone(&self.reading);
        let pace = move |bytes: u64| {
            let reading = Arc::clone(&reading);
            async move { reading.went_on(bytes).await }
        };
        // A large blob at a low rate takes hours.
        let checked = tokio::select! {
            biased;
            () = self.events.closed() => return Err(Stop::Left),
            checked = self.pull.store.check(&digest, pace) => checked?,
        };
        match checked {
            Checked::Missing => return Ok(()),
            Checked::Right(_) => {}
            Checked::Wrong { size, why, seen } => {
                let images = self.pull.images_of(&self.survey, &digest);
                self.pull.condemn(&digest, seen, &why, &images).await;
                let aside = !self.pull.store.is_condemned(&digest);
                self.tell_bad(digest, size, why, aside).await?;
            }
            Checked::Unreadable(why) => self.tell_bad(digest, 0, why, false).await?,
        }
        self.reading.blobs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tells of the platforms of which something is missing: how many have lost it.
    async fn tell_incomplete(&mut self) -> Result<u64, Stop> {
        let gone = self.gone().await?;
        let (mut lost, mut told) = (0, HashSet::new());
        for n in 0..self.survey.parts.len() {
            let part = &self.survey.parts[n];
            let (name, digest) = (self.survey.name(part).to_owned(), part.manifest.digest);
            let platform = part.platform.clone();
            let is_new = told.insert((name.clone(), digest, platform.clone()));
            if !is_new || !self.pull.is_there(part) {
                continue;
            }
            let state = self.pull.look_at(part).await?;
            if state.missing.is_empty() {
                continue;
            }
            let missing_bytes = state.missing_bytes();
            let (missing, lost_it) = (state.missing.len() as u64, state.has_lost(&gone));
            lost += u64::from(lost_it);
            self.tell(VerifyEvent::Incomplete {
                name,
                platform,
                digest,
                missing,
                missing_bytes,
                lost: lost_it,
            })
            .await?;
        }
        Ok(lost)
    }

    /// What was kept and is not any more, because it was damaged.
    async fn gone(&self) -> Result<HashSet<Digest>, Stop> {
        let aside = self.pull.store.quarantined().await?;
        Ok(self.found.bad.iter().copied().chain(aside).collect())
    }

    async fn tell_bad(
        &mut self,
        digest: Digest,
        size: u64,
        why: String,
        aside: bool,
    ) -> Result<(), Stop> {
        self.found.bad.insert(digest);
        let images = self.pull.images_of(&self.survey, &digest);
        Ok(self.tell(VerifyEvent::Bad { digest, size, why, images, aside }).await?)
    }

    async fn tell(&self, event: VerifyEvent) -> Result<(), Left> {
        self.events.send(event).await.map_err(|_| Left)
    }
}

impl Reading {
    /// Takes the rate's time for so many bytes more, and tells now and then.
    async fn went_on(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let _ = self.tell(false).await;
        let Some(rate) = &self.rate else { return };
        let mut spending = pin!(rate.spend(bytes));
        loop {
            tokio::select! {
                () = &mut spending => return,
                () = sleep(STILL) => {
                    let _ = self.tell(false).await;
                }
            }
        }
    }

    /// Blobs and bytes.
    fn so_far(&self) -> (u64, u64) {
        (self.blobs.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Tells how far it is, unless that was told a moment ago; and that all is read, when it is.
    async fn tell(&self, is_over: bool) -> Result<(), Left> {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_over && told.elapsed() < TELL {
                return Ok(());
            }
            *told = Instant::now();
        }
        let (blobs, bytes) = self.so_far();
        let usage = self.pull.store.usage();
        let whole = usage.bytes.saturating_sub(usage.partial).saturating_sub(usage.quarantined);
        let (of_blobs, of_bytes) = match is_over {
            true => (blobs, bytes),
            // What came meanwhile is read as well.
            false => (usage.blobs.max(blobs), whole.max(bytes)),
        };
        let progress = VerifyEvent::Progress { blobs, of_blobs, bytes, of_bytes };
        self.events.send(progress).await.map_err(|_| Left)
    }
}

impl Inner {
    /// Puts a damaged blob of these images aside, says so, and counts it.
    pub(super) async fn condemn(
        &self,
        digest: &Digest,
        seen: Option<Seen>,
        why: &str,
        images: &[String],
    ) {
        match self.store.quarantine(digest, seen, why).await {
            Ok(true) => {
                self.metrics.verify_failed("kept");
                tracing::warn!(%digest, ?images, why, "a kept blob is damaged; it was put aside");
            }
            Ok(false) => tracing::debug!(%digest, why, "a damaged blob has gone already"),
            Err(error) => {
                self.metrics.verify_failed("kept");
                tracing::error!(%digest, ?images, why, %error, "a kept blob is damaged, and could not be put aside");
            }
        }
    }
}

impl From<Left> for Stop {
    fn from(Left: Left) -> Self {
        Self::Left
    }
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
