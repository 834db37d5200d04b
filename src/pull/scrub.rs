//! The slow check of all blobs when nobody pulls.

use std::time::Duration;

use super::Pull;

impl Pull {
    /// Changes in what time all blobs are read once; `None`: they are not.
    pub fn set_scrub(&self, period: Option<Duration>) {
        let _ = (self, period);
    }
}
