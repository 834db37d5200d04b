//! [`HeadTimer`]: how long a client may take for the next request's head, without a timer for each request.
//!
//! A deadline is set for every request of a connection, and each is later than the one before; hardly one is ever reached. So
//! the runtime, which keeps all timers behind one lock, has one timer for the connection. It goes off when an earlier
//! deadline would have been, and is set anew then.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

/// The timer of one connection, for [`hyper::server::conn::http1::Builder::timer`]. It has one deadline at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>);

/// The end of a wait.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    timer: HeadTimer,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at: deadline, timer: self.clone() })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into()
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at.into();
        let mut timer = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = timer.get_or_insert_with(|| Box::pin(time::sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }
}

impl Sleep for Deadline {}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn is_over(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        // The runtime's timers go off when it is idle.
        tokio::select! {
            biased;
            () = sleep => true,
            () = time::sleep(Duration::ZERO) => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline_and_not_before() {
        let timer = HeadTimer::default();
        for _ in 0..3 {
            let mut first = timer.sleep(30 * SECOND);
            assert!(!is_over(&mut first).await);
            advance(20 * SECOND).await;
            assert!(!is_over(&mut first).await);
            drop(first);
            // The one before would be over in the middle of it.
            let mut second = timer.sleep(30 * SECOND);
            for _ in 0..29 {
                assert!(!is_over(&mut second).await);
                advance(SECOND).await;
            }
            assert!(!is_over(&mut second).await);
            advance(SECOND).await;
            assert!(is_over(&mut second).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_be_earlier_than_the_last_or_past() {
        let timer = HeadTimer::default();
        assert!(!is_over(&mut timer.sleep(30 * SECOND)).await);
        let mut early = timer.sleep(SECOND);
        assert!(!is_over(&mut early).await);
        advance(SECOND).await;
        assert!(is_over(&mut early).await);
        assert!(is_over(&mut timer.sleep_until(timer.now() - SECOND)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn its_task_is_woken() {
        let timer = HeadTimer::default();
        let begun = timer.now();
        assert!(!is_over(&mut timer.sleep(30 * SECOND)).await);
        advance(10 * SECOND).await;
        timer.sleep(30 * SECOND).await;
        let took = timer.now() - begun;
        assert!(took >= 40 * SECOND && took < 41 * SECOND, "{took:?}");
    }
}
