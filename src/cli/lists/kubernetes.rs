//! The images of Kubernetes manifests: of every list of containers in a document, and of volumes that are images, whatever kind
//! of object has them.

use std::rc::Rc;

use super::yaml::{Node, Steps, Wrong};
use crate::oci::ImagePattern;

/// What lists of containers are called in a pod
/// ([PodSpec](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodSpec)).
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The images of a document, in its order.
///
/// # Errors
/// When a name makes no sense, or there is more to look at than may be.
pub(super) fn images(document: &Rc<Node>, steps: &mut Steps) -> Result<Vec<ImagePattern>, Wrong> {
    let mut images = Vec::new();
    // The tree is as deep as its reader allows, and aliases cannot lead back.
    look(document, steps, &mut images)?;
    Ok(images)
}

fn look(node: &Rc<Node>, steps: &mut Steps, images: &mut Vec<ImagePattern>) -> Result<(), Wrong> {
    steps.take(node)?;
    for (key, value) in node.entries() {
        match key.text() {
            Some(key) if CONTAINERS.contains(&key) => {
                for container in value.items() {
                    images.extend(container.get("image").map(image).transpose()?);
                }
            }
            Some("volumes") => {
                for volume in value.items() {
                    let source = volume.get("image").and_then(|image| image.get("reference"));
                    images.extend(source.map(image).transpose()?);
                }
            }
            _ => {}
        }
        look(value, steps, images)?;
    }
    node.items().iter().try_for_each(|item| look(item, steps, images))
}

fn image(node: &Rc<Node>) -> Result<ImagePattern, Wrong> {
    let text = node.text().ok_or_else(|| (node.line, "image: not a name".to_owned()))?;
    text.parse().map_err(|error| (node.line, format!("image: \"{text}\": {error}")))
}
