//! Bringing a kept tag up to date that was found to have moved (`[prefetch] follow`).

use std::sync::Arc;

use super::jobs::Job;
use crate::{
    oci::{Descriptor, Platform, Repository},
    pull::{Error, Inner},
};

impl Inner {
    /// The tag that meant `old`, which is kept, means `new` now: begins to fetch it for the platforms that are kept of
    /// the old one. The jobs outlast an outage and a restart; the tag follows when its manifest is kept.
    pub(in crate::pull) fn follow(
        self: &Arc<Self>,
        repository: &Repository,
        old: &Descriptor,
        new: &Descriptor,
    ) {
        if self.prefetch.config.follow && !self.near_limit(repository) {
            let following =
                Arc::clone(self).try_follow(repository.clone(), old.clone(), new.clone());
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
        new: Descriptor,
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
        for platform in platforms {
            self.begin(Job {
                repository: repository.clone(),
                manifest: new.clone(),
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
