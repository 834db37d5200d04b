//! What fuzz targets call, which is nobody else's to see.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RETRY_AFTER},
};
use url::Url;

use super::{
    Config, Patience, RepositoryRules, headers,
    kin::Kin,
    token::{Grant, Service},
};

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
}
