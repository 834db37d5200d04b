//! Asking the API: one way for a daemon's control socket and for a cache that this process has opened itself.

use std::{
    io,
    marker::PhantomData,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, StatusCode,
    body::{Frame, Incoming},
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{io::duplex, sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Access, Admin, CONNECTION_BUFFER, Event, Stream, control, hearing::Hearing};
use crate::{
    oci::{Digest, ImageName, Platform, Repository, TagPattern},
    pull::{
        Collected, Explanation, ExportEvent, ImportTerms, Imported, Inspection, KeptImage,
        PinnedImage, PullEvent, RemovedImage, Status, Verify, VerifyEvent, VolumeSet,
    },
};

/// Longest answer that is read: the images of the largest caches take a few MiB.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Longest answer that says no, and longest line of an event.
const LINE_MAX_BYTES: usize = 1024 * 1024;

/// Above what the other side allows itself, so that its sentence is heard.
const GRACE: Duration = Duration::from_secs(15);

/// Asks the API of one wharf.
pub struct Client(Transport);

enum Transport {
    Socket(PathBuf),
    Here(Admin, CancellationToken),
}

/// Why there is no answer; each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon cannot be reached.
    #[error("wharf cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// The answer broke off.
    #[error("wharf broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The events ended before what they tell of did.
    #[error("wharf broke off before it was done")]
    CutOff,
    /// Nothing came in time.
    #[error("wharf has said nothing for {} s", .0.as_secs())]
    Late(Duration),
    /// The answer is no.
    #[error("{sentence}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Why.
        sentence: String,
    },
    /// The answer is longer than any can be.
    #[error("wharf's answer does not end")]
    Long,
    /// The answer has another form.
    #[error("wharf's answer cannot be read ({0}): is the one that runs of this version?")]
    Form(#[from] serde_json::Error),
}

/// Events as they come. Dropping it hangs up, which ends no download.
pub struct Events<E = PullEvent> {
    answer: Answer,
    buffer: BytesMut,
    ended: bool,
    _of: PhantomData<E>,
}

/// The bytes of a blob as they come.
pub struct Pieces(Answer);

/// What is sent.
type Sending = UnsyncBoxBody<Bytes, io::Error>;

/// An answer that is being read.
struct Answer {
    body: Incoming,
    _sender: SendRequest<Sending>,
    /// Moves its bytes; ends with it.
    _connection: JoinSet<()>,
}

impl Client {
    /// The daemon whose control socket is at `path`, if it answers there now.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn at(path: &Path) -> io::Result<Self> {
        control::connect(path).await?;
        Ok(Self(Transport::Socket(path.into())))
    }

    /// `admin` in this process; `shutdown` ends what it is asked for.
    pub fn here(admin: Admin, shutdown: CancellationToken) -> Self {
        Self(Transport::Here(admin, shutdown))
    }

    /// The images that are kept.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn images(&self) -> Result<Vec<KeptImage>, CallError> {
        self.get("/api/v1/images", &[]).await
    }

    /// What an image name means, and what of it is kept.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn inspect(&self, image: &ImageName) -> Result<Inspection, CallError> {
        self.get("/api/v1/inspect", &[("image", &image.to_string())]).await
    }

    /// Which manifest of `image` a client gets, and why.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn explain(
        &self,
        image: &ImageName,
        client: Option<IpAddr>,
        user_agent: Option<&str>,
    ) -> Result<Explanation, CallError> {
        let (image, client) = (image.to_string(), client.map(|client| client.to_string()));
        let mut query = vec![("image", &*image)];
        query.extend(client.as_deref().map(|client| ("client", client)));
        query.extend(user_agent.map(|agent| ("user_agent", agent)));
        self.get("/api/v1/explain", &query).await
    }

    /// The images that a pattern means just now, at most `newest`, the newest first.
    ///
    /// # Errors
    /// When there is no good answer, or nothing matches.
    pub async fn matching(
        &self,
        repository: &Repository,
        tags: &TagPattern,
        newest: usize,
    ) -> Result<Vec<ImageName>, CallError> {
        let (image, newest) = (format!("{repository}:{tags}"), newest.to_string());
        self.get("/api/v1/matching", &[("image", &image), ("newest", &newest)]).await
    }

    /// Has `image` fetched for `platforms`.
    ///
    /// # Errors
    /// When it is not begun.
    pub async fn pull(
        &self,
        image: &ImageName,
        platforms: &[Platform],
    ) -> Result<Events, CallError> {
        let order = serde_json::json!({ "image": image.to_string(), "platforms": platforms });
        self.tell("/api/v1/pull", &order).await
    }

    /// Has a kept image stay whatever room is needed, or no longer.
    ///
    /// # Errors
    /// When it is not kept, or there is no good answer.
    pub async fn pin(&self, image: &ImageName, pinned: bool) -> Result<PinnedImage, CallError> {
        let path = if pinned { "/api/v1/pin" } else { "/api/v1/unpin" };
        self.have_done(path, &serde_json::json!({ "image": image.to_string() })).await
    }

    /// Has a kept image removed.
    ///
    /// # Errors
    /// When it is not kept or is pinned, or there is no good answer.
    pub async fn remove(&self, image: &ImageName) -> Result<RemovedImage, CallError> {
        let order = serde_json::json!({ "image": image.to_string() });
        self.have_done("/api/v1/rm", &order).await
    }

    /// Has the budget met, and swept what nothing refers to.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn collect(&self) -> Result<Collected, CallError> {
        self.have_done("/api/v1/gc", &serde_json::json!({})).await
    }

    /// Has every kept blob read. Dropping the events ends it.
    ///
    /// # Errors
    /// When it is not begun.
    pub async fn verify(&self, how: Verify) -> Result<Events<VerifyEvent>, CallError> {
        let order = serde_json::json!({ "repair": how.repair, "rate": how.rate });
        self.tell("/api/v1/verify", &order).await
    }

    /// Has what is missing of `images` fetched, and tells what an export of them holds: it is kept from eviction until
    /// the events are dropped.
    ///
    /// # Errors
    /// When it is not begun.
    pub async fn export(
        &self,
        images: &[ImageName],
        platforms: &[Platform],
    ) -> Result<Events<ExportEvent>, CallError> {
        let order = serde_json::json!({ "images": images, "platforms": platforms });
        self.tell("/api/v1/export", &order).await
    }

    /// The bytes of a kept blob, from the byte `from` on.
    ///
    /// # Errors
    /// When it is not kept, or there is no good answer.
    pub async fn blob(&self, digest: &Digest, from: u64) -> Result<Pieces, CallError> {
        let path = format!("/api/v1/blob?digest={digest}&from={from}");
        let request = Request::get(path).body(Full::default());
        self.send(request.expect("a fixed path, a digest and a number")).await.map(Pieces)
    }

    /// Kept blobs that come after `after` in the order of their digests, some thousands at once, and their lengths in
    /// bytes.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn blobs(&self, after: Option<&Digest>) -> Result<Vec<(Digest, u64)>, CallError> {
        let after = after.map(ToString::to_string);
        let query: Vec<_> = after.iter().map(|after| ("after", after.as_str())).collect();
        self.get("/api/v1/blobs", &query).await
    }

    /// Sends an archive piece by piece until there are none, to be taken in.
    ///
    /// # Errors
    /// When it is not taken in.
    pub async fn import(
        &self,
        terms: &ImportTerms,
        archive: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<Imported, CallError> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(terms.name.iter().map(|name| ("name", name.to_string())));
        query.extend_pairs(terms.unpinned.then_some(("unpinned", "")));
        query.extend_pairs(terms.trusted.iter().map(|key| ("key", key.to_string())));
        let request = Request::post(format!("/api/v1/import?{}", query.finish()));
        let pieces = stream::unfold(archive, async |mut archive| {
            let piece = archive.recv().await?;
            Some((piece.map(Frame::data), archive))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        let request = request.body(body).expect("a fixed path and an encoded query");
        // It ends by itself: a daemon that reads nothing for two minutes gives up.
        let answer = self.ask(request, None).await?;
        Ok(serde_json::from_slice(&collect(answer.body, ANSWER_MAX_BYTES).await?)?)
    }

    /// Has what is here of a bundle that waits for volumes dropped; `set` is its digest, or the first digits of it.
    ///
    /// # Errors
    /// When there is no one such bundle, or no good answer.
    pub async fn drop_volumes(&self, set: &str) -> Result<VolumeSet, CallError> {
        self.have_done("/api/v1/drop", &serde_json::json!({ "set": set })).await
    }

    /// How this wharf is.
    ///
    /// # Errors
    /// When there is no good answer.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.get("/api/v1/status", &[]).await
    }

    /// Whether a daemon is asked, and not this process.
    pub const fn asks_a_daemon(&self) -> bool {
        matches!(self.0, Transport::Socket(_))
    }

    async fn tell<E>(&self, path: &str, order: &Value) -> Result<Events<E>, CallError> {
        let answer = self.post(path, order).await?;
        Ok(Events { answer, buffer: BytesMut::new(), ended: false, _of: PhantomData })
    }

    async fn have_done<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &Value,
    ) -> Result<T, CallError> {
        let answer = self.post(path, order).await?;
        Ok(serde_json::from_slice(&collect(answer.body, ANSWER_MAX_BYTES).await?)?)
    }

    async fn post(&self, path: &str, order: &Value) -> Result<Answer, CallError> {
        let request = Request::post(path).body(order.to_string().into());
        self.send(request.expect("a fixed path")).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, CallError> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let request = Request::get(format!("{path}?{query}")).body(Full::default());
        let answer = self.send(request.expect("a fixed path and an encoded query")).await?;
        Ok(serde_json::from_slice(&collect(answer.body, ANSWER_MAX_BYTES).await?)?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        self.ask(request, Some(Access::Change.patience() + GRACE)).await
    }

    async fn ask(
        &self,
        mut request: Request<Sending>,
        patience: Option<Duration>,
    ) -> Result<Answer, CallError> {
        request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("wharf"));
        let mut tasks = JoinSet::new();
        let stream = self.connect(&mut tasks).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(Hearing::new(stream))).await?;
        tasks.spawn(async move {
            // Its failure is seen by who reads the answer.
            let _ = connection.await;
        });
        let answered = sender.send_request(request);
        let response = match patience {
            Some(patience) => {
                timeout(patience, answered).await.map_err(|_| CallError::Late(patience))??
            }
            None => answered.await?,
        };
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let said = collect(body, LINE_MAX_BYTES).await?;
            return Err(CallError::Refused { status: head.status, sentence: sentence(&said) });
        }
        Ok(Answer { body, _sender: sender, _connection: tasks })
    }

    async fn connect(&self, tasks: &mut JoinSet<()>) -> io::Result<Box<dyn Stream>> {
        match &self.0 {
            Transport::Socket(path) => Ok(Box::new(control::connect(path).await?)),
            Transport::Here(admin, shutdown) => {
                let (near, far) = duplex(CONNECTION_BUFFER);
                tasks.spawn(admin.clone().serve(Box::new(far), Access::Change, shutdown.clone()));
                Ok(Box::new(near))
            }
        }
    }
}

impl Pieces {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// When they break off before that.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let patience = super::CONNECTION_TIMEOUT + GRACE;
        loop {
            let frame = timeout(patience, self.0.body.frame()).await;
            let Some(frame) = frame.map_err(|_| CallError::Late(patience))? else {
                return Ok(None);
            };
            // Trailers are no bytes.
            if let Ok(piece) = frame?.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

impl<E: Event> Events<E> {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// When they break off before that.
    pub async fn next(&mut self) -> Result<Option<E>, CallError> {
        if self.ended {
            return Ok(None);
        }
        let line = self.line().await?;
        let event: E = serde_json::from_slice(&line)?;
        self.ended = event.is_last();
        Ok(Some(event))
    }

    async fn line(&mut self) -> Result<BytesMut, CallError> {
        let patience = E::IDLE + GRACE;
        let mut searched = 0;
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + length);
                self.buffer.advance(1);
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > LINE_MAX_BYTES {
                return Err(CallError::Long);
            }
            let frame = timeout(patience, self.answer.body.frame()).await;
            let frame = frame.map_err(|_| CallError::Late(patience))?;
            let piece = frame.ok_or(CallError::CutOff)??.into_data().unwrap_or_default();
            self.buffer.extend_from_slice(&piece);
        }
    }
}

/// A whole body of at most `most` bytes.
async fn collect(body: Incoming, most: usize) -> Result<Bytes, CallError> {
    let patience = super::CONNECTION_TIMEOUT + GRACE;
    let read = timeout(patience, Limited::new(body, most).collect()).await;
    match read.map_err(|_| CallError::Late(patience))? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => CallError::Broken(*error),
            Err(_) => CallError::Long,
        }),
    }
}

/// What an answer that says no says.
fn sentence(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    serde_json::from_slice(body)
        .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |Said { error }| error)
}
