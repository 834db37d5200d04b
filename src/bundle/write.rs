//! Writing: a bundle's archive, member by member, before a byte of a blob is read. Where each byte will stand is known
//! from names and sizes alone, so that an archive that broke off can be gone on with.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Base, Blob, Contents, ContentsError, Image, KeyError, Named, PublicKey, SecretKey, Segment,
    verify,
};
use crate::oci::{Digest, Platform, Reference, media_type};

/// Names of the members that are no blobs.
pub const OCI_LAYOUT: &str = "oci-layout";
/// The contents document.
pub const CONTENTS: &str = "wharf-bundle.json";
/// Its signature.
pub const SIGNATURE: &str = "wharf-bundle.json.minisig";
/// What a volume of several holds.
pub const VOLUME: &str = "wharf-volume.json";
/// The index of the OCI layout.
pub const INDEX: &str = "index.json";
/// Docker's list.
pub const DOCKER: &str = "manifest.json";

/// Bytes of a header of tar, and of the blocks that its members fill.
pub(super) const BLOCK: u64 = 512;
/// Zeros at the end of an archive.
pub(super) const END: u64 = 2 * BLOCK;

/// An image to put into a bundle, and all that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, digest and platforms.
    pub image: Image,
    /// Whether it is not for running: a signature or attestation.
    pub attached: bool,
    /// Its config and layers, if Docker can load it: of the first of its platforms.
    pub docker: Option<(Digest, Vec<Digest>)>,
    /// The blobs that it needs, each once, in the order of first use; and whether each is a document.
    pub blobs: Vec<(Blob, bool)>,
}

/// A bundle that is to be written.
#[derive(Clone, Debug)]
pub struct Bundle {
    contents: Contents,
    document: Bytes,
    signature: Option<Bytes>,
    images: Vec<Wanted>,
}

/// An archive of tar, as its members.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    pub(super) members: Vec<Member>,
}

/// One member of an archive.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) path: String,
    pub(super) source: Source,
}

/// Where the bytes of a member come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Bytes(Bytes),
    Blob { digest: Digest, from: u64, to: u64 },
}

/// Bytes of an archive that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These.
    Bytes(Bytes),
    /// Of a blob, those `from` a byte on, `to` another, which is behind the last.
    Blob {
        /// Which.
        digest: Digest,
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
}

impl Bundle {
    /// A bundle of these images, without the blobs that who gets it has already.
    ///
    /// # Errors
    /// When nobody would read it: it has too many images or blobs.
    pub fn new(mut images: Vec<Wanted>, have: &HashSet<Digest>) -> Result<Self, ContentsError> {
        images.sort_by_cached_key(|wanted| {
            let is_list = matches!(wanted.image.named, Named::ReferrersOf(_));
            (wanted.image.named.image().to_string(), is_list, wanted.image.digest)
        });
        let (mut documents, mut others, mut base) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for wanted in &images {
            for (blob, is_document) in &wanted.blobs {
                if !seen.insert(blob.digest) {
                    continue;
                }
                if have.contains(&blob.digest) {
                    let image = wanted.image.named.image().clone();
                    base.push(Base { digest: blob.digest, size: blob.size, image });
                } else if *is_document {
                    documents.push(*blob);
                } else {
                    others.push(*blob);
                }
            }
        }
        documents.append(&mut others);
        let listed = images.iter().map(|wanted| wanted.image.clone()).collect();
        let contents = Contents { images: listed, blobs: documents, base }.sorted();
        let document = contents.to_bytes()?.into();
        Ok(Self { contents, document, signature: None, images })
    }

    /// Signs it.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), KeyError> {
        self.signature = Some(key.sign(&self.document)?.into());
        Ok(())
    }

    /// Takes over a signature that was made before, if it is one of the same contents by the same key: it differs from
    /// one that is made now. Whether it is.
    pub fn take_signature(&mut self, key: &PublicKey, signature: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(signature) else { return false };
        let is_ours = verify(std::slice::from_ref(key), &self.document, text).is_ok();
        if is_ours {
            self.signature = Some(Bytes::copy_from_slice(signature));
        }
        is_ours
    }

    /// How many of its images are not for running.
    pub fn attached(&self) -> usize {
        self.images.iter().filter(|wanted| wanted.attached).count()
    }

    /// What it brings.
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The contents document: the receipt.
    pub const fn document(&self) -> &Bytes {
        &self.document
    }

    /// All of it in one archive.
    pub fn archive(&self) -> Archive {
        let mut archive = self.begin(None);
        archive.put(INDEX, self.index());
        if let Some(list) = self.docker() {
            archive.put(DOCKER, list);
        }
        for blob in &self.contents.blobs {
            archive.members.push(Member::whole(blob));
        }
        archive
    }

    /// The members that every archive of it begins with.
    pub(super) fn begin(&self, volume: Option<Bytes>) -> Archive {
        let mut archive = Archive::default();
        archive.put(OCI_LAYOUT, Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#));
        if let Some(volume) = volume {
            archive.put(VOLUME, volume);
        }
        archive.put(CONTENTS, self.document.clone());
        if let Some(signature) = &self.signature {
            archive.put(SIGNATURE, signature.clone());
        }
        archive
    }

    /// `index.json`: names for those who know nothing of wharf. What is attached is no image of theirs: containerd would
    /// unpack what bears its annotation.
    pub(super) fn index(&self) -> Bytes {
        let entries = self.images.iter().filter_map(|wanted| {
            let Image { named, digest, media_type, size, platforms } = &wanted.image;
            let Named::Image(name) = named else { return None };
            let mut annotations = Map::new();
            if !wanted.attached {
                annotations.insert("io.containerd.image.name".into(), name.to_string().into());
            }
            if let Reference::Tag(tag) = &name.reference {
                let key = "org.opencontainers.image.ref.name";
                annotations.insert(key.into(), tag.as_str().into());
            }
            let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": size });
            if let ([platform], false) = (platforms.as_slice(), media_type.is_index()) {
                entry["platform"] = platform_json(platform);
            }
            if !annotations.is_empty() {
                entry["annotations"] = annotations.into();
            }
            Some(entry)
        });
        let entries: Vec<Value> = entries.collect();
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
        });
        index.to_string().into()
    }

    /// `manifest.json`; `None` where it would name nothing that is there.
    fn docker(&self) -> Option<Bytes> {
        let here: HashSet<Digest> = self.contents.blobs.iter().map(|blob| blob.digest).collect();
        // Docker takes an entry for each image, with all names of it.
        let (mut order, mut entries) = (Vec::new(), HashMap::<_, Vec<String>>::new());
        for wanted in &self.images {
            let Some((config, layers)) = &wanted.docker else { continue };
            if !layers.iter().chain([config]).all(|digest| here.contains(digest)) {
                continue;
            }
            let tags = entries.entry((config, layers)).or_insert_with(|| {
                order.push((config, layers));
                Vec::new()
            });
            let name = wanted.image.named.image();
            if matches!(name.reference, Reference::Tag(_)) {
                tags.push(name.to_string());
            }
        }
        let list = order.iter().map(|key| {
            let layers: Vec<String> = key.1.iter().map(path).collect();
            json!({ "Config": path(key.0), "RepoTags": entries[key], "Layers": layers })
        });
        let list: Vec<Value> = list.collect();
        (!list.is_empty()).then(|| Value::from(list).to_string().into())
    }
}

impl Archive {
    pub(super) fn put(&mut self, path: &str, bytes: Bytes) {
        self.members.push(Member { path: path.to_owned(), source: Source::Bytes(bytes) });
    }

    /// How long the archive is, in bytes.
    pub fn size(&self) -> u64 {
        self.members.iter().fold(END, |sum, member| sum.saturating_add(member.cost()))
    }

    /// Where the bytes of the member of that name stand; `None` if it has no such member of bytes.
    pub fn place_of(&self, name: &str) -> Option<std::ops::Range<u64>> {
        let mut at = 0;
        for member in &self.members {
            if member.path == name && matches!(member.source, Source::Bytes(_)) {
                let begin = at + header(&member.path, member.size()).len() as u64;
                return Some(begin..begin + member.size());
            }
            at += member.cost();
        }
        None
    }

    /// The archive from its beginning to its end.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let members = self.members.iter().flat_map(|member| {
            let (path, size) = (&member.path, member.size());
            let content = match &member.source {
                Source::Bytes(bytes) => Piece::Bytes(bytes.clone()),
                Source::Blob { digest, from, to } => {
                    Piece::Blob { digest: *digest, from: *from, to: *to }
                }
            };
            [Piece::Bytes(header(path, size)), content, Piece::Bytes(zeros(padding(size)))]
        });
        let is_something = |piece: &Piece| !matches!(piece, Piece::Bytes(none) if none.is_empty());
        members.filter(is_something).chain([Piece::Bytes(zeros(END))])
    }
}

impl Member {
    pub(super) fn whole(blob: &Blob) -> Self {
        let source = Source::Blob { digest: blob.digest, from: 0, to: blob.size };
        Self { path: path(&blob.digest), source }
    }

    pub(super) fn part(segment: &Segment) -> Self {
        let Segment { digest, offset, size, .. } = *segment;
        let source = Source::Blob { digest, from: offset, to: offset + size };
        Self { path: part_path(&digest, offset), source }
    }

    fn size(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Blob { from, to, .. } => to - from,
        }
    }

    /// How many bytes of the archive it takes.
    pub(super) fn cost(&self) -> u64 {
        cost(&self.path, self.size())
    }
}

/// How many bytes of an archive a member takes.
pub(super) fn cost(path: &str, size: u64) -> u64 {
    header(path, size).len() as u64 + size + padding(size)
}

/// The name of a blob in an OCI layout.
fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.encoded())
}

/// The name of a part of a blob in a volume.
pub(super) fn part_path(digest: &Digest, offset: u64) -> String {
    format!("segments/{}/{}/{offset:020}", digest.algorithm().as_str(), digest.encoded())
}

const fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

const fn zeros(count: u64) -> Bytes {
    static ZEROS: [u8; END as usize] = [0; END as usize];
    Bytes::from_static(ZEROS.split_at(count as usize).0)
}

/// What stands before a member: a header of ustar, and one of pax before it where its fields are too short.
fn header(path: &str, size: u64) -> Bytes {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let is_long = header.set_path(path).is_err();
    let size_text = size.to_string();
    let mut records = Vec::new();
    if is_long {
        // Who knows no pax finds the end of the name, which tells more than its beginning.
        let end = &path[path.len() - 64..];
        let fits = header.set_path(end).is_ok();
        debug_assert!(fits, "64 bytes fit");
        records.push(("path", path.as_bytes()));
    }
    if size > SIZE_MAX {
        records.push(("size", size_text.as_bytes()));
    }
    header.set_cksum();
    let mut bytes = Vec::with_capacity(512);
    if !records.is_empty() {
        let mut builder = tar::Builder::new(Vec::new());
        let written = builder.append_pax_extensions(records).and_then(|()| builder.into_inner());
        let mut written = written.expect("memory takes all that is written");
        // The builder ends what it writes as an archive; this one goes on.
        written.truncate(written.len() - END as usize);
        bytes = written;
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.into()
}

/// The greatest size that eleven octal digits hold.
const SIZE_MAX: u64 = (1 << 33) - 1;

fn platform_json(platform: &Platform) -> Value {
    let mut value = json!({ "architecture": platform.architecture(), "os": platform.os() });
    if let Some(variant) = platform.variant() {
        value["variant"] = variant.into();
    }
    value
}
