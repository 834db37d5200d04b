//! [`Sink`]: where what an archive brings goes.

use bytes::Bytes;

use super::Joined;
use crate::{
    bundle::{Contents, Segment, Volume},
    oci::Digest,
};

/// Where blobs go.
///
/// Between [`Sink::begin`] and [`Sink::end`] or [`Sink::abandon`] come the pieces of one blob. What is given up counts for
/// nothing, and when [`read`](super::read) fails nothing that was taken counts for an image. What came of a volume stays all the same, for
/// when it is brought again, or others of its set are; parts of blobs come between [`Sink::begin_part`] and [`Sink::end_part`]
/// or [`Sink::abandon`].
pub trait Sink {
    /// A blob of `size` bytes comes, called `digest` unless the archive does not name it so; whether its bytes are wanted.
    /// They are checked in either case.
    ///
    /// # Errors
    /// When there is no room: in a sentence, as all errors of a sink.
    fn begin(&mut self, digest: Option<&Digest>, size: u64) -> Result<bool, String>;

    /// Its next bytes.
    ///
    /// # Errors
    /// When they are not taken.
    fn piece(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// It is whole, and this is its digest.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn end(&mut self, digest: &Digest) -> Result<(), String>;

    /// It broke off, or is not what it was called.
    fn abandon(&mut self);

    /// The length of a blob that is here: taken from the archive, or before.
    ///
    /// # Errors
    /// When the disk fails.
    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, String>;

    /// A document that is here, of at most [`MANIFEST_MAX_BYTES`](crate::oci::MANIFEST_MAX_BYTES); `None` for what is longer, or not here.
    ///
    /// # Errors
    /// When the disk fails.
    fn document(&mut self, digest: &Digest) -> Result<Option<Bytes>, String>;

    /// The archive is a volume of a bundle with these contents, of which `document` is the text: told before the first blob.
    ///
    /// # Errors
    /// When no volume of that set can be taken now.
    fn begin_volume(
        &mut self,
        volume: &Volume,
        contents: &Contents,
        document: &[u8],
    ) -> Result<(), String>;

    /// A part of a blob comes; whether its bytes are wanted. They are checked in either case.
    ///
    /// # Errors
    /// When there is no room.
    fn begin_part(&mut self, part: &Segment) -> Result<bool, String>;

    /// It came, and its SHA-256 is right: what becomes of its blob.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn end_part(&mut self, part: &Segment) -> Result<Joined, String>;

    /// The volume is in: the numbers of those of its set that are not, in their order.
    ///
    /// # Errors
    /// When that cannot be kept.
    fn end_volume(&mut self) -> Result<Vec<u32>, String>;

    /// Something lacks, though all volumes came: none of them counts any more. What was verified stays.
    ///
    /// # Errors
    /// When that cannot be kept.
    fn recall_volumes(&mut self) -> Result<(), String>;
}
