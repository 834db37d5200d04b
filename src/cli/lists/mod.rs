//! What a site needs, read from what it runs: lists of names, Compose files, and manifests of Kubernetes.

mod compose;
mod documents;
#[cfg(fuzzing)]
pub mod fuzzing;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ImageName;

    #[test]
    fn an_image_that_is_named_twice_is_wanted_once() {
        let names = ["alpine", "busybox", "docker.io/library/alpine:latest", "alpine:3"];
        let images = names.map(|name| name.parse::<ImageName>().expect("a name")).into();
        let once: Vec<_> = once_each(images).iter().map(ToString::to_string).collect();
        assert_eq!(
            once,
            ["alpine:latest", "busybox:latest", "alpine:3"]
                .map(|name| format!("docker.io/library/{name}"))
        );
    }
}
