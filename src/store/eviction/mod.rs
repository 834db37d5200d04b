//! What goes when room is needed: whole images, least recently pulled first, behind what nobody needs.
//!
//! Why nothing goes that came to be needed meanwhile. One eviction runs at a time. It begins by waiting until nothing is
//! being kept ([`Store::survey`] holds `changes` for writing), lets all facts reach the tables, and has [`Holds`] remember
//! what is touched from then on. Whoever keeps a manifest, a tag, a list or a link holds `changes` for reading and touches
//! every digest that the new fact refers to *before* it writes anything. Each image then goes while `changes` is held
//! for writing, so that, whatever is kept, is kept
//!
//! - before the survey: then the tables that it reads say so;
//! - between survey and going: then it was touched, and neither its facts nor its files go;
//! - after the going: then it sees the tables and files as they are by then, and what is missing is fetched.
//!
//! A caller that is dropped while its facts are on their way has touched, too, and its facts are before those of the
//! eviction. Downloads hold their digest from before they ask for room until the blob is in its place: images that lead
//! to a digest that is held stay, and a file is unlinked only while nobody can come to hold or touch it.
//!
//! Removals are written down, and durable, before the first file goes: a crash leaves files that nobody refers to, never
//! a name without its files. Such files are what goes first the next time. Readers have their files open: for
//! them, nothing is gone.
//!
//! Long, because the argument above is about all of it.
//!
//! [`Holds`]: super::holds::Holds

#[cfg(test)]
mod tests;
mod world;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub(super) use self::world::Names;
use self::world::{Said, What, World};
use super::{
    Error, Freed, Store, Usage,
    holds::{Holds, Watching},
    layout::Layout,
    ledger::{Ledger, Promise},
};
use crate::oci::{Digest, Reference, Repository};

/// How often it is looked again at what may go, for one reservation.
const ROUNDS: usize = 3;

/// How long a reservation waits for the blobs to be counted after a start. Then the free space alone decides, and the
/// budget is met once they are.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// Seconds after which nobody is expected to come back for an unfinished download: it goes before images do.
const STALE: u64 = 10 * 60;

/// For how long what was seen serves further evictions: a look at 100,000 blobs takes a second. What happened since is
/// remembered as during one eviction, so that what goes first stays the same: who was pulled since is skipped.
const SURVEY_TTL: Duration = Duration::from_secs(60);

/// A look that showed that nothing can go is not repeated for so many times as long as it took.
const FUTILE_REST: u32 = 10;

/// What there was when somebody looked, for as long as what is touched since is remembered.
#[derive(Debug)]
pub(super) struct Eviction {
    world: World,
    /// When that was, and how long it took.
    at: Instant,
    took: Duration,
    /// How often pins had changed.
    pins: u64,
    _watching: Watching,
}

impl Eviction {
    /// Blobs to which nothing leads.
    pub(super) fn unnamed(&self) -> &[Digest] {
        &self.world.orphans
    }
}

/// Why an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Room is needed: only what nobody wanted since the survey.
    Room,
    /// Somebody asked for it.
    Asked,
}

impl Store {
    /// Reserves `wanted` bytes, for which images may have to go.
    pub(super) async fn promise(&self, wanted: u64, may_evict: bool) -> Result<Promise, Error> {
        if !self.is_counted() {
            let mut counted = self.ledger.counted();
            let _ = timeout(COUNT_PATIENCE, counted.wait_for(|counted| *counted)).await;
        }
        self.look_at_space().await;
        if let Ok(promise) = self.ledger.promise(wanted) {
            return Ok(promise);
        }
        if may_evict && wanted <= self.ledger.usage().limit {
            let mut seen = self.evicting.lock().await;
            for _ in 0..ROUNDS {
                let missing = match self.ledger.promise(wanted) {
                    Ok(promise) => return Ok(promise),
                    Err(missing) => missing,
                };
                let freed = self.evict(&mut seen, missing).await?;
                if let Ok(promise) = self.ledger.promise(wanted) {
                    return Ok(promise);
                }
                if freed == Freed::default() {
                    break;
                }
            }
        }
        self.evicted.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
        let Usage { limit, free, min_free, .. } = self.ledger.usage();
        if let Some(free) = free.filter(|free| *free < min_free.saturating_add(wanted)) {
            if may_evict && wanted <= limit {
                self.disk_is_full(wanted, free, min_free);
            }
        }
        Err(Error::NoRoom { wanted })
    }

    /// Whether the file system has room for `wanted` bytes, or would have if all went that may.
    pub(super) async fn disk_could_take(&self, wanted: u64) -> bool {
        self.look_at_space().await;
        let Usage { free, min_free, .. } = self.ledger.usage();
        let needed = min_free.saturating_add(wanted);
        let missing = free.map_or(0, |free| needed.saturating_sub(free));
        if missing == 0 {
            return true;
        }
        let mut seen = self.evicting.lock().await;
        // Whoever asks for an image that has no room asks this, too: one look serves them for a while.
        let fresh = seen.take().filter(|seen| self.is_fresh(seen));
        let eviction = match fresh {
            Some(eviction) => eviction,
            None => match self.survey(&mut seen).await {
                Ok(eviction) => eviction,
                Err(_) => return false,
            },
        };
        let could = eviction.world.plan(missing).is_some();
        *seen = Some(eviction);
        could
    }

    /// Evicts to the budget, as far as that can be met.
    pub(super) async fn evict_excess(&self, sweep_all: bool) -> Result<Freed, Error> {
        let mut seen = self.evicting.lock().await;
        let mut freed = Freed::default();
        if sweep_all {
            let mut eviction = self.survey(&mut seen).await?;
            self.sweep(&mut eviction.world, None, &mut freed).await?;
        }
        // Once: some file systems tell only after a while that something went.
        self.look_at_space().await;
        for _ in 0..ROUNDS {
            let excess = self.ledger.excess();
            if excess == 0 {
                break;
            }
            let more = self.evict(&mut seen, excess).await?;
            let over = self.ledger.over();
            if more == Freed::default() && over > 0 {
                // It cannot be met: what may go goes all the same.
                let mut eviction = self.survey(&mut seen).await?;
                for n in eviction.world.candidates() {
                    self.evict_one(&mut eviction.world, n, Why::Room, &mut freed).await?;
                }
            }
            let ends = more == Freed::default();
            freed.add(more);
            if ends {
                break;
            }
        }
        Ok(freed)
    }

    /// Removes what has this name in the repository, whatever holds it; `None` when nothing does.
    pub(super) async fn evict_named(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Freed>, Error> {
        let mut seen = self.evicting.lock().await;
        let mut eviction = self.survey(&mut seen).await?;
        let world = &mut eviction.world;
        let named = |what: &What, root: &Digest| match (what, reference) {
            (What::Tag(of, tag), Reference::Tag(name)) => **of == *repository && tag == name,
            (What::Tag(of, _), Reference::Digest(digest)) => **of == *repository && root == digest,
            (What::Manifest(..), Reference::Digest(digest)) => root == digest,
            _ => false,
        };
        let found = world.units.iter().enumerate();
        let found = found.filter(|(_, unit)| named(&unit.what, &unit.root)).map(|(n, _)| n);
        let found: Vec<usize> = found.collect();
        let mut freed = Freed::default();
        for n in &found {
            self.evict_one(world, *n, Why::Asked, &mut freed).await?;
        }
        Ok((!found.is_empty()).then_some(freed))
    }

    /// Has `need` bytes go, or none of an image if that cannot be; by what was `seen` before, where that does.
    async fn evict(&self, seen: &mut Option<Eviction>, need: u64) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if let Some(mut eviction) = seen.take().filter(|seen| self.is_fresh(seen)) {
            let can_be = self.evict_from(&mut eviction.world, need, &mut freed).await?;
            if freed.bytes >= need {
                *seen = Some(eviction);
                return Ok(freed);
            }
            let rests = eviction.at + eviction.took.saturating_mul(FUTILE_REST);
            if !can_be && self.clock.now() < rests {
                *seen = Some(eviction);
                return Ok(freed);
            }
        }
        let mut eviction = self.survey(seen).await?;
        self.sweep(&mut eviction.world, Some(need), &mut freed).await?;
        let left = need.saturating_sub(freed.swept_bytes).saturating_sub(freed.bytes);
        if left > 0 {
            self.evict_from(&mut eviction.world, left, &mut freed).await?;
        }
        *seen = Some(eviction);
        Ok(freed)
    }

    /// Whether enough could go when that was seen.
    async fn evict_from(
        &self,
        world: &mut World,
        need: u64,
        freed: &mut Freed,
    ) -> Result<bool, Error> {
        let Some(plan) = world.plan(need) else {
            tracing::debug!(need, "all that may be evicted does not make room enough");
            return Ok(false);
        };
        let enough = freed.bytes.saturating_add(need);
        for n in plan {
            if freed.bytes >= enough {
                break;
            }
            self.evict_one(world, n, Why::Room, freed).await?;
        }
        Ok(true)
    }

    fn is_fresh(&self, seen: &Eviction) -> bool {
        let pins = self.pins.load(Ordering::Relaxed);
        seen.pins == pins && self.clock.now().duration_since(seen.at) < SURVEY_TTL
    }

    /// Forgets what was seen, if that is of no use any more.
    pub(super) async fn forget_seen(&self) {
        let mut seen = self.evicting.lock().await;
        *seen = seen.take().filter(|seen| self.is_fresh(seen));
    }

    /// Looks at everything; what was seen before is forgotten.
    pub(super) async fn survey(&self, seen: &mut Option<Eviction>) -> Result<Eviction, Error> {
        // First: when it goes, so does what was touched.
        *seen = None;
        let (at, pins) = (self.clock.now(), self.pins.load(Ordering::Relaxed));
        let watching = {
            let _changes = self.changes.write().await;
            let watching = self.holds.watch();
            // What was sent to the recorder by a caller that is gone is in the tables, too, when this returns.
            self.send(Vec::new(), Vec::new()).await?;
            watching
        };
        let (layout, index) = (Arc::clone(&self.layout), self.index.clone());
        let pulled = self.pulled.facts();
        let (held, pinned) = (self.holds.held(), self.pinned_by_configuration());
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let looking = spawn_blocking(move || {
            let said = Said { pinned: &pinned, held, pulled: &pulled };
            World::survey(&layout, &index, &names, &said)
        });
        let world = looking.await.map_err(Error::join)?.map_err(Error::read)?;
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(world.sure());
        let took = self.clock.now().duration_since(at);
        Ok(Eviction { world, at, took, pins, _watching: watching })
    }

    /// Evicts one image, unless it came to be wanted.
    async fn evict_one(
        &self,
        world: &mut World,
        n: usize,
        why: Why,
        freed: &mut Freed,
    ) -> Result<(), Error> {
        let _changes = self.changes.write().await;
        if self.means_another(world, n) || (why == Why::Room && self.is_wanted(world, n)) {
            world.units[n].stays = true;
            return Ok(());
        }
        let mut gone: HashSet<Digest> = world.alone(n).into_iter().collect();
        let mut lost = world.lost(n);
        let all = gone.iter().chain(&lost);
        let touched: Vec<Digest> =
            all.filter(|digest| self.holds.is_touched(digest)).copied().collect();
        for digest in touched {
            for below in world.below(&digest) {
                gone.remove(&below);
                lost.remove(&below);
            }
        }
        let touched = |digest: &Digest| self.holds.is_touched(digest);
        let facts = world.facts(n, (&gone, &lost), touched, self.clock.unix_seconds());
        self.record(facts, Vec::new()).await?;
        gone.iter().for_each(|digest| self.hot.invalidate(digest));
        let (bytes, blobs) = self.unlink(gone.iter().copied().collect()).await?;
        let (unit, name) = (&world.units[n], world.units[n].what.to_string());
        let last_pulled = unit.used;
        match why {
            Why::Room => {
                tracing::info!(image = %name, bytes, blobs, last_pulled, "evicted: room is needed");
                let mut evicted = self.evicted.lock().unwrap_or_else(PoisonError::into_inner);
                evicted.images += 1;
                evicted.bytes += bytes;
            }
            Why::Asked => {
                tracing::info!(image = %name, bytes, blobs, last_pulled, "removed, as was asked");
            }
        }
        world.went(n, &gone, &lost);
        freed.images.push(name);
        freed.bytes = freed.bytes.saturating_add(bytes);
        freed.blobs += blobs;
        Ok(())
    }

    /// Whether its name means something else by now, or nothing.
    fn means_another(&self, world: &World, n: usize) -> bool {
        let unit = &world.units[n];
        let What::Tag(repository, tag) = &unit.what else { return false };
        self.index.tag(repository, tag).is_none_or(|(meant, _)| meant.digest != unit.root)
    }

    /// Whether something happened to the image since the survey that keeps it from going.
    fn is_wanted(&self, world: &World, n: usize) -> bool {
        let unit = &world.units[n];
        let is_used = |repository: &Repository, digest: &Digest| {
            self.last_pulled(repository, digest).is_some_and(|at| at > unit.used)
        };
        let documents = || unit.reach.iter().filter(|digest| world.is_document(digest));
        let is_pinned = match &unit.what {
            What::Tag(repository, tag) => {
                self.is_pinned(repository, &tag.clone().into())
                    || documents().any(|digest| is_used(repository, digest))
            }
            What::Manifest(repository, digest) => {
                self.is_pinned(repository, &(*digest).into())
                    || documents().any(|digest| is_used(repository, digest))
            }
            What::Blob(digest) => self.holds.is_touched(digest),
        };
        is_pinned
            || documents().any(|digest| self.holds.is_touched(digest))
            || unit.reach.iter().any(|digest| self.holds.is_held(digest))
    }

    /// Has what nobody needs go: of what may be needed again, only until `need` bytes went, if so many are needed.
    async fn sweep(
        &self,
        world: &mut World,
        need: Option<u64>,
        freed: &mut Freed,
    ) -> Result<(), Error> {
        let orphans = std::mem::take(&mut world.orphans);
        if !orphans.is_empty() {
            let (bytes, blobs) = self.unlink(orphans).await?;
            freed.sweeps(bytes, blobs);
            tracing::info!(bytes, blobs, "swept blobs that nothing refers to");
        }
        let enough = |freed: &Freed| need.is_some_and(|need| freed.swept_bytes >= need);
        let (aside, mut partials) =
            (std::mem::take(&mut world.aside), std::mem::take(&mut world.partials));
        for (path, size) in aside {
            if enough(freed) {
                return Ok(());
            }
            let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
            // One that cannot be deleted, or is gone by now, is in nobody's way.
            let removing = spawn_blocking(move || {
                let removed = layout.disk().remove(&path);
                removed.inspect(|()| ledger.aside_went(size)).inspect_err(
                    |error| tracing::warn!(?path, %error, "what was put aside could not be deleted"),
                )
            });
            if removing.await.map_err(Error::join)?.is_ok() {
                self.ledger.freed(size);
                freed.sweeps(size, 1);
            }
        }
        let now = self.clock.unix_seconds();
        partials.sort_unstable_by_key(|(_, _, at)| *at);
        for (digest, _, at) in partials {
            let is_stale = now.saturating_sub(at) >= STALE;
            if enough(freed) || (need.is_some() && !is_stale) {
                return Ok(());
            }
            let (layout, ledger, holds) =
                (Arc::clone(&self.layout), Arc::clone(&self.ledger), self.holds.clone());
            let removing = spawn_blocking(move || {
                let removed =
                    holds.unless_wanted(&digest, || sweep_partial(&layout, &ledger, &digest));
                removed.transpose()
            });
            let removed = removing.await.map_err(Error::join)?.unwrap_or_else(|error| {
                tracing::warn!(%digest, %error, "an unfinished download could not be deleted");
                None
            });
            if let Some(size) = removed {
                self.ledger.freed(size);
                freed.sweeps(size, 1);
            }
        }
        Ok(())
    }

    /// Deletes blobs that nobody wants: how many bytes, in how many blobs. One that cannot be deleted is left for the
    /// next time.
    pub(super) async fn unlink(&self, digests: Vec<Digest>) -> Result<(u64, u64), Error> {
        let (layout, ledger, holds) =
            (Arc::clone(&self.layout), Arc::clone(&self.ledger), self.holds.clone());
        let unlinking = spawn_blocking(move || {
            let (mut bytes, mut blobs) = (0_u64, 0);
            for digest in digests {
                match unlink(&layout, &ledger, &holds, &digest) {
                    Ok(None) => {}
                    Ok(Some(size)) => (bytes, blobs) = (bytes.saturating_add(size), blobs + 1),
                    Err(error) => {
                        tracing::warn!(%digest, %error, "a blob could not be deleted");
                    }
                }
            }
            (bytes, blobs)
        });
        let (bytes, blobs) = unlinking.await.map_err(Error::join)?;
        self.ledger.freed(bytes);
        Ok((bytes, blobs))
    }

    /// Asks the file system how large it is, and how full.
    pub(super) async fn look_at_space(&self) {
        let layout = Arc::clone(&self.layout);
        if let Ok(space) = spawn_blocking(move || layout.space()).await {
            self.ledger.set_space(space.ok());
        }
    }
}

fn unlink(
    layout: &Layout,
    ledger: &Ledger,
    holds: &Holds,
    digest: &Digest,
) -> io::Result<Option<u64>> {
    let path: PathBuf = layout.blob(digest);
    // Held open, so that the file system frees its bytes only when nobody waits for a lock any more.
    let open = match layout.disk().open_read(&path) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let remove = || ledger.goes(layout, digest, || layout.disk().remove(&path));
    let removed = holds.unless_wanted(digest, remove).transpose();
    drop(open);
    Ok(removed?.flatten())
}

fn sweep_partial(layout: &Layout, ledger: &Ledger, digest: &Digest) -> io::Result<u64> {
    let path = layout.partial(digest);
    let size = layout.disk().len(&path)?.unwrap_or(0);
    remove_if_there(layout, &path)?;
    ledger.partial_shrank(size);
    remove_if_there(layout, &layout.partial_origin(digest))?;
    Ok(size)
}

fn remove_if_there(layout: &Layout, path: &Path) -> io::Result<()> {
    match layout.disk().remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
