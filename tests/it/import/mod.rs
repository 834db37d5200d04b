//! What comes in an archive is verified before it counts, whoever wrote the archive.

mod formats;
mod hostile;
mod served;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{Cursor, Write as _},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use wharf::{
    bundle::{Brought, Contents, Joined, ReadError, Segment, Sink, Terms, Volume, read},
    oci::{Digest, MANIFEST_MAX_BYTES},
};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Members of an archive that is being written.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

/// What was taken, in memory.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) blobs: HashMap<Digest, Bytes>,
    open: Option<Vec<u8>>,
    /// The most bytes of one blob that were held before it was known to be right.
    pub(super) most: usize,
    pub(super) given_up: usize,
    /// The volume that comes, the numbers of those that came, and how long the blobs are.
    volume: Option<Volume>,
    volumes: BTreeSet<u32>,
    sizes: HashMap<Digest, u64>,
    /// Parts of blobs, by where they begin.
    parts: HashMap<Digest, BTreeMap<u64, Vec<u8>>>,
}

impl Tar {
    pub(super) fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.member(path, EntryType::Regular, bytes, |_| {})
    }

    /// A member as it stands in the archive, whatever its path; `header` is changed before its sum is taken.
    pub(super) fn member(
        mut self,
        path: &str,
        kind: EntryType,
        bytes: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn blob(self, bytes: &[u8]) -> Self {
        self.file(&blob_path(bytes), bytes)
    }

    pub(super) fn link(self, path: &str, kind: EntryType, target: &str) -> Self {
        self.member(path, kind, &[], |header| header.set_link_name(target).expect("short"))
    }

    pub(super) fn json(self, path: &str, value: &Value) -> Self {
        self.file(path, value.to_string().as_bytes())
    }

    pub(super) fn layout(self) -> Self {
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// Without the zeros that end it.
    pub(super) fn unended(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

impl Sink for Taken {
    fn begin(&mut self, digest: Option<&Digest>, _size: u64) -> Result<bool, String> {
        assert!(self.open.is_none(), "one at a time");
        let is_here = digest.is_some_and(|digest| self.blobs.contains_key(digest));
        self.open = (!is_here).then(Vec::new);
        Ok(!is_here)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), String> {
        let open = self.open.as_mut().expect("begun");
        open.extend_from_slice(bytes);
        self.most = self.most.max(open.len());
        Ok(())
    }

    fn end(&mut self, digest: &Digest) -> Result<(), String> {
        let bytes = self.open.take().expect("begun");
        assert_eq!(Digest::of(digest.algorithm(), &bytes), *digest, "what counts was verified");
        self.blobs.insert(*digest, bytes.into());
        Ok(())
    }

    fn abandon(&mut self) {
        self.open.take().expect("begun");
        self.given_up += 1;
    }

    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, String> {
        Ok(self.blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn document(&mut self, digest: &Digest) -> Result<Option<Bytes>, String> {
        let bytes = self.blobs.get(digest).filter(|bytes| bytes.len() <= MANIFEST_MAX_BYTES);
        Ok(bytes.cloned())
    }

    fn begin_volume(
        &mut self,
        volume: &Volume,
        contents: &Contents,
        document: &[u8],
    ) -> Result<(), String> {
        assert_eq!(Digest::sha256(document), volume.set);
        self.sizes = contents.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        self.volume = Some(volume.clone());
        Ok(())
    }

    fn begin_part(&mut self, part: &Segment) -> Result<bool, String> {
        assert!(self.open.is_none(), "one at a time");
        let is_here = self.blobs.contains_key(&part.digest);
        self.open = (!is_here).then(Vec::new);
        Ok(!is_here)
    }

    fn end_part(&mut self, part: &Segment) -> Result<Joined, String> {
        let bytes = self.open.take().expect("begun");
        assert_eq!(Digest::sha256(&bytes), part.sha256, "what counts was verified");
        let parts = self.parts.entry(part.digest).or_default();
        parts.insert(part.offset, bytes);
        let mut whole = Vec::new();
        for (offset, bytes) in parts.iter() {
            if *offset != whole.len() as u64 {
                return Ok(Joined::Waits);
            }
            whole.extend_from_slice(bytes);
        }
        if whole.len() as u64 != self.sizes[&part.digest] {
            return Ok(Joined::Waits);
        }
        self.parts.remove(&part.digest);
        let found = Digest::of(part.digest.algorithm(), &whole);
        if found != part.digest {
            return Ok(Joined::Wrong { found, volumes: self.volumes.iter().copied().collect() });
        }
        self.blobs.insert(found, whole.into());
        Ok(Joined::Whole)
    }

    fn end_volume(&mut self) -> Result<Vec<u32>, String> {
        let Volume { number, of, .. } = self.volume.take().expect("begun");
        self.volumes.insert(number);
        Ok((1..=of).filter(|number| !self.volumes.contains(number)).collect())
    }

    fn recall_volumes(&mut self) -> Result<(), String> {
        self.volumes.clear();
        Ok(())
    }
}

pub(super) fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::sha256(bytes).encoded())
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

/// The manifest of an image with this config and layer.
pub(super) fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)],
    });
    document.to_string().into_bytes()
}

/// An `index.json` of one image.
pub(super) fn index_of(media_type: &str, document: &[u8], name: &str) -> Value {
    let mut entry = descriptor(media_type, document);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    json!({ "schemaVersion": 2, "manifests": [entry] })
}

pub(super) fn terms() -> Terms {
    Terms { bytes: 16 * 1024 * 1024, ..Terms::default() }
}

pub(super) fn take(archive: &[u8], terms: &Terms) -> (Result<Brought, ReadError>, Taken) {
    let mut taken = Taken::default();
    let brought = read(Cursor::new(archive), terms, &mut taken);
    assert!(taken.open.is_none(), "each blob that was begun was ended or given up");
    (brought, taken)
}

/// `bytes` as gzip packs them.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("into memory");
    packed.finish().expect("into memory")
}

/// `bytes` as zstd packs them.
pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("into memory")
}

/// An archive as the `tar` crate itself writes it, with what it needs for long paths.
pub(super) fn written_by_tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes.as_slice()).expect("into memory");
    }
    tar.into_inner().expect("into memory")
}
