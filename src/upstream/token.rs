//! Token services: what a challenge says of one, whether it may see the credentials, and what it answers.

use std::time::Duration;

use http::HeaderValue;
use http_auth::ChallengeRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::Error;
use crate::oci::{RegistryName, RepositoryName};

/// Longest token taken: servers refuse heads that are longer.
const TOKEN_MAX_BYTES: usize = 64 * 1024;
/// Longest challenge remembered: those seen are of some hundred bytes.
const SERVICE_MAX_BYTES: usize = 4096;
/// A token lives at least this long, whatever it says ("Token Response Fields", `expires_in`).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Whom a registry trusts with its tokens, by configuration.
pub(super) struct Kin {
    /// The registry itself.
    pub(super) registry: RegistryName,
    /// Hosts besides the registry's own whose token service may see the credentials.
    pub(super) realms: Vec<String>,
}

/// A token service, and the scope to ask it for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Service {
    pub(super) realm: Url,
    name: Option<String>,
    pub(super) scope: String,
    /// Whether the realm may see the credentials.
    pub(super) is_kin: bool,
}

/// What a token service answers.
#[derive(Deserialize)]
pub(super) struct Grant<'a> {
    token: Option<String>,
    access_token: Option<String>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
}

impl Kin {
    /// Whether the token service at `realm` belongs to the registry: it is on the endpoint's host, on the
    /// registry's host or a host under it, or on a host that the operator named.
    fn includes(&self, realm: &Url, endpoint: &Url) -> bool {
        let Some(host) = realm.host_str() else { return false };
        let registry = self.registry.as_str();
        let registry = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        endpoint.host_str() == Some(host)
            || host == registry
            || host.strip_suffix(registry).is_some_and(|sub| sub.ends_with('.'))
            || self.realms.iter().any(|named| named.eq_ignore_ascii_case(host))
    }
}

impl Service {
    /// The service that `endpoint` names in a Bearer challenge when asked for the repository `name`.
    ///
    /// # Errors
    /// `Protocol` when it names none, or one whose connection is less safe than the endpoint's.
    pub(super) fn named(
        challenge: &ChallengeRef<'_>,
        endpoint: &Url,
        name: &RepositoryName,
        kin: &Kin,
    ) -> Result<Self, Error> {
        let param = |wanted: &str| {
            let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
        };
        let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.ok_or_else(|| Error::protocol("a challenge without a realm"))?;
        let scheme_ok = match realm.scheme() {
            "https" => true,
            "http" => endpoint.scheme() == "http",
            _ => false,
        };
        if !scheme_ok || !realm.username().is_empty() || realm.password().is_some() {
            return Err(Error::protocol("a token service at an address that is not https"));
        }
        realm.set_fragment(None);
        let service = Self {
            is_kin: kin.includes(&realm, endpoint),
            scope: param("scope").unwrap_or_else(|| format!("repository:{name}:pull")),
            name: param("service"),
            realm,
        };
        if service.len() > SERVICE_MAX_BYTES {
            return Err(Error::protocol("a challenge that is too long"));
        }
        Ok(service)
    }

    /// How many bytes it takes to remember this, about.
    pub(super) fn len(&self) -> usize {
        let name = self.name.as_ref().map_or(0, String::len);
        self.realm.as_str().len() + name + self.scope.len()
    }

    /// Where to ask for the token.
    pub(super) fn url(&self) -> Url {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.name.iter().map(|name| ("service", name)));
        query.extend_pairs(self.scope.split_ascii_whitespace().map(|scope| ("scope", scope)));
        drop(query);
        url
    }
}

impl Grant<'_> {
    /// The `Authorization` that the token makes; `None` if there is no token that can be sent.
    pub(super) fn bearer(&self) -> Option<HeaderValue> {
        let token = [&self.token, &self.access_token].into_iter().flatten();
        let token = token.map(|token| token.trim()).find(|token| !token.is_empty())?;
        (token.len() <= TOKEN_MAX_BYTES).then(|| secret(&format!("Bearer {token}")))?
    }

    /// How long the token is good for.
    pub(super) fn life(&self) -> Duration {
        let seconds = self.expires_in.and_then(|said| serde_json::from_str::<f64>(said.get()).ok());
        let seconds = seconds.unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(if seconds > 0.0 { LONGEST_LIFE } else { SHORTEST_LIFE })
            .clamp(SHORTEST_LIFE, LONGEST_LIFE)
    }
}

/// A header value that `Debug` does not show.
pub(super) fn secret(value: &str) -> Option<HeaderValue> {
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

    fn kin(registry: &str, realms: &[&str]) -> Kin {
        let realms = realms.iter().map(|&host| host.to_owned()).collect();
        Kin { registry: registry.parse().expect("a registry"), realms }
    }

    fn named(endpoint: &str, params: &str) -> Result<Service, Error> {
        let header = format!("Bearer {params}");
        let challenges = http_auth::parse_challenges(&header).expect("a challenge");
        let name = "a/b".parse().expect("a name");
        Service::named(&challenges[0], &url(endpoint), &name, &kin("r.example", &[]))
    }

    #[test]
    fn credentials_go_to_the_registrys_own_token_service_only() {
        let hub = kin("docker.io", &["Auth.Example"]);
        let endpoint = url("https://registry-1.docker.io");
        for own in [
            "https://auth.docker.io/token",
            "https://registry-1.docker.io/token",
            "https://docker.io/token",
            "https://auth.example/token",
        ] {
            assert!(hub.includes(&url(own), &endpoint), "{own}");
        }
        for foreign in [
            "https://auth.docker.io.evil.example/token",
            "https://evildocker.io/token",
            "https://evil.example/auth.docker.io",
            "https://docker.io@evil.example/token",
            "https://sub.auth.example/token",
            "https://io/token",
        ] {
            assert!(!hub.includes(&url(foreign), &endpoint), "{foreign}");
        }
        let local = kin("registry.lan:5000", &[]);
        let endpoint = url("http://10.0.0.1:5000");
        assert!(local.includes(&url("https://auth.registry.lan/"), &endpoint));
        assert!(local.includes(&url("http://10.0.0.1:6000/"), &endpoint));
        assert!(!local.includes(&url("http://10.0.0.2:5000/"), &endpoint));
    }

    #[test]
    fn a_token_service_is_no_less_safe_than_its_registry() {
        let (plain, tls) = ("http://r.example", "https://r.example");
        assert!(named(tls, r#"realm="https://auth.example/""#).is_ok());
        assert!(named(plain, r#"realm="https://auth.example/""#).is_ok());
        assert!(named(plain, r#"realm="http://auth.example/""#).is_ok());
        for bad in [
            "http://r.example/",
            "ftp://r.example/",
            "file:///x",
            "/token",
            "https://u:p@r.example/",
        ] {
            let got = named(tls, &format!(r#"realm="{bad}""#));
            assert!(matches!(got, Err(Error::Protocol { .. })), "{bad}");
        }
        assert!(named(tls, r#"service="x""#).is_err());
        let long = format!(r#"realm="https://r.example/",scope="{}""#, "a".repeat(4096));
        assert!(named(tls, &long).is_err());
    }

    #[test]
    fn asks_for_each_scope_and_keeps_the_realms_own_query() {
        let realm = r#"realm="https://auth.example/token?tenant=a#x",service="registry & co""#;
        let asks =
            |params: &str| named("https://r.example", params).expect("named").url().to_string();
        assert_eq!(
            asks(&format!(r#"{realm},scope="repository:a/b:pull repository:c:pull""#)),
            "https://auth.example/token?tenant=a&service=registry+%26+co\
             &scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
        assert_eq!(
            asks(r#"Realm="https://auth.example/token""#),
            "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull"
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
            let grant: Grant<'_> = serde_json::from_str(&json).expect("well-formed");
            assert_eq!(grant.life(), Duration::from_secs(want), "{expires_in}");
            let bearer = grant.bearer().expect("a token");
            assert_eq!((bearer.as_bytes(), bearer.is_sensitive()), (&b"Bearer t"[..], true));
        }
        let bad = Grant { token: Some("a\nb".into()), access_token: None, expires_in: None };
        assert!(bad.bearer().is_none());
    }
}
