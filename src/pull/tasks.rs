//! The owner of every task that `pull` starts.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks that run on when the client that caused them leaves, until they end or the daemon does.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    /// Cancelled when time is up: every task is then dropped at its next wait.
    stop: CancellationToken,
}

impl Tasks {
    /// Runs `task` until it ends or [`Tasks::finish`] runs out of time.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// How many have not ended.
    pub(super) fn open(&self) -> usize {
        self.tracker.len()
    }

    /// Waits up to `deadline` for all tasks to end, then drops those that have not.
    pub(super) async fn finish(&self, deadline: Duration) {
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_err() {
            self.stop.cancel();
            self.tracker.wait().await;
        }
    }
}
