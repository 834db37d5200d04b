//! Proof of who asks: challenges, tokens, and which token service may see the credentials
//! ([distribution, "Token Authentication"](https://distribution.github.io/distribution/spec/auth/token/)).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use moka::{future::Cache, ops::compute::Op, policy::EvictionPolicy};
use tokio::time::Instant;
use url::Url;

use super::{
    Config, Credentials, Error,
    client::{Http, Question},
    headers,
    health::Endpoint,
    kin::Kin,
    retry::Failure,
    token::{Grant, Service, secret},
};
use crate::{
    clock::Clock,
    metrics::Limit,
    oci::{RegistryName, RepositoryName},
};

/// What a token service may answer at most.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// All tokens of one registry together.
const TOKENS_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Repositories of one registry whose challenge is remembered.
const CHALLENGES: u64 = 1024;
/// A token is not used in its last seconds: it may expire on its way.
const MARGIN: Duration = Duration::from_secs(5);

/// The account at one registry, and what it has been given.
pub(super) struct Auth {
    registry: RegistryName,
    kin: Kin,
    credentials: Option<Credentials>,
    clock: Clock,
    /// What an endpoint, by its base address, wants to see for a repository; only what could be shown last time.
    challenges: Cache<(Url, RepositoryName), Challenge>,
    tokens: Cache<Arc<Service>, Token>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// How an endpoint wants to be convinced.
#[derive(Clone)]
enum Challenge {
    /// With the password, as the header to send: only of an endpoint that may have it.
    Basic(HeaderValue),
    Bearer(Arc<Service>),
}

/// What to send as `Authorization`.
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    /// The service that gave the token; `None` for Basic.
    service: Option<Arc<Service>>,
    /// Whether this was remembered: a newer one may be taken where this is not.
    may_be_outdated: bool,
}

impl Proof {
    /// Whether no better answer to `challenge` can be had than this.
    fn is_all_that(&self, challenge: &Challenge) -> bool {
        let same = match (challenge, &self.service) {
            (Challenge::Basic(_), None) => true,
            (Challenge::Bearer(asked), Some(had)) => asked == had,
            _ => false,
        };
        same && !self.may_be_outdated
    }
}

impl Auth {
    pub(super) fn new(config: &Config, clock: &Clock) -> Self {
        Self {
            registry: config.registry.clone(),
            kin: Kin::of(config),
            credentials: config.credentials.clone(),
            clock: clock.clone(),
            challenges: Cache::builder()
                .max_capacity(CHALLENGES)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            tokens: Cache::builder()
                .max_capacity(TOKENS_MAX_BYTES)
                .weigher(|service: &Arc<Service>, token: &Token| {
                    let bytes = token.header.len() + service.len();
                    u32::try_from(bytes).unwrap_or(u32::MAX)
                })
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// The proof that `endpoint` is known to want for `name`, if any.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(super) async fn known(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        name: &RepositoryName,
    ) -> Result<Option<Proof>, Failure> {
        let key = (endpoint.base().clone(), name.clone());
        let Some(challenge) = self.challenges.get(&key).await else { return Ok(None) };
        let proof = self.proof(http, endpoint, challenge).await;
        if proof.is_err() {
            // The registry may name another token service by now: it is asked anew.
            self.challenges.invalidate(&key).await;
        }
        proof.map(Some)
    }

    /// The proof that the 401 with these `headers` asks for. It came in spite of the proof `refused`, if any,
    /// which is not sent again.
    ///
    /// # Errors
    /// `Unauthorized` when there is no way to satisfy it; otherwise what the token service came to.
    pub(super) async fn answer(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        name: &RepositoryName,
        headers: &HeaderMap,
        refused: Option<&Proof>,
    ) -> Result<Proof, Failure> {
        if let Some(Proof { service: Some(service), header, .. }) = refused {
            self.forget(service, |token| token.header == *header).await;
        }
        let challenge = self.challenge(endpoint, name, headers)?;
        if refused.is_some_and(|refused| refused.is_all_that(&challenge)) {
            return Err(Error::Unauthorized.into());
        }
        let proof = self.proof(http, endpoint, challenge.clone()).await?;
        let key = (endpoint.base().clone(), name.clone());
        self.challenges.insert(key, challenge).await;
        Ok(proof)
    }

    /// The best of the challenges in `headers`: a token rather than the password, which is only for an endpoint that may
    /// have it.
    fn challenge(
        &self,
        endpoint: &Endpoint,
        name: &RepositoryName,
        headers: &HeaderMap,
    ) -> Result<Challenge, Error> {
        let may_have_account = self.kin.may_have_account(endpoint.base());
        let account = if may_have_account { self.basic() } else { None };
        let mut basic = Err(Error::Unauthorized);
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(value) = value.to_str() else { continue };
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let service = Service::named(&challenge, endpoint.base(), name, &self.kin)?;
                    if account.is_some() && !service.with_account {
                        self.warn_of_stranger(&service);
                    }
                    return Ok(Challenge::Bearer(Arc::new(service)));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = account.clone().map(Challenge::Basic).ok_or(Error::Unauthorized);
                }
            }
        }
        basic
    }

    async fn proof(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        challenge: Challenge,
    ) -> Result<Proof, Failure> {
        let service = match challenge {
            Challenge::Basic(header) => {
                return Ok(Proof { header, service: None, may_be_outdated: false });
            }
            Challenge::Bearer(service) => service,
        };
        let now = self.clock.now();
        if let Some(token) = self.tokens.get(&service).await {
            if token.good_until > now {
                let header = token.header;
                return Ok(Proof { header, service: Some(service), may_be_outdated: true });
            }
            self.forget(&service, |token| token.good_until <= now).await;
        }
        // Whoever comes first asks; if it goes away before the answer, the next in line asks.
        let entry = self
            .tokens
            .entry(Arc::clone(&service))
            .or_try_insert_with(self.token(http, endpoint, &service))
            .await
            .map_err(|failure| Failure::clone(&failure))?;
        let may_be_outdated = !entry.is_fresh();
        let header = entry.into_value().header;
        Ok(Proof { header, service: Some(service), may_be_outdated })
    }

    /// Drops the token of `service` if it is `outdated`: another may already have taken its place.
    async fn forget(&self, service: &Arc<Service>, outdated: impl Fn(&Token) -> bool) {
        let entry = self.tokens.entry(Arc::clone(service));
        entry
            .and_compute_with(|entry| {
                let drop_it = entry.is_some_and(|entry| outdated(entry.value()));
                std::future::ready(if drop_it { Op::Remove } else { Op::Nop })
            })
            .await;
    }

    /// Asks the token service that `endpoint` named.
    async fn token(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        service: &Service,
    ) -> Result<Token, Failure> {
        let asked_at = self.clock.now();
        let authorization = if service.with_account { self.basic() } else { None };
        let question = Question::get("token", "application/json");
        let (base, url) = (endpoint.base(), service.url());
        let answer = http.exchange(&question, base, &url, authorization.as_ref()).await?;
        if let Some(refusal) = http.refusal(&answer) {
            answer.body.discard().await;
            return Err(match refusal.error {
                Error::NotFound => Error::protocol("the token service is not there").into(),
                _ => refusal,
            });
        }
        headers::refuse_encoded(&answer.headers)?;
        let document = answer.body.whole(ANSWER_MAX_BYTES, Limit::TokenBytes).await?;
        // The parser's message could quote the token.
        let grant: Grant<'_> = serde_json::from_slice(&document)
            .map_err(|_| Error::protocol("the token service's answer is not JSON with a token"))?;
        let good_until = asked_at + grant.life() - MARGIN;
        let header = grant.bearer().ok_or_else(|| Error::protocol("no usable token"))?;
        Ok(Token { header, good_until })
    }

    fn warn_of_stranger(&self, service: &Service) {
        tracing::warn!(
            registry = %self.registry,
            realm = service.realm.host_str().unwrap_or_default(),
            "the token service is on another domain and is asked without credentials; \
             if it is the registry's, add it to `realms` of its [[upstream]]"
        );
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Credentials { username, password } = self.credentials.as_ref()?;
        secret(&http_auth::basic::encode_credentials(username, password.expose()))
    }
}
