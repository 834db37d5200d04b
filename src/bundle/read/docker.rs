//! What `docker save` wrote before Engine 25, and what others write in its form: configs and layers under paths, a list that
//! names them, and no manifests
//! ([moby, image/spec/v1.2.md](https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format)).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;

use super::{
    Why,
    layout::{IMAGES_MAX, form, full_name},
};
use crate::oci::{Descriptor, Digest, ImageName, media_type};

/// Most configs and layers, and most other names of them, of one archive.
const FILES_MAX: usize = 16_384;
/// Longest chain of names.
const ALIASES_MAX: usize = 16;

const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The files of an archive that a list may name.
#[derive(Default)]
pub(super) struct Unnamed(HashMap<String, (Digest, u64)>);

/// Other names for them.
#[derive(Default)]
pub(super) struct Aliases(HashMap<String, String>);

/// An image to make a manifest for.
pub(super) struct Made {
    pub(super) names: Vec<ImageName>,
    pub(super) config: Digest,
    config_size: u64,
    /// Digest, length, and whether it is packed.
    layers: Vec<(Digest, u64, bool)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Whether a list may name this file: by the digest of a config or layer, or by a layer's directory.
pub(super) fn may_be_named(path: &str) -> bool {
    path.split_once('/').map_or_else(
        || called(path).is_some(),
        |(directory, file)| file == "layer.tar" && is_hex(directory),
    )
}

/// Whether this link is one that `docker save` writes for a layer that is there already.
pub(super) fn is_alias(path: &str, target: &str) -> bool {
    let is_layer = |path: &str| may_be_named(path) && path.ends_with(".tar");
    let is_alias = path.split_once('/').is_some_and(|(id, file)| file == "layer.tar" && is_hex(id));
    is_alias && target.strip_prefix("../").is_some_and(is_layer)
}

/// The digest that a path says of its file: `<hex>.json`, `<hex>.tar`, `<hex>.tar.gz` and `sha256:<hex>`.
fn called(path: &str) -> Option<Digest> {
    let digits = path.strip_prefix("sha256:").unwrap_or_else(|| {
        let ends = [".json", ".tar", ".tar.gz"];
        ends.iter().find_map(|end| path.strip_suffix(end)).unwrap_or_default()
    });
    is_hex(digits).then(|| format!("sha256:{digits}").parse().ok()).flatten()
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Unnamed {
    pub(super) fn insert(&mut self, path: &str, digest: Digest, size: u64) -> Result<(), Why> {
        if called(path).is_some_and(|called| called != digest) {
            return Err(Why::Digest(digest));
        }
        if self.0.len() == FILES_MAX {
            return Err(Why::Members(FILES_MAX));
        }
        self.0.insert(path.to_owned(), (digest, size));
        Ok(())
    }

    fn get(&self, path: &str, aliases: &Aliases) -> Result<(Digest, u64), Why> {
        let mut at = path;
        for _ in 0..ALIASES_MAX {
            if let Some(file) = self.0.get(at) {
                return Ok(*file);
            }
            let Some(target) = aliases.0.get(at) else { break };
            at = target;
        }
        Err(Why::Nowhere(path.chars().take(300).collect()))
    }
}

impl Aliases {
    /// `target` is one that [`is_alias`] takes.
    pub(super) fn insert(&mut self, path: &str, target: &str) -> Result<(), Why> {
        if self.0.len() == FILES_MAX {
            return Err(Why::Members(FILES_MAX));
        }
        let target = target.strip_prefix("../").unwrap_or(target);
        self.0.insert(path.to_owned(), target.to_owned());
        Ok(())
    }
}

/// The images of a list; one without a name is called `name`.
pub(super) fn images(
    list: &[u8],
    files: &Unnamed,
    aliases: &Aliases,
    name: Option<&ImageName>,
) -> Result<Vec<Made>, Why> {
    let list: Vec<Listed> = serde_json::from_slice(list).map_err(form)?;
    if list.is_empty() {
        return Err(Why::Form("it lists no image".to_owned()));
    }
    let (mut names_left, mut layers_left) = (IMAGES_MAX, 16 * FILES_MAX);
    let made = list.into_iter().map(|Listed { config, repo_tags, layers }| {
        let (config, config_size) = files.get(&config, aliases)?;
        let repo_tags = repo_tags.unwrap_or_default();
        names_left = names_left.checked_sub(repo_tags.len().max(1)).ok_or(Why::Many(IMAGES_MAX))?;
        let mut names: Vec<_> =
            repo_tags.iter().map(|tag| full_name(tag)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            names.push(name.ok_or_else(|| Why::Nameless(config.to_string()))?.clone());
        }
        let layers = layers.unwrap_or_default();
        layers_left = layers_left.checked_sub(layers.len()).ok_or(Why::Many(16 * FILES_MAX))?;
        let layers = layers.iter().map(|path| {
            let (digest, size) = files.get(path, aliases)?;
            Ok((digest, size, path.ends_with(".gz")))
        });
        Ok(Made { names, config, config_size, layers: layers.collect::<Result<_, Why>>()? })
    });
    made.collect()
}

impl Made {
    /// Whether the config speaks of these layers. A packed one's name was checked, which its writer took from its bytes.
    pub(super) fn check(&self, config: &[u8]) -> Result<(), Why> {
        let Config { rootfs } = serde_json::from_slice(config).map_err(form)?;
        let differ = |(layer, diff_id): (&(Digest, u64, bool), &Digest)| {
            let (digest, _, is_packed) = layer;
            !is_packed && digest != diff_id
        };
        let wrong = rootfs.diff_ids.len() != self.layers.len()
            || self.layers.iter().zip(&rootfs.diff_ids).any(differ);
        if wrong { Err(Why::Layers(self.config)) } else { Ok(()) }
    }

    /// The manifest, the same each time, and its descriptor.
    pub(super) fn manifest(&self) -> Result<(Descriptor, Vec<u8>), Why> {
        let layers = self.layers.iter().map(|(digest, size, is_packed)| {
            let media_type = if *is_packed { LAYER_GZIP } else { LAYER };
            json!({ "mediaType": media_type, "size": size, "digest": digest })
        });
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": {
                "mediaType": media_type::DOCKER_CONFIG,
                "size": self.config_size,
                "digest": self.config,
            },
            "layers": layers.collect::<Vec<_>>(),
        });
        let bytes = serde_json::to_vec(&document).map_err(form)?;
        let media_type = media_type::DOCKER_MANIFEST.parse();
        let media_type = media_type.map_err(|_| Why::Form("a media type".to_owned()))?;
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        Ok((Descriptor { media_type, digest, size }, bytes))
    }
}
