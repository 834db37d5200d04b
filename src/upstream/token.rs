//! Token services: what a challenge says of one, whether it may see the credentials, and what it answers.

use std::time::Duration;

use http::HeaderValue;
use http_auth::ChallengeRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::{Error, kin::Kin};
use crate::oci::RepositoryName;

/// Longest token taken: servers refuse heads that are longer.
const TOKEN_MAX_BYTES: usize = 64 * 1024;
/// Longest challenge remembered: those seen are of some hundred bytes.
const SERVICE_MAX_BYTES: usize = 4096;
/// A token lives at least this long, whatever it says ("Token Response Fields", `expires_in`).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a realm may not say in its query: which token to give is wharf's to say.
const ASKS: [&str; 3] = ["scope", "account", "offline_token"];

/// A token service, and the scope to ask it for.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Service {
    pub(super) realm: Url,
    name: Option<String>,
    scope: String,
    /// Whether it is asked with the account. A token of the one kind never stands in for one of the other: both who
    /// gives it and who gets it may then have the account.
    pub(super) with_account: bool,
}

/// What a token service answers.
#[derive(Deserialize)]
pub(super) struct Grant<'a> {
    token: Option<String>,
    access_token: Option<String>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
}

impl Service {
    /// The service that `endpoint` names in a Bearer challenge when asked for the repository `name`. Whatever scope the
    /// challenge names, the token is for pulling from that repository.
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
            with_account: kin.may_have_account(endpoint) && kin.includes(&realm, endpoint),
            scope: scope(param("scope").as_deref(), endpoint, name),
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

    /// Where to ask for the token with an identity token, and the form to send
    /// ([distribution, "OAuth2 Token Authentication"](https://distribution.github.io/distribution/spec/auth/oauth/)).
    pub(super) fn form(&self, identity: &str) -> (Url, String) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token");
        form.extend_pairs(self.name.iter().map(|name| ("service", name)));
        form.append_pair("client_id", "wharf");
        form.append_pair("scope", &self.scope);
        form.append_pair("refresh_token", identity);
        let mut url = self.bare();
        if url.query() == Some("") {
            url.set_query(None);
        }
        (url, form.finish())
    }

    /// The realm with as much of its own query as it may have.
    fn bare(&self) -> Url {
        let mut url = self.realm.clone();
        // Written anew, so that every server splits it where it was split here.
        let mut query = url.query_pairs_mut();
        query.clear();
        let asks = |key: &str| {
            ASKS.iter().chain(&["refresh_token"]).any(|ask| ask.eq_ignore_ascii_case(key))
        };
        query.extend_pairs(self.realm.query_pairs().filter(|(key, _)| !asks(key)));
        drop(query);
        url
    }

    /// Where to ask for the token.
    pub(super) fn url(&self) -> Url {
        let mut url = self.bare();
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.name.iter().map(|name| ("service", name)));
        query.append_pair("scope", &self.scope);
        drop(query);
        url
    }
}

/// The scope to ask for: to pull from `name`, and nothing else. Below a path, `endpoint` may know the repository by
/// another name, of which `name` is the end; then it is what the challenge calls it.
fn scope(challenged: Option<&str>, endpoint: &Url, name: &RepositoryName) -> String {
    let has_path = !endpoint.path().trim_matches('/').is_empty();
    let theirs = |scope: &str| {
        let (theirs, _) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let theirs: RepositoryName = theirs.parse().ok()?;
        let above = theirs.as_str().strip_suffix(name.as_str())?;
        above.ends_with('/').then_some(theirs)
    };
    let mut scopes = challenged.unwrap_or_default().split_ascii_whitespace();
    let theirs = scopes.find_map(theirs).filter(|_| has_path);
    let name = theirs.as_ref().unwrap_or(name);
    format!("repository:{name}:pull")
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
    use crate::upstream::{Config, Patience};

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    fn named(endpoint: &str, params: &str) -> Result<Service, Error> {
        let header = format!("Bearer {params}");
        let challenges = http_auth::parse_challenges(&header).expect("a challenge");
        let name = "a/b".parse().expect("a name");
        let config = Config {
            registry: "r.example".parse().expect("a registry"),
            rules: crate::upstream::RepositoryRules::default(),
            public: false,
            endpoints: vec![url("https://r.example"), url("http://mirror.example")],
            accounts: Vec::new(),
            clients: None,
            account_for: Vec::new(),
            ca_pem: Vec::new(),
            realms: Vec::new(),
            internal: None,
            patience: Patience {
                connect: SHORTEST_LIFE,
                first_byte: SHORTEST_LIFE,
                idle: SHORTEST_LIFE,
                least_rate: None,
                attempts: 1,
            },
        };
        Service::named(&challenges[0], &url(endpoint), &name, &Kin::of(&config))
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
        let long = format!(r#"realm="https://r.example/",service="{}""#, "a".repeat(4096));
        assert!(named(tls, &long).is_err());
    }

    fn asks(endpoint: &str, params: &str) -> String {
        named(endpoint, params).expect("named").url().to_string()
    }

    #[test]
    fn keeps_the_realms_own_query() {
        let realm = r#"realm="https://auth.example/token?tenant=a#x",service="registry & co""#;
        assert_eq!(
            asks("https://r.example", realm),
            "https://auth.example/token?tenant=a&service=registry+%26+co&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(
            asks("https://r.example", r#"Realm="https://auth.example/token""#),
            "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull"
        );
    }

    #[test]
    fn cve_2026_33540_whatever_is_asked_the_token_is_for_pulling_from_that_repository() {
        let own = "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull";
        for scope in [
            "repository:a/b:pull",
            "repository:a/b:pull,push",
            "repository:a/b:*",
            "repository:a/b:delete",
            "repository:alice/secret:pull",
            "repository:alice/a/b:pull",
            "repository:x/a/b:c:pull",
            "repository:a/b:pull repository:alice/secret:pull,push",
            "registry:catalog:*",
            "aws",
            "",
        ] {
            let params = format!(r#"realm="https://auth.example/token",scope="{scope}""#);
            assert_eq!(asks("https://r.example", &params), own, "{scope}");
            assert_eq!(asks("https://r.example/", &params), own, "{scope}");
        }
        for query in [
            "scope=repository:alice/secret:pull",
            "SCOPE=x&scope=y",
            "%73cope=repository:alice/secret:pull",
            "account=alice&offline_token=true",
        ] {
            let params = format!(r#"realm="https://auth.example/token?{query}""#);
            assert_eq!(asks("https://r.example", &params), own, "{query}");
        }
        // What some servers take for two parameters is one everywhere.
        let params = r#"realm="https://auth.example/token?x=1;scope=repository:alice/secret:pull""#;
        let told = asks("https://r.example", params);
        assert!(!told.contains(';') && told.matches("scope=").count() == 1, "{told}");
    }

    #[test]
    fn below_a_path_the_repository_may_have_another_name() {
        let asks = |scope: &str| {
            let params = format!(r#"realm="https://auth.example/",scope="{scope}""#);
            named("https://r.example/hub", &params).expect("named").scope
        };
        assert_eq!(asks("repository:hub/a/b:pull"), "repository:hub/a/b:pull");
        assert_eq!(asks("repository:hub/a/b:pull,push,*"), "repository:hub/a/b:pull");
        assert_eq!(asks("registry:catalog:* repository:x/a/b:*"), "repository:x/a/b:pull");
        for other in ["repository:hub/a:pull", "repository:xa/b:pull", "repository:a/b/c:pull"] {
            assert_eq!(asks(other), "repository:a/b:pull", "{other}");
        }
    }

    #[test]
    fn cve_2026_33540_no_account_for_the_token_service_of_a_mirror() {
        for (endpoint, realm, want) in [
            ("https://r.example", "https://auth.r.example/token", true),
            ("https://r.example", "https://evil.example/token", false),
            ("http://mirror.example", "https://auth.r.example/token", false),
            ("http://mirror.example", "http://mirror.example/token", false),
        ] {
            let service = named(endpoint, &format!(r#"realm="{realm}""#)).expect("named");
            assert_eq!(service.with_account, want, "{endpoint} {realm}");
        }
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
