//! What is remembered of those who have signed in, or tried to: for a short while, within bounds, and never a password.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use ring::{hmac, rand::SystemRandom};
use tokio::time::Instant;

use super::{super::credentials::Credentials, hash::Kept};

/// How long a password that was right is known to be, so that not every request of a pull takes as long as the first.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// Most of them at a time; who does not find room is verified again.
const GOOD_MAX: usize = 4096;

/// Wrong passwords of one client that cost it nothing but the time to verify them.
const FREE_FAILURES: u32 = 5;

/// How long a client waits after the first one that does; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// After how long without a wrong password they are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Most clients whose failures are remembered; when there are more, those who were quiet for longest are forgotten.
const CLIENTS_MAX: usize = 4096;

/// Stands for one name, one password and the line that they were verified against: who cannot see this process's memory
/// learns nothing from it, and a line that changes is verified anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

/// Makes marks. Its key is this process's, and never leaves it.
pub(super) struct Marker(hmac::Key);

impl Marker {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the system has random numbers"))
    }

    pub(super) fn mark(&self, credentials: &Credentials, kept: &Kept) -> Mark {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [credentials.name.as_bytes(), kept.as_bytes(), &credentials.password] {
            // So that no part can be taken for the end of another.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        Mark(mark)
    }
}

/// What is remembered.
#[derive(Default)]
pub(super) struct Memory {
    good: HashMap<Mark, Instant>,
    failures: HashMap<IpAddr, Failures>,
}

struct Failures {
    count: u32,
    last: Instant,
}

impl Memory {
    /// Whether these were found right a short while ago.
    pub(super) fn is_good(&self, mark: &Mark) -> bool {
        self.good.get(mark).is_some_and(|at| at.elapsed() < GOOD_FOR)
    }

    /// They were found right now.
    pub(super) fn was_good(&mut self, mark: Mark) {
        if self.good.len() >= GOOD_MAX {
            self.good.retain(|_, at| at.elapsed() < GOOD_FOR);
        }
        if self.good.len() < GOOD_MAX {
            self.good.insert(mark, Instant::now());
        }
    }

    /// `client` has given a wrong password.
    pub(super) fn was_bad(&mut self, client: IpAddr) {
        if self.failures.len() >= CLIENTS_MAX && !self.failures.contains_key(&client) {
            self.failures.retain(|_, failures| failures.last.elapsed() < FORGIVEN_AFTER);
            let quietest = self.failures.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(quietest) = quietest.map(|(client, _)| *client) {
                if self.failures.len() >= CLIENTS_MAX {
                    self.failures.remove(&quietest);
                }
            }
        }
        let now = Instant::now();
        let failures = self.failures.entry(client).or_insert(Failures { count: 0, last: now });
        if failures.last.elapsed() >= FORGIVEN_AFTER {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// How long `client` has to wait before another password of its is looked at; `None`: not at all.
    pub(super) fn pause(&self, client: IpAddr) -> Option<Duration> {
        let failures = self.failures.get(&client)?;
        let beyond = failures.count.checked_sub(FREE_FAILURES)?;
        let pause = PAUSE_MIN.saturating_mul(2u32.saturating_pow(beyond)).min(PAUSE_MAX);
        pause.checked_sub(failures.last.elapsed()).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LINE: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials { name: name.to_owned(), password: password.as_bytes().to_vec() }
    }

    fn kept(text: &str) -> Kept {
        Kept::parse(text).expect("a good line")
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_mark_is_of_one_name_one_password_and_one_line() {
        let marker = Marker::new();
        let mark =
            |name, password, line: &str| marker.mark(&credentials(name, password), &kept(line));
        let one = mark("alice", "secret", LINE);
        assert!(one == mark("alice", "secret", LINE));
        let other_line = LINE.replace("$2a$", "$2b$");
        for other in [
            mark("alic", "secret", LINE),
            mark("alice", "secre", LINE),
            mark("alice", "secret", &other_line),
            Marker::new().mark(&credentials("alice", "secret"), &kept(LINE)),
        ] {
            assert!(one != other);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_right_is_known_for_a_short_while() {
        let (marker, mut memory) = (Marker::new(), Memory::default());
        let mark = |n: usize| marker.mark(&credentials("alice", &n.to_string()), &kept(LINE));
        assert!(!memory.is_good(&mark(0)));
        memory.was_good(mark(0));
        assert!(memory.is_good(&mark(0)) && !memory.is_good(&mark(1)));
        advance(GOOD_FOR).await;
        assert!(!memory.is_good(&mark(0)));
        for n in 0..GOOD_MAX + 10 {
            memory.was_good(mark(n));
        }
        assert!(memory.good.len() <= GOOD_MAX);
        advance(GOOD_FOR).await;
        memory.was_good(mark(7));
        assert!(memory.is_good(&mark(7)), "there is room again");
        assert_eq!(memory.good.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_wrong_again_and_again_has_to_wait_longer_and_longer() {
        let mut memory = Memory::default();
        for _ in 1..FREE_FAILURES {
            memory.was_bad(client(1));
            assert_eq!(memory.pause(client(1)), None);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            memory.was_bad(client(1));
            assert_eq!(memory.pause(client(1)), Some(Duration::from_secs(seconds)));
            assert_eq!(memory.pause(client(2)), None, "another client's");
        }
        advance(Duration::from_secs(59)).await;
        assert_eq!(memory.pause(client(1)), Some(Duration::from_secs(1)));
        advance(Duration::from_secs(1)).await;
        assert_eq!(memory.pause(client(1)), None);
        advance(FORGIVEN_AFTER).await;
        memory.was_bad(client(1));
        assert_eq!(memory.pause(client(1)), None, "forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn the_failures_of_so_many_clients_are_remembered_and_the_quietest_are_forgotten() {
        let mut memory = Memory::default();
        for n in 0..CLIENTS_MAX as u32 + 3 {
            memory.was_bad(client(n));
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(memory.failures.len(), CLIENTS_MAX);
        assert!(!memory.failures.contains_key(&client(2)));
        assert!(memory.failures.contains_key(&client(3)));
        advance(FORGIVEN_AFTER).await;
        memory.was_bad(client(0));
        assert_eq!(memory.failures.len(), 1);
    }
}
