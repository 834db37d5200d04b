//! What `wharf import` sends: an archive, as the body of a request, which is read as it comes.

use std::{
    io::{self, Read},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Api, IMPORTS, JSON, json, question::import_terms, refusal::Refusal};
use crate::admin::{
    Access,
    body::Body,
    respond::{Caller, with_type},
};

/// Where archives are sent to.
pub(super) const PATH: &str = "/api/v1/import";

/// Between two pieces of an archive: whoever sends it may wait for a medium that is slow to spin up.
const IDLE: Duration = Duration::from_secs(120);

impl Api {
    pub(super) async fn import(
        &self,
        request: Request<Incoming>,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if *request.method() != Method::POST {
            return Err(Refusal::method("POST", "an archive is sent by POST"));
        }
        if caller.access != Access::Change {
            return Err(Refusal::control_only());
        }
        let terms = import_terms(request.uri().query())?;
        let Ok(permit) = Arc::clone(&self.imports).try_acquire_owned() else {
            return Err(Refusal::imports(IMPORTS));
        };
        caller.may_take_longer.store(true, Ordering::Relaxed);
        let archive = Sent {
            runtime: Handle::current(),
            body: request.into_body(),
            piece: Bytes::new(),
            shutdown: caller.shutdown.clone(),
        };
        let images = Arc::clone(&self.images);
        // What is half done when a future is dropped would stay half done: the task is not, and ends when no more comes.
        let task = self.tasks.spawn(async move {
            let _permit = permit;
            images.import(Box::new(archive), terms).await
        });
        let imported = task.await.map_err(|_| Refusal::died())??;
        Ok(with_type(StatusCode::OK, JSON, Body::whole(json(&imported))))
    }
}

/// A request's body, for a thread that may block.
struct Sent {
    runtime: Handle,
    body: Incoming,
    piece: Bytes,
    shutdown: CancellationToken,
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let next = self.shutdown.run_until_cancelled(timeout(IDLE, self.body.frame()));
            let frame = match self.runtime.block_on(next) {
                None => return Err(io::Error::other("wharf is stopping")),
                Some(Err(_)) => {
                    let sentence = format!("nothing came for {} s", IDLE.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, sentence));
                }
                Some(Ok(None)) => return Ok(0),
                Some(Ok(Some(frame))) => frame.map_err(io::Error::other)?,
            };
            // Trailers are no bytes.
            self.piece = frame.into_data().unwrap_or_default();
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
