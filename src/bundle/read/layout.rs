//! An OCI image layout's own files: its marker, its index, and what blobs are called
//! ([image-spec, image-layout.md](https://github.com/opencontainers/image-spec/blob/main/image-layout.md)).

use serde::Deserialize;

use super::Why;
use crate::{
    bundle::Named,
    oci::{Descriptor, Digest, ImageName, Reference, Tag},
};

/// Most images of one archive.
pub(super) const IMAGES_MAX: usize = 100_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    reference: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    full: Option<String>,
}

/// Whether the marker says a version that is known.
pub(super) fn check_marker(bytes: &[u8]) -> Result<(), Why> {
    let marker: Marker = serde_json::from_slice(bytes).map_err(form)?;
    if marker.image_layout_version != "1.0.0" {
        return Err(Why::Version(marker.image_layout_version));
    }
    Ok(())
}

/// What a member below `blobs/` is called; `None` for one that is elsewhere.
pub(super) fn blob_name(path: &str) -> Result<Option<Digest>, Why> {
    let Some(rest) = path.strip_prefix("blobs/") else { return Ok(None) };
    let (algorithm, hex) = rest.split_once('/').ok_or(Why::BlobName)?;
    format!("{algorithm}:{hex}").parse().map(Some).map_err(|_| Why::BlobName)
}

/// The images that an index lists, by name. What has none is called `name`.
pub(super) fn images(
    index: &[u8],
    name: Option<&ImageName>,
) -> Result<Vec<(Named, Descriptor)>, Why> {
    let Index { manifests } = serde_json::from_slice(index).map_err(form)?;
    if manifests.len() > IMAGES_MAX {
        return Err(Why::Many(IMAGES_MAX));
    }
    if manifests.is_empty() {
        return Err(Why::Form("it lists no image".to_owned()));
    }
    let named = manifests.into_iter().map(|Entry { descriptor, annotations }| {
        let Annotations { reference, full } = annotations.unwrap_or_default();
        let image = match (full, reference) {
            (Some(full), _) => full_name(&full)?,
            (None, Some(text)) if text.contains(['/', ':', '@']) => full_name(&text)?,
            (None, Some(text)) => {
                let tag: Tag = text.parse().map_err(|_| Why::ImageName(text.clone()))?;
                let nameless = || Why::Nameless(format!("{text} ({})", descriptor.digest));
                let repository = name.ok_or_else(nameless)?.repository.clone();
                ImageName { repository, reference: Reference::Tag(tag) }
            }
            (None, None) => {
                let nameless = || Why::Nameless(descriptor.digest.to_string());
                name.ok_or_else(nameless)?.clone()
            }
        };
        if matches!(image.reference, Reference::Digest(digest) if digest != descriptor.digest) {
            return Err(Why::ImageName(image.to_string()));
        }
        Ok((Named::Image(image), descriptor))
    });
    named.collect()
}

pub(super) fn full_name(text: &str) -> Result<ImageName, Why> {
    text.parse().map_err(|_| Why::ImageName(text.chars().take(300).collect()))
}

pub(super) fn form(error: serde_json::Error) -> Why {
    Why::Form(error.to_string())
}
