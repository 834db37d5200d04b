//! Turns that are fair among clients: who waits with a thousand things holds up another client by one.
//!
//! Clients that wait stand in a round, each with a line of its own. A turn that is given back goes to the client that is first
//! in the round, for what is first in its line; a client with more in its line then goes to the round's end. So a client
//! waits for no more than one turn of each other one, for each thing that it wants itself.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::oneshot;

use super::whose::{Crowd, Whose};
use crate::metrics::Metrics;

/// So many turns. Clones are the same ones.
///
/// Who waits is bounded by who may: each has a place in one of the maps of what runs or waits.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What they are for, as metrics say it.
    kind: &'static str,
    metrics: Metrics,
    state: Mutex<State>,
}

/// The right to do what there are turns for; given to the next when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Turns>);

#[derive(Debug)]
struct State {
    /// Turns that nobody has. While there is one, nobody waits.
    free: usize,
    /// Clients that wait, by their place in the round: the first is next.
    round: BTreeMap<u64, Whose>,
    /// Of each client in the round, and of no other.
    lines: HashMap<Whose, Line>,
    /// A number that was never given, for places and tickets.
    fresh: u64,
}

/// What one client waits for, never nothing.
#[derive(Debug)]
struct Line {
    place: u64,
    /// By tickets, which grow. The receiver of each is there, or about to take its ticket back.
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

/// A place in a client's line; to drop it is to leave.
#[derive(Debug)]
struct Waiting {
    turns: Turns,
    whose: Whose,
    ticket: u64,
    given: oneshot::Receiver<Turn>,
}

impl Turns {
    /// `count` of them, at least one, for what metrics call `kind`.
    pub(super) fn new(count: usize, kind: &'static str, metrics: &Metrics) -> Self {
        let (round, lines) = (BTreeMap::new(), HashMap::new());
        let state = Mutex::new(State { free: count.max(1), round, lines, fresh: 0 });
        Self(Arc::new(Inner { kind, metrics: metrics.clone(), state }))
    }

    /// A turn, as soon as any member of `crowd` has one. Who joins meanwhile lines up as well.
    ///
    /// May be dropped at any time: what it was given goes to the next.
    pub(super) async fn turn(&self, crowd: &Crowd) -> Turn {
        match self.free_now() {
            Some(turn) => turn,
            // Of most questions there is none in a line.
            None => Box::pin(self.in_line(crowd)).await,
        }
    }

    async fn in_line(&self, crowd: &Crowd) -> Turn {
        let (mut members, mut waiting) = (crowd.members(), FuturesUnordered::new());
        let mut counted = None;
        loop {
            let known = waiting.len();
            let joined = members.borrow_and_update()[known..].to_vec();
            waiting.extend(joined.into_iter().map(|whose| self.line_up(whose)));
            // It stands in line by now.
            counted.get_or_insert_with(|| self.0.metrics.waits_for_turn(self.0.kind));
            tokio::select! {
                biased;
                // There always is one: a crowd has a member.
                Some(turn) = waiting.next() => return turn,
                Ok(()) = members.changed() => {}
            }
        }
    }

    fn free_now(&self) -> Option<Turn> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Turn(Some(self.clone())))
    }

    /// A place in this client's line, or in its stead a turn that is free.
    fn line_up(&self, whose: Whose) -> Waiting {
        let (sender, given) = oneshot::channel();
        let mut state = self.lock();
        let ticket = state.number();
        let is_free = state.free > 0;
        let unsent = match is_free {
            true => {
                state.free -= 1;
                Some(sender)
            }
            false => {
                state.wait(whose, ticket, sender);
                None
            }
        };
        drop(state);
        if let Some(sender) = unsent {
            // Its receiver is here.
            let _ = sender.send(Turn(Some(self.clone())));
        }
        Waiting { turns: self.clone(), whose, ticket, given }
    }

    /// Gives a turn to the next who waits, or keeps it for who comes.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.next();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It left at this very moment. The turn is still at hand, and not to be passed on twice.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    fn wait(&mut self, whose: Whose, ticket: u64, sender: oneshot::Sender<Turn>) {
        let place = self.number();
        let line = self.lines.entry(whose).or_insert_with(|| {
            self.round.insert(place, whose);
            Line { place, waiting: BTreeMap::new() }
        });
        line.waiting.insert(ticket, sender);
    }

    /// Whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (_, whose) = self.round.pop_first()?;
        let mut line = self.lines.remove(&whose)?;
        let (_, sender) = line.waiting.pop_first()?;
        if !line.waiting.is_empty() {
            line.place = self.number();
            self.round.insert(line.place, whose);
            self.lines.insert(whose, line);
        }
        Some(sender)
    }

    /// Takes a ticket back, unless it was called.
    fn leave(&mut self, whose: Whose, ticket: u64) -> Option<oneshot::Sender<Turn>> {
        let line = self.lines.get_mut(&whose)?;
        let sender = line.waiting.remove(&ticket)?;
        if line.waiting.is_empty() {
            self.round.remove(&line.place);
            self.lines.remove(&whose);
        }
        Some(sender)
    }
}

impl Future for Waiting {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn> {
        let given = ready!(Pin::new(&mut self.given).poll(context));
        Poll::Ready(given.expect("a ticket goes when it is called, or with who holds it"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A turn that was sent meanwhile is dropped with the receiver, and so passed on: not under this lock.
        let left = self.turns.lock().leave(self.whose, self.ticket);
        drop(left);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}
