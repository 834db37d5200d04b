//! [`Gate`]: time in a test's own hands, instead of sleeping.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds answers back until the test lets them go on. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many bytes of each body may have been sent.
    allowed: watch::Sender<u64>,
    /// How often an answer came to a halt here.
    halts: watch::Sender<usize>,
}

impl Gate {
    /// Lets this many bytes of each body pass.
    pub(crate) fn after(bytes: u64) -> Self {
        Self(Arc::new(Inner { allowed: watch::Sender::new(bytes), halts: watch::Sender::new(0) }))
    }

    /// Lets pass `bytes` of each body, counted from its beginning.
    pub(crate) fn allow(&self, bytes: u64) {
        self.0.allowed.send_replace(bytes);
    }

    /// Lets everything pass.
    pub(crate) fn open(&self) {
        self.allow(u64::MAX);
    }

    /// Waits until answers have come to a halt here `count` times, each time that one did counted.
    pub(crate) async fn halted(&self, count: usize) {
        let mut halts = self.0.halts.subscribe();
        let reached = halts.wait_for(|halts| *halts >= count);
        super::deadline("an answer to come to the gate", reached).await.expect("the gate is here");
    }

    /// Waits until no answer is at a halt here: each has gone on, or its client has gone.
    pub(crate) async fn left(&self) {
        super::deadline("the answers to leave the gate", self.0.allowed.closed()).await;
    }

    /// Waits until more than `sent` bytes may have been sent; how many.
    pub(super) async fn beyond(&self, sent: u64) -> u64 {
        let mut allowed = self.0.allowed.subscribe();
        if *allowed.borrow() <= sent {
            self.0.halts.send_modify(|halts| *halts += 1);
        }
        *allowed.wait_for(|allowed| *allowed > sent).await.expect("the gate is here")
    }
}
