//! Proof of who asks: challenges, tokens, and which token service may see the credentials
//! ([distribution, "Token Authentication"](https://distribution.github.io/distribution/spec/auth/token/)).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use moka::{future::Cache, ops::compute::Op, policy::EvictionPolicy};
use tokio::time::Instant;
use url::Url;

use super::{
    Claim, Config, Error,
    account::{Accounts, Asker},
    client::{Http, Question},
    headers,
    health::{Asked, Endpoint},
    kin::Kin,
    retry::Failure,
    token::{Grant, Service},
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    oci::{Digest, RegistryName, RepositoryName},
    on_demand::OnDemand,
};

/// All tokens of one registry together.
const TOKENS_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Repositories of one registry whose challenge is remembered.
const CHALLENGES: u64 = 1024;
/// Repositories of one registry for which a client's account is kept.
const LENT: u64 = 4096;
/// A token is not used in its last seconds: it may expire on its way.
const MARGIN: Duration = Duration::from_secs(5);

/// The account at one registry, and what it has been given.
pub(super) struct Auth {
    registry: RegistryName,
    kin: Kin,
    /// wharf's own.
    accounts: Accounts,
    /// Accounts of clients that the registry let in, each with the repository for which it may be used.
    lent: OnDemand<RepositoryName, Claim>,
    clock: Clock,
    /// What an endpoint, by its base address, wants to see for a repository; only what could be shown last time.
    challenges: OnDemand<(Url, RepositoryName), Challenge>,
    /// By the account that they were bought with, and where.
    tokens: OnceLock<Cache<TokenKey, Token>>,
}

type TokenKey = (Digest, Arc<Service>);

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// How an endpoint wants to be convinced.
#[derive(Clone)]
enum Challenge {
    /// With the password: only of an endpoint that may have it.
    Basic,
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
    /// Whether this is a token that was bought just now, with an account: which is good, then.
    pub(super) fn is_bought(&self, account: &Claim) -> bool {
        let by_account = self.service.as_ref().is_some_and(|service| service.with_account);
        by_account && !account.is_none() && !self.may_be_outdated
    }

    /// Whether it is an account itself.
    pub(super) const fn is_account(&self) -> bool {
        self.service.is_none()
    }

    /// Whether no better answer to `challenge` can be had than this.
    fn is_all_that(&self, challenge: &Challenge) -> bool {
        let same = match (challenge, &self.service) {
            (Challenge::Basic, None) => true,
            (Challenge::Bearer(asked), Some(had)) => asked == had,
            _ => false,
        };
        same && !self.may_be_outdated
    }
}

impl Auth {
    pub(super) fn new(config: &Config, metrics: &Metrics, clock: &Clock) -> Self {
        Self {
            registry: config.registry.clone(),
            kin: Kin::of(config),
            accounts: Accounts::new(&config.registry, &config.accounts, clock, metrics),
            lent: OnDemand::new(LENT).least_recently_used(),
            clock: clock.clone(),
            challenges: OnDemand::new(CHALLENGES).least_recently_used(),
            tokens: OnceLock::new(),
        }
    }

    /// The account that a client lent for what is asked of `name`, if one did.
    pub(super) fn lent(&self, name: &RepositoryName) -> Option<Claim> {
        self.lent.get(name)
    }

    /// wharf's own accounts.
    pub(super) const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Who may ask `endpoint`, in that order; at least one. `lent`: a client's account, with which alone it is asked.
    pub(super) fn askers(
        &self,
        endpoint: &Endpoint,
        asked: Asked,
        lent: Option<&Claim>,
    ) -> Vec<Asker> {
        match lent {
            Some(claim) => vec![Asker::Client(claim.clone())],
            None if self.kin.may_have_account(endpoint.base()) => {
                self.accounts.in_turn(|who| endpoint.cools(who, asked).is_some())
            }
            // To ask with one account after the other would be the same question again and again.
            None => vec![self.accounts.nobody()],
        }
    }

    /// From now on, `name` is asked for with this account, which the registry let in.
    pub(super) fn lend(&self, name: &RepositoryName, claim: &Claim) {
        self.lent.insert(name.clone(), claim.clone());
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
        account: &Claim,
    ) -> Result<Option<Proof>, Failure> {
        if let Some(header) = self.bearer(endpoint, account) {
            return Ok(Some(Proof { header, service: None, may_be_outdated: false }));
        }
        let key = (endpoint.base().clone(), name.clone());
        let Some(challenge) = self.challenges.get(&key) else { return Ok(None) };
        let proof = self.proof(http, endpoint, challenge, account).await;
        if proof.is_err() {
            // The registry may name another token service by now: it is asked anew.
            self.challenges.invalidate(&key);
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
        account: &Claim,
        refused: Option<&Proof>,
    ) -> Result<Proof, Failure> {
        if self.bearer(endpoint, account).is_some() {
            // There is no other token where this came from.
            return Err(Failure::from(Error::Unauthorized).of_account());
        }
        if let Some(Proof { service: Some(service), header, .. }) = refused {
            self.forget(key(account, service), |token| token.header == *header).await;
        }
        let challenge = self.challenge(endpoint, name, headers, account)?;
        if refused.is_some_and(|refused| refused.is_all_that(&challenge)) {
            let refusal = Failure::from(Error::Unauthorized);
            return Err(match challenge {
                Challenge::Basic => refusal.of_account(),
                Challenge::Bearer(_) => refusal,
            });
        }
        let proof = self.proof(http, endpoint, challenge.clone(), account).await?;
        let key = (endpoint.base().clone(), name.clone());
        self.challenges.insert(key, challenge);
        Ok(proof)
    }

    /// The best of the challenges in `headers`: a token rather than the password, which is only for an endpoint that may
    /// have it.
    fn challenge(
        &self,
        endpoint: &Endpoint,
        name: &RepositoryName,
        headers: &HeaderMap,
        account: &Claim,
    ) -> Result<Challenge, Error> {
        let is_known = !account.is_none() && self.kin.may_have_account(endpoint.base());
        let account = self.basic(endpoint, account);
        let mut basic = Err(Error::Unauthorized);
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(value) = value.to_str() else { continue };
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let service = Service::named(&challenge, endpoint.base(), name, &self.kin)?;
                    if is_known && !service.with_account {
                        self.warn_of_stranger(&service);
                    }
                    return Ok(Challenge::Bearer(Arc::new(service)));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = account.map(|_| Challenge::Basic).ok_or(Error::Unauthorized);
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
        account: &Claim,
    ) -> Result<Proof, Failure> {
        let service = match challenge {
            Challenge::Basic => {
                let header = self.basic(endpoint, account).cloned().ok_or(Error::Unauthorized)?;
                return Ok(Proof { header, service: None, may_be_outdated: false });
            }
            Challenge::Bearer(service) => service,
        };
        let now = self.clock.now();
        let key = key(account, &service);
        let tokens = self.tokens.get_or_init(no_tokens);
        if let Some(token) = tokens.get(&key).await {
            if token.good_until > now {
                let header = token.header;
                return Ok(Proof { header, service: Some(service), may_be_outdated: true });
            }
            self.forget(key.clone(), |token| token.good_until <= now).await;
        }
        // Whoever comes first asks; if it goes away before the answer, the next in line asks.
        let entry = tokens
            .entry(key)
            .or_try_insert_with(self.token(http, endpoint, &service, account))
            .await
            .map_err(|failure| Failure::clone(&failure))?;
        let may_be_outdated = !entry.is_fresh();
        let header = entry.into_value().header;
        Ok(Proof { header, service: Some(service), may_be_outdated })
    }

    /// Drops the token if it is `outdated`: another may already have taken its place.
    async fn forget(&self, key: TokenKey, outdated: impl Fn(&Token) -> bool) {
        let Some(tokens) = self.tokens.get() else { return };
        let entry = tokens.entry(key);
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
        account: &Claim,
    ) -> Result<Token, Failure> {
        let asked_at = self.clock.now();
        let authorization = account.basic().filter(|_| service.with_account);
        let identity = account.identity().filter(|_| service.with_account);
        let question = Question::get("token", "application/json");
        let answer = match identity {
            None => {
                http.exchange(&question, endpoint.base(), &service.url(), authorization).await?
            }
            Some(identity) => {
                let (url, form) = service.form(identity);
                http.exchange_form(&question.posted(), endpoint.base(), &url, None, Some(form))
                    .await?
            }
        };
        if let Some(refusal) = http.refusal(&answer) {
            answer.body.discard().await;
            return Err(match refusal.error {
                Error::NotFound => Error::protocol("the token service is not there").into(),
                // To whoever may not pull it, it gives a token that opens nothing, or says 403.
                Error::Unauthorized if authorization.is_some() || identity.is_some() => {
                    refusal.of_account()
                }
                _ => refusal,
            });
        }
        headers::refuse_encoded(&answer.headers)?;
        let document = answer.body.grant().await?;
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

    /// The password of `account`, if `endpoint` may have it.
    fn basic<'a>(&self, endpoint: &Endpoint, account: &'a Claim) -> Option<&'a HeaderValue> {
        account.basic().filter(|_| self.kin.may_have_account(endpoint.base()))
    }

    /// The token that a client brought, if `endpoint` may have it.
    fn bearer(&self, endpoint: &Endpoint, account: &Claim) -> Option<HeaderValue> {
        account.bearer().filter(|_| self.kin.may_have_account(endpoint.base())).cloned()
    }
}

/// What tokens are kept in, empty: what was not used for longest makes room.
fn no_tokens() -> Cache<TokenKey, Token> {
    Cache::builder()
        .max_capacity(TOKENS_MAX_BYTES)
        .weigher(|(_, service): &TokenKey, token: &Token| {
            let bytes = token.header.len() + service.len();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        })
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// Under which a token is kept. What was given without an account is the same for all.
fn key(account: &Claim, service: &Arc<Service>) -> TokenKey {
    let account = if service.with_account { account.id() } else { Claim::default().id() };
    (account, Arc::clone(service))
}
