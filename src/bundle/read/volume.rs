//! Volumes: archives that each bring a share of a bundle, in any order.

use std::{collections::HashMap, io::Read};

use super::{Members, ReadError, Reading, Sink, Why, of_volume};
use crate::{
    bundle::{Segment, Volume, write::part_path},
    oci::{Digest, Hasher},
};

/// What became of a blob when a part of it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Others are not here yet.
    Waits,
    /// It is whole, and its digest is right.
    Whole,
    /// It is whole, and not what it is called: its parts are gone.
    Wrong {
        /// What its bytes have for a digest.
        found: Digest,
        /// The volumes that brought its parts, which count no more, in their order.
        volumes: Vec<u32>,
    },
}

/// A volume that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenVolume {
    /// The SHA-256 of the contents document of its set.
    pub set: Digest,
    /// Which it is.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// The numbers of those that are not here yet, in their order.
    pub missing: Vec<u32>,
}

/// A volume that is being read.
pub(super) struct Arriving {
    volume: Volume,
    /// The parts that have not come, by the names of their members.
    parts: HashMap<String, Segment>,
}

impl Arriving {
    pub(super) fn new(volume: Volume) -> Self {
        let named = |part: &Segment| (part_path(&part.digest, part.offset), *part);
        Self { parts: volume.segments.iter().map(named).collect(), volume }
    }
}

/// Whether a member of a volume may be called so that is a part of a blob.
pub(super) fn is_part(path: &str) -> bool {
    path.starts_with("segments/")
}

impl<S: Sink> Reading<'_, S> {
    /// The first blob, or part of one, is about to come. Of a volume it is checked before that where its parts belong.
    pub(super) fn begin(&mut self) -> Result<(), Why> {
        if self.is_begun {
            return Ok(());
        }
        self.is_begun = true;
        let Some(Arriving { volume, .. }) = &self.volume else { return Ok(()) };
        let (contents, document) = self.contents.as_ref().ok_or(Why::Alone)?;
        if Digest::sha256(document) != volume.set {
            return Err(Why::OtherSet);
        }
        for part in &volume.segments {
            let size = self.awaited.get(&part.digest);
            if size.is_none_or(|size| part.range().end > *size) {
                return Err(Why::Outside(part.digest));
            }
        }
        self.sink.begin_volume(volume, contents, document).map_err(Why::Sink)
    }

    /// Takes a part of a blob, and verifies it.
    pub(super) fn part<R: Read>(
        &mut self,
        path: &str,
        size: u64,
        members: &mut Members<R>,
    ) -> Result<(), Why> {
        self.begin()?;
        let part = self.volume.as_mut().and_then(|arriving| arriving.parts.remove(path));
        let part = part.ok_or(Why::Stray)?;
        if part.size != size {
            return Err(Why::Size { listed: part.size, size });
        }
        let wanted = self.sink.begin_part(&part).map_err(Why::Sink)?;
        let passed = self.pass_on_part(&part, wanted, members);
        if wanted && passed.is_err() {
            self.sink.abandon();
        }
        passed?;
        if !wanted {
            return Ok(());
        }
        match self.sink.end_part(&part).map_err(Why::Sink)? {
            Joined::Waits | Joined::Whole => Ok(()),
            Joined::Wrong { found, volumes } => Err(Why::joined(&part.digest, &found, &volumes)),
        }
    }

    fn pass_on_part<R: Read>(
        &mut self,
        part: &Segment,
        wanted: bool,
        members: &mut Members<R>,
    ) -> Result<(), Why> {
        let mut hasher = Hasher::new(part.sha256.algorithm());
        while let Some(piece) = members.piece()? {
            hasher.update(piece);
            if wanted {
                self.sink.piece(piece).map_err(Why::Sink)?;
            }
        }
        let found = hasher.finish();
        if found == part.sha256 { Ok(()) } else { Err(Why::Part(found)) }
    }

    /// The end of the archive, if it is a volume: all that it speaks of came, and it counts. With the last of its set,
    /// everything is here.
    pub(super) fn end_volume(&mut self) -> Result<Option<TakenVolume>, ReadError> {
        if self.volume.is_some() {
            // There may have been no blob in it.
            self.begin().map_err(of_volume)?;
        }
        let Some(Arriving { volume, parts }) = self.volume.take() else { return Ok(None) };
        if let Some(missing) = parts.into_keys().min() {
            return Err(of_volume(Why::Nowhere(missing)));
        }
        let Volume { set, number, of, .. } = volume;
        let missing = self.sink.end_volume().map_err(|why| of_volume(Why::Sink(why)))?;
        if missing.is_empty() {
            self.all_must_be_here().map_err(of_volume)?;
        }
        Ok(Some(TakenVolume { set, number, of, missing }))
    }

    fn all_must_be_here(&mut self) -> Result<(), Why> {
        let Some((contents, _)) = &self.contents else { return Ok(()) };
        for blob in &contents.blobs {
            if self.sink.size(&blob.digest).map_err(Why::Sink)? != Some(blob.size) {
                self.sink.recall_volumes().map_err(Why::Sink)?;
                return Err(Why::Short(blob.digest));
            }
        }
        Ok(())
    }
}
