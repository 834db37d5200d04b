//! What fuzz targets call, which is nobody else's to see.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER},
};
use url::Url;

use super::{
    Claim, Config, Patience, RepositoryRules, client, credentials, headers,
    kin::Kin,
    tags,
    token::{Grant, Service},
};
use crate::oci::{RegistryName, Tag};

/// The addresses at which the token services would be asked that a `WWW-Authenticate` header names.
pub fn challenge(header: &str) -> Vec<Url> {
    let endpoint = Url::parse("https://registry.example").expect("an address");
    let time = std::time::Duration::ZERO;
    let config = Config {
        registry: "registry.example".parse().expect("a registry"),
        rules: RepositoryRules::default(),
        public: false,
        endpoints: vec![endpoint.clone()],
        accounts: Vec::new(),
        clients: None,
        account_for: Vec::new(),
        ca_pem: Vec::new(),
        realms: Vec::new(),
        internal: None,
        patience: Patience {
            connect: time,
            first_byte: time,
            idle: time,
            least_rate: None,
            attempts: 1,
        },
    };
    let (kin, name) = (Kin::of(&config), "team/app".parse().expect("a name"));
    let challenges = http_auth::parse_challenges(header).unwrap_or_default();
    let services = challenges
        .iter()
        .filter_map(|challenge| Service::named(challenge, &endpoint, &name, &kin).ok());
    services.map(|service| service.url()).collect()
}

/// What is made of a token service's answer: whether there is a token, and for how many seconds.
pub fn token(document: &[u8]) -> Option<(bool, u64)> {
    let grant: Grant<'_> = serde_json::from_slice(document).ok()?;
    Some((grant.bearer().is_some(), grant.life().as_secs()))
}

/// Reads a value as each of the headers that registries' answers are read for.
pub fn answer_header(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let mut map = HeaderMap::new();
    for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RETRY_AFTER] {
        map.insert(name, value.clone());
    }
    for name in
        ["docker-content-digest", "ratelimit-limit", "ratelimit-remaining", "content-encoding"]
    {
        map.insert(name, value.clone());
    }
    let url = Url::parse("https://registry.example/v2/team/app/tags/list").expect("an address");
    let _ = headers::content_length(&map);
    let _ = headers::media_type(&map);
    let _ = headers::content_digest(&map);
    let _ = headers::refuse_encoded(&map);
    let _ = headers::rate_limit(&map);
    let _ = headers::next_page(&map, &url);
    if let Some(range) = headers::content_range(&map) {
        assert!(range.first <= range.last);
    }
    let wait = headers::retry_after(&map, 1_700_000_000);
    assert!(wait.is_none_or(|wait| wait.as_secs() <= 3600));
    map.insert(LOCATION, value);
    if let Ok(next) = client::next_hop(&url, &map) {
        assert!(next.scheme() == "https" && next.has_host());
        assert!(
            next.username().is_empty() && next.password().is_none() && next.fragment().is_none()
        );
    }
}

/// The page that is taken of a tag list, and whether there is more of it.
pub fn tags(document: &[u8], n: u32, last: Option<&str>) -> Option<(Vec<Tag>, bool)> {
    let page = tags::read(document, Some(n), last).ok()?;
    Some((page.tags, page.is_cut))
}

/// What of an account is sent to a registry, or to its token service.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// `Authorization`.
    Header(HeaderValue),
    /// An identity token.
    Identity(String),
}

/// What is sent of a claim; `None`: nothing.
pub fn sent(claim: &Claim) -> Option<Sent> {
    let header = claim.basic().or_else(|| claim.bearer());
    let identity = claim.identity().map(|token| Sent::Identity(token.to_owned()));
    header.map(|header| Sent::Header(header.clone())).or(identity)
}

/// The account that a `config.json` has for `registry`, or the program to ask for it.
pub fn docker_config(text: &str, registry: &RegistryName) -> Result<Result<Claim, String>, String> {
    credentials::fuzzing::docker_config(text, registry)
        .map(|entry| entry.map_err(|helper| helper.to_string()))
}

/// The account in a credential helper's answer.
pub fn helper(said: &[u8]) -> Option<Claim> {
    credentials::fuzzing::helper(said)
}
