//! What is said of an export when it is done.

use serde::Serialize;

use super::Place;
use crate::{
    bundle::Bundle,
    cli::{note, note_json, say_json, words},
    oci::{Digest, Platform},
};

/// What an export was.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The file; of several, what their names begin with.
    output: String,
    /// The digest of the contents document.
    contents: Digest,
    images: u64,
    /// Signatures, attestations and lists of referrers that came along.
    attached: u64,
    platforms: Vec<Platform>,
    blobs: u64,
    /// Of all files.
    bytes: u64,
    /// Of these, bytes that were there already.
    kept: u64,
    volumes: u64,
    /// The number of the key that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// What the site has already.
    base: Base,
    /// What is for other platforms.
    left: Left,
}

#[derive(Debug, Serialize)]
struct Base {
    blobs: u64,
    bytes: u64,
}

/// Platforms of the images that are not in the bundle.
#[derive(Debug, Default, Serialize)]
pub(super) struct Left {
    platforms: u64,
    /// Of those whose size is known.
    bytes: u64,
    unknown: u64,
}

impl Left {
    pub(super) const fn add(&mut self, platforms: u64, bytes: u64, known: u64) {
        self.platforms = self.platforms.saturating_add(platforms);
        self.bytes = self.bytes.saturating_add(bytes);
        self.unknown = self.unknown.saturating_add(platforms.saturating_sub(known));
    }
}

impl Summary {
    pub(super) fn of(
        bundle: &Bundle,
        left: Left,
        place: &Place,
        signed_by: Option<String>,
    ) -> Self {
        let contents = bundle.contents();
        let mut platforms: Vec<Platform> =
            contents.images.iter().flat_map(|image| &image.platforms).cloned().collect();
        platforms.sort();
        platforms.dedup();
        let all = contents.images.len() as u64;
        let attached = bundle.attached() as u64;
        Self {
            output: place.whole().display().to_string(),
            contents: Digest::sha256(bundle.document()),
            images: all - attached,
            attached,
            platforms,
            blobs: contents.blobs.len() as u64,
            bytes: 0,
            kept: 0,
            volumes: 0,
            signed_by,
            base: Base { blobs: contents.base.len() as u64, bytes: contents.base_bytes() },
            left,
        }
    }

    /// One more file of so many bytes, of which some were there already.
    pub(super) const fn add(&mut self, bytes: u64, kept: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.kept = self.kept.saturating_add(kept);
        self.volumes += 1;
    }

    pub(super) fn show(&self, place: &Place, json: bool) {
        match (json, place.is_stdout()) {
            (true, false) => say_json(self),
            // The bundle itself went to standard output.
            (true, true) => note_json(self),
            (false, _) => self.lines().iter().for_each(|line| note(line)),
        }
    }

    fn lines(&self) -> Vec<String> {
        let Self {
            output,
            images,
            attached,
            platforms,
            blobs,
            bytes,
            kept,
            volumes,
            base,
            left,
            ..
        } = self;
        let mut first = format!("{output}: {}", words::count(*images, "image"));
        if !platforms.is_empty() {
            first.push_str(&format!(" for {}", words::platforms(platforms)));
        }
        if *attached > 0 {
            first.push_str(&format!(
                ", with {}",
                words::count(*attached, "signature or attestation")
            ));
        }
        first.push_str(&format!("; {}, {}", words::count(*blobs, "blob"), words::size(*bytes)));
        if *volumes > 1 {
            first.push_str(&format!(" in {volumes} volumes"));
        }
        if let Some(key) = &self.signed_by {
            first.push_str(&format!(", signed by {key}"));
        }
        let mut lines = vec![first];
        if *kept > 0 {
            lines.push(format!("{} of it were there already", words::size(*kept)));
        }
        if base.blobs > 0 {
            let (blobs, size) = (words::count(base.blobs, "blob"), words::size(base.bytes));
            lines.push(format!("left out what the site has: {blobs}, {size}"));
        }
        if left.platforms > 0 {
            let known = match (left.bytes, left.unknown) {
                (0, _) => "of sizes that are not known here".to_owned(),
                (bytes, 0) => words::size(bytes),
                (bytes, unknown) => format!(
                    "{}, and {unknown} more of sizes that are not known here",
                    words::size(bytes)
                ),
            };
            let platforms = words::count(left.platforms, "image");
            lines.push(format!("left out what is for other platforms: {platforms}, {known}"));
        }
        lines
    }
}
