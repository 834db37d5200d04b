//! What clients sign in with and bring for registries, files of users, and what tells wharf of accounts of its own: a
//! `config.json` of Docker, and the answers of credential helpers.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use wharf::{
    oci::RegistryName,
    pull::Claim,
    server::{self, Users},
    upstream::fuzzing::{self, Sent},
};

static REGISTRY: LazyLock<RegistryName> =
    LazyLock::new(|| "registry.example".parse().expect("a registry"));

/// Who signs in has a name that ends before the first colon, and is told from nobody else by how it is written.
fn signs_in(value: &HeaderValue) {
    let Some((name, password)) = server::fuzzing::signs_in(value) else { return };
    assert!((1..=255).contains(&name.len()) && !name.contains(':') && password.len() <= 1024);
    let written = BASE64_STANDARD.encode([name.as_bytes(), b":", &password].concat());
    let written = HeaderValue::try_from(format!("Basic {written}")).expect("base64");
    assert_eq!(server::fuzzing::signs_in(&written), Some((name, password)));
}

/// What is sent of a claim to a registry is one scheme and one credential, and stays out of logs.
fn claimed(claim: &Claim) {
    assert_eq!(claim.is_none(), fuzzing::sent(claim).is_none());
    let Some(Sent::Header(header)) = fuzzing::sent(claim) else { return };
    let shown = format!("{claim:?} {header:?}");
    assert!(header.is_sensitive() && shown.len() < 32, "{shown}");
    let text = std::str::from_utf8(header.as_bytes()).expect("it was");
    let (scheme, credential) = text.split_once(' ').expect("a scheme");
    assert!(
        matches!(scheme, "Basic" | "Bearer") && !credential.trim_matches(' ').is_empty(),
        "{text}"
    );
    assert_eq!(Claim::of(header.as_bytes()).id(), claim.id());
}

/// What is wrong with a file of users is said with its line, in one sentence, which repeats no password.
fn users(text: &str) {
    match Users::parse(text) {
        Ok(users) => assert!(!users.adopt(&Users::parse(text).expect("it was")), "the same"),
        Err((line, problem)) => {
            assert!((1..=text.lines().count().max(1)).contains(&line));
            assert!(problem.len() < 200 && !problem.contains(['\n', '$', '{']), "{problem}");
        }
    }
}

/// Whoever is named by a `config.json` is an account, or a program of a plain name.
fn docker_config(text: &str) {
    for registry in [&RegistryName::docker_hub(), &*REGISTRY] {
        match fuzzing::docker_config(text, registry) {
            Ok(Ok(claim)) => {
                assert!(!claim.is_none());
                claimed(&claim);
            }
            Ok(Err(program)) => {
                let name = program.strip_prefix("docker-credential-").expect("no path");
                assert!(!name.is_empty() && !name.contains(['/', ' ', '\0', '\n']), "{program:?}");
            }
            Err(problem) => assert!(problem.len() < 100 && !problem.contains('\n'), "{problem}"),
        }
    }
}

/// The account in a helper's answer is the one that it names, and somebody's.
fn helper(said: &[u8]) {
    let Some(claim) = fuzzing::helper(said) else { return };
    claimed(&claim);
    let Ok(said) = serde_json::from_slice::<serde_json::Value>(said) else { return };
    let (Some(name), Some(secret)) = (said["Username"].as_str(), said["Secret"].as_str()) else {
        return;
    };
    let sent = match name {
        "<token>" => Sent::Identity(secret.trim().to_owned()),
        name => {
            assert!(!name.is_empty() && !name.contains(':'));
            let text = BASE64_STANDARD.encode(format!("{name}:{secret}"));
            Sent::Header(HeaderValue::try_from(format!("Basic {text}")).expect("base64"))
        }
    };
    assert_eq!(fuzzing::sent(&claim), Some(sent));
}

fuzz_target!(|input: &[u8]| {
    claimed(&Claim::of(input));
    if let Ok(value) = HeaderValue::from_bytes(input) {
        signs_in(&value);
    }
    helper(input);
    if let Ok(text) = std::str::from_utf8(input) {
        users(text);
        docker_config(text);
    }
});
