//! A part of a file as memory.
//!
//! The only place with `unsafe`: a mapping shows what its file holds at the moment of a look, so that a file that is written
//! or cut off meanwhile would change bytes behind a shared reference, or end the process. Why that is sound here:
//!
//! - Mapped are the files of whole blobs alone (`pull/content.rs`). They are not written again, nor cut off, by this process:
//!   blobs come by rename and go by unlink, and what a download verified and vouched for as a whole is cut back by no other.
//!   Another process is kept out by the lock on the directory; who writes into the cache with other tools breaks it anyway.
//! - The bytes are looked at by nobody in the usual case: they stand for a part of the file, which `sendfile` sends
//!   ([`BlobFile::send`]). Should a layer in between copy them after all, it copies the right ones.
//!
//! [`BlobFile::send`]: super::BlobFile::send
#![allow(unsafe_code)]

use std::{fs::File, io, ops::Range};

use memmap2::{Mmap, MmapOptions};

/// A part of a blob's file, mapped.
#[derive(Debug)]
pub struct Mapped(Mmap);

impl Mapped {
    pub(super) fn new(file: &File, range: &Range<u64>) -> io::Result<Self> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let len = usize::try_from(range.end - range.start).map_err(too_long)?;
        // SAFETY: the file is neither written nor cut off while it is mapped, see above.
        let map = unsafe { MmapOptions::new().offset(range.start).len(len).map(file)? };
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
