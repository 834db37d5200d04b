//! Proof of who asks: challenges, tokens, and which token service may see the credentials
//! ([distribution, "Token Authentication"](https://distribution.github.io/distribution/spec/auth/token/)).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use moka::{future::Cache, ops::compute::Op, policy::EvictionPolicy};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{
    Config, Credentials, Error,
    client::{Http, Question},
    headers,
    health::Endpoint,
    retry::Failure,
};
use crate::{
    clock::Clock,
    oci::{RegistryName, RepositoryName},
};

/// What a token service may answer at most.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Longest token taken: servers refuse heads that are longer.
const TOKEN_MAX_BYTES: usize = 64 * 1024;
/// All tokens of one registry together.
const TOKENS_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Repositories of one registry whose challenge is remembered.
const CHALLENGES: u64 = 4096;
/// A token lives at least this long, whatever it says ("Token Response Fields", `expires_in`).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is not used in its last seconds: it may expire on its way.
const MARGIN: Duration = Duration::from_secs(5);

/// The account at one registry, and what it has been given.
pub(super) struct Auth {
    registry: RegistryName,
    credentials: Option<Credentials>,
    /// Hosts besides the registry's own that may see the credentials.
    realms: Vec<String>,
    clock: Clock,
    /// What an endpoint, by its base address, wants to see for a repository.
    challenges: Cache<(Url, RepositoryName), Challenge>,
    tokens: Cache<Arc<Service>, Token>,
}

/// How an endpoint wants to be convinced.
#[derive(Clone)]
enum Challenge {
    Basic,
    Bearer(Arc<Service>),
}

/// A token service, and the scope to ask it for; the account is this registry's one account.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Service {
    realm: Url,
    name: Option<String>,
    scope: String,
    /// Whether the realm may see the credentials.
    is_own: bool,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// What to send as `Authorization`.
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    /// The service that gave the token; `None` for Basic.
    service: Option<Arc<Service>>,
    /// Whether another proof could be better: this one was remembered.
    pub(super) may_be_outdated: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Auth {
    pub(super) fn new(config: &Config, clock: &Clock) -> Self {
        Self {
            registry: config.registry.clone(),
            credentials: config.credentials.clone(),
            realms: config.realms.clone(),
            clock: clock.clone(),
            challenges: Cache::builder()
                .max_capacity(CHALLENGES)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            tokens: Cache::builder()
                .max_capacity(TOKENS_MAX_BYTES)
                .weigher(|service: &Arc<Service>, token: &Token| {
                    let bytes = token.header.len() + service.scope.len() + 512;
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
        match self.challenges.get(&key).await {
            None => Ok(None),
            Some(challenge) => self.proof(http, challenge).await.map(Some),
        }
    }

    /// The proof that the 401 with these `headers` asks for.
    ///
    /// # Errors
    /// `Unauthorized` when there is no way to satisfy it; otherwise what the token service came to.
    pub(super) async fn answer(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        name: &RepositoryName,
        headers: &HeaderMap,
    ) -> Result<Proof, Failure> {
        let challenge = self.challenge(endpoint, name, headers)?;
        let key = (endpoint.base().clone(), name.clone());
        self.challenges.insert(key, challenge.clone()).await;
        self.proof(http, challenge).await
    }

    /// `endpoint` did not take `proof`: it is not sent again.
    pub(super) async fn refused(&self, endpoint: &Endpoint, name: &RepositoryName, proof: &Proof) {
        match &proof.service {
            Some(service) => self.forget(service, |token| token.header == proof.header).await,
            None => self.challenges.invalidate(&(endpoint.base().clone(), name.clone())).await,
        }
    }

    /// The best of the challenges in `headers`: a token rather than the password.
    fn challenge(
        &self,
        endpoint: &Endpoint,
        name: &RepositoryName,
        headers: &HeaderMap,
    ) -> Result<Challenge, Error> {
        let mut basic = Err(Error::Unauthorized);
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(value) = value.to_str() else { continue };
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let service = self.service(endpoint, name, &challenge)?;
                    return Ok(Challenge::Bearer(Arc::new(service)));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") && self.credentials.is_some() {
                    basic = Ok(Challenge::Basic);
                }
            }
        }
        basic
    }

    fn service(
        &self,
        endpoint: &Endpoint,
        name: &RepositoryName,
        challenge: &http_auth::ChallengeRef<'_>,
    ) -> Result<Service, Error> {
        let param = |wanted: &str| {
            let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
        };
        let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
        let realm = realm.ok_or_else(|| Error::protocol("a challenge without a realm"))?;
        let scheme_ok = match realm.scheme() {
            "https" => true,
            "http" => endpoint.base().scheme() == "http",
            _ => false,
        };
        if !scheme_ok || !realm.username().is_empty() || realm.password().is_some() {
            return Err(Error::protocol("a token service at an address that is not https"));
        }
        Ok(Service {
            is_own: may_see_credentials(&realm, endpoint.base(), &self.registry, &self.realms),
            scope: param("scope").unwrap_or_else(|| format!("repository:{name}:pull")),
            name: param("service"),
            realm,
        })
    }

    async fn proof(&self, http: &Http, challenge: Challenge) -> Result<Proof, Failure> {
        let service = match challenge {
            Challenge::Basic => {
                let header = self.basic().ok_or(Error::Unauthorized)?;
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
            .or_try_insert_with(self.token(http, &service))
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

    /// Asks the token service.
    async fn token(&self, http: &Http, service: &Service) -> Result<Token, Failure> {
        let asked_at = self.clock.now();
        let authorization = if service.is_own { self.basic() } else { None };
        if !service.is_own && self.credentials.is_some() {
            let realm = service.realm.host_str().unwrap_or_default();
            tracing::warn!(
                registry = %self.registry,
                realm,
                "the token service is on another domain and is asked without credentials; \
                 if it is the registry's, add it to `realms` of its [[upstream]]"
            );
        }
        let question = Question::get("token", "application/json");
        let answer = http.exchange(&question, &service.url(), authorization.as_ref()).await?;
        if let Some(refusal) = http.refusal(&answer) {
            answer.body.discard().await;
            return Err(match refusal.error {
                Error::NotFound => Error::protocol("the token service is not there").into(),
                _ => refusal,
            });
        }
        headers::refuse_encoded(&answer.headers)?;
        let document = answer.body.whole(ANSWER_MAX_BYTES).await?;
        // The parser's message could quote the token.
        let answer: Answer = serde_json::from_slice(&document)
            .map_err(|_| Error::protocol("the token service's answer is not JSON with a token"))?;
        let good_until = asked_at + answer.life() - MARGIN;
        let header = answer.bearer().ok_or_else(|| Error::protocol("no usable token"))?;
        Ok(Token { header, good_until })
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Credentials { username, password } = self.credentials.as_ref()?;
        secret(&http_auth::basic::encode_credentials(username, password.expose()))
    }
}

impl Service {
    /// Where to ask for the token.
    fn url(&self) -> Url {
        let mut url = self.realm.clone();
        url.set_fragment(None);
        let mut query = url.query_pairs_mut();
        if let Some(name) = &self.name {
            query.append_pair("service", name);
        }
        for scope in self.scope.split_ascii_whitespace() {
            query.append_pair("scope", scope);
        }
        drop(query);
        url
    }
}

impl Answer {
    fn bearer(&self) -> Option<HeaderValue> {
        let token = [&self.token, &self.access_token].into_iter().flatten();
        let token = token.map(|token| token.trim()).find(|token| !token.is_empty())?;
        (token.len() <= TOKEN_MAX_BYTES).then(|| secret(&format!("Bearer {token}")))?
    }

    fn life(&self) -> Duration {
        let seconds = self.expires_in.as_ref().and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(if seconds > 0.0 { LONGEST_LIFE } else { SHORTEST_LIFE })
            .clamp(SHORTEST_LIFE, LONGEST_LIFE)
    }
}

/// Whether the token service at `realm` belongs to the registry: it is on the endpoint's host, on the registry's
/// host or a host under it, or on a host that the operator named.
fn may_see_credentials(
    realm: &Url,
    endpoint: &Url,
    registry: &RegistryName,
    realms: &[String],
) -> bool {
    let Some(host) = realm.host_str() else { return false };
    let registry = registry.as_str();
    let registry = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    endpoint.host_str() == Some(host)
        || host == registry
        || host.strip_suffix(registry).is_some_and(|sub| sub.ends_with('.'))
        || realms.iter().any(|named| named.eq_ignore_ascii_case(host))
}

/// A header value that `Debug` does not show.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    #[test]
    fn credentials_go_to_the_registrys_own_token_service_only() {
        let hub = RegistryName::docker_hub();
        let endpoint = url("https://registry-1.docker.io");
        let listed = ["Auth.Example".to_owned()];
        let to_hub = |realm| may_see_credentials(&url(realm), &endpoint, &hub, &listed);
        for own in [
            "https://auth.docker.io/token",
            "https://registry-1.docker.io/token",
            "https://docker.io/token",
            "https://auth.example/token",
        ] {
            assert!(to_hub(own), "{own}");
        }
        for foreign in [
            "https://auth.docker.io.evil.example/token",
            "https://evildocker.io/token",
            "https://evil.example/auth.docker.io",
            "https://docker.io@evil.example/token",
            "https://sub.auth.example/token",
            "https://io/token",
        ] {
            assert!(!to_hub(foreign), "{foreign}");
        }
        let local: RegistryName = "registry.lan:5000".parse().expect("a registry");
        let endpoint = url("http://10.0.0.1:5000");
        assert!(may_see_credentials(&url("https://auth.registry.lan/"), &endpoint, &local, &[]));
        assert!(may_see_credentials(&url("http://10.0.0.1:6000/"), &endpoint, &local, &[]));
        assert!(!may_see_credentials(&url("http://10.0.0.2:5000/"), &endpoint, &local, &[]));
    }

    #[test]
    fn asks_for_each_scope_and_keeps_the_realms_own_query() {
        let service = Service {
            realm: url("https://auth.example/token?tenant=a#x"),
            name: Some("registry & co".to_owned()),
            scope: "repository:a/b:pull repository:c:pull".to_owned(),
            is_own: true,
        };
        assert_eq!(
            service.url().as_str(),
            "https://auth.example/token?tenant=a&service=registry+%26+co\
             &scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
    }

    #[test]
    fn a_token_lives_between_a_minute_and_a_day() {
        for (expires_in, want) in [
            ("null", 60),
            ("300", 300),
            ("5", 60),
            ("-5", 60),
            ("\"300\"", 60),
            ("1e300", 24 * 3600),
            ("18446744073709551615", 24 * 3600),
        ] {
            let json = format!(r#"{{"access_token":"t","token":"","expires_in":{expires_in}}}"#);
            let answer: Answer = serde_json::from_str(&json).expect("well-formed");
            assert_eq!(answer.life(), Duration::from_secs(want), "{expires_in}");
            let bearer = answer.bearer().expect("a token");
            assert_eq!((bearer.as_bytes(), bearer.is_sensitive()), (&b"Bearer t"[..], true));
        }
        let bad = Answer { token: Some("a\nb".into()), access_token: None, expires_in: None };
        assert!(bad.bearer().is_none());
    }
}
