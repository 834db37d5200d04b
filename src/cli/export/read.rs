//! Reading the blobs of a bundle, each byte of which is hashed on its way.

use std::collections::HashMap;

use bytes::Bytes;
use indicatif::{MultiProgress, ProgressBar};

use super::sink::Sink;
use crate::{
    admin::{Client, Pieces},
    bundle::{Archive, Piece, Share},
    cli::{Failure, bar::bar},
    oci::{Algorithm, Digest, Hasher},
};

/// How often in a row the reading of a blob may break off without a byte: a medium that is slow to take what is written
/// makes the cache give up, and it is asked again.
const TRIES: u32 = 3;

/// Blobs that are read one after the other.
pub(super) struct Reading<'c> {
    client: &'c Client,
    bar: ProgressBar,
    /// The SHA-256 of parts of blobs, by their blob and first byte.
    parts: HashMap<(Digest, u64), Digest>,
}

impl<'c> Reading<'c> {
    /// Shows how far it is of `total` bytes.
    pub(super) fn begin(client: &'c Client, total: u64) -> Self {
        let bar = MultiProgress::new().add(bar(total, "bundle".to_owned()));
        Self { client, bar, parts: HashMap::new() }
    }

    /// Finds the SHA-256 of parts of blobs, which stand before them in their volumes, and whether their blobs are what
    /// they were.
    pub(super) async fn look_at_parts(&mut self, shares: &[Share]) -> Result<(), Failure> {
        let mut cuts: Vec<(Digest, u64, u64)> =
            shares.iter().flat_map(|share| share.parts()).copied().collect();
        cuts.sort_unstable();
        // The parts of a blob are all of it.
        let mut blob: Option<(Digest, Hasher)> = None;
        for (digest, from, size) in cuts {
            if blob.as_ref().is_none_or(|(other, _)| *other != digest) {
                check(blob.take())?;
                blob = Some((digest, Hasher::new(digest.algorithm())));
            }
            let Some((_, whole)) = &mut blob else { continue };
            let mut part = Hasher::new(Algorithm::Sha256);
            let mut source = Source::new(self.client, digest, from, from + size);
            while let Some(bytes) = source.next().await? {
                part.update(&bytes);
                whole.update(&bytes);
            }
            self.parts.insert((digest, from), part.finish());
        }
        check(blob)
    }

    /// The SHA-256 of the parts in a volume.
    pub(super) fn sums(&self, share: &Share) -> Vec<Digest> {
        let parts = share.parts().iter();
        parts.filter_map(|(digest, from, _)| self.parts.get(&(*digest, *from)).copied()).collect()
    }

    /// Pours an archive into `sink`.
    ///
    /// # Errors
    /// What is wrong with what is read; `None` when the sink takes no more.
    pub(super) async fn pour(
        &mut self,
        archive: &Archive,
        sink: &Sink,
    ) -> Result<(), Option<Failure>> {
        for piece in archive.pieces() {
            match piece {
                Piece::Bytes(bytes) => self.send(sink, bytes).await?,
                Piece::Blob { digest, from, to } => {
                    let expected = self.parts.get(&(digest, from)).copied().unwrap_or(digest);
                    let mut hasher = Hasher::new(expected.algorithm());
                    let mut source = Source::new(self.client, digest, from, to);
                    while let Some(bytes) = source.next().await.map_err(Some)? {
                        hasher.update(&bytes);
                        self.send(sink, bytes).await?;
                    }
                    if hasher.finish() != expected {
                        return Err(Some(damaged(&digest)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(&self, sink: &Sink, bytes: Bytes) -> Result<(), Option<Failure>> {
        self.bar.inc(bytes.len() as u64);
        if sink.send(bytes).await { Ok(()) } else { Err(None) }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Whether a blob of which all parts were read is what it was.
fn check(blob: Option<(Digest, Hasher)>) -> Result<(), Failure> {
    let Some((digest, hasher)) = blob else { return Ok(()) };
    if hasher.finish() == digest { Ok(()) } else { Err(damaged(&digest)) }
}

fn damaged(digest: &Digest) -> Failure {
    Failure::Failed(format!(
        "{digest} is damaged in the cache, and the bundle not whole: run `wharf verify --repair`, then the same export \
         again"
    ))
}

/// Bytes of one blob.
struct Source<'c> {
    client: &'c Client,
    digest: Digest,
    at: u64,
    end: u64,
    pieces: Option<Pieces>,
    failed: u32,
}

impl<'c> Source<'c> {
    const fn new(client: &'c Client, digest: Digest, at: u64, end: u64) -> Self {
        Self { client, digest, at, end, pieces: None, failed: 0 }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while self.at < self.end {
            let read = match &mut self.pieces {
                Some(pieces) => pieces.next().await,
                None => match self.client.blob(&self.digest, self.at).await {
                    Ok(pieces) => {
                        self.pieces = Some(pieces);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let why = match read {
                Ok(Some(bytes)) => {
                    let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
                    let bytes = bytes.slice(..bytes.len().min(left));
                    self.at += bytes.len() as u64;
                    self.failed = 0;
                    return Ok(Some(bytes));
                }
                // Shorter than it was when it was told of.
                Ok(None) => return Err(damaged(&self.digest)),
                Err(error) => error,
            };
            self.pieces = None;
            self.failed += 1;
            if self.failed >= TRIES {
                return Err(Failure::Failed(format!("{} could not be read: {why}", self.digest)));
            }
        }
        Ok(None)
    }
}
