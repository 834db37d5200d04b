//! What a pull tells, on its way to whoever listens: a listener that is slow holds up no download.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc};

use crate::{oci::Digest, pull::PullEvent};

/// The events that are not sent yet: of each blob that it exists, and how far it is now.
#[derive(Default)]
pub(super) struct Telling {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<PullEvent>,
    /// Nothing follows, or nobody listens.
    ended: bool,
}

impl Telling {
    pub(super) fn tell(&self, event: PullEvent) {
        let mut queue = self.queue();
        if !queue.ended {
            queue.waiting.push_back(event);
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Tells how far the blob `digest` is, in the stead of what waits to be told of it.
    pub(super) fn tell_step(&self, digest: &Digest, event: PullEvent) {
        let of_it = |event: &&mut PullEvent| matches!(event, PullEvent::Blob { digest: of, .. } if of == digest);
        let mut queue = self.queue();
        if let Some(waiting) = queue.waiting.iter_mut().find(of_it) {
            *waiting = event;
            return;
        }
        drop(queue);
        self.tell(event);
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        self.queue().ended = true;
        self.changed.notify_one();
    }

    /// Sends what is told until the end, or until nobody listens.
    pub(super) async fn pass_on(&self, events: &mpsc::Sender<PullEvent>) {
        loop {
            let (next, ended) = {
                let mut queue = self.queue();
                (queue.waiting.pop_front(), queue.ended)
            };
            let Some(event) = next else {
                if ended {
                    return;
                }
                self.changed.notified().await;
                continue;
            };
            if events.send(event).await.is_err() {
                *self.queue() = Queue { waiting: VecDeque::new(), ended: true };
                return;
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn blob(name: &str, here: u64) -> PullEvent {
        let digest = Digest::sha256(name.as_bytes());
        PullEvent::Blob { digest, size: 100, platform: None, here, hit: false }
    }

    fn step(telling: &Telling, name: &str, here: u64) {
        telling.tell_step(&Digest::sha256(name.as_bytes()), blob(name, here));
    }

    #[tokio::test]
    async fn who_listens_slowly_hears_of_every_blob_and_how_far_it_is_by_then() {
        let telling = Telling::default();
        let (events, mut receiver) = mpsc::channel(1);
        telling.tell(blob("a", 0));
        telling.tell(blob("b", 0));
        let mut passing = Box::pin(telling.pass_on(&events));
        assert_eq!(passing.as_mut().now_or_never(), None);
        // One is in the channel, one on its way there; nobody takes them for long.
        for here in 1..=100 {
            step(&telling, "a", here);
            step(&telling, "c", here);
        }
        telling.end();
        let listening = async {
            let mut heard = Vec::new();
            for _ in 0..4 {
                heard.extend(receiver.recv().await);
            }
            heard
        };
        let ((), heard) = tokio::join!(passing, listening);
        assert_eq!(heard, [blob("a", 0), blob("b", 0), blob("a", 100), blob("c", 100)]);
    }

    #[tokio::test]
    async fn nothing_waits_for_a_listener_that_has_gone() {
        let telling = Telling::default();
        let (events, receiver) = mpsc::channel(1);
        drop(receiver);
        telling.tell(blob("a", 0));
        telling.pass_on(&events).await;
        for here in 0..10 {
            telling.tell(blob("b", here));
            step(&telling, "c", here);
        }
        assert!(telling.queue().waiting.is_empty());
    }
}
