//! Bodies of answers: whole ones, and events as they come.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Sleep, sleep},
};

use super::events::Event;

/// The body of an answer.
pub(super) enum Body {
    /// All there at once, with the seat that it takes until it is sent.
    Whole { bytes: Full<Bytes>, _seat: Option<OwnedSemaphorePermit> },
    /// One line of JSON for each event.
    Events(Events),
}

/// Lines of JSON, until they end or nothing comes for too long.
pub(super) struct Events {
    told: Box<dyn Told>,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// Events of one kind.
trait Told: Send {
    /// The next one.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Ends them; the last one, which says that nothing came.
    fn silenced(&mut self) -> Option<Bytes>;
}

struct Telling<E> {
    receiver: mpsc::Receiver<E>,
    silence: Option<E>,
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole { bytes: Full::new(bytes.into()), _seat: None }
    }

    /// The same, with a seat that is free again when all of it is sent.
    pub(super) fn seated(bytes: Bytes, seat: OwnedSemaphorePermit) -> Self {
        Self::Whole { bytes: Full::new(bytes), _seat: Some(seat) }
    }

    /// Events as they come, and `silence` when none came for as long as may be.
    pub(super) fn events<E: Event>(receiver: mpsc::Receiver<E>, silence: E) -> Self {
        let told = Box::new(Telling { receiver, silence: Some(silence) });
        Self::Events(Events { told, idle: E::IDLE, sleep: Box::pin(sleep(E::IDLE)) })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole { bytes, .. } => Pin::new(bytes).poll_frame(context),
            Self::Events(events) => {
                let line = ready!(events.poll_line(context));
                Poll::Ready(line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => bytes.size_hint(),
            Self::Events(_) => SizeHint::new(),
        }
    }
}

impl Events {
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(line) = self.told.poll_line(context) {
            self.sleep.as_mut().reset(Instant::now() + self.idle);
            return Poll::Ready(line);
        }
        ready!(self.sleep.as_mut().poll(context));
        Poll::Ready(self.told.silenced())
    }
}

impl<E: Event> Told for Telling<E> {
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.receiver.poll_recv(context).map(|event| event.as_ref().map(line))
    }

    fn silenced(&mut self) -> Option<Bytes> {
        // What is polled next finds the end: nothing is queued, and nothing more is taken.
        self.receiver.close();
        self.silence.take().as_ref().map(line)
    }
}

fn line(event: &impl Event) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("strings and numbers always serialise");
    line.push(b'\n');
    line.into()
}
