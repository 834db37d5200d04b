//! What is told step by step, one line of JSON each: the steps of a pull, of a check of all blobs, and of
//! an export.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::pull::{ExportEvent, PullEvent, VerifyEvent};

/// A step of something that takes long.
pub trait Event: Serialize + DeserializeOwned + Send + Unpin + 'static {
    /// For how long there may be no step before the stream of them ends.
    const IDLE: Duration;

    /// Whether no other follows.
    fn is_last(&self) -> bool;
}

impl Event for PullEvent {
    /// A pull that waits for its turn, or for a slow uplink, tells of every piece that comes.
    const IDLE: Duration = Duration::from_secs(10 * 60);

    fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

impl Event for ExportEvent {
    /// Also the longest that one may take to write what was told: a week.
    const IDLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn is_last(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

impl Event for VerifyEvent {
    /// The longest that a repair may take for one blob: how far that is, is not told.
    const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

    fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}
