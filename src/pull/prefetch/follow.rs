//! Bringing a kept tag up to date that was found to have moved (`[prefetch] follow`).

use std::sync::Arc;

use super::jobs::Job;
use crate::{
    oci::{Descriptor, Digest, Platform, Repository},
    pull::{Error, Inner, Pull},
};

impl Inner {
    /// The tag that meant `old`, which is kept, means `new` now: begins to fetch it for the platforms that are kept of
    /// the old one.
    pub(in crate::pull) fn follow(
        self: &Arc<Self>,
        repository: &Repository,
        old: &Descriptor,
        new: &Digest,
    ) {
        if self.prefetch.config.follow && !self.near_limit(repository) {
            let following = Arc::clone(self).try_follow(repository.clone(), old.clone(), *new);
            self.tasks.spawn(async move {
                if let Err(error) = following.await {
                    tracing::warn!(%error, "a tag that moved could not be followed");
                }
            });
        }
    }

    async fn try_follow(
        self: Arc<Self>,
        repository: Repository,
        old: Descriptor,
        new: Digest,
    ) -> Result<(), Error> {
        let platforms = match self.kept_index(&repository, &old.digest).await {
            Some(index) => {
                let kept = index
                    .images()
                    .filter(|entry| self.store.has_manifest(&repository, &entry.descriptor.digest));
                kept.filter_map(|entry| entry.platform.clone()).collect()
            }
            None => self.site_platforms(),
        };
        let answer = Pull(Arc::clone(&self)).fetch(&repository, &new).await?;
        for platform in platforms {
            self.begin(Job {
                repository: repository.clone(),
                manifest: answer.descriptor.clone(),
                platform: Some(platform),
                containers_image: false,
                window: None,
            })?;
        }
        Ok(())
    }

    /// The platforms that the site runs, as far as the configuration says.
    pub(in crate::pull) fn site_platforms(&self) -> Vec<Platform> {
        let keep = &self.config.platforms.keep;
        if !keep.is_empty() {
            return keep.clone();
        }
        vec![self.clients.site().clone()]
    }
}
