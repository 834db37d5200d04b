//! A cache directory with many images in it, as a wharf leaves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use wharf::oci::{Digest, media_type};

use super::support::Result;

/// A cache directory.
pub(crate) struct Cache {
    pub(crate) dir: PathBuf,
    /// How many blobs are in it.
    pub(crate) blobs: u64,
    /// The manifests that are kept, as clients ask for them; the length of the last.
    pub(crate) paths: Vec<String>,
    pub(crate) length: u64,
}

impl Cache {
    /// Makes one of `images` images in as many repositories, each of one platform and of `each` blobs.
    pub(crate) fn make(dir: &Path, images: usize, each: u64) -> Result<Self> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(dir.join("wharf"))?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(dir.join("wharf/version"), "1\n")?;
        let put = |media_type: &str, bytes: &[u8]| -> Result<Value> {
            let digest = Digest::sha256(bytes);
            fs::write(blobs.join(digest.encoded()), bytes)?;
            Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
        };
        let (mut entries, mut paths) = (Vec::with_capacity(images), Vec::with_capacity(images));
        let mut length = 0;
        for image in 0..images {
            let blob = |n: u64| put(media_type::OCTET_STREAM, format!("{image} {n}").as_bytes());
            let layers = (1..each - 2).map(blob).collect::<Result<Vec<_>>>()?;
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": blob(0)?, "layers": layers,
            });
            let mut child = put(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())?;
            let name = format!("docker.io/site{}/image-{image}", image % 50);
            let digest = child["digest"].as_str().unwrap_or_default();
            paths.push(format!("/v2/{name}/manifests/{digest}"));
            length = manifest.to_string().len() as u64;
            child["platform"] = json!({ "os": "linux", "architecture": "arm64" });
            let index = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child],
            });
            let mut entry = put(media_type::OCI_INDEX, index.to_string().as_bytes())?;
            let name = format!("{name}:latest");
            entry["annotations"] = json!({
                "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name,
                "io.wharf.confirmed": "1790000000", "io.wharf.pulled": (1_790_000_000 + image).to_string(),
            });
            entries.push(entry);
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
            "annotations": { "io.wharf.journal": "0" },
        });
        fs::write(dir.join("index.json"), index.to_string())?;
        Ok(Self { dir: dir.into(), blobs: images as u64 * each, paths, length })
    }
}
