//! Images that are kept up to date whether anybody asks or not (`[[prefetch.image]]`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::jobs::Job;
use crate::{
    oci::{Platform, Rules},
    pull::{Error, Inner, Outcome, Pull, Want, config::WarmImage},
};

/// After how long a look that failed is taken again, if the next one is not due before.
const AGAIN: Duration = Duration::from_secs(5 * 60);

/// When each image is to be looked at next; `None`: as soon as it may be.
#[derive(Debug)]
pub(in crate::pull) struct Schedule {
    next: Mutex<Vec<Option<Instant>>>,
}

impl Schedule {
    pub(in crate::pull) fn new(images: &[WarmImage]) -> Self {
        Self { next: Mutex::new(vec![None; images.len()]) }
    }
}

impl Inner {
    /// Begins to look at the images that are due.
    pub(in crate::pull) fn warm(self: &Arc<Self>) {
        let (now, minute) = (self.clock.now(), self.clock.minute_of_day());
        let images = &self.prefetch.config.images;
        let mut next = self.schedule.next.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, (image, next)) in images.iter().zip(next.iter_mut()).enumerate() {
            let open = image.window.is_none_or(|window| window.contains(minute));
            if open && next.is_none_or(|next| next <= now) {
                *next = Some(now + image.every);
                self.tasks.spawn(Arc::clone(self).warm_up(at, image.clone()));
            }
        }
    }

    async fn warm_up(self: Arc<Self>, at: usize, image: WarmImage) {
        let (repository, tag) = (&image.repository, &image.tag);
        let Err(error) = self.try_warm_up(&image).await else { return };
        if error.is_outage() {
            // The uplink may be back long before the next look is due.
            let soon = self.clock.now() + image.every.min(AGAIN);
            let mut next = self.schedule.next.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(next) = next.get_mut(at) {
                *next = Some(soon);
            }
        }
        self.metrics.prefetched("failed");
        tracing::warn!(%repository, %tag, %error, "could not be kept up to date");
    }

    async fn try_warm_up(self: &Arc<Self>, image: &WarmImage) -> Result<(), Error> {
        let (repository, tag) = (&image.repository, &image.tag);
        let pull = Pull(Arc::clone(self));
        // Free: what it costs to fetch is asked next.
        let told = pull.tagged(repository, tag, Want::Descriptor).await?;
        if told.outcome == Outcome::Stale {
            return Err(Error::Unavailable("the kept tag was not confirmed".to_owned()));
        }
        if self.near_limit(repository)
            && self.kept(repository, &told.descriptor.digest).await.is_none()
        {
            self.metrics.prefetched("paused");
            return Ok(());
        }
        let answer = pull.tagged(repository, tag, Want::Content).await?;
        for platform in self.warm_platforms(image) {
            self.begin(Job {
                repository: repository.clone(),
                manifest: answer.descriptor.clone(),
                platform: Some(platform),
                containers_image: Rules::default() == Rules::ContainersImage,
                window: image.window.map(|window| (window.from, window.to)),
            });
        }
        Ok(())
    }

    fn warm_platforms(&self, image: &WarmImage) -> Vec<Platform> {
        if image.platforms.is_empty() { self.site_platforms() } else { image.platforms.clone() }
    }
}
