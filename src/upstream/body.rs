//! Bodies of answers, piece by piece and never waited for without end; [`BlobBody`].

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming};

use super::{
    Error, Limits,
    client::{Shared, Traffic},
    health::Endpoint,
    line::{Line, SILENCE},
    pace::Pace,
};
use crate::{documents::Documents, metrics::Limit, oci};

const WORTH_WAITING: Duration = Duration::from_secs(1);

/// The body of one answer. Every byte of it is counted as received.
pub(super) struct Body {
    incoming: Incoming,
    idle: Duration,
    pace: Pace,
    traffic: Traffic,
    documents: Documents,
    limits: Limits,
    line: Line,
}

impl Body {
    pub(super) fn new(
        incoming: Incoming,
        idle: Duration,
        pace: Pace,
        traffic: &Traffic,
        shared: &Shared,
        line: &Line,
    ) -> Self {
        let Shared { documents, limits, .. } = shared;
        let (documents, limits) = (documents.clone(), *limits);
        let (traffic, line) = (traffic.clone(), line.clone());
        Self { incoming, idle, pace, traffic, documents, limits, line }
    }

    /// The next bytes, or `None` after the last.
    ///
    /// # Errors
    /// `Unavailable` when none came for too long, or fewer than is waited for, or the connection broke; `Offline`.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.line.is_offline() {
                return Err(Error::Offline);
            }
            if self.pace.is_too_slow() && !self.incoming.is_end_stream() {
                self.traffic.limit_reached(Limit::LeastRate);
                return Err(Error::unavailable("the body comes too slowly"));
            }
            let begun = self.pace.now();
            let soon = self.idle.min(SILENCE);
            let frame = match tokio::time::timeout(soon, self.incoming.frame()).await {
                Ok(frame) => frame,
                Err(_) => self.late_frame(self.idle - soon).await?,
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame
                .map_err(|error| Error::unavailable(format!("the body broke off: {error}")))?;
            // Trailers say nothing of use.
            if let Ok(bytes) = frame.into_data() {
                self.traffic.received(bytes.len() as u64);
                self.pace.came(bytes.len(), begun);
                return Ok(Some(bytes));
            }
        }
    }

    /// What comes within `left` after a silence.
    async fn late_frame(
        &mut self,
        left: Duration,
    ) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Error> {
        self.line.doubt();
        tokio::select! {
            biased;
            frame = self.incoming.frame() => Ok(frame),
            () = self.line.offline() => Err(Error::Offline),
            // The other end may have forgotten this connection, or find it late: a new one is there at once.
            () = self.line.returned() => Err(Error::unavailable("the registry was away meanwhile")),
            () = tokio::time::sleep(left) => {
                Err(Error::unavailable(format!("no byte of the body for {:?}", self.idle)))
            }
        }
    }

    /// The whole of a manifest, an index or a list, which keeps its room among all documents.
    ///
    /// # Errors
    /// `Protocol` when it is longer than `[limits]` allow, or JSON that is deeper; `Busy` when there is no room for it; as
    /// [`Self::piece`].
    pub(super) async fn document(self) -> Result<Bytes, Error> {
        let limit = self.limits.manifest_bytes;
        self.whole(limit, Limit::ManifestBytes, "manifest_bytes").await
    }

    /// The whole of a token service's answer.
    ///
    /// # Errors
    /// As [`Self::document`].
    pub(super) async fn grant(self) -> Result<Bytes, Error> {
        let limit = self.limits.token_bytes;
        self.whole(limit, Limit::TokenBytes, "token_bytes").await
    }

    async fn whole(mut self, limit: usize, of: Limit, key: &str) -> Result<Bytes, Error> {
        let traffic = self.traffic.clone();
        let too_long = || {
            traffic.limit_reached(of);
            Error::protocol(format!("a document of more than {limit} bytes ([limits] {key})"))
        };
        let announced = usize::try_from(self.incoming.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(too_long());
        }
        let documents = self.documents.clone();
        let mut room = documents.room(announced).await?;
        let mut promised = announced;
        let mut whole = Vec::with_capacity(announced);
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > limit {
                return Err(too_long());
            }
            // Without a length it may become as long as it may be. What is here by now is small.
            if whole.len() + piece.len() > promised && documents.count(whole.len() + piece.len()) {
                room = documents.room(limit).await?;
                promised = limit;
            }
            whole.extend_from_slice(&piece);
        }
        let is_json = whole.trim_ascii_start().starts_with(b"{");
        let depth = self.limits.json_depth;
        if is_json && !oci::nests_within(&whole, depth) {
            self.traffic.limit_reached(Limit::JsonDepth);
            let deep = "a document nested more than";
            return Err(Error::protocol(format!("{deep} {depth} deep ([limits] json_depth)")));
        }
        whole.shrink_to_fit();
        Ok(documents.hold(room, whole.into())?)
    }

    /// Reads the body to its end if that is cheaper than a new connection.
    pub(super) async fn discard(mut self) {
        let worth_reading = self.limits.error_bytes as u64;
        if self.incoming.size_hint().lower() > worth_reading {
            self.traffic.limit_reached(Limit::ErrorBody);
            return;
        }
        let traffic = self.traffic.clone();
        let to_the_end = async {
            let mut left = worth_reading;
            while let Ok(Some(piece)) = self.piece().await {
                let Some(rest) = left.checked_sub(piece.len() as u64) else {
                    return traffic.limit_reached(Limit::ErrorBody);
                };
                left = rest;
            }
        };
        // Neither outcome matters: a body that is not at its end takes its connection with it.
        let _ = tokio::time::timeout(WORTH_WAITING, to_the_end).await;
    }
}

/// The bytes of a blob from some offset to its end, not verified.
pub struct BlobBody {
    body: Body,
    /// Who sends; a body that breaks off makes it rest.
    endpoint: Arc<Endpoint>,
    /// Bytes still to skip: the registry began before the offset that was asked for.
    skip: u64,
    /// Offset in the blob of the next byte from the registry, and of the one behind the last that this body is to have.
    position: u64,
    until: Option<u64>,
    total: Option<u64>,
    is_part: bool,
    /// How the body ended, once it has.
    end: Option<Result<(), Error>>,
}

impl BlobBody {
    /// The body of a whole blob of `total` bytes, wanted from byte `skip` on.
    pub(super) fn whole(
        body: Body,
        endpoint: Arc<Endpoint>,
        skip: u64,
        total: Option<u64>,
    ) -> Self {
        Self { body, endpoint, skip, position: 0, until: total, total, is_part: false, end: None }
    }

    /// The bytes from `from` to before `until`, or to the end, of a blob of `total` bytes.
    pub(super) fn part(
        body: Body,
        endpoint: Arc<Endpoint>,
        from: u64,
        until: Option<u64>,
        total: Option<u64>,
    ) -> Self {
        let (position, is_part, until) = (from, until.is_some(), until.or(total));
        Self { body, endpoint, skip: 0, position, until, total, is_part, end: None }
    }

    /// Whether the body ends where the part ends that was asked for, rather than where the blob does.
    pub fn is_part(&self) -> bool {
        self.is_part
    }

    /// The length in bytes of the whole blob, whatever the offset, if the registry told.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The next bytes; the first of them all is at the offset that was asked for. `None`: the body ended as
    /// announced. After an end or an error, the same again. A future that is dropped loses no byte.
    ///
    /// # Errors
    /// `Unavailable` when no byte came for too long, or the body ended early; `Protocol` when it is longer or
    /// shorter than it can be.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            match self.body.piece().await.and_then(|piece| self.advanced(piece)) {
                Ok(Some(mut piece)) => {
                    let skipped = self.skip.min(piece.len() as u64);
                    self.skip -= skipped;
                    // No more than the length of `piece`.
                    piece.advance(skipped as usize);
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => {
                    if error != Error::Offline {
                        self.endpoint.broke_off(&error);
                    }
                    self.end = Some(Err(error));
                }
            }
        }
    }

    /// `piece`, if the body may have it here.
    fn advanced(&mut self, piece: Option<Bytes>) -> Result<Option<Bytes>, Error> {
        let Some(piece) = piece else {
            let ended_at = self.position;
            return match self.until {
                Some(until) if ended_at < until => {
                    Err(Error::unavailable(format!("the body ended at byte {ended_at} of {until}")))
                }
                _ if self.skip > 0 => Err(Error::protocol("the blob ends before the offset")),
                _ => Ok(None),
            };
        };
        self.position = self.position.saturating_add(piece.len() as u64);
        if self.until.is_some_and(|until| self.position > until) {
            return Err(Error::protocol("the body is longer than it may be"));
        }
        Ok(Some(piece))
    }
}

impl std::fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody")
            .field("position", &self.position)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}
