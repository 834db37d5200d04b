//! Images made of noise that is the same in every run.

use bytes::Bytes;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use serde_json::{Value, json};
use wharf::oci::{Digest, media_type};

use super::hub::FakeHub;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Operating system, architecture, variant.
pub(crate) type Platform<'a> = (&'a str, &'a str, Option<&'a str>);

/// A document or blob that the hub holds.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Bytes,
}

/// An image index and all it refers to.
#[derive(Clone, Debug)]
pub(crate) struct PushedImage {
    pub(crate) index: Blob,
    pub(crate) children: Vec<PushedManifest>,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub(crate) struct PushedManifest {
    /// `os/architecture` or `os/architecture/variant`.
    pub(crate) platform: String,
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

impl PushedImage {
    /// The image for `platform`, such as `linux/arm/v7`.
    pub(crate) fn child(&self, platform: &str) -> &PushedManifest {
        let found = self.children.iter().find(|child| child.platform == platform);
        found.expect("the image was pushed for this platform")
    }
}

impl FakeHub {
    /// An OCI index under `repo:tag`, one image with layers of `layer_sizes` bytes for each platform.
    ///
    /// Repository, tag and platform decide the bytes: another tag is another image.
    pub(crate) fn push_image(
        &self,
        repo: &str,
        tag: &str,
        platforms: &[Platform<'_>],
        layer_sizes: &[usize],
    ) -> PushedImage {
        let children: Vec<_> = platforms
            .iter()
            .map(|platform| self.put_image(repo, tag, *platform, layer_sizes))
            .collect();
        let entry = |(child, (os, architecture, variant)): (&PushedManifest, &Platform<'_>)| {
            let mut entry = descriptor(&child.manifest);
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            if let Some(variant) = variant {
                entry["platform"]["variant"] = json!(variant);
            }
            entry
        };
        let manifests: Vec<_> = children.iter().zip(platforms).map(entry).collect();
        let index = document(
            media_type::OCI_INDEX,
            &json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests }),
        );
        self.put_manifest(repo, Some(tag), index.media_type, index.bytes.clone());
        PushedImage { index, children }
    }

    /// An OCI manifest under `repo:tag`, without an index above it.
    pub(crate) fn push_single(
        &self,
        repo: &str,
        tag: &str,
        platform: Platform<'_>,
        layer_sizes: &[usize],
    ) -> PushedManifest {
        let image = self.put_image(repo, tag, platform, layer_sizes);
        self.move_tag(repo, tag, image.manifest.digest);
        image
    }

    fn put_image(
        &self,
        repo: &str,
        tag: &str,
        (os, architecture, variant): Platform<'_>,
        layer_sizes: &[usize],
    ) -> PushedManifest {
        let mut platform = format!("{os}/{architecture}");
        if let Some(variant) = variant {
            platform = format!("{platform}/{variant}");
        }
        let layer = |(at, size): (usize, &usize)| {
            blob(LAYER, noise(&format!("{repo}:{tag} {platform} {at}"), *size))
        };
        let layers: Vec<_> = layer_sizes.iter().enumerate().map(layer).collect();
        let ids: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
        let config = document(
            CONFIG,
            &json!({
                "os": os, "architecture": architecture, "variant": variant, "config": {},
                "rootfs": { "type": "layers", "diff_ids": ids },
            }),
        );
        let descriptors: Vec<_> = layers.iter().map(descriptor).collect();
        let manifest = document(
            media_type::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
                "config": descriptor(&config), "layers": descriptors,
            }),
        );
        for part in layers.iter().chain([&config]) {
            self.put_blob(repo, part.bytes.clone());
        }
        self.put_manifest(repo, None, manifest.media_type, manifest.bytes.clone());
        PushedManifest { platform, manifest, config, layers }
    }
}

/// `len` bytes that do not compress, the same for the same `seed` in every run (ChaCha8).
pub(crate) fn noise(seed: &str, len: usize) -> Bytes {
    let seed = Digest::sha256(seed.as_bytes());
    let mut bytes = vec![0; len];
    ChaCha8Rng::from_seed(seed.as_bytes().try_into().expect("32 bytes")).fill_bytes(&mut bytes);
    bytes.into()
}

fn blob(media_type: &'static str, bytes: Bytes) -> Blob {
    Blob { digest: Digest::sha256(&bytes), media_type, bytes }
}

fn document(media_type: &'static str, json: &Value) -> Blob {
    blob(media_type, json.to_string().into())
}

fn descriptor(blob: &Blob) -> Value {
    json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len() })
}
