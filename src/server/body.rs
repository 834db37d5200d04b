//! Answer bodies: nothing, bytes in memory, or a blob that is read as the client takes it.
//!
//! A body carries its request's [`Record`], so the log line and the metrics come when the last byte has gone,
//! or when the client has.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http_body::{Frame, SizeHint};

use super::{muted::Turn, parts::Parts, record::Record};
use crate::pull::{Cut, Reader, SendsParts};

/// The body of one answer.
pub(super) struct Body {
    content: Content,
    record: Box<Record>,
    /// Of a connection that sends parts of files as such.
    parts: Option<Parts>,
    /// Ends when the connection drops this: it has all of the body then.
    _turn: Option<Turn>,
}

/// What a body sends.
pub(super) enum Content {
    /// Nothing: errors to `HEAD`, 304.
    Empty,
    /// Bytes in memory.
    Full(Bytes),
    /// A blob that nothing is read of yet; its length if known.
    Unread { reader: Box<Reader>, left: Option<u64> },
    /// A blob that is being read.
    Blob { pieces: BoxStream<'static, Result<Bytes, Cut>>, left: Option<u64> },
}

impl Content {
    /// The bytes of `reader`, of which there are `size`.
    pub(super) fn blob(reader: Reader, size: Option<u64>) -> Self {
        Self::Unread { reader: Box::new(reader), left: size }
    }

    /// Begins to read what is not begun; with `parts`, of a connection that sends parts of files as such.
    fn begin(&mut self, parts: &Option<Parts>) {
        if !matches!(self, Self::Unread { .. }) {
            return;
        }
        let Self::Unread { reader, left } = std::mem::replace(self, Self::Empty) else { return };
        let pieces =
            futures_util::stream::unfold(Some((*reader, parts.clone())), |state| async move {
                let (mut reader, parts) = state?;
                let able = parts.as_ref().filter(|parts| parts.are_sent());
                match reader.next(able.map(|parts| parts as &dyn SendsParts)).await {
                    Ok(piece) => piece.map(|piece| (Ok(piece), Some((reader, parts)))),
                    Err(cut) => Some((Err(cut), None)),
                }
            });
        *self = Self::Blob { pieces: pieces.boxed(), left };
    }
}

impl Body {
    pub(super) const fn new(content: Content, record: Box<Record>) -> Self {
        Self { content, record, parts: None, _turn: None }
    }

    /// Keeps its connection's turn until all of this is handed over; sends parts of files as such, if the connection can.
    pub(super) fn on(self, parts: Option<Parts>, turn: Turn) -> Self {
        Self { parts, _turn: Some(turn), ..self }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        this.content.begin(&this.parts);
        let piece = match &mut this.content {
            Content::Empty | Content::Unread { .. } => None,
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                this.record.sent_at_once(bytes.len() as u64);
                this.record.completed();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Blob { pieces, left } => {
                let piece = ready!(Pin::new(pieces).poll_next(context));
                if let (Some(Ok(piece)), Some(left)) = (&piece, left) {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                piece
            }
        };
        match &piece {
            Some(Ok(piece)) => this.record.sent(piece.len() as u64),
            Some(Err(cut)) => this.record.cut(cut),
            None => {}
        }
        let ended =
            piece.is_none() && !matches!(this.content, Content::Blob { left: Some(1..), .. });
        if this.is_end_stream() || ended {
            this.record.completed();
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Blob { left, .. } | Content::Unread { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Blob { left, .. } | Content::Unread { left, .. } => {
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
