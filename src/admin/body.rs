//! Bodies of answers: whole ones, and events as they come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
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
    /// So many bytes, as they are read.
    Stream { pieces: BoxStream<'static, io::Result<Bytes>>, left: u64 },
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

    /// Pieces of `length` bytes altogether. One that fails breaks the answer off.
    pub(super) fn stream(pieces: BoxStream<'static, io::Result<Bytes>>, length: u64) -> Self {
        Self::Stream { pieces, left: length }
    }

    /// Events as they come, and `silence` when none came for as long as may be.
    pub(super) fn events<E: Event>(receiver: mpsc::Receiver<E>, silence: E) -> Self {
        let told = Box::new(Telling { receiver, silence: Some(silence) });
        Self::Events(Events { told, idle: E::IDLE, sleep: Box::pin(sleep(E::IDLE)) })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole { bytes, .. } => {
                let frame = ready!(Pin::new(bytes).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Stream { pieces, left } => {
                let piece = ready!(pieces.poll_next_unpin(context)).transpose()?;
                *left = left.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
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
            Self::Stream { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => bytes.size_hint(),
            Self::Events(_) => SizeHint::new(),
            Self::Stream { left, .. } => SizeHint::with_exact(*left),
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
