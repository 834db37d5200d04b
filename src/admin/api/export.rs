//! What `wharf export` asks: what its images hold, which is kept from eviction while it listens, and blob by blob their
//! bytes; and `wharf ls --digests`: which blobs are kept.

use std::{io, sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::{Response, StatusCode, header::HeaderValue};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::{Api, EXPORTS, refusal::Refusal};
use crate::{
    admin::{
        Access,
        body::Body,
        events::Event,
        respond::{Caller, with_type},
    },
    oci::{Digest, ImageName, Platform},
    pull::{ExportEvent, StoredBlob},
};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// For a blob to be opened, once there is a place for its reader.
const OPEN_TIMEOUT: Duration = Duration::from_secs(25);

impl Api {
    pub(super) fn export(
        &self,
        images: Vec<ImageName>,
        platforms: Vec<Platform>,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let Ok(permit) = Arc::clone(&self.exports).try_acquire_owned() else {
            return Err(Refusal::exports(EXPORTS));
        };
        let all = Arc::clone(&self.images);
        let failed = |why| ExportEvent::Failed { why };
        let days = ExportEvent::IDLE.as_secs() / (24 * 60 * 60);
        let silence = failed(format!("the export took more than {days} days"));
        let stop = "wharf is stopping; the same export goes on where it was when wharf is back";
        let work = move |events: mpsc::Sender<ExportEvent>| async move {
            // What is fetched for it is kept; all else ends with the one who asked.
            tokio::select! {
                done = all.export(&images, &platforms, &events) => done,
                () = events.closed() => Ok(()),
            }
        };
        Ok(self.told(permit, work, failed, stop, silence, caller))
    }

    /// A kept blob from the byte `from` on.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if caller.access != Access::Change {
            return Err(Refusal::control_only());
        }
        caller.may_take_longer.store(true, Ordering::Relaxed);
        let opening = async {
            let seat = Arc::clone(&self.readers).acquire_owned().await.expect("never closed");
            (self.images.kept_file(digest).await, seat)
        };
        let (blob, seat) = tokio::select! {
            () = caller.shutdown.cancelled() => return Err(Refusal::stopping()),
            opened = timeout(OPEN_TIMEOUT, opening) => {
                opened.map_err(|_| Refusal::late(OPEN_TIMEOUT))?
            }
        };
        let blob = blob?;
        if from > blob.size() {
            return Err(Refusal::bad(format!("the blob has {} bytes", blob.size())));
        }
        let length = blob.size() - from;
        Ok(with_type(StatusCode::OK, OCTETS, Body::stream(reading(blob, from, seat), length)))
    }
}

/// The bytes of a blob from `at` on, read as they are sent.
fn reading(
    blob: StoredBlob,
    at: u64,
    seat: OwnedSemaphorePermit,
) -> stream::BoxStream<'static, io::Result<Bytes>> {
    let state = (blob, at, seat);
    let pieces = stream::try_unfold(state, |(blob, at, seat)| async move {
        if at >= blob.size() {
            return Ok(None);
        }
        let piece = blob.file().read(at, blob.size()).await?;
        let next = at + piece.len() as u64;
        Ok(Some((piece, (blob, next, seat))))
    });
    pieces.boxed()
}
