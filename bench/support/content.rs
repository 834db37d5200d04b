//! What is pulled: noise that no two blobs share to the end, with digests that cost next to nothing.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    io::Read as _,
    sync::Arc,
};

use serde_json::{Value, json};
use wharf::oci::{Algorithm, Digest, Hasher, media_type};

use super::Result;

/// Bytes that make a blob differ from all others of its length.
const TAIL_BYTES: u64 = 16;

/// Random bytes of which every blob is a beginning.
pub(crate) struct Noise {
    bytes: Arc<[u8]>,
    /// The hash of the first so many bytes.
    hashed: RefCell<HashMap<u64, Hasher>>,
    serial: Cell<u64>,
}

/// The bytes behind one digest: some of the noise, then a tail of its own.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
    noise: Arc<[u8]>,
    /// How many bytes of the noise come first.
    head: usize,
    tail: Vec<u8>,
}

impl Noise {
    /// Noise for blobs of up to `longest` bytes.
    pub(crate) fn new(longest: u64) -> Result<Self> {
        let mut bytes = vec![0; usize::try_from(longest)?];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self { bytes: bytes.into(), hashed: RefCell::default(), serial: Cell::default() })
    }

    /// A blob of `size` bytes that nobody has seen before.
    pub(crate) fn blob(&self, size: u64) -> Result<Content> {
        let short = || format!("a blob has {TAIL_BYTES} bytes at least, not {size}");
        let head = usize::try_from(size.checked_sub(TAIL_BYTES).ok_or_else(short)?)?;
        let noise = self.bytes.get(..head).ok_or("the noise is shorter than the blob")?;
        self.serial.set(self.serial.get() + 1);
        let mut tail = self.serial.get().to_le_bytes().to_vec();
        tail.extend_from_slice(b"is new.\n");
        let mut hashed = self.hashed.borrow_mut();
        let mut hasher = hashed
            .entry(size)
            .or_insert_with(|| {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                hasher.update(noise);
                hasher
            })
            .clone();
        hasher.update(&tail);
        let digest = hasher.finish();
        let (media_type, noise) = (media_type::OCTET_STREAM, Arc::clone(&self.bytes));
        Ok(Content { digest, media_type, noise, head, tail })
    }

    /// The manifest of an image whose first part is the configuration.
    pub(crate) fn manifest(&self, parts: &[Content]) -> Result<Content> {
        let (config, layers) = parts.split_first().ok_or("an image has a configuration")?;
        let describe = |part: &Content, kind: &str| -> Value {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": part.digest.to_string(),
                "size": part.len(),
            })
        };
        let layers: Vec<_> = layers.iter().map(|layer| describe(layer, "layer.v1.tar")).collect();
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": describe(config, "config.v1+json"), "layers": layers,
        });
        self.document(&document, media_type::OCI_MANIFEST)
    }

    /// The index of an image for several architectures of Linux.
    pub(crate) fn index(&self, manifests: &[(&str, &Content)]) -> Result<Content> {
        let describe = |(architecture, manifest): &(&str, &Content)| -> Value {
            json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest.to_string(),
                "size": manifest.len(),
                "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let manifests: Vec<_> = manifests.iter().map(describe).collect();
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
        });
        self.document(&document, media_type::OCI_INDEX)
    }

    fn document(&self, document: &Value, media_type: &'static str) -> Result<Content> {
        let (tail, noise) = (serde_json::to_vec(document)?, Arc::clone(&self.bytes));
        Ok(Content { digest: Digest::sha256(&tail), media_type, noise, head: 0, tail })
    }
}

impl Content {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        (self.head + self.tail.len()) as u64
    }

    /// Up to `most` bytes from `offset` on; none only at the end.
    pub(crate) fn piece(&self, offset: u64, most: usize) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let (bytes, from) = match offset.checked_sub(self.head) {
            None => (&self.noise[..self.head], offset),
            Some(from) => (&self.tail[..], from.min(self.tail.len())),
        };
        &bytes[from..bytes.len().min(from.saturating_add(most))]
    }

    /// Where a registry has it as a blob.
    pub(crate) fn blob_path(&self) -> String {
        format!("/v2/bench/app/blobs/{}", self.digest)
    }

    /// Where a registry has it as a manifest, by digest.
    pub(crate) fn manifest_path(&self) -> String {
        format!("/v2/bench/app/manifests/{}", self.digest)
    }
}
