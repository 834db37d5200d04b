//! Archives of images, packed or not, whose tar headers have the sums that belong to them: else few would get further.
#![no_main]

use std::collections::{BTreeMap, HashMap};

use libfuzzer_sys::fuzz_target;
use wharf::{
    bundle::{Contents, Joined, Segment, Sink, Terms, Volume, read},
    oci::Digest,
};

/// Room for all members.
const BYTES: u64 = 1024 * 1024;

/// What was taken, in memory, and the blob that comes.
#[derive(Default)]
struct Taken {
    blobs: HashMap<Digest, Vec<u8>>,
    open: Option<(u64, Vec<u8>)>,
    /// Of a volume: which, and the parts of blobs by where they begin.
    volume: Option<(u32, u32)>,
    sizes: HashMap<Digest, u64>,
    parts: HashMap<Digest, BTreeMap<u64, Vec<u8>>>,
}

impl Sink for Taken {
    fn begin(&mut self, digest: Option<&Digest>, size: u64) -> Result<bool, String> {
        assert!(self.open.is_none(), "one at a time");
        assert!(size <= BYTES, "no more than there is room for");
        if digest.is_some_and(|digest| self.blobs.contains_key(digest)) {
            return Ok(false);
        }
        self.open = Some((size, Vec::new()));
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.open.as_mut().expect("begun").1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, digest: &Digest) -> Result<(), String> {
        let (size, bytes) = self.open.take().expect("begun");
        assert_eq!(bytes.len() as u64, size, "as long as was said");
        assert_eq!(Digest::of(digest.algorithm(), &bytes), *digest, "verified");
        self.blobs.insert(*digest, bytes);
        Ok(())
    }

    fn abandon(&mut self) {
        self.open.take().expect("begun");
    }

    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, String> {
        Ok(self.blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn document(&mut self, digest: &Digest) -> Result<Option<bytes::Bytes>, String> {
        Ok(self.blobs.get(digest).map(|bytes| bytes::Bytes::copy_from_slice(bytes)))
    }

    fn begin_volume(
        &mut self,
        volume: &Volume,
        contents: &Contents,
        document: &[u8],
    ) -> Result<(), String> {
        assert_eq!(Digest::sha256(document), volume.set, "of these contents");
        assert!(self.volume.is_none() && self.blobs.is_empty(), "before the first blob");
        self.volume = Some((volume.number, volume.of));
        self.sizes = contents.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        Ok(())
    }

    fn begin_part(&mut self, part: &Segment) -> Result<bool, String> {
        assert!(self.open.is_none() && self.volume.is_some(), "one at a time, of a volume");
        assert!(part.range().end <= self.sizes[&part.digest], "within its blob");
        self.open = Some((part.size, Vec::new()));
        Ok(true)
    }

    fn end_part(&mut self, part: &Segment) -> Result<Joined, String> {
        let (size, bytes) = self.open.take().expect("begun");
        assert_eq!(bytes.len() as u64, size, "as long as was said");
        assert_eq!(Digest::sha256(&bytes), part.sha256, "verified");
        let parts = self.parts.entry(part.digest).or_default();
        parts.insert(part.offset, bytes);
        let whole: Vec<u8> = parts.values().flatten().copied().collect();
        if whole.len() as u64 != self.sizes[&part.digest] {
            return Ok(Joined::Waits);
        }
        let found = Digest::of(part.digest.algorithm(), &whole);
        if found != part.digest {
            return Ok(Joined::Wrong { found, volumes: vec![1, 2] });
        }
        self.blobs.insert(found, whole);
        Ok(Joined::Whole)
    }

    fn end_volume(&mut self) -> Result<Vec<u32>, String> {
        let (number, of) = self.volume.expect("begun");
        Ok((1..=of.min(100)).filter(|other| *other != number).collect())
    }

    fn recall_volumes(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Puts the right sum into each header, as far as sizes lead from one to the next.
fn sum_up(archive: &mut [u8]) {
    let mut rest = archive;
    while rest.len() >= 512 {
        let (header, behind) = rest.split_at_mut(512);
        if header.iter().all(|&byte| byte == 0) {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let digits = header[124..136].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = digits.fold(0_usize, |size, digit| size * 8 + usize::from(digit - b'0'));
        let Some(next) = size.checked_next_multiple_of(512) else { return };
        let Some((_, next)) = behind.split_at_mut_checked(next) else { return };
        rest = next;
    }
}

fuzz_target!(|archive: &[u8]| {
    let mut archive = archive.to_vec();
    if !archive.starts_with(&[0x1f, 0x8b]) && !archive.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        sum_up(&mut archive);
    }
    let name = Some("site/app:1".parse().expect("a name"));
    let terms = Terms { bytes: BYTES, name, ..Terms::default() };
    let mut taken = Taken::default();
    let brought = read(archive.as_slice(), &terms, &mut taken);
    assert!(taken.open.is_none(), "each blob that was begun was ended or given up");
    let brought = match brought {
        Ok(brought) => brought,
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.contains('\n'), "one line: {sentence:?}");
            return;
        }
    };
    for image in brought.images {
        assert_eq!(image.documents.last().map(|(content, _)| content), Some(&image.root));
        for (content, document) in &image.documents {
            assert_eq!(taken.blobs[&content.digest].len() as u64, content.size);
            if let wharf::oci::Manifest::Image { blobs } = document {
                assert!(blobs.iter().all(|blob| taken.blobs.contains_key(&blob.digest)), "whole");
            }
        }
    }
});
