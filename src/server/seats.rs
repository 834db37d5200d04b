//! Who may have a connection, and how many at a time: one client never takes the places of all the others.
//!
//! A connection is idle between its opening, or an answer's end, and the whole head of a request. When every place is taken,
//! the one that has been idle for longest makes room.
//!
//! On an HTTP/2 connection several answers may be open at once, each of which holds as much as a connection of HTTP/1.1. So
//! there are as many of them as there may be connections, of each client and of all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::Config;
use crate::{
    documents::Documents,
    metrics::{Limit, Metrics},
};

/// Whose request may be just on its way is not the first to go.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// How long a request waits for others of the same client.
const TURN_DEADLINE: Duration = Duration::from_secs(60);

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    most_each: usize,
    turns_each: usize,
    document_room_each: usize,
    metrics: Metrics,
    begun: Instant,
    /// One for each answer that may be open over HTTP/2.
    answers: Arc<Semaphore>,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// By a number that no other connection has.
    places: HashMap<u64, Place>,
    by_client: HashMap<IpAddr, Client>,
    next: u64,
}

/// What all connections of one client share.
#[derive(Debug)]
struct Client {
    connections: usize,
    /// One for each request that is worked on.
    turns: Arc<Semaphore>,
    /// One for each answer that is open over HTTP/2.
    answers: Arc<Semaphore>,
    /// Room for the documents that it has not taken yet.
    documents: Documents,
}

#[derive(Clone, Debug)]
struct Place {
    client: IpAddr,
    turns: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    documents: Documents,
    /// Milliseconds after `begun`, or [`BUSY`].
    idle_since: Arc<AtomicU64>,
    given_up: CancellationToken,
}

/// Stands for a connection whose request is being answered.
const BUSY: u64 = u64::MAX;

/// One connection's place, for as long as this is held.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    place: Place,
}

/// The place of one answer over HTTP/2, for as long as this is held.
#[derive(Debug)]
pub(super) struct OpenAnswer {
    _of_client: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The client is not among those that are served.
    NotAllowed,
    /// It has as many as one may have.
    TooMany,
}

impl Refused {
    /// The word for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::TooMany => "too_many",
        }
    }
}

impl Seats {
    /// Places for the connections of those who may have any.
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            most: config.max_connections,
            most_each: config.max_connections_per_client,
            turns_each: config.max_requests_per_client,
            document_room_each: config.document_room_per_client,
            metrics: metrics.clone(),
            begun: Instant::now(),
            answers: Arc::new(Semaphore::new(config.max_connections)),
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place for a client's connection, as soon as there is one.
    ///
    /// # Errors
    /// At once, when this client gets none.
    pub(super) async fn take(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Refused> {
        let client = household(client);
        loop {
            let freed = self.freed.notified();
            if let Some(seat) = self.try_take(client)? {
                return Ok(seat);
            }
            // Whether or not one that is idle was told to go: the next look is due when a place is free, or when
            // another connection may have been idle for long enough.
            let _ = timeout(IDLE_MIN, freed).await;
        }
    }

    fn try_take(self: &Arc<Self>, client: IpAddr) -> Result<Option<Seat>, Refused> {
        let mut taken = self.lock();
        if taken.by_client.get(&client).is_some_and(|known| known.connections >= self.most_each) {
            return Err(Refused::TooMany);
        }
        if taken.places.len() >= self.most {
            self.give_up_one(&taken);
            return Ok(None);
        }
        let idle_since = Arc::new(AtomicU64::new(self.now()));
        let unknown = || {
            let metrics = self.metrics.clone();
            let full = move || metrics.limit_reached(Limit::DocumentRoomPerClient);
            Client {
                connections: 0,
                turns: Arc::new(Semaphore::new(self.turns_each)),
                answers: Arc::new(Semaphore::new(self.most_each)),
                documents: Documents::new(self.document_room_each, full),
            }
        };
        let known = taken.by_client.entry(client).or_insert_with(unknown);
        known.connections += 1;
        let (turns, answers) = (Arc::clone(&known.turns), Arc::clone(&known.answers));
        let documents = known.documents.clone();
        let given_up = CancellationToken::new();
        let place = Place { client, turns, answers, documents, idle_since, given_up };
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, place.clone());
        Ok(Some(Seat { seats: Arc::clone(self), number, place }))
    }

    /// Has the connection end that was idle for longest, unless one is ending already.
    fn give_up_one(&self, taken: &Taken) {
        if taken.places.values().any(|place| place.given_up.is_cancelled()) {
            return;
        }
        let latest = self.now().saturating_sub(IDLE_MIN.as_millis() as u64);
        let idle =
            taken.places.values().map(|place| (place.idle_since.load(Ordering::Relaxed), place));
        let longest = idle.filter(|(since, _)| *since <= latest).min_by_key(|(since, _)| *since);
        if let Some((_, place)) = longest {
            place.given_up.cancel();
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A request came whole.
    pub(super) fn is_busy(&self) {
        self.place.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer is over.
    pub(super) fn is_idle(&self) {
        self.place.idle_since.store(self.seats.now(), Ordering::Relaxed);
    }

    /// The right to have a request worked on, at once if the client does not have too many of them already.
    pub(super) fn try_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.place.turns.try_acquire().ok()
    }

    /// The same, in the order in which this client's requests came; `None` when its others take too long.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = timeout(TURN_DEADLINE, self.place.turns.acquire());
        // Its time runs from here on.
        self.seats.metrics.request_delayed();
        turn.await.ok()?.ok()
    }

    /// A place for an answer over HTTP/2, if its client, and all together, do not have too many of them already.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub(super) fn try_open(&self) -> Result<OpenAnswer, Limit> {
        let of_client = Arc::clone(&self.place.answers).try_acquire_owned();
        let of_client = of_client.map_err(|_| Limit::ConnectionsPerClient)?;
        let of_all = Arc::clone(&self.seats.answers).try_acquire_owned();
        let of_all = of_all.map_err(|_| Limit::Connections)?;
        Ok(OpenAnswer { _of_client: of_client, _of_all: of_all })
    }

    /// By what stands for all addresses that count as the same client.
    pub(super) const fn client(&self) -> IpAddr {
        self.place.client
    }

    /// Room for the documents that its client has not taken yet.
    pub(super) fn documents(&self) -> &Documents {
        &self.place.documents
    }

    /// Waits until the place is wanted for another.
    pub(super) fn given_up(&self) -> WaitForCancellationFuture<'_> {
        self.place.given_up.cancelled()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.places.remove(&self.number);
        if let Some(known) = taken.by_client.get_mut(&self.place.client) {
            known.connections -= 1;
            if known.connections == 0 {
                taken.by_client.remove(&self.place.client);
            }
        }
        drop(taken);
        self.seats.freed.notify_waiters();
    }
}

/// One client: an IPv4 address, or the /64 in which an IPv6 host may take any address that it likes.
pub(super) fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn config(most: usize, most_each: usize) -> Config {
        Config {
            max_connections: most,
            max_connections_per_client: most_each,
            max_requests_per_client: 2,
            ..crate::config::Config::default().server
        }
    }

    fn seats(most: usize, most_each: usize) -> Arc<Seats> {
        Seats::new(&config(most, most_each), &Metrics::new())
    }

    async fn is_given_up(seat: &Seat) -> bool {
        timeout(Duration::ZERO, seat.given_up()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_gets_no_more_than_its_share() {
        let seats = seats(10, 2);
        let first = seats.take(client(1)).await.expect("a place");
        let _second = seats.take(client(1)).await.expect("a place");
        assert_eq!(seats.take(client(1)).await.expect_err("a third"), Refused::TooMany);
        seats.take(client(2)).await.expect("another client has places");
        drop(first);
        seats.take(client(1)).await.expect("one is free again");
        assert_eq!(seats.lock().places.len(), 1, "places are given back");
        assert_eq!(seats.lock().by_client.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_client_and_a_mapped_address_the_ipv4_one() {
        let seats = seats(10, 1);
        let take = async |text: &str| seats.take(text.parse().expect("an address")).await;
        let _first = take("2001:db8:0:1::1").await.expect("a place");
        assert_eq!(take("2001:db8:0:1:ffff::2").await.expect_err("the same"), Refused::TooMany);
        let _second = take("2001:db8:0:2::1").await.expect("another network");
        let _third = take("10.0.0.1").await.expect("a place");
        assert_eq!(take("::ffff:10.0.0.1").await.expect_err("the same"), Refused::TooMany);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_requests_of_one_client_are_worked_on_whatever_connections_they_come_by() {
        let seats = seats(10, 10);
        let taken =
            [1, 1, 1, 2].map(|last| seats.try_take(client(last)).expect("some").expect("free"));
        let first = taken[0].try_turn().expect("a turn");
        let _second = taken[1].try_turn().expect("a turn");
        assert!(taken[2].try_turn().is_none());
        assert!(taken[3].try_turn().is_some(), "another client's");
        let begun = Instant::now();
        assert!(taken[2].turn().await.is_none());
        assert_eq!(begun.elapsed(), TURN_DEADLINE);
        drop(first);
        assert!(taken[2].turn().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_answers_are_open_as_there_may_be_connections() {
        let seats = seats(3, 2);
        let taken =
            [1, 1, 2].map(|last| seats.try_take(client(last)).expect("some").expect("free"));
        let first = taken[0].try_open().expect("a place");
        let _second = taken[1].try_open().expect("a place");
        let third = taken[0].try_open().expect_err("a third of one client");
        assert_eq!(third, Limit::ConnectionsPerClient);
        let _third = taken[2].try_open().expect("another client's");
        let fourth = taken[2].try_open().expect_err("a fourth of all");
        assert_eq!(fourth, Limit::Connections);
        drop(first);
        assert!(taken[2].try_open().is_ok());
        assert!(taken[1].try_open().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_for_longest_makes_room() {
        let seats = seats(3, 3);
        let mut taken = Vec::new();
        for last in 1..=3 {
            taken.push(seats.take(client(last)).await.expect("a place"));
            advance(SECOND).await;
        }
        taken[0].is_busy();
        advance(10 * SECOND).await;
        let waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take(client(9)).await }
        });
        taken[1].given_up().await;
        assert!(!is_given_up(&taken[0]).await, "it is being answered");
        advance(5 * SECOND).await;
        assert!(!is_given_up(&taken[2]).await, "one goes for one that comes");
        drop(taken.remove(1));
        waiting.await.expect("no panic").expect("a place");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_answered_one_more_waits() {
        let seats = seats(2, 2);
        let taken = [1, 2].map(|last| seats.try_take(client(last)).expect("some").expect("free"));
        taken.iter().for_each(Seat::is_busy);
        let take = || timeout(60 * SECOND, seats.take(client(9)));
        take().await.expect_err("nobody goes");
        taken[1].is_idle();
        let mut waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take(client(9)).await }
        });
        let begun = Instant::now();
        taken[1].given_up().await;
        assert!(begun.elapsed() >= IDLE_MIN, "its next request may be just on its way");
        timeout(SECOND, &mut waiting).await.expect_err("it is there still");
        drop(taken);
        waiting.await.expect("no panic").expect("a place");
    }
}
