//! What is damaged or lost is fetched again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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

/// What was asked for so far.
#[derive(Default)]
struct Asked {
    /// Of which repositories: what one does not give any more another may.
    tried: HashSet<(Repository, Digest)>,
    silent: Silent,
    /// What none of them gave, and what the last one said.
    in_vain: BTreeMap<Digest, String>,
}

impl Check<'_> {
    /// Fetches what images have lost, and what is missing of those that are here in part.
    pub(super) async fn repair(&mut self) -> Result<(), Stop> {
        let gone = self.gone().await?;
        let mut asked = Asked::default();
        for n in 0..self.survey.parts.len() {
            if !self.pull.is_to_be_kept(&self.survey.parts[n]).await {
                continue;
            }
            // A manifest that is here again says what else is missing.
            for _ in 0..2 {
                let part = &self.survey.parts[n];
                let state = self.pull.look_at(part).await?;
                if (!state.has_lost(&gone) && !state.is_begun) || state.is_oversized {
                    break;
                }
                let repository = part.repository.clone();
                let is_manifest = state.manifest_is_missing;
                for blob in state.missing {
                    self.ask(&repository, blob, is_manifest, &mut asked).await?;
                }
                if !is_manifest {
                    break;
                }
            }
        }
        for (repository, list) in lists(self.pull, &self.survey, &gone) {
            if self.pull.store.sizes(vec![list.digest]).await? == [None] {
                self.ask(&repository, list, true, &mut asked).await?;
            }
        }
        for (digest, why) in asked.in_vain {
            self.tell(VerifyEvent::Unrepaired { digest, why }).await?;
        }
        Ok(())
    }

    /// Fetches it from the repository, unless it was asked already.
    async fn ask(
        &mut self,
        repository: &Repository,
        blob: Descriptor,
        is_manifest: bool,
        asked: &mut Asked,
    ) -> Result<(), Stop> {
        let digest = blob.digest;
        if asked.tried.insert((repository.clone(), digest)) {
            match self.fetch(repository, blob, is_manifest, &mut asked.silent).await? {
                Ok(()) => asked.in_vain.remove(&digest),
                Err(why) => asked.in_vain.insert(digest, why),
            };
        }
        Ok(())
    }

    /// Fetches it, and tells when it is here; else why it is not.
    async fn fetch(
        &mut self,
        repository: &Repository,
        blob: Descriptor,
        is_manifest: bool,
        silent: &mut Silent,
    ) -> Result<Result<(), String>, Stop> {
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
        if fetched.is_ok() {
            self.found.repaired += 1;
            self.tell(VerifyEvent::Repaired { digest, size }).await?;
        }
        Ok(fetched)
    }
}

/// The lists that are among what is `gone`: they are no image's part, and needed all the same.
fn lists(pull: &Inner, survey: &Survey, gone: &HashSet<Digest>) -> Vec<(Repository, Descriptor)> {
    let mut lists = Vec::new();
    for repository in survey.repositories() {
        for digest in gone.iter().filter(|digest| survey.has(digest)) {
            let list = pull.store.link(repository, digest);
            let list = list.filter(|list| list.media_type.is_index());
            lists.extend(list.map(|list| (repository.clone(), list)));
        }
    }
    lists
}

impl Inner {
    /// What was put aside and kept images need, and the repositories to ask for it, one after the other.
    pub(in crate::pull) async fn needed_again(
        self: &Arc<Self>,
    ) -> Result<Vec<(Repository, Descriptor)>, Error> {
        let gone: HashSet<_> = self.store.quarantined().await?.into_iter().collect();
        let survey = self.survey().await?;
        let mut seen = HashSet::new();
        let mut needed = lists(self, &survey, &gone);
        for part in &survey.parts {
            let state = self.look_at(part).await?;
            let mut missing = state.missing;
            missing.retain(|blob| gone.contains(&blob.digest));
            if missing.is_empty() || state.is_oversized || !self.is_to_be_kept(part).await {
                continue;
            }
            for blob in missing {
                if seen.insert((part.repository.clone(), blob.digest)) {
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
        let repository = &self.home(repository, &blob.digest);
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
            true => self.came(&self.bring_manifest(repository, &wanted).await?).map(drop),
            false => self.bring_blob_quietly(repository, &wanted).await,
        }
    }
}
