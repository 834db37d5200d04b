//! What is damaged or lost is fetched again.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
};

use tokio::time::{MissedTickBehavior, interval};

use super::{Check, STILL, Stop, Survey};
use crate::{
    oci::{Descriptor, Digest, RegistryName, Repository},
    pull::{Error, Inner, VerifyEvent, bring::Wanted},
};

/// Blobs in a row that a registry did not give an answer for, after which it is not asked for the rest.
const SILENT_MAX: u32 = 2;

/// Registries that gave no answer when they were last asked: how often in a row, and why.
type Silent = HashMap<RegistryName, (u32, String)>;

impl Check<'_> {
    /// Fetches what images have lost, and what is missing of those that are here in part.
    pub(super) async fn repair(&mut self) -> Result<(), Stop> {
        let gone = self.gone().await?;
        let (mut tried, mut silent) = (HashSet::new(), Silent::new());
        for n in 0..self.survey.parts.len() {
            // A manifest that is here again says what else is missing.
            for _ in 0..2 {
                let part = &self.survey.parts[n];
                let state = self.pull.look_at(part).await?;
                if !state.has_lost(&gone) && !state.is_begun {
                    break;
                }
                let repository = part.repository.clone();
                let is_manifest = state.manifest_is_missing;
                for blob in state.missing {
                    if tried.insert(blob.digest) {
                        self.fetch(&repository, blob, is_manifest, &mut silent).await?;
                    }
                }
                if !is_manifest {
                    break;
                }
            }
        }
        for (repository, list) in lists(self.pull, &self.survey, &gone) {
            if tried.insert(list.digest) {
                self.fetch(&repository, list, true, &mut silent).await?;
            }
        }
        Ok(())
    }

    async fn fetch(
        &mut self,
        repository: &Repository,
        blob: Descriptor,
        is_manifest: bool,
        silent: &mut Silent,
    ) -> Result<(), Stop> {
        let Descriptor { digest, size, .. } = blob;
        let pull = Arc::clone(self.pull);
        let registry = pull.home(repository, &digest).registry;
        let given_up = silent.get(&registry).filter(|(times, _)| *times >= SILENT_MAX);
        let fetched = match given_up {
            Some((_, why)) => Err(why.clone()),
            None => {
                let mut fetching = pin!(pull.bring_again(repository, blob, is_manifest));
                let mut ticks = interval(STILL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let fetched = loop {
                    tokio::select! {
                        fetched = &mut fetching => break fetched,
                        _ = ticks.tick() => self.reading.tell(true).await?,
                    }
                };
                match &fetched {
                    Err(error) if error.is_silence() => {
                        let (times, why) = silent.entry(registry).or_default();
                        (*times, *why) = (*times + 1, error.to_string());
                    }
                    _ => {
                        silent.remove(&registry);
                    }
                }
                fetched.map_err(|error| error.to_string())
            }
        };
        let event = match fetched {
            Ok(()) => {
                self.found.repaired += 1;
                VerifyEvent::Repaired { digest, size }
            }
            Err(why) => VerifyEvent::Unrepaired { digest, why },
        };
        Ok(self.tell(event).await?)
    }
}

/// The lists that are among what is `gone`: they are no image's part, and needed all the same.
fn lists(pull: &Inner, survey: &Survey, gone: &HashSet<Digest>) -> Vec<(Repository, Descriptor)> {
    let list = |digest: &Digest| {
        survey.repositories().find_map(|repository| {
            let list = pull.store.link(repository, digest)?;
            list.media_type.is_index().then(|| (repository.clone(), list))
        })
    };
    gone.iter().filter(|digest| survey.has(digest)).filter_map(list).collect()
}

impl Inner {
    /// What was put aside and kept images need, and the repository to ask for it.
    pub(in crate::pull) async fn needed_again(
        self: &Arc<Self>,
    ) -> Result<Vec<(Repository, Descriptor)>, Error> {
        let gone: HashSet<_> = self.store.quarantined().await?.into_iter().collect();
        let survey = self.survey().await?;
        let mut seen = HashSet::new();
        let mut needed = lists(self, &survey, &gone);
        for part in &survey.parts {
            for blob in self.look_at(part).await?.missing {
                if gone.contains(&blob.digest) && seen.insert(blob.digest) {
                    needed.push((part.repository.clone(), blob));
                }
            }
        }
        Ok(needed)
    }

    /// Fetches such a blob ahead of clients.
    pub(in crate::pull) async fn ahead_again(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Error> {
        let is_manifest = self.store.has_manifest(repository, &blob.digest);
        if is_manifest {
            return match self.near_limit(repository) {
                true => Err(Error::Busy),
                false => self.manifest_ahead(repository, &blob.digest).await.map(drop),
            };
        }
        let turn = Arc::clone(self).turn_ahead().await?;
        self.blob_ahead(repository, blob, turn).await.map(drop)
    }

    /// Fetches what was kept of `repository` and is missing.
    async fn bring_again(
        self: &Arc<Self>,
        repository: &Repository,
        blob: Descriptor,
        is_manifest: bool,
    ) -> Result<(), Error> {
        let wanted = Wanted { content: blob, platform: None };
        match is_manifest {
            true => self.bring_manifest(repository, &wanted).await.map(drop),
            false => self.bring_blob_quietly(repository, &wanted).await,
        }
    }
}
