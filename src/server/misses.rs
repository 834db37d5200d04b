//! Who asks for what nobody has ([`Misses`]), and is answered late when it is too much.
//!
//! Every name that is made up is a question to a registry, and takes a share of the line, of processors and of the
//! registry's patience that others need. It cannot be told from a name that is there before it was asked; so the answer
//! waits, and with it the connection on which the next one could be asked.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::seats::household;

/// Over how long they are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How late an answer comes.
const LATE: Duration = Duration::from_secs(1);

/// Clients that are told apart; those that come on top of them within one window are all answered late.
const CLIENTS_MAX: usize = 10_000;

/// How often each client was told that there is no such thing.
#[derive(Debug)]
pub(super) struct Misses {
    /// So many of one client in one window are answered at once.
    most_each: usize,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    by_client: HashMap<IpAddr, usize>,
}

impl Misses {
    pub(super) fn new(most_each: usize) -> Self {
        let window = Window { begun: Instant::now(), by_client: HashMap::new() };
        Self { most_each, window: Mutex::new(window) }
    }

    /// One more of `client`; how long it is to wait for the answer, if it has had too many.
    pub(super) fn late(&self, client: IpAddr) -> Option<Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.elapsed() >= WINDOW {
            *window = Window { begun: Instant::now(), by_client: HashMap::new() };
        }
        let (client, is_full) = (household(client), window.by_client.len() >= CLIENTS_MAX);
        let Some(count) = window.by_client.get_mut(&client) else {
            if is_full {
                return Some(LATE);
            }
            window.by_client.insert(client, 1);
            return (self.most_each == 0).then_some(LATE);
        };
        *count = count.saturating_add(1);
        (*count > self.most_each).then_some(LATE)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_no_too_often_waits_for_it_and_others_do_not() {
        let misses = Misses::new(2);
        assert_eq!([(); 4].map(|()| misses.late(client(1))), [None, None, Some(LATE), Some(LATE)]);
        assert_eq!(misses.late(client(2)), None);
        advance(WINDOW).await;
        assert_eq!(misses.late(client(1)), None, "another minute");
        assert_eq!(Misses::new(0).late(client(1)), Some(LATE));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_not_remembered_without_bound() {
        let misses = Misses::new(100);
        for number in 0..CLIENTS_MAX as u32 {
            assert_eq!(misses.late(client(number)), None);
        }
        assert_eq!(misses.late(client(u32::MAX)), Some(LATE));
        assert_eq!(misses.late(client(7)), None, "one that is known has its share");
        assert_eq!(misses.window.lock().expect("no panic").by_client.len(), CLIENTS_MAX);
        advance(WINDOW).await;
        assert_eq!(misses.late(client(u32::MAX)), None);
    }
}
