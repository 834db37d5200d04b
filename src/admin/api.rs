//! `/api/v1/…`: what is kept, what a name means, who gets what; and, on the control socket, what is to be done.

mod export;
#[cfg(fuzzing)]
pub mod fuzzing;
mod import;
mod orders;
mod question;
mod refusal;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use self::{
    question::{Kind, Question},
    refusal::Refusal,
};
use super::{
    Access, Images,
    body::Body,
    respond::{Caller, with_type},
};
use crate::pull::Asker;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers that are in memory at one time, for the admin address and the control socket each. An answer is built as a
/// whole: about 1 KiB for each image that is kept.
const SEATS: usize = 4;

/// Pulls that run at one time.
const PULLS: usize = 16;

/// Exports that run at one time, and blobs that are read for them.
const EXPORTS: usize = 4;
const READERS: usize = 8;

/// Archives that are taken in at one time.
const IMPORTS: usize = 2;

/// Kept blobs that are told of at once.
const BLOBS_PAGE: usize = 10_000;

/// Checks of all blobs that run at one time.
const CHECKS: usize = 1;

/// Longest body of a request.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// For a request's body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The API over some images. Clones are the same one.
#[derive(Clone)]
pub(super) struct Api {
    images: Arc<dyn Images>,
    look: Arc<Semaphore>,
    change: Arc<Semaphore>,
    pulls: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Access {
    /// How long the answer to a question may be in the making: less than the connection has at the admin address; at
    /// the control socket, for as long as a registry is asked.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Self::Look => Duration::from_secs(25),
            Self::Change => Duration::from_secs(3 * 60),
        }
    }
}

impl Api {
    pub(super) fn new(images: Arc<dyn Images>) -> Self {
        let seats = |n| Arc::new(Semaphore::new(n));
        Self {
            images,
            look: seats(SEATS),
            change: seats(SEATS),
            pulls: seats(PULLS),
            checks: seats(CHECKS),
            exports: seats(EXPORTS),
            imports: seats(IMPORTS),
            readers: seats(READERS),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        caller: &Caller<'_>,
    ) -> Response<Body> {
        if request.uri().path() == import::PATH {
            let answered = self.import(request, caller).await;
            return answered.unwrap_or_else(Refusal::into_response);
        }
        let answered = match Kind::of(request.uri().path()) {
            Some(kind) => self.order(kind, request, caller).await,
            None => self.look(&request, caller).await,
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    /// Waits until everything that was to be done has ended.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn look(
        &self,
        request: &Request<Incoming>,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let question = Question::of(request.uri().path(), request.uri().query());
        let known = !matches!(&question, Err(no) if no.status == StatusCode::NOT_FOUND);
        if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::method("GET, HEAD", "only GET and HEAD are answered here"));
        }
        let question = question?;
        if let Question::Blob { digest, from } = question {
            return self.blob(&digest, from, caller).await;
        }
        if matches!(question, Question::Matching { .. }) && caller.access != Access::Change {
            // A registry is asked for all that it has, with an account that is not the caller's.
            return Err(Refusal::control_only());
        }
        let seats = match caller.access {
            Access::Look => &self.look,
            Access::Change => {
                caller.may_take_longer.store(true, Ordering::Relaxed);
                &self.change
            }
        };
        let answering = async {
            let seat = Arc::clone(seats).acquire_owned().await.expect("never closed");
            self.reply(question, seat).await
        };
        tokio::select! {
            () = caller.shutdown.cancelled() => Err(Refusal::stopping()),
            answered = timeout(caller.access.patience(), answering) => {
                answered.unwrap_or_else(|_| Err(Refusal::late(caller.access.patience())))
            }
        }
    }

    async fn reply(
        &self,
        question: Question,
        seat: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Refusal> {
        let images = &self.images;
        let bytes = match question {
            Question::Images => json(&images.images().await?),
            Question::Inspect(image) => json(&images.inspect(&image).await?),
            Question::Matching { repository, tags, newest } => {
                json(&images.matching(&repository, &tags, newest).await?)
            }
            Question::Explain { image, client, user_agent } => {
                // Nobody's address, of which no rule speaks and nothing was learned.
                let mut asker = Asker::at(client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
                asker.user_agent = user_agent.into();
                let mut explained = images.explain(&asker, &image).await?;
                explained.client = client;
                json(&explained)
            }
            Question::Blobs(after) => json(&images.kept_blobs(after.as_ref(), BLOBS_PAGE).await?),
            // Answered before there was a seat: it is not answered from memory.
            Question::Blob { .. } => return Err(Refusal::nothing_here()),
            Question::Clients => json(&images.clients()),
            Question::Mismatches => json(&images.mismatches()),
            Question::Status => json(&images.status().await),
        };
        Ok(with_type(StatusCode::OK, JSON, Body::seated(bytes, seat)))
    }
}

/// The request's body, if it is short enough and comes in time.
async fn body(request: Request<Incoming>, longest: usize) -> Result<Bytes, Refusal> {
    let read = Limited::new(request.into_body(), longest).collect();
    match timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::long(longest))
        }
        Ok(Err(_)) => Err(Refusal::bad("the request's body broke off".to_owned())),
        Err(_) => Err(Refusal::slow(BODY_TIMEOUT)),
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and numbers always serialise").into()
}
