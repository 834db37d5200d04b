//! What is to be done: each order is a task of the API's, whose end its connection waits for.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
};

use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::{
    Api, JSON, PULLS, body, json,
    question::{Kind, Order},
    refusal::Refusal,
};
use crate::{
    admin::{
        Access,
        body::Body,
        events::Event,
        respond::{Caller, with_type},
    },
    oci::{ImageName, Platform},
    pull::{Error, PinnedImage, PullEvent, Verify, VerifyEvent},
};

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Events that wait to be sent.
const EVENTS: usize = 64;

impl Api {
    pub(super) async fn order(
        &self,
        kind: Kind,
        request: Request<Incoming>,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if *request.method() != Method::POST {
            let sentence = format!("{} is asked for by POST", kind.as_str());
            return Err(Refusal::method("POST", &sentence));
        }
        if caller.access != Access::Change {
            return Err(Refusal::control_only());
        }
        let images = Arc::clone(&self.images);
        match Order::read(kind, &body(request, kind.longest_body()).await?)? {
            Order::Pull { image, platforms } => self.pull(image, platforms, caller),
            Order::Export { images, platforms } => self.export(images, platforms, caller),
            Order::Verify(how) => self.verify(how, caller),
            Order::Pin { image, pinned } => {
                let pinning = async move {
                    let changed = images.pin(&image, pinned).await?;
                    Ok(PinnedImage { name: image.to_string(), pinned, changed })
                };
                self.done(pinning, caller).await
            }
            Order::Remove(image) => {
                self.done(async move { images.remove(&image).await }, caller).await
            }
            Order::Drop(set) => {
                self.done(async move { images.drop_volumes(&set).await }, caller).await
            }
            Order::Collect => self.done(async move { images.collect().await }, caller).await,
        }
    }

    /// Does something short, to its end whoever hangs up, and answers how it went.
    async fn done<T: Serialize + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        caller.may_take_longer.store(true, Ordering::Relaxed);
        let patience = caller.access.patience();
        let seats = Arc::clone(&self.change);
        let doing = async {
            let seat = seats.acquire_owned().await.expect("never closed");
            // What is half done when a future is dropped would stay half done: the task is not.
            let task = self.tasks.spawn(async move { (work.await, seat) });
            let (done, seat) = task.await.map_err(|_| Refusal::died())?;
            Ok(with_type(StatusCode::OK, JSON, Body::seated(json(&done?), seat)))
        };
        tokio::select! {
            () = caller.shutdown.cancelled() => Err(Refusal::stopping()),
            answered = timeout(patience, doing) => {
                answered.unwrap_or_else(|_| Err(Refusal::late(patience)))
            }
        }
    }

    fn pull(
        &self,
        image: ImageName,
        platforms: Vec<Platform>,
        caller: &Caller<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let Ok(permit) = Arc::clone(&self.pulls).try_acquire_owned() else {
            return Err(Refusal::pulls(PULLS));
        };
        let images = Arc::clone(&self.images);
        let name = image.to_string();
        let failed = move |why| PullEvent::Failed { name: name.clone(), why };
        let minutes = PullEvent::IDLE.as_secs() / 60;
        let silence = failed(format!(
            "nothing came for {minutes} minutes; what is here is kept, and another pull goes on from it"
        ));
        let stop = "wharf is stopping; what is here is kept, and another pull goes on from it";
        // It goes on for the cache's sake when the one who asked hangs up.
        let work = move |events: mpsc::Sender<PullEvent>| async move {
            images.bring(&image, &platforms, &events).await
        };
        Ok(self.told(permit, work, failed, stop, silence, caller))
    }

    fn verify(&self, how: Verify, caller: &Caller<'_>) -> Result<Response<Body>, Refusal> {
        let Ok(permit) = Arc::clone(&self.checks).try_acquire_owned() else {
            return Err(Refusal::checking());
        };
        let images = Arc::clone(&self.images);
        let failed = |why| VerifyEvent::Failed { why };
        let minutes = VerifyEvent::IDLE.as_secs() / 60;
        let silence = failed(format!("nothing was checked for {minutes} minutes"));
        let stop = "wharf is stopping; what was found is put aside already";
        let work = move |events: mpsc::Sender<VerifyEvent>| async move {
            // Nobody else has a use for it: it ends with the one who asked.
            tokio::select! {
                done = images.verify(how, &events) => done,
                () = events.closed() => Ok(()),
            }
        };
        Ok(self.told(permit, work, failed, stop, silence, caller))
    }

    /// Does something long, and tells of it; `failed` says that it failed, because of a `stop` or else.
    pub(super) fn told<E: Event, W: Future<Output = Result<(), Error>> + Send>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(mpsc::Sender<E>) -> W + Send + 'static,
        failed: impl FnOnce(String) -> E + Send + 'static,
        stop: &'static str,
        silence: E,
        caller: &Caller<'_>,
    ) -> Response<Body> {
        caller.may_take_longer.store(true, Ordering::Relaxed);
        let (events, receiver) = mpsc::channel(EVENTS);
        let shutdown = caller.shutdown.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            let why = tokio::select! {
                biased;
                () = shutdown.cancelled() => stop.to_owned(),
                done = work(events.clone()) => match done {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            };
            // Nobody is left to tell if the one who asked is gone; who reads nothing is gone after the write time-out.
            let _ = events.send(failed(why)).await;
        });
        with_type(StatusCode::OK, JSON_LINES, Body::events(receiver, silence))
    }
}
