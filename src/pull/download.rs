//! The download itself: from the registry into the partial file, over as many broken connections as it takes.
//!
//! Long, because the ways in which a download ends are to be seen together.

use std::{convert::Infallible, future::pending, pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};

use super::{
    Error, Inner,
    content::Alone,
    in_flight::{Lead, Phase},
    ranges::{self, Incoming, Pieces},
    relay::Relay,
    shared::Shared,
    whose::Whose,
};
use crate::{
    metrics::Limit,
    oci::{Descriptor, Digest, Hasher, Repository, media_type},
    store::{self, BlobFile, PartialBlob},
    upstream::{self, BlobBody, Upstream},
};

/// Bytes read ahead of the disk, for each download.
const AHEAD_BYTES: u64 = 256 * 1024;

/// A connection that brought less than this counts as a failed attempt.
const PROGRESS_BYTES: u64 = 64 * 1024;

/// A connection that brought this much is followed by the next without a pause: whoever cuts long bodies is not spared
/// by waiting, and the client waits with us.
const GENEROUS_BYTES: u64 = 1024 * 1024;

/// Attempts in a row without progress after which a download is given up.
const ATTEMPTS: usize = 6;

/// How long a download waits for a registry that is away: less than its readers do.
const AWAY_DEADLINE: Duration = Duration::from_secs(240);

/// How long a download waits for its turn.
pub(super) const TURN_DEADLINE: Duration = Duration::from_secs(60);

/// How a connection that carried a body ended.
enum Pumped {
    /// The registry ended the body properly.
    Ended,
    /// The connection broke, stalled, or the registry sent too much.
    Broken(upstream::Error),
    /// The disk did not take a write.
    Disk(store::Error),
}

/// How the bytes on disk stand when a download is over.
enum Filled {
    /// All there, not verified yet.
    Whole(PartialBlob),
    /// Given up. The bytes may serve a later download, unless they are wrong: too many, too few, or such that the
    /// registry has nothing to put behind them.
    GivenUp { partial: PartialBlob, error: upstream::Error, wrong: bool },
    /// The disk did not take more; the blob's length as far as it is known.
    Stopped { partial: PartialBlob, total: Option<u64>, why: store::Error },
}

/// Where a download stands that goes on past the disk.
struct PastDisk {
    /// The blob's length, as far as it is known.
    total: Option<u64>,
    /// Its first `published` bytes, hashed by `hasher`, if there are any.
    file: Option<BlobFile>,
    published: u64,
    hasher: Hasher,
    /// What the registry sends already.
    given: Option<BlobBody>,
}

impl Inner {
    /// Runs a download to its end, whatever that is; `size` is what the manifest says of the blob's length, and `ahead`
    /// a turn of those for what is fetched ahead, if it is begun for nobody yet.
    pub(super) async fn download(
        self: Arc<Self>,
        lead: Lead,
        repository: Repository,
        size: Option<u64>,
        ahead: Option<OwnedSemaphorePermit>,
    ) {
        self.metrics.download_started();
        let _ended = Ended(&self);
        let _told = Told(&self);
        if let Err(error) = self.try_download(&lead, &repository, size, ahead).await {
            let (digest, published) = (lead.digest(), lead.has_published());
            let made_up = !lead.interest().is_named();
            match made_up && matches!(error, Error::BlobUnknown | Error::Busy) {
                // That there is no blob which nothing leads to is no news: the request's line tells it.
                true => tracing::debug!(%digest, %repository, %error, "no such download"),
                false => {
                    tracing::warn!(%digest, %repository, %error, published, "a download failed")
                }
            }
            lead.publish(0, Phase::Failed(error));
        }
    }

    async fn try_download(
        self: &Arc<Self>,
        lead: &Lead,
        repository: &Repository,
        size: Option<u64>,
        ahead: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        let digest = lead.digest();
        if let Some(blob) = self.kept_blob(repository, digest, size).await {
            // Kept by a download that ended between the request's look and its turn; if that was another
            // repository's, it says nothing of this one's permission.
            let passing = self.passing.size(repository, digest).is_some();
            if !passing && self.store.link(repository, digest).is_none() {
                Arc::clone(self).confirm_blob(repository.clone(), *digest).await?;
            }
            lead.publish(blob.size(), Phase::Done { file: blob.file().clone() });
            return Ok(());
        }
        let upstream = self.upstream(repository)?;
        let (asking, _turn) = match &ahead {
            None => {
                let of_registry = self.downloads.turns_of(&repository.registry);
                let crowd = lead.interest().crowd();
                let turns = async {
                    let asking = tokio::select! {
                        biased;
                        () = lead.interest().named() => None,
                        turn = of_registry.unnamed.turn(crowd) => Some(turn),
                    };
                    let running = of_registry.running.turn(crowd).await;
                    (asking, Some((running, self.downloads.turns.turn(crowd).await)))
                };
                let turns = timeout(TURN_DEADLINE, turns).await.map_err(|_| {
                    self.metrics.limit_reached(Limit::WaitingDownloads);
                    Error::Busy
                })?;
                if turns.0.is_some() && lead.followers() == 0 {
                    // Nobody is left to tell whether there is such a blob.
                    return Err(Error::Busy);
                }
                turns
            }
            Some(_) => (None, None),
        };
        let mut in_turn = pin!(self.in_turn(lead, ahead));
        let asked = tokio::select! {
            asked = self.ask_first(&upstream, repository, digest, size) => asked,
            never = &mut in_turn => match never {},
        };
        let given = asked.map_err(Error::of_blob)?;
        // There is such a blob, unless nobody could be asked yet: with a disk that fails, the registry is asked further below.
        if given.is_some() || self.store.failing().is_none() {
            lead.interest().is_there();
            drop(asking);
        }
        let keep = lead.interest().keeps();
        let partial = match self.store.begin(digest, repository, size, keep).await {
            Ok(partial) => partial,
            Err(error) => {
                self.disk_failed(&error);
                let start = PastDisk {
                    total: size.or_else(|| given.as_ref().and_then(BlobBody::total)),
                    file: None,
                    published: 0,
                    hasher: Hasher::new(digest.algorithm()),
                    given,
                };
                let passing = self.go_past_disk(lead, repository, start, &error);
                tokio::select! {
                    () = passing => return Ok(()),
                    never = &mut in_turn => match never {},
                }
            }
        };
        // For whom they came, they were to be kept.
        let had = partial.written() > 0;
        let filled = tokio::select! {
            filled = self.fill(lead, &upstream, repository, partial, (size, given)) => filled,
            never = &mut in_turn => match never {},
        };
        match filled {
            Filled::Whole(partial) => self.verify(lead, partial, repository).await,
            Filled::GivenUp { partial, error, wrong } => {
                if wrong {
                    self.metrics.verify_failed("blob");
                }
                // Nobody's refusal makes bytes wrong, and the next to ask may not be refused.
                let passing = !had && !lead.interest().keeps();
                if wrong || passing || partial.written() == 0 {
                    partial.discard().await;
                } else {
                    partial.leave().await;
                }
                Err(Error::of_blob(error))
            }
            Filled::Stopped { partial, total, why } => {
                let start = PastDisk {
                    total,
                    file: Some(partial.file()),
                    published: partial.written(),
                    hasher: partial.hasher(),
                    given: None,
                };
                // Those who follow have it open; everybody else gets the space back.
                partial.discard().await;
                let passing = self.go_past_disk(lead, repository, start, &why);
                tokio::select! {
                    () = passing => Ok(()),
                    never = &mut in_turn => match never {},
                }
            }
        }
    }

    /// Asks for a blob that no manifest names before anything is done for it: whoever invents digests costs no file. `None`
    /// where there may be bytes of it already, or where somebody is known to have it.
    async fn ask_first(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobBody>, upstream::Error> {
        // What cannot be begun is asked for past the disk, and not twice.
        if size.is_some() || self.store.failing().is_some() || self.store.vouched(digest).await > 0
        {
            return Ok(None);
        }
        upstream.blob(&repository.name, digest, 0).await.map(Some)
    }

    /// Holds the turn of a download that was begun ahead. Once a client waits for it, it takes one of the clients' as soon
    /// as there is one, and the other goes to what is to be fetched next.
    async fn in_turn(&self, lead: &Lead, ahead: Option<OwnedSemaphorePermit>) -> Infallible {
        let Some(ahead) = ahead else { return pending().await };
        lead.interest().wanted().await;
        let _turn = self.downloads.turns.turn(lead.interest().crowd()).await;
        drop(ahead);
        pending().await
    }

    /// Asks the registry for what is missing until nothing is, or it has failed too often in a row. It may have `given` an
    /// answer already, of all of it.
    async fn fill(
        &self,
        lead: &Lead,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        mut partial: PartialBlob,
        (mut total, mut given): (Option<u64>, Option<BlobBody>),
    ) -> Filled {
        let digest = lead.digest();
        let mut pauses = pauses();
        let mut by_pieces = self.config.connections_per_blob > 1;
        let (mut goes_on, mut refused) = (false, None);
        while partial.written() == 0 || Some(partial.written()) != total {
            let before = partial.written();
            if before > 0 && !std::mem::take(&mut goes_on) {
                self.metrics.download_resumed();
            }
            let first =
                ranges::first(before, total).filter(|_| by_pieces && upstream.takes_ranges());
            // Whatever comes of it, what is missing then is asked for at once.
            by_pieces = false;
            let asked = match (&first, given.take().filter(|_| before == 0)) {
                (None, Some(body)) => Ok(body),
                (Some(first), _) => {
                    upstream.blob_part(&repository.name, digest, first.clone()).await
                }
                (None, None) => upstream.blob(&repository.name, digest, before).await,
            };
            let is_part = asked.as_ref().is_ok_and(BlobBody::is_part);
            match &asked {
                // Whether it is for the range that it is refused, the next request tells.
                Err(error) if first.is_some() && !is_limit(error) => {
                    tracing::debug!(%digest, %error, "a part of a blob is not given");
                    (refused, goes_on) = (Some(error.clone()), true);
                    continue;
                }
                Ok(_) if first.is_some() && !is_part => upstream.dislikes_ranges(),
                Ok(_) => match refused.take() {
                    Some(error) if error.is_outage() => upstream.doubts_ranges(),
                    Some(_) => upstream.dislikes_ranges(),
                    None => {}
                },
                Err(_) => {}
            }
            let answered = asked.is_ok();
            let asked = asked.and_then(|body| Ok((agreed(total, &body, before)?, body)));
            let error = match asked {
                Err(error) => error,
                Ok((told, body)) => {
                    total = told;
                    if !lead.has_published() {
                        let file = partial.file();
                        lead.publish(held_back(before, total), Phase::Streaming { total, file });
                    }
                    let incoming = match (&first, total) {
                        (Some(first), Some(total)) if is_part => {
                            let (upstream, name) = (Arc::clone(upstream), repository.name.clone());
                            let blob = ranges::Blob { upstream, name, digest: *digest };
                            let (most, waiting) =
                                (self.config.connections_per_blob, &self.downloads.waiting);
                            let pieces = Pieces::begin(blob, first, body, total, most, waiting);
                            Incoming::Pieces(pieces)
                        }
                        _ => Incoming::Whole(body),
                    };
                    let pumped;
                    (partial, pumped) = self.pump(lead, partial, incoming, total).await;
                    goes_on = is_part && matches!(pumped, Pumped::Ended);
                    match pumped {
                        Pumped::Ended if is_part => continue,
                        Pumped::Broken(error) if is_part && !is_limit(&error) => {
                            if is_objection(&error) {
                                upstream.dislikes_ranges();
                            }
                            tracing::debug!(%digest, at = partial.written(), %error, "a download by pieces goes on as one");
                            continue;
                        }
                        Pumped::Ended if total.is_none_or(|total| total == partial.written()) => {
                            return Filled::Whole(partial);
                        }
                        Pumped::Ended if before > 0 && partial.written() == before => {
                            let reason = format!("it has no more than {before} bytes");
                            upstream::Error::Protocol { reason }
                        }
                        Pumped::Ended => unavailable("the body ended early"),
                        Pumped::Broken(error) => error,
                        Pumped::Disk(error) => {
                            self.disk_failed(&error);
                            return Filled::Stopped { partial, total, why: error };
                        }
                    }
                }
            };
            let brought = partial.written() - before;
            if brought >= PROGRESS_BYTES {
                pauses = self::pauses();
            }
            // An error page says nothing of the bytes; an answer that does not go with them does, and so does 416.
            let objects = is_objection(&error);
            let wrong = objects && (answered || error == upstream::Error::BeyondEnd);
            if !lead.has_published() {
                // Nothing was promised to anyone yet, and `upstream` has made its attempts. Only when there
                // are bytes of an earlier run, these may be what the registry objects to.
                if before == 0 || !objects {
                    return Filled::GivenUp { partial, error, wrong };
                }
                let restarted;
                (partial, restarted) = partial.restart().await;
                if let Err(error) = restarted {
                    self.disk_failed(&error);
                    return Filled::Stopped { partial, total, why: error };
                }
            }
            let pause = if brought < GENEROUS_BYTES { pauses.next() } else { Some(Duration::ZERO) };
            let may_go_on = error.is_outage() && error != upstream::Error::Offline;
            let Some(pause) = pause.filter(|_| may_go_on) else {
                return Filled::GivenUp { partial, error, wrong };
            };
            if upstream.is_away() {
                // It is told when it is back: attempts until then would be used up in vain.
                match timeout(AWAY_DEADLINE, upstream.present()).await {
                    Err(_) => return Filled::GivenUp { partial, error, wrong },
                    Ok(true) => {
                        pauses = self::pauses();
                        continue;
                    }
                    // It was there, and has no more to say than before.
                    Ok(false) => {}
                }
            }
            tracing::debug!(%digest, at = partial.written(), %error, ?pause, "a download goes on");
            sleep(pause.max(error.retry_after().unwrap_or_default().min(MAX_PAUSE))).await;
        }
        Filled::Whole(partial)
    }

    /// Moves what comes into the partial file, reading on while the disk writes.
    async fn pump(
        &self,
        lead: &Lead,
        mut partial: PartialBlob,
        mut incoming: Incoming,
        total: Option<u64>,
    ) -> (PartialBlob, Pumped) {
        let is_wanted = || lead.interest().is_wanted();
        let mut arrived = Arrived::default();
        loop {
            if arrived.chunks.is_empty() && arrived.end.is_none() {
                arrived.take(incoming.chunk(is_wanted()).await);
            }
            if total.is_some_and(|total| partial.written() + arrived.bytes > total) {
                let reason = "it sent more than the blob's length".to_owned();
                return (partial, Pumped::Broken(upstream::Error::Protocol { reason }));
            }
            if let Err(error) = self.store.more_room(&mut partial, arrived.bytes).await {
                return (partial, Pumped::Disk(error));
            }
            arrived.bytes = 0;
            let at = partial.written();
            let mut appending = pin!(partial.append(std::mem::take(&mut arrived.chunks)));
            let appended = loop {
                let room = arrived.end.is_none() && arrived.bytes < AHEAD_BYTES;
                tokio::select! {
                    biased;
                    appended = &mut appending => break appended,
                    next = incoming.chunk(is_wanted()), if room => arrived.take(next),
                }
            };
            let result;
            (partial, result) = appended;
            if let Err(error) = result {
                return (partial, Pumped::Disk(error));
            }
            lead.publish_more(held_back(partial.written(), total));
            self.pace.spend(lead.interest(), partial.written() - at).await;
            match arrived.end {
                Some(end) if arrived.chunks.is_empty() => return (partial, end),
                // What there is to write is the last of it.
                Some(_) => {}
                None => self.pace.give_way(lead.interest(), partial.written()).await,
            }
        }
    }

    /// Releases the last piece if the digest matches, then makes the blob durable.
    async fn verify(
        &self,
        lead: &Lead,
        partial: PartialBlob,
        repository: &Repository,
    ) -> Result<(), Error> {
        let (digest, size, file) = (lead.digest(), partial.written(), partial.file());
        let Some(verified) = partial.verify().await else {
            self.metrics.verify_failed("blob");
            tracing::error!(%digest, %repository, size, "a blob did not match its digest; thrown away");
            return Err(Error::Unavailable("it sent a blob of another digest".to_owned()));
        };
        lead.publish(size, Phase::Done { file });
        if !lead.interest().keeps() {
            // Those who follow have it open. It was never synced, so that most of it never reached the disk.
            verified.discard().await;
            return Ok(());
        }
        if let Err(error) = verified.commit().await {
            self.disk_failed(&error);
            return Ok(());
        }
        self.prefetch.came(digest, size, lead.interest());
        self.store.blob_kept();
        if self.has_closed || self.store.link(repository, digest).is_none() {
            self.keep_link(repository, digest, size).await;
        }
        Ok(())
    }

    /// Goes on past the disk: for those who read the blob now, as long as somebody does.
    async fn go_past_disk(
        self: &Arc<Self>,
        lead: &Lead,
        repository: &Repository,
        PastDisk { total, file, published, hasher, given }: PastDisk,
        why: &store::Error,
    ) {
        let why = Arc::from(why.to_string());
        if !lead.interest().is_wanted() {
            lead.publish(published, Phase::Detached { total, file, hasher, shared: None, why });
            return;
        }
        let (shared, filler) = Shared::begin(published, hasher.clone());
        let shared = Some(shared);
        let detached = Phase::Detached { total, file, hasher: hasher.clone(), shared, why };
        lead.publish(published, detached);
        let alone = Alone {
            pull: Arc::clone(self),
            repository: repository.clone(),
            digest: *lead.digest(),
            whole: true,
            whose: Whose::Wharf,
        };
        let relay = Relay::new(&alone, published..u64::MAX, total, Some(hasher));
        let mut relay = relay.for_all_of(lead.interest().crowd()).going_on_with(given);
        let ended = loop {
            match relay.next().await {
                Ok(Some(piece)) => {
                    if !filler.push(piece, || lead.followers()).await {
                        return;
                    }
                }
                Ok(None) => break Ok(()),
                Err(cut) => break Err(cut),
            }
        };
        filler.end(ended);
    }

    fn disk_failed(&self, error: &store::Error) {
        if !matches!(error, store::Error::NoRoom { .. }) {
            self.store.blob_failed(error);
        }
        self.not_kept(error);
    }

    /// Writes down that the registry itself showed a blob under this repository.
    pub(super) async fn keep_link(&self, repository: &Repository, digest: &Digest, size: u64) {
        let media_type = media_type::OCTET_STREAM.parse().expect("a media type");
        let blob = Descriptor { media_type, digest: *digest, size };
        if let Err(error) = self.store.keep_link(repository, &blob).await {
            self.not_kept(&error);
        }
    }
}

/// What came from the registry and is not on disk yet.
#[derive(Default)]
struct Arrived {
    chunks: Vec<Bytes>,
    bytes: u64,
    end: Option<Pumped>,
}

impl Arrived {
    fn take(&mut self, next: Result<Option<Bytes>, upstream::Error>) {
        match next {
            Ok(Some(chunk)) => {
                self.bytes += chunk.len() as u64;
                self.chunks.push(chunk);
            }
            Ok(None) => self.end = Some(Pumped::Ended),
            Err(error) => self.end = Some(Pumped::Broken(error)),
        }
    }
}

/// The blob's length, if what the registry now says goes with what was said before.
fn agreed(
    total: Option<u64>,
    body: &BlobBody,
    written: u64,
) -> Result<Option<u64>, upstream::Error> {
    let differs = |reason: String| Err(upstream::Error::Protocol { reason });
    match (total, body.total()) {
        (Some(said), Some(told)) if said != told => {
            differs(format!("it says {told} bytes where {said} were announced"))
        }
        (None, Some(told)) if told < written => {
            differs(format!("it says {told} bytes, fewer than it sent"))
        }
        (said, told) => Ok(said.or(told)),
    }
}

/// Whether an answer does not go with what was asked, or known before.
fn is_objection(error: &upstream::Error) -> bool {
    matches!(error, upstream::Error::BeyondEnd | upstream::Error::Protocol { .. })
}

fn is_limit(error: &upstream::Error) -> bool {
    matches!(error, upstream::Error::RateLimited { .. })
}

fn unavailable(reason: &str) -> upstream::Error {
    upstream::Error::Unavailable { reason: reason.to_owned() }
}

/// The longest pause between two attempts, also when the registry asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The pauses after broken connections; their number is how many may break in a row without progress.
pub(super) fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(ATTEMPTS - 1)
        .with_jitter()
        .build()
}

/// How much of `written` bytes may be handed out before the digest is verified: never the whole, and where
/// the length is unknown, any byte may be the last.
fn held_back(written: u64, total: Option<u64>) -> u64 {
    written.min(total.unwrap_or(written).saturating_sub(1))
}

/// Tells how much is kept, when a download has given back what it had reserved.
struct Told<'a>(&'a Inner);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.tell_usage();
    }
}

/// Counts a download's end, also when its task is dropped.
struct Ended<'a>(&'a Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.metrics.download_ended();
    }
}
