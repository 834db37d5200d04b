//! The image that travels, in a cache of wharf's, which is an OCI image layout: skopeo reads it where it lies.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use wharf::oci::{Algorithm, Digest, Hasher, media_type};

use super::support::{Result, content::Noise};

/// Its layers, all of one size.
pub(crate) const LAYERS: u64 = 8;

/// What it is called.
pub(crate) const NAME: &str = "docker.io/bench/app:latest";

/// An image of one platform.
pub(crate) struct Image {
    pub(crate) dir: PathBuf,
    /// Bytes of its blobs together.
    pub(crate) bytes: u64,
    blobs: Vec<(Digest, u64)>,
}

impl Image {
    /// Makes one with some `bytes` of layers, which are packed, but cannot be made smaller.
    pub(crate) fn make(dir: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        fs::create_dir_all(dir.join("wharf"))?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(dir.join("wharf/version"), "1\n")?;
        let mut image = Self { dir: dir.into(), bytes: 0, blobs: Vec::new() };
        let noise = Noise::new(bytes / LAYERS)?;
        let mut layers = Vec::new();
        let mut unpacked = Vec::new();
        for _ in 0..LAYERS {
            let content = noise.blob(bytes / LAYERS)?;
            let mut packed = GzEncoder::new(Vec::new(), Compression::none());
            let mut from = 0;
            while from < content.len() {
                let piece = content.piece(from, 1 << 20);
                packed.write_all(piece)?;
                from += piece.len() as u64;
            }
            unpacked.push(content.digest);
            layers
                .push(image.put("application/vnd.oci.image.layer.v1.tar+gzip", &packed.finish()?)?);
        }
        let config = json!({
            "architecture": "arm64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": unpacked },
        });
        let config = image.put(media_type::OCI_CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
        });
        let mut child = image.put(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())?;
        child["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child],
        });
        let mut root = image.put(media_type::OCI_INDEX, index.to_string().as_bytes())?;
        root["annotations"] = json!({
            "org.opencontainers.image.ref.name": NAME, "io.containerd.image.name": NAME,
            "io.wharf.confirmed": "1790000000", "io.wharf.pulled": "1790000000",
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [root],
            "annotations": { "io.wharf.journal": "0" },
        });
        fs::write(dir.join("index.json"), index.to_string())?;
        Ok(image)
    }

    /// Whether all of it is in the layout at `dir`, to the byte.
    pub(crate) fn must_be_in(&self, dir: &Path) -> Result<()> {
        for (digest, size) in &self.blobs {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut file = File::open(dir.join("blobs/sha256").join(digest.encoded()))?;
            let read = std::io::copy(&mut file, &mut Hashing(&mut hasher))?;
            if read != *size || hasher.finish() != *digest {
                return Err(format!("{digest} did not arrive as it is").into());
            }
        }
        Ok(())
    }

    fn put(&mut self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let (digest, size) = (Digest::sha256(bytes), bytes.len() as u64);
        fs::write(self.dir.join("blobs/sha256").join(digest.encoded()), bytes)?;
        self.bytes += size;
        self.blobs.push((digest, size));
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": size }))
    }
}

struct Hashing<'h>(&'h mut Hasher);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
