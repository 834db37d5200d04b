//! [`Seldom`]: what may happen at any time to a connection, and as a rule does not.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, stream::FuturesUnordered};

/// A future that is polled when it is woken, however often its task is: what ends all connections, or one, is one thing that
/// many wait for, behind a lock, and a connection's task is woken for each request.
pub(super) struct Seldom<F>(FuturesUnordered<F>);

impl<F> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        Self([future].into_iter().collect())
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    /// Never ready again once it was.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match Pin::new(&mut self.0).poll_next(context) {
            Poll::Ready(Some(output)) => Poll::Ready(output),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{sync::Notify, task::yield_now};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_is_woken_and_not_when_its_task_is() {
        let (stop, polls, other) = (CancellationToken::new(), AtomicUsize::new(0), Notify::new());
        let mut stopped = Box::pin(stop.cancelled());
        let mut seldom = Seldom::new(poll_fn(|context| {
            polls.fetch_add(1, Ordering::Relaxed);
            stopped.as_mut().poll(context)
        }));
        for _ in 0..100 {
            other.notify_one();
            tokio::select! {
                biased;
                () = &mut seldom => panic!("nobody stopped it"),
                () = other.notified() => {}
            }
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let canceller = async {
            // After the other one waits.
            yield_now().await;
            stop.cancel();
        };
        tokio::join!(seldom, canceller);
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
