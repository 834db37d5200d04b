//! Images that are kept up to date whether anybody asks or not (`[[prefetch.image]]`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{jobs::Job, run::PAUSE};
use crate::{
    oci::{Platform, Rules, Tag},
    pull::{
        Error, Inner, Outcome, Pull, Want,
        config::{WarmImage, WarmTags},
    },
};

/// When each image is to be looked at next; `None`: as soon as it may be.
#[derive(Debug)]
pub(in crate::pull) struct Schedule {
    next: Mutex<Vec<Option<Instant>>>,
}

impl Schedule {
    pub(in crate::pull) fn new(images: &[WarmImage]) -> Self {
        Self { next: Mutex::new(vec![None; images.len()]) }
    }

    /// The places of those of `images` that are due, and whose registry is not away. A look that ends well is followed by the next one.
    fn due(
        &self,
        images: &[WarmImage],
        now: Instant,
        minute: u16,
        is_away: impl Fn(&WarmImage) -> bool,
    ) -> Vec<usize> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (place, (image, next)) in images.iter().zip(next.iter_mut()).enumerate() {
            let open = image.window.is_none_or(|window| window.contains(minute));
            if open && next.is_none_or(|next| next <= now) && !is_away(image) {
                *next = Some(now + image.every);
                due.push(place);
            }
        }
        due
    }

    /// The look at the image in this `place` did not end well: it is looked at again at `at`, if not sooner.
    fn again(&self, place: usize, at: Instant) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next.get_mut(place).and_then(Option::as_mut) {
            *next = at.min(*next);
        }
    }
}

impl Inner {
    /// Begins to look at the images that are due.
    pub(in crate::pull) fn warm(self: &Arc<Self>) {
        let images = &self.prefetch.config.images;
        let is_away = |image: &WarmImage| self.is_away(&image.repository);
        let (now, minute) = (self.clock.now(), self.clock.minute_of_day());
        for place in self.schedule.due(images, now, minute, is_away) {
            self.tasks.spawn(Arc::clone(self).warm_up(place, images[place].clone()));
        }
    }

    async fn warm_up(self: Arc<Self>, place: usize, image: WarmImage) {
        let repository = &image.repository;
        let tags = match &image.tags {
            WarmTags::One(tag) => Ok(vec![tag.clone()]),
            WarmTags::Newest(most, pattern) => {
                Pull(Arc::clone(&self)).matching(repository, pattern, *most).await
            }
        };
        let mut again = false;
        let failed = |error: Error, tag: &dyn std::fmt::Display| {
            self.metrics.prefetched("failed");
            tracing::warn!(%repository, %tag, %error, "could not be kept up to date");
            error.is_outage()
        };
        match tags {
            Ok(tags) => {
                for tag in &tags {
                    again |= match self.try_warm_up(&image, tag).await {
                        Ok(is_fresh) => !is_fresh,
                        Err(error) => failed(error, tag),
                    };
                }
            }
            Err(error) => again = failed(error, &"its tags"),
        }
        if again {
            // When its registry is away it is due at once, which is when that is back.
            let pause = if self.is_away(repository) { Duration::ZERO } else { PAUSE };
            self.schedule.again(place, self.clock.now() + pause);
        }
    }

    /// Whether the registry said what the image is now, and nothing of it has to wait.
    async fn try_warm_up(self: &Arc<Self>, image: &WarmImage, tag: &Tag) -> Result<bool, Error> {
        let repository = &image.repository;
        let pull = Pull(Arc::clone(self));
        // Free: what it costs to fetch is asked next.
        let told = pull.tagged(repository, tag, Want::Descriptor).await?;
        if told.outcome == Outcome::Stale {
            return Err(Error::Unavailable("the kept tag was not confirmed".to_owned()));
        }
        if self.near_limit(repository)
            && self.kept(repository, &told.descriptor.digest).await?.is_none()
        {
            self.metrics.prefetched("paused");
            return Ok(false);
        }
        let answer = pull.tagged(repository, tag, Want::Content).await?;
        for platform in self.warm_platforms(image) {
            self.begin(Job {
                repository: repository.clone(),
                manifest: answer.descriptor.clone(),
                platform: Some(platform),
                containers_image: Rules::default() == Rules::ContainersImage,
                window: image.window.map(|window| (window.from, window.to)),
            })?;
        }
        Ok(answer.outcome != Outcome::Stale)
    }

    fn warm_platforms(&self, image: &WarmImage) -> Vec<Platform> {
        if image.platforms.is_empty() { self.site_platforms() } else { image.platforms.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Window;

    const EVERY: Duration = Duration::from_secs(6 * 3600);

    fn image(window: Option<(u16, u16)>) -> WarmImage {
        WarmImage {
            repository: "docker.io/library/busybox".parse().expect("a name"),
            tags: WarmTags::One("1".parse().expect("a tag")),
            platforms: Vec::new(),
            every: EVERY,
            window: window.map(|(from, to)| Window { from, to }),
        }
    }

    fn here(_: &WarmImage) -> bool {
        false
    }

    #[test]
    fn what_is_due_waits_for_a_registry_that_is_away() {
        let images = [image(None)];
        let (schedule, start) = (Schedule::new(&images), Instant::now());
        assert_eq!(schedule.due(&images, start, 0, |_| true), [0; 0]);
        assert_eq!(schedule.due(&images, start, 0, here), [0]);
        schedule.again(0, start);
        assert_eq!(schedule.due(&images, start, 0, |_| true), [0; 0]);
        assert_eq!(schedule.due(&images, start, 0, here), [0]);
        assert_eq!(schedule.due(&images, start, 0, here), [0; 0]);
    }

    #[test]
    fn an_image_is_due_at_first_and_then_as_often_as_it_says() {
        let images = [image(None), WarmImage { every: EVERY / 2, ..image(None) }];
        let (schedule, start) = (Schedule::new(&images), Instant::now());
        let due = |after: Duration| schedule.due(&images, start + after, 0, here);
        assert_eq!(due(Duration::ZERO), [0, 1]);
        assert_eq!(due(Duration::ZERO), [0; 0]);
        assert_eq!(due(EVERY / 2 - Duration::from_secs(1)), [0; 0]);
        assert_eq!(due(EVERY / 2), [1]);
        assert_eq!(due(EVERY), [0, 1]);
        // Much later, each of them once.
        assert_eq!(due(EVERY * 100), [0, 1]);
        assert_eq!(due(EVERY * 100), [0; 0]);
    }

    #[test]
    fn a_window_that_is_shut_puts_it_off_until_it_opens() {
        let images = [image(Some((23 * 60, 60)))];
        let (schedule, start) = (Schedule::new(&images), Instant::now());
        let due =
            |hours: u32, minute| schedule.due(&images, start + EVERY / 6 * hours, minute, here);
        assert_eq!(due(0, 12 * 60), [0; 0]);
        assert_eq!(due(10, 22 * 60 + 59), [0; 0]);
        assert_eq!(due(11, 23 * 60), [0]);
        assert_eq!(due(12, 10), [0; 0], "not due");
        assert_eq!(due(17, 5 * 60), [0; 0], "due, but shut");
        assert_eq!(due(36, 59), [0], "behind midnight");
    }

    #[test]
    fn a_look_that_did_not_end_well_is_repeated_soon() {
        let images = [image(None)];
        let (schedule, start) = (Schedule::new(&images), Instant::now());
        assert_eq!(schedule.due(&images, start, 0, here), [0]);
        schedule.again(0, start + PAUSE);
        assert_eq!(schedule.due(&images, start + PAUSE / 2, 0, here), [0; 0]);
        assert_eq!(schedule.due(&images, start + PAUSE, 0, here), [0]);
        schedule.again(0, start + EVERY * 3);
        assert_eq!(
            schedule.due(&images, start + PAUSE + EVERY, 0, here),
            [0],
            "as often as it says"
        );
        schedule.again(7, start);
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_to_the_one_before_its_last() {
        for (from, to, open, shut) in [
            (60, 300, vec![60, 61, 299], vec![0, 59, 300, 301, 1439]),
            (0, 1439, vec![0, 700, 1438], vec![1439]),
            (1380, 60, vec![1380, 1439, 0, 59], vec![60, 61, 700, 1379]),
            (1439, 0, vec![1439], vec![0, 1, 1438]),
            (1, 0, vec![1, 1439], vec![0]),
        ] {
            let window = Window { from, to };
            for minute in open {
                assert!(window.contains(minute), "{from} to {to}: {minute}");
            }
            for minute in shut {
                assert!(!window.contains(minute), "{from} to {to}: {minute}");
            }
        }
    }
}
