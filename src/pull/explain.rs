//! Why a client gets the platform that it gets.

use super::{Asker, Error, Explanation, KnownClient, Mismatch, Pull};
use crate::oci::ImageName;

impl Pull {
    /// Which manifest of `image` this client gets, and why.
    ///
    /// # Errors
    /// When neither the cache nor the registry has the image.
    pub async fn explain(&self, _asker: &Asker, _image: &ImageName) -> Result<Explanation, Error> {
        Err(Error::Busy)
    }

    /// The clients of which something was learned, the latest first.
    pub fn clients(&self) -> Vec<KnownClient> {
        Vec::new()
    }

    /// The latest pulls of what a client cannot run, the latest first.
    pub fn mismatches(&self) -> Vec<Mismatch> {
        Vec::new()
    }
}
