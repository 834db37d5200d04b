//! This layer against small servers that say what real registries have been seen to say, and worse.

mod answers;
mod auth;
mod bodies;
mod endpoints;
mod tls;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Account, Config, Error, Limits, Patience, Secret, Source, Upstream, Upstreams, Urgency,
    fake::{Fake, Reply, Seen, broken, fed, reply, stalled},
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    oci::{Digest, Reference, RegistryName, RepositoryName, media_type},
};

const IMAGE: &str = r#"{"schemaVersion":2}"#;
const MOMENT: Duration = Duration::from_millis(100);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(30);

/// A registry under test, and what surrounds it.
struct Bench {
    upstream: Arc<Upstream>,
    clock: Clock,
    metrics: Metrics,
}

fn config(endpoints: &[&Fake]) -> Config {
    Config {
        registry: "registry.example".parse().expect("a registry"),
        rules: crate::upstream::RepositoryRules::default(),
        public: false,
        endpoints: endpoints.iter().map(|e| e.url().parse().expect("an address")).collect(),
        accounts: Vec::new(),
        clients: None,
        account_for: Vec::new(),
        ca_pem: Vec::new(),
        realms: Vec::new(),
        internal: None,
        patience: Patience {
            connect: LONG,
            first_byte: LONG,
            idle: LONG,
            least_rate: None,
            attempts: 1,
        },
    }
}

fn account() -> Vec<Account> {
    let source = Source::password("me", Secret::new("s3cret".into()));
    vec![Account { name: "mine".into(), source }]
}

/// What `account` is in a Basic `Authorization`.
const ACCOUNT: &str = "Basic bWU6czNjcmV0";

fn bench(config: Config) -> Bench {
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let name = config.registry.clone();
    let upstreams = Upstreams::new(vec![config], Limits::default(), &metrics, &clock)
        .expect("a good configuration");
    let upstream = Arc::clone(upstreams.select(&name).expect("configured"));
    Bench { upstream, clock, metrics }
}

impl Bench {
    async fn manifest(&self, urgency: Urgency) -> Result<Bytes, Error> {
        let answer = self.upstream.manifest(&name(), &tag(), urgency).await;
        answer.map(|manifest| manifest.bytes)
    }

    fn metric(&self, line: &str) -> bool {
        let (text, _) = self.metrics.render();
        String::from_utf8(text).expect("text").lines().any(|has| has == line)
    }
}

fn name() -> RepositoryName {
    "library/alpine".parse().expect("a name")
}

fn tag() -> Reference {
    "3.20".parse().expect("a tag")
}

fn blob() -> Digest {
    Digest::sha256(b"0123456789")
}

/// The answer of a registry that has the image.
fn image() -> Option<Reply> {
    reply(200, &[("content-type", media_type::OCI_MANIFEST)], IMAGE)
}

fn is_protocol<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Protocol { .. }))
}

fn is_unavailable<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Unavailable { .. }))
}

#[test]
fn shows_no_secret() {
    let shown = format!("{:?} {:#?}", account(), account());
    assert!(!shown.contains("s3cret") && shown.contains('…'), "{shown}");
}

#[tokio::test]
async fn every_future_can_move_between_threads() {
    fn is_send(_: impl Send) {}
    let fake = Fake::start(|_| None).await;
    let Bench { upstream, .. } = bench(config(&[&fake]));
    is_send(upstream.manifest_head(&name(), &tag(), Urgency::Must));
    is_send(upstream.manifest(&name(), &tag(), Urgency::Must));
    is_send(upstream.blob_head(&name(), &blob()));
    is_send(upstream.blob(&name(), &blob(), 0));
    is_send(upstream.tags(&name(), None, None, Urgency::Must));
    is_send(upstream.referrers(&name(), &blob(), Urgency::Must));
    is_send(async { upstream.blob(&name(), &blob(), 0).await?.chunk().await });
}

#[test]
fn says_whose_configuration_is_wrong() {
    let registry: RegistryName = "registry.example".parse().expect("a registry");
    let patience =
        Patience { connect: LONG, first_byte: LONG, idle: LONG, least_rate: None, attempts: 1 };
    let config = |endpoint: &str, ca_pem: &[u8]| Config {
        registry: registry.clone(),
        rules: crate::upstream::RepositoryRules::default(),
        public: false,
        endpoints: endpoint.parse().into_iter().collect(),
        accounts: Vec::new(),
        clients: None,
        account_for: Vec::new(),
        ca_pem: ca_pem.to_vec(),
        realms: Vec::new(),
        internal: None,
        patience,
    };
    let good = || config("https://registry.example", b"");
    for bad in [
        vec![config("", b"")],
        vec![config("ftp://registry.example", b"")],
        vec![config("https://me:secret@registry.example", b"")],
        vec![config("https://registry.example", b"no certificate")],
        vec![good(), good()],
    ] {
        let refused =
            Upstreams::new(bad, Limits::default(), &Metrics::new(), &Clock::system()).err();
        assert!(refused.expect("refused").to_string().contains("registry.example"));
    }
    let upstreams =
        Upstreams::new(vec![good()], Limits::default(), &Metrics::new(), &Clock::system())
            .expect("good");
    assert!(upstreams.registries().eq([&registry]));
    assert!(upstreams.select(&RegistryName::docker_hub()).is_none());
}
