//! Fetching an image into the cache because somebody says so: `wharf pull`.

use tokio::sync::mpsc;

use super::{Error, Pull, PullEvent};
use crate::oci::{ImageName, Platform};

impl Pull {
    /// Fetches `image` for `platforms` (none: those in `[platforms] keep`, else the site's default), and tells of it.
    ///
    /// The last event is [`PullEvent::Done`]. A receiver that is gone stops nothing.
    ///
    /// # Errors
    /// When some of it cannot be had or cannot be kept; what could be had is kept.
    pub async fn bring(
        &self,
        _image: &ImageName,
        _platforms: &[Platform],
        _events: &mpsc::Sender<PullEvent>,
    ) -> Result<(), Error> {
        Err(Error::Busy)
    }
}
