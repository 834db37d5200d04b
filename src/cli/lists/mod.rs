//! What a site needs, read from what it runs: lists of names, Compose files, and manifests of Kubernetes.

mod compose;
mod documents;
mod kubernetes;
mod names;
mod variables;
mod yaml;

use std::path::PathBuf;

use super::Failure;
use crate::oci::ImagePattern;

/// The images that `lists` (one name a line) and `from` (Compose files, manifests, and directories of these) name, each
/// where it comes first; `-` is standard input.
///
/// # Errors
/// With file and line, when anything cannot be read: nothing of it may be fetched then.
pub(super) fn read(lists: &[PathBuf], from: &[PathBuf]) -> Result<Vec<ImagePattern>, Failure> {
    let mut images = Vec::new();
    for path in lists {
        images.extend(names::read(path)?);
    }
    for path in from {
        images.extend(documents::read(path)?);
    }
    Ok(once_each(images))
}

/// Each image once, where it came first.
pub(super) fn once_each<T: Clone + Eq + std::hash::Hash>(images: Vec<T>) -> Vec<T> {
    let mut seen = std::collections::HashSet::new();
    images.into_iter().filter(|image| seen.insert(image.clone())).collect()
}
