//! The accounts in a Docker `config.json`
//! ([docker login, "Credential stores"](https://docs.docker.com/reference/cli/docker/login/)).

use std::{collections::HashMap, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::HelperName;
use crate::{oci::RegistryName, upstream::Claim};

/// What Docker calls Docker Hub there.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// What the file says of one registry.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Claim(Claim),
    /// Ask this program.
    Helper(HelperName),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The address by which Docker and its helpers know a registry.
pub(super) fn address(registry: &RegistryName) -> &str {
    if registry.is_docker_hub() { DOCKER_HUB_KEY } else { registry.as_str() }
}

/// What the text of a `config.json` says of `registry`.
///
/// # Errors
/// What is wrong with it, to be said after the file's name, without a word of what it holds.
pub(super) fn look_up(text: &str, registry: &RegistryName) -> Result<Entry, String> {
    // The parser's message could quote a secret.
    let file: File = serde_json::from_str(text)
        .map_err(|_| "is not JSON as docker login writes it".to_owned())?;
    let helper = |name: &String| {
        HelperName::from_str(name)
            .ok()
            .filter(|name| !name.is_a_path())
            .map(Entry::Helper)
            .ok_or_else(|| "names a credential helper that is no program's name".to_owned())
    };
    if let Some(name) = find(&file.cred_helpers, registry).filter(|name| !name.is_empty()) {
        return helper(name);
    }
    // `docker login` leaves an empty entry behind where a store has the secret.
    let claim = match find(&file.auths, registry) {
        Some(auth) => auth.claim()?,
        None => None,
    };
    match (claim, file.creds_store.as_ref().filter(|name| !name.is_empty())) {
        (Some(claim), _) => Ok(Entry::Claim(claim)),
        (None, Some(name)) => helper(name),
        (None, None) => {
            let registry = if registry.is_docker_hub() { "" } else { registry.as_str() };
            let command = format!("docker login {registry}");
            Err(format!("has no account for it: run {}", command.trim_end()))
        }
    }
}

impl Auth {
    fn claim(&self) -> Result<Option<Claim>, String> {
        let bad = || "has an account that cannot be read: run docker login again".to_owned();
        if !self.registrytoken.is_empty() {
            let claim = Claim::of(format!("Bearer {}", self.registrytoken).as_bytes());
            return if claim.is_none() { Err(bad()) } else { Ok(Some(claim)) };
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Claim::with_identity(&self.identitytoken)));
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            let bytes = STANDARD.decode(&self.auth).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (username, password) = text.split_once(':').ok_or_else(bad)?;
            (username.to_owned(), password.trim_matches('\0').to_owned())
        };
        if username.is_empty() && password.is_empty() {
            return Ok(None);
        }
        if username.is_empty() || username.contains(':') {
            return Err(bad());
        }
        Ok(Some(Claim::password(&username, &password)))
    }
}

/// What `map` has under the registry's address, or another way to write it.
fn find<'a, T>(map: &'a HashMap<String, T>, registry: &RegistryName) -> Option<&'a T> {
    let address = address(registry);
    map.get(address).or_else(|| {
        // Sorted, so that which of several counts is not a matter of luck.
        let mut same: Vec<_> = map.iter().filter(|(key, _)| is_of(key, registry)).collect();
        same.sort_by_key(|(key, _)| *key);
        same.first().map(|(_, value)| *value)
    })
}

/// Whether `key` means all of `registry`.
fn is_of(key: &str, registry: &RegistryName) -> bool {
    let bare = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme));
    let bare = bare.unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    let host = host.to_ascii_lowercase();
    let named = if registry.is_docker_hub() {
        DOCKER_HUB_NAMES.contains(&host.as_str())
    } else {
        host == registry.as_str()
    };
    whole && named
}

#[cfg(test)]
mod tests {
    use super::*;

    // alice:s3cret
    const AUTH: &str = "YWxpY2U6czNjcmV0";

    fn look(text: &str, registry: &str) -> Result<Entry, String> {
        look_up(text, &registry.parse().expect("a registry"))
    }

    fn alice() -> Result<Entry, String> {
        Ok(Entry::Claim(Claim::password("alice", "s3cret")))
    }

    #[test]
    fn an_account_is_found_by_every_name_of_its_registry() {
        for (key, registry) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("https://ghcr.io/v2/", "ghcr.io"),
            ("r.example:5000", "r.example:5000"),
        ] {
            let text = format!(r#"{{"auths":{{"{key}":{{"auth":"{AUTH}"}}}},"psFormat":"x"}}"#);
            assert_eq!(look(&text, registry), alice(), "{key}");
            assert!(look(&text, "other.example").is_err(), "{key}");
        }
        for other in
            ["ghcr.io/alice", "ghcr.io.evil.example", "evil.example/ghcr.io", "ghcr.io:443"]
        {
            let text = format!(r#"{{"auths":{{"{other}":{{"auth":"{AUTH}"}}}}}}"#);
            assert!(look(&text, "ghcr.io").is_err(), "{other}");
        }
    }

    #[test]
    fn tokens_and_plain_names_count_too() {
        let of = |auth: &str| look(&format!(r#"{{"auths":{{"r.example":{auth}}}}}"#), "r.example");
        assert_eq!(of(r#"{"username":"alice","password":"s3cret"}"#), alice());
        let identity = Ok(Entry::Claim(Claim::with_identity("refresh")));
        assert_eq!(of(&format!(r#"{{"auth":"{AUTH}","identitytoken":"refresh"}}"#)), identity);
        let bearer = Ok(Entry::Claim(Claim::of(b"Bearer abc")));
        assert_eq!(of(r#"{"registrytoken":"abc"}"#), bearer);
    }

    #[test]
    fn helpers_are_named_for_one_registry_or_for_all() {
        let text = format!(
            r#"{{"auths":{{"a.example":{{}},"b.example":{{"auth":"{AUTH}"}}}},
                "credHelpers":{{"c.example":"ecr-login"}},"credsStore":"pass"}}"#
        );
        let helper = |name: &str| Ok(Entry::Helper(name.parse().expect("a name")));
        assert_eq!(look(&text, "a.example"), helper("pass"));
        assert_eq!(look(&text, "b.example"), alice());
        assert_eq!(look(&text, "c.example"), helper("ecr-login"));
        for bad in ["../x", "/bin/sh", "a b", "x;y"] {
            let text = format!(r#"{{"credsStore":"{bad}"}}"#);
            assert!(look(&text, "a.example").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for bad in [
            r#"{"auths":{"r.example":{"auth":"s3cret!"}}}"#,
            r#"{"auths":{"r.example":{"auth":"czNjcmV0"}}}"#,
            r#"{"auths":{"r.example":{"auth":7,"password":"s3cret"}}}"#,
            r#"{"auths":{"r.example":{"password":"s3cret"}}}"#,
            r#"{"auths":{"r.example":{"registrytoken":"s3cret\n"}}}"#,
            "s3cret",
            "{}",
            "",
        ] {
            let problem = look(bad, "r.example").expect_err(bad);
            assert!(!problem.contains("s3cret") && !problem.contains("czNj"), "{problem}");
        }
    }
}
