//! What fuzz targets call, which is nobody else's to see.

use super::{compose, kubernetes, names, variables::Variables, yaml};
use crate::oci::ImagePattern;

/// The images in a list of names; or the line that is wrong, and why.
///
/// # Errors
/// When a line is no name.
pub fn names(text: &str) -> Result<Vec<ImagePattern>, (usize, String)> {
    names::parse(text)
}

/// The images in a file of YAML documents, where the variable `TAG` is set; or the line that is wrong, and why.
///
/// # Errors
/// When it is no YAML, or names what is no image.
pub fn documents(text: &str) -> Result<Vec<ImagePattern>, (usize, String)> {
    let (mut steps, mut images) = (yaml::Steps::new(), Vec::new());
    let variables = Variables::new("TAG=1.27\nNONE=\n", std::iter::empty());
    for document in yaml::read(text)? {
        images.extend(match compose::is_one(&document) {
            true => compose::images(&document, &variables, &mut steps)?,
            false => kubernetes::images(&document, &mut steps)?,
        });
    }
    Ok(images)
}
