//! What clients chose from lists before: the one sign that every client gives.
//!
//! A set with recency, bounded in number: addresses that come once, however many, do not push out those that come again
//! and again. It is written down now and then, and lost without harm: the next pull teaches it anew.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Asker, KnownClient};
use crate::{oci::Platform, on_demand::OnDemand};

/// Clients remembered.
const CLIENTS_MAX: u64 = 4096;

/// Platforms remembered of each.
const PLATFORMS_MAX: usize = 4;

/// Bytes of a User-Agent, or of a certificate's name, that tell clients apart.
const NAME_MAX: usize = 200;

/// Seconds by which what is written may lag behind when a client was last seen.
const SEEN_STEP: u64 = 24 * 60 * 60;

/// A client as it is told from others: by its certificate, else by address and User-Agent, since several may share an
/// address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ClientKey {
    /// The first name in its certificate.
    Subject(String),
    /// Where it comes from, and what it calls itself.
    Address(IpAddr, Arc<str>),
}

/// What one client chose, the latest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Choices {
    platforms: Vec<Platform>,
    /// Seconds since 1970.
    seen: u64,
}

/// All clients of which something was learned.
#[derive(Debug)]
pub(super) struct Learned {
    clients: OnDemand<ClientKey, Arc<Choices>>,
    /// There is something that was not written down.
    changed: AtomicBool,
    /// How often something was learned.
    edition: AtomicU64,
}

impl ClientKey {
    pub(super) fn of(asker: &Asker) -> Self {
        match asker.subjects.first() {
            Some(subject) => Self::Subject(shortened(subject).to_owned()),
            None => {
                let user_agent = match shortened(&asker.user_agent) {
                    whole if whole.len() == asker.user_agent.len() => Arc::clone(&asker.user_agent),
                    part => part.into(),
                };
                Self::Address(asker.address.to_canonical(), user_agent)
            }
        }
    }

    /// The client as a person would name it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Subject(subject) => subject.clone(),
            Self::Address(address, _) => address.to_string(),
        }
    }

    fn user_agent(&self) -> &str {
        match self {
            Self::Subject(_) => "",
            Self::Address(_, user_agent) => user_agent,
        }
    }
}

impl Learned {
    /// What the client chose, the latest first; `None` when it never did.
    pub(super) fn of(&self, client: &ClientKey) -> Option<Vec<Platform>> {
        self.clients.get(client).map(|choices| choices.platforms.clone())
    }

    /// How often anything was learned: what was found of a client before one time may be old after it.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The client that chose last of those at this address, whatever it calls itself.
    pub(super) fn at(&self, address: IpAddr) -> Option<ClientKey> {
        let address = address.to_canonical();
        let here = self.clients.all().into_iter().filter(
            |(client, _)| matches!(client, ClientKey::Address(known, _) if *known == address),
        );
        let latest = here.max_by_key(|(_, choices)| choices.seen);
        latest.map(|(client, _)| client)
    }

    /// The client chose `platform` at `now`, in seconds since 1970.
    pub(super) fn learn(&self, client: ClientKey, platform: &Platform, now: u64) {
        let known = self.clients.get(&client);
        let mut choices = known.map_or_else(
            || Choices { platforms: Vec::new(), seen: 0 },
            |known| Choices::clone(&known),
        );
        if choices.platforms.first() == Some(platform)
            && now < choices.seen.saturating_add(SEEN_STEP)
        {
            return;
        }
        choices.platforms.retain(|chosen| chosen != platform);
        choices.platforms.insert(0, platform.clone());
        choices.platforms.truncate(PLATFORMS_MAX);
        choices.seen = now;
        self.clients.insert(client, Arc::new(choices));
        self.edition.fetch_add(1, Ordering::AcqRel);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// All of them, the latest first.
    pub(super) fn all(&self) -> Vec<KnownClient> {
        let known = self.clients.all().into_iter().map(|(client, choices)| KnownClient {
            client: client.shown(),
            user_agent: client.user_agent().to_owned(),
            platforms: choices.platforms.clone(),
            seen: choices.seen,
        });
        let mut known: Vec<KnownClient> = known.collect();
        known.sort_by(|a, b| b.seen.cmp(&a.seen).then_with(|| a.client.cmp(&b.client)));
        known
    }

    /// What is to be written down; `None` when it was.
    pub(super) fn unwritten(&self) -> Option<Bytes> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let all: Vec<(ClientKey, Choices)> = self
            .clients
            .all()
            .into_iter()
            .map(|(client, choices)| (client, Choices::clone(&choices)))
            .collect();
        serde_json::to_vec(&all).map(Bytes::from).ok()
    }

    /// It was not written down after all.
    pub(super) fn not_written(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Takes in what was written down. What cannot be read is forgotten.
    pub(super) fn restore(&self, bytes: &[u8]) {
        let Ok(all) = serde_json::from_slice::<Vec<serde_json::Value>>(bytes) else {
            tracing::warn!("what was learned of clients cannot be read; it is learned anew");
            return;
        };
        for client in all.into_iter().take(CLIENTS_MAX as usize) {
            // One that a later wharf wrote may have a platform that this one knows nothing of.
            let Ok((client, mut choices)) = serde_json::from_value::<(ClientKey, Choices)>(client)
            else {
                tracing::warn!("what was learned of a client cannot be read; it is learned anew");
                continue;
            };
            choices.platforms.truncate(PLATFORMS_MAX);
            if !choices.platforms.is_empty() {
                self.clients.insert(client, Arc::new(choices));
            }
        }
        self.edition.fetch_add(1, Ordering::AcqRel);
    }
}

impl Default for Learned {
    fn default() -> Self {
        let clients = OnDemand::new(CLIENTS_MAX);
        Self { clients, changed: AtomicBool::new(false), edition: AtomicU64::new(0) }
    }
}

/// As much of a name as tells clients apart.
fn shortened(name: &str) -> &str {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= NAME_MAX;
    let end = name.char_indices().take_while(fits).last();
    &name[..end.map_or(0, |(at, letter)| at + letter.len_utf8())]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::store::STATE_MAX_BYTES;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    fn at(address: u32, user_agent: &str) -> ClientKey {
        let user_agent = user_agent.into();
        ClientKey::of(&Asker { user_agent, ..Asker::at(Ipv4Addr::from(address).into()) })
    }

    #[test]
    fn a_client_is_its_address_and_user_agent_or_its_certificate() {
        let v4 = Asker::at("10.0.0.1".parse().expect("an address"));
        let mapped = Asker::at("::ffff:10.0.0.1".parse().expect("an address"));
        assert_eq!(ClientKey::of(&v4), ClientKey::of(&mapped));
        assert_ne!(at(1, "docker/24"), at(1, "docker/25"));
        assert_ne!(at(1, "docker/24"), at(2, "docker/24"));
        let certified = |address: u32, names: &[&str]| {
            let subjects = names.iter().map(|name| (*name).to_owned()).collect();
            ClientKey::of(&Asker { subjects, ..Asker::at(Ipv4Addr::from(address).into()) })
        };
        assert_eq!(certified(1, &["pi-1", "pi-1.lan"]), certified(2, &["pi-1"]));
        assert_eq!(certified(1, &["pi-1"]).shown(), "pi-1");
        // Names are as long as their senders like.
        let long = "ä".repeat(100_000);
        for key in [at(1, &long), certified(1, &[&long])] {
            let len = match key {
                ClientKey::Subject(name) => name.len(),
                ClientKey::Address(_, name) => name.len(),
            };
            assert_eq!(len, NAME_MAX);
        }
    }

    #[test]
    fn the_latest_choices_come_first_each_once_and_few() {
        let (learned, pi) = (Learned::default(), at(1, "containerd/1.7"));
        assert_eq!(learned.of(&pi), None);
        for (n, chosen) in
            ["linux/arm/v7", "linux/arm64", "linux/arm/v7", "linux/amd64"].into_iter().enumerate()
        {
            learned.learn(pi.clone(), &platform(chosen), n as u64);
        }
        let expected: Vec<Platform> =
            ["linux/amd64", "linux/arm/v7", "linux/arm64"].map(platform).into();
        assert_eq!(learned.of(&pi), Some(expected));
        for chosen in ["linux/386", "linux/s390x", "linux/ppc64le"] {
            learned.learn(pi.clone(), &platform(chosen), 10);
        }
        assert_eq!(learned.of(&pi).map(|platforms| platforms.len()), Some(PLATFORMS_MAX));
    }

    #[test]
    fn what_is_known_already_is_not_written_again_the_same_day() {
        let (learned, pi, v7) = (Learned::default(), at(1, ""), platform("linux/arm/v7"));
        assert_eq!(learned.unwritten(), None);
        learned.learn(pi.clone(), &v7, 1000);
        assert!(learned.unwritten().is_some());
        learned.learn(pi.clone(), &v7, 1000 + SEEN_STEP - 1);
        assert_eq!(learned.unwritten(), None);
        learned.learn(pi.clone(), &v7, 1000 + SEEN_STEP);
        assert!(learned.unwritten().is_some());
        learned.not_written();
        assert!(learned.unwritten().is_some());
        learned.learn(pi, &platform("linux/arm64"), 1001 + SEEN_STEP);
        assert!(learned.unwritten().is_some());
    }

    #[test]
    fn a_hundred_thousand_addresses_are_a_bounded_number_of_clients_and_a_bounded_file() {
        let (learned, v7) = (Learned::default(), platform("linux/arm/v7"));
        let pi = at(u32::MAX, "containerd/pi");
        let agent = "\"".repeat(300);
        for n in 0..100_000_u32 {
            if n % 100 == 0 {
                learned.of(&pi);
                learned.learn(pi.clone(), &v7, u64::from(n) * SEEN_STEP);
            }
            let client = at(n, &agent);
            learned.of(&client);
            learned.learn(client, &platform("linux/386"), u64::from(n) * SEEN_STEP);
        }
        learned.clients.settle();
        assert!(learned.all().len() <= CLIENTS_MAX as usize, "{}", learned.all().len());
        assert_eq!(learned.of(&pi), Some(vec![v7.clone()]), "it came again and again");
        assert!(learned.at(Ipv4Addr::from(u32::MAX).into()).is_some());
        let written = learned.unwritten().expect("it changed");
        assert!((written.len() as u64) < STATE_MAX_BYTES, "{} bytes", written.len());
        let restored = Learned::default();
        restored.restore(&written);
        assert_eq!(restored.all().len(), learned.all().len());
        assert_eq!(restored.of(&pi), Some(vec![v7]));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let learned = Learned::default();
        learned.learn(at(1, "docker/24 \u{fffd}\"\\"), &platform("linux/arm/v6"), 7);
        learned.learn(ClientKey::Subject("pi".into()), &platform("windows(10.0.1)/amd64"), 8);
        let restored = Learned::default();
        restored.restore(&learned.unwritten().expect("it is new"));
        let shown = |learned: &Learned| format!("{:?}", learned.all());
        assert_eq!(shown(&restored), shown(&learned));
        assert_eq!(restored.unwritten(), None, "it is written down already");
    }

    #[test]
    fn a_damaged_file_costs_what_is_damaged() {
        for damaged in ["", "{}", "[", "null", "[[[[[[", "[1,2,3]", "[[],{}]"] {
            let learned = Learned::default();
            learned.restore(damaged.as_bytes());
            assert!(learned.all().is_empty(), "{damaged}");
        }
        let learned = Learned::default();
        learned.restore(
            br#"[
                [{"Address":["10.0.0.1","docker"]},{"platforms":["linux/riscv256"],"seen":1}],
                [{"Address":["10.0.0.2","docker"]},{"platforms":["linux/arm64"],"seen":18446744073709551615}],
                [{"Address":["nowhere","docker"]},{"platforms":["linux/arm64"],"seen":1}],
                [{"Address":["10.0.0.3","docker"]},{"platforms":[],"seen":1}],
                [{"Subject":"pi"},{"platforms":["linux/386","linux/386","linux/386","linux/386","linux/386"],"seen":1}]
            ]"#,
        );
        let known: Vec<String> = learned.all().into_iter().map(|client| client.client).collect();
        assert_eq!(known, ["10.0.0.2", "pi"]);
        // A client that was seen at the end of time is a client all the same.
        learned.learn(at(0x0a00_0002, "docker"), &platform("linux/arm64"), 5);
        learned.learn(at(0x0a00_0002, "docker"), &platform("linux/amd64"), 5);
        assert_eq!(learned.of(&at(0x0a00_0002, "docker")).map(|known| known.len()), Some(2));
    }
}
