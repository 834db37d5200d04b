//! Passing a blob on without keeping it, for when the disk does not take it.

use std::{ops::Range, sync::Arc};

use backon::ExponentialBackoff;
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    Inner,
    content::{Alone, Cut},
    download::{TURN_DEADLINE, pauses},
    turns::Turn,
    whose::Crowd,
};
use crate::{
    oci::{Digest, Hasher, Repository},
    upstream::{BlobBody, Error},
};

/// One client's own stream from the registry.
pub(super) struct Relay {
    pull: Arc<Inner>,
    repository: Repository,
    digest: Digest,
    /// The next byte to fetch, and the one behind the last wanted.
    range: Range<u64>,
    total: Option<u64>,
    /// The hash of everything before `range.start`; `None` where the client wants only a part.
    hasher: Option<Hasher>,
    /// With a hasher, the latest piece is held until another follows or the digest is verified.
    held: Option<Bytes>,
    connection: Option<(BlobBody, Turn)>,
    /// What the registry sends already, from `range.start` on; taken up in place of a first question.
    given: Option<BlobBody>,
    /// For whom it is, or for which of them it was begun.
    crowd: Arc<Crowd>,
    /// How long to wait after each broken connection; as many as may break without a byte between them.
    pauses: ExponentialBackoff,
}

impl Relay {
    pub(super) fn new(
        alone: &Alone,
        range: Range<u64>,
        total: Option<u64>,
        hasher: Option<Hasher>,
    ) -> Self {
        Self {
            pull: Arc::clone(&alone.pull),
            repository: alone.repository.clone(),
            digest: alone.digest,
            range,
            total,
            hasher,
            held: None,
            connection: None,
            given: None,
            crowd: Arc::new(Crowd::of(alone.whose)),
            pauses: pauses(),
        }
    }

    /// The same, for all who follow one download.
    pub(super) fn for_all_of(self, crowd: &Arc<Crowd>) -> Self {
        Self { crowd: Arc::clone(crowd), ..self }
    }

    /// The same, going on with what the registry sends already from the first byte of the range on.
    pub(super) fn going_on_with(self, given: Option<BlobBody>) -> Self {
        Self { given, ..self }
    }

    /// The next piece; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            if self.range.is_empty() || self.total == Some(self.range.start) {
                return self.end();
            }
            match self.fetch().await {
                Ok(Some(piece)) => {
                    self.pauses = pauses();
                    let Some(hasher) = &mut self.hasher else { return Ok(Some(piece)) };
                    hasher.update(&piece);
                    if let Some(held) = self.held.replace(piece) {
                        return Ok(Some(held));
                    }
                }
                Ok(None) => {
                    self.total = Some(self.range.start);
                    return self.end();
                }
                Err(error) => {
                    self.connection = None;
                    match self
                        .pauses
                        .next()
                        .filter(|_| error.is_outage() && error != Error::Offline)
                    {
                        Some(pause) => sleep(pause).await,
                        None => return Err(Cut(error.to_string())),
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<Option<Bytes>, Cut> {
        self.connection = None;
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        if hasher.finish() != self.digest {
            self.pull.metrics.verify_failed("relay");
            return Err(Cut("the blob did not match its digest".to_owned()));
        }
        Ok(self.held.take())
    }

    async fn fetch(&mut self) -> Result<Option<Bytes>, Error> {
        let from = self.range.start;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let (blob, given) = ((&self.repository, &self.digest), &mut self.given);
                let fresh = connect(&self.pull, blob, from, given, &self.crowd).await?;
                self.connection.insert(fresh)
            }
        };
        let Some(mut piece) = connection.0.chunk().await? else {
            if self.total.is_some_and(|total| from < total) {
                return Err(Error::Unavailable { reason: "the body ended early".to_owned() });
            }
            return Ok(None);
        };
        let wanted = usize::try_from(self.range.end - from).unwrap_or(usize::MAX);
        piece.truncate(wanted);
        self.range.start += piece.len() as u64;
        Ok(Some(piece))
    }
}

async fn connect(
    pull: &Inner,
    (repository, digest): (&Repository, &Digest),
    from: u64,
    given: &mut Option<BlobBody>,
    crowd: &Crowd,
) -> Result<(BlobBody, Turn), Error> {
    let busy = || Error::Unavailable { reason: "too many downloads run here".to_owned() };
    let turn = pull.downloads.relay_turns.turn(crowd);
    let turn = timeout(TURN_DEADLINE, turn).await.map_err(|_| busy())?;
    if let Some(body) = given.take() {
        return Ok((body, turn));
    }
    let upstream = pull.upstream(repository).map_err(|_| busy())?;
    Ok((upstream.blob(&repository.name, digest, from).await?, turn))
}
