//! The images of a Compose file: of each service, whatever its profiles; of those that are built, too, if they are named.

use std::rc::Rc;

use super::{
    variables::Variables,
    yaml::{Node, Steps, Value, Wrong},
};
use crate::oci::ImagePattern;

/// Whether a document is a Compose file, and no manifest that has something of that name.
pub(super) fn is_one(document: &Node) -> bool {
    let has = |key| document.get(key).is_some();
    document.get("services").is_some_and(|services| !matches!(services.value, Value::List(_)))
        && !(has("kind") && has("apiVersion"))
}

/// The images of its services.
///
/// # Errors
/// When a name, a variable in it, or the file's form makes no sense.
pub(super) fn images(
    document: &Rc<Node>,
    variables: &Variables,
    steps: &mut Steps,
) -> Result<Vec<ImagePattern>, Wrong> {
    if let Some(include) = document.get("include") {
        let sentence = "files that are included are not followed: take include out, and give each of them to --from";
        return Err((include.line, sentence.to_owned()));
    }
    let mut images = Vec::new();
    for (name, service) in document.get("services").map_or(&[][..], |services| services.entries()) {
        steps.take(service)?;
        let Some(image) = service.get("image") else { continue };
        let service = name.text().unwrap_or("?");
        let wrong = |why: String| (image.line, format!("services.{service}.image: {why}"));
        let text = image.text().ok_or_else(|| wrong("not a name".to_owned()))?;
        let named = variables.fill_in(text).map_err(wrong)?;
        images.push(named.parse().map_err(|error| wrong(format!("\"{named}\": {error}")))?);
    }
    Ok(images)
}
