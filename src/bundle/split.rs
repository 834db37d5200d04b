//! Volumes: a bundle over several media. What goes where is told by sizes alone.

use super::{
    Archive, Blob, Bundle, ContentsError, Segment, Volume,
    write::{BLOCK, INDEX, Member, VOLUME, cost, part_path},
};
use crate::oci::Digest;

/// What the document of a volume takes at most: it lists the end of one blob and the beginning of another.
const VOLUME_MAX_BYTES: u64 = 2048;

/// A part of a blob is no shorter than this, unless it is the last of it.
const PART_MIN_BYTES: u64 = 64 * 1024;

/// Most volumes of one bundle.
const VOLUMES_MAX: usize = 100_000;

/// What one volume holds, before the parts in it are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    blobs: Vec<Blob>,
    /// Parts of blobs: digest, first byte, length. The first stands before the whole blobs if it is the end of its blob.
    parts: Vec<(Digest, u64, u64)>,
    /// How many of the parts stand before the whole blobs.
    first: usize,
}

/// Why a bundle is not split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// What every volume has takes all of it.
    #[error("a volume of this bundle has {0} bytes at least")]
    Small(u64),
    /// There would be more than anybody carries.
    #[error("there would be more than {VOLUMES_MAX} volumes")]
    TooMany,
}

impl Bundle {
    /// What goes into each volume of at most `size` bytes.
    ///
    /// # Errors
    /// When no volume is that small, or there would be too many.
    pub fn shares(&self, size: u64) -> Result<Vec<Share>, SplitError> {
        let mut frame = self.begin(None);
        frame.put(INDEX, self.index());
        let fixed = frame.size() + cost(VOLUME, VOLUME_MAX_BYTES);
        let least = fixed + cost(&part_path(&Digest::sha256(b""), 0), PART_MIN_BYTES) + 4 * BLOCK;
        if size < least {
            return Err(SplitError::Small(least));
        }
        // Archives are made of blocks.
        let room = (size - fixed) / BLOCK * BLOCK;
        let (mut shares, mut share, mut left) = (Vec::new(), Share::default(), room);
        for blob in &self.contents().blobs {
            let whole = Member::whole(blob).cost();
            let mut from = 0;
            loop {
                if from == 0 && whole <= left {
                    share.blobs.push(*blob);
                    left -= whole;
                    break;
                }
                let head = cost(&part_path(&blob.digest, from), 0);
                let rest = blob.size - from;
                let take = left.saturating_sub(head).min(rest);
                if take == rest && from > 0 && cost(&part_path(&blob.digest, from), rest) <= left {
                    share.parts.push((blob.digest, from, rest));
                    share.first = share.parts.len();
                    left -= cost(&part_path(&blob.digest, from), rest);
                    break;
                }
                let take = take / BLOCK * BLOCK;
                if take >= PART_MIN_BYTES {
                    share.parts.push((blob.digest, from, take));
                    from += take;
                }
                shares.push(std::mem::take(&mut share));
                left = room;
                if shares.len() >= VOLUMES_MAX {
                    return Err(SplitError::TooMany);
                }
            }
        }
        shares.push(share);
        Ok(shares)
    }

    /// The archive of volume `number` of `shares`, whose parts have these SHA-256, in their order.
    ///
    /// # Errors
    /// When it has no such number, or another number of parts.
    pub fn volume(
        &self,
        shares: &[Share],
        number: u32,
        sha256: &[Digest],
    ) -> Result<Archive, ContentsError> {
        let of = u32::try_from(shares.len()).unwrap_or(u32::MAX);
        let wrong = || ContentsError::Number { number, of };
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let share = place.and_then(|place| shares.get(place)).ok_or_else(wrong)?;
        if share.parts.len() != sha256.len() {
            return Err(wrong());
        }
        let segments = share
            .parts
            .iter()
            .zip(sha256)
            .map(|(&(digest, offset, size), &sha256)| Segment { digest, offset, size, sha256 });
        let segments: Vec<Segment> = segments.collect();
        let set = Digest::sha256(self.document());
        let volume = Volume { set, number, of, segments: segments.clone() };
        let mut archive = self.begin(Some(volume.to_bytes()?.into()));
        archive.put(INDEX, self.index());
        let (first, last) = segments.split_at(share.first);
        archive.members.extend(first.iter().map(Member::part));
        archive.members.extend(share.blobs.iter().map(Member::whole));
        archive.members.extend(last.iter().map(Member::part));
        Ok(archive)
    }
}

impl Share {
    /// The parts of blobs in it: which, the first byte, and how many.
    pub fn parts(&self) -> &[(Digest, u64, u64)] {
        &self.parts
    }
}
