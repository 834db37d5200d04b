//! [`Tree`]: what an image's documents lead to, and whether it is here.

use std::collections::{HashMap, HashSet};

use super::{Sink, Why};
use crate::{
    bundle::Named,
    oci::{Descriptor, Digest, Manifest, NESTED_MAX, nests_within},
};

/// Indexes on the way to a manifest: an image's own, and one that it lists.
const DEPTH_MAX: usize = 2;
/// Bytes of all documents of an archive's images, one that several share counted for each: each is read for each.
pub(super) const DOCUMENTS_MAX_BYTES: usize = 128 * 1024 * 1024;
/// Documents of one image that are here.
const DOCUMENTS_MAX: usize = 4096;

pub(super) struct Tree<'s, S> {
    sink: &'s mut S,
    image: String,
    /// What is left of [`DOCUMENTS_MAX_BYTES`].
    left: &'s mut usize,
    seen: HashSet<Digest>,
    sizes: HashMap<Digest, u64>,
    documents: Vec<(Descriptor, Manifest)>,
}

impl<'s, S: Sink> Tree<'s, S> {
    pub(super) fn new(sink: &'s mut S, named: &Named, left: &'s mut usize) -> Self {
        Self {
            sink,
            image: named.to_string(),
            left,
            seen: HashSet::new(),
            sizes: HashMap::new(),
            documents: Vec::new(),
        }
    }

    /// All documents below `root` that are here, each before the one that lists it. An index may list what did not
    /// travel, but not nothing else; a manifest that is here has all its blobs.
    pub(super) fn walk(mut self, root: &Descriptor) -> Result<Vec<(Descriptor, Manifest)>, Why> {
        self.document(root, 0)?;
        Ok(self.documents)
    }

    fn document(&mut self, content: &Descriptor, depth: usize) -> Result<(), Why> {
        let digest = content.digest;
        if !self.seen.insert(digest) {
            return Ok(());
        }
        if self.seen.len() > DOCUMENTS_MAX {
            return Err(Why::Many(DOCUMENTS_MAX));
        }
        if !content.media_type.names_a_manifest() {
            return Err(Why::Type { digest, media_type: content.media_type.clone() });
        }
        let bytes = self.sink.document(&digest).map_err(Why::Sink)?;
        let bytes = bytes.ok_or_else(|| self.lacking(digest))?;
        same_size(content, bytes.len() as u64)?;
        let left = self.left.checked_sub(bytes.len());
        *self.left = left.ok_or(Why::Documents(DOCUMENTS_MAX_BYTES))?;
        if !nests_within(&bytes, NESTED_MAX) {
            return Err(Why::Deep { digest, levels: NESTED_MAX });
        }
        let document = Manifest::parse(&content.media_type, &bytes)
            .map_err(|why| Why::Manifest { digest, why })?;
        match &document {
            Manifest::Image { blobs } => {
                for blob in blobs {
                    self.blob(blob)?;
                }
            }
            Manifest::Index(index) => {
                if depth == DEPTH_MAX {
                    return Err(Why::Nested(digest));
                }
                let (mut here, mut first) = (false, None);
                for entry in &index.entries {
                    let child = &entry.descriptor;
                    match self.size(&child.digest)? {
                        Some(_) if child.media_type.names_a_manifest() => {
                            self.document(child, depth + 1)?;
                        }
                        // An index may list anything, as a cache of builds lists layers.
                        Some(size) => same_size(child, size)?,
                        None => {
                            first.get_or_insert(child.digest);
                            continue;
                        }
                    }
                    here = true;
                }
                if let (false, Some(first)) = (here, first) {
                    return Err(self.lacking(first));
                }
            }
            Manifest::Opaque => {}
        }
        self.documents.push((content.clone(), document));
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor) -> Result<(), Why> {
        match self.size(&blob.digest)? {
            Some(size) => same_size(blob, size),
            None => Err(self.lacking(blob.digest)),
        }
    }

    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, Why> {
        if let Some(size) = self.sizes.get(digest) {
            return Ok(Some(*size));
        }
        let size = self.sink.size(digest).map_err(Why::Sink)?;
        self.sizes.extend(size.map(|size| (*digest, size)));
        Ok(size)
    }

    fn lacking(&self, digest: Digest) -> Why {
        Why::Lacking { digest, image: self.image.clone() }
    }
}

fn same_size(content: &Descriptor, size: u64) -> Result<(), Why> {
    if content.size == size {
        return Ok(());
    }
    let listed = content.size;
    Err(Why::Form(format!("{} has {size} bytes, where {listed} are said", content.digest)))
}
