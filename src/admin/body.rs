//! Bodies of answers: whole ones, and the events of a pull as they come.

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

use crate::pull::PullEvent;

/// For how long a pull may tell nothing before its stream ends. A pull that waits for its turn, or for a slow
/// uplink, tells of every piece that comes.
pub(super) const PULL_IDLE: Duration = Duration::from_secs(10 * 60);

/// The body of an answer.
pub(super) enum Body {
    /// All there at once, with the seat that it takes until it is sent.
    Whole { bytes: Full<Bytes>, _seat: Option<OwnedSemaphorePermit> },
    /// One line of JSON for each event.
    Events(Events),
}

/// The events of one pull, until it ends or says nothing for too long.
pub(super) struct Events {
    name: String,
    receiver: mpsc::Receiver<PullEvent>,
    idle: Pin<Box<Sleep>>,
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole { bytes: Full::new(bytes.into()), _seat: None }
    }

    /// The same, with a seat that is free again when all of it is sent.
    pub(super) fn seated(bytes: Bytes, seat: OwnedSemaphorePermit) -> Self {
        Self::Whole { bytes: Full::new(bytes), _seat: Some(seat) }
    }

    /// The events of the pull of `name`.
    pub(super) fn events(name: String, receiver: mpsc::Receiver<PullEvent>) -> Self {
        Self::Events(Events { name, receiver, idle: Box::pin(sleep(PULL_IDLE)) })
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
                let event = ready!(events.poll_next(context));
                Poll::Ready(event.map(|event| Ok(Frame::data(line(&event)))))
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
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<PullEvent>> {
        if let Poll::Ready(event) = self.receiver.poll_recv(context) {
            self.idle.as_mut().reset(Instant::now() + PULL_IDLE);
            return Poll::Ready(event);
        }
        ready!(self.idle.as_mut().poll(context));
        // What is polled next finds the end: nothing is queued, and nothing more is taken.
        self.receiver.close();
        Poll::Ready(Some(PullEvent::Failed {
            name: self.name.clone(),
            why: format!(
                "nothing came for {} minutes; what is here is kept, and another pull goes on from it",
                PULL_IDLE.as_secs() / 60
            ),
        }))
    }
}

fn line(event: &PullEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("strings and numbers always serialise");
    line.push(b'\n');
    line.into()
}
