//! What clients chose from lists before: the one sign that every client gives.
//!
//! A set with recency, bounded in number: addresses that come once, however many, do not push out those that come again
//! and again. It is written down now and then, and lost without harm: the next pull teaches it anew.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::{Asker, KnownClient};
use crate::oci::Platform;

/// Clients remembered.
const CLIENTS_MAX: u64 = 4096;

/// Platforms remembered of each.
const PLATFORMS_MAX: usize = 4;

/// Bytes of a User-Agent that tell clients apart.
const AGENT_MAX: usize = 200;

/// Seconds by which what is written may lag behind when a client was last seen.
const SEEN_STEP: u64 = 24 * 60 * 60;

/// A client as it is told from others: by its certificate, else by address and User-Agent, since several may share an
/// address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ClientKey {
    /// The first name in its certificate.
    Subject(String),
    /// Where it comes from, and what it calls itself.
    Address(IpAddr, String),
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
    clients: Cache<ClientKey, Arc<Choices>>,
    /// There is something that was not written down.
    changed: AtomicBool,
}

impl ClientKey {
    pub(super) fn of(asker: &Asker) -> Self {
        match asker.subjects.first() {
            Some(subject) => Self::Subject(subject.clone()),
            None => {
                let user_agent = shortened(&asker.user_agent).to_owned();
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

    /// The client that chose last of those at this address, whatever it calls itself.
    pub(super) fn at(&self, address: IpAddr) -> Option<ClientKey> {
        let address = address.to_canonical();
        let here = self.clients.iter().filter(
            |(client, _)| matches!(&**client, ClientKey::Address(known, _) if *known == address),
        );
        let latest = here.max_by_key(|(_, choices)| choices.seen);
        latest.map(|(client, _)| ClientKey::clone(&client))
    }

    /// The client chose `platform` at `now`, in seconds since 1970.
    pub(super) fn learn(&self, client: ClientKey, platform: &Platform, now: u64) {
        let known = self.clients.get(&client);
        let mut choices = known.map_or_else(
            || Choices { platforms: Vec::new(), seen: 0 },
            |known| Choices::clone(&known),
        );
        if choices.platforms.first() == Some(platform) && now < choices.seen + SEEN_STEP {
            return;
        }
        choices.platforms.retain(|chosen| chosen != platform);
        choices.platforms.insert(0, platform.clone());
        choices.platforms.truncate(PLATFORMS_MAX);
        choices.seen = now;
        self.clients.insert(client, Arc::new(choices));
        self.changed.store(true, Ordering::Relaxed);
    }

    /// All of them, the latest first.
    pub(super) fn all(&self) -> Vec<KnownClient> {
        let known = self.clients.iter().map(|(client, choices)| KnownClient {
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
            .iter()
            .map(|(client, choices)| (ClientKey::clone(&client), Choices::clone(&choices)))
            .collect();
        serde_json::to_vec(&all).map(Bytes::from).ok()
    }

    /// It was not written down after all.
    pub(super) fn not_written(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Takes in what was written down. What cannot be read is forgotten.
    pub(super) fn restore(&self, bytes: &[u8]) {
        let Ok(all) = serde_json::from_slice::<Vec<(ClientKey, Choices)>>(bytes) else {
            tracing::warn!("what was learned of clients cannot be read; it is learned anew");
            return;
        };
        for (client, mut choices) in all.into_iter().take(CLIENTS_MAX as usize) {
            choices.platforms.truncate(PLATFORMS_MAX);
            if !choices.platforms.is_empty() {
                self.clients.insert(client, Arc::new(choices));
            }
        }
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self { clients: Cache::new(CLIENTS_MAX), changed: AtomicBool::new(false) }
    }
}

/// As much of a User-Agent as tells clients apart.
fn shortened(user_agent: &str) -> &str {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= AGENT_MAX;
    let end = user_agent.char_indices().take_while(fits).last();
    &user_agent[..end.map_or(0, |(at, letter)| at + letter.len_utf8())]
}
