//! Accounts of registries: every source, and that none of them is shown or lent to everybody.

use super::*;
use crate::upstream::Source;

const SECRET: &str = "hunter2-hunter2";
/// `u:hunter2-hunter2`.
const AUTH: &str = "dTpodW50ZXIyLWh1bnRlcjI=";

/// One account in each way to write it.
const SOURCES: [&str; 6] = [
    "username = \"u\"\npassword_file = \"p\"\n",
    "username = \"u\"\npassword_file = \"credential:hub\"\n",
    "username = \"u\"\npassword_env = \"HUB_TOKEN\"\n",
    "docker_config = \"docker.json\"\n",
    "credential_helper = \"ecr-login\"\nhelper_timeout = \"5s\"\nhelper_env = [\"AWS_PROFILE\"]\n",
    "credential_helper = \"/opt/docker-credential-x\"\n",
];

fn load(keys: &str) -> (Site, Sources) {
    let site = Site::new(&format!("[[upstream]]\nregistry = \"docker.io\"\n{keys}"));
    site.write("p", SECRET, 0o600);
    site.write("hub", SECRET, 0o600);
    let auths = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{AUTH}"}}}}}}"#);
    site.write("docker.json", &auths, 0o600);
    let dir = site.0.path().to_str().expect("text").to_owned();
    let environment = environment(&[("HUB_TOKEN", SECRET), ("CREDENTIALS_DIRECTORY", &dir)]);
    let sources = Sources { environment, ..site.sources() };
    (site, sources)
}

fn refusal(keys: &str) -> String {
    let (site, sources) = load(keys);
    let error = Config::load(&sources).expect_err(keys).to_string();
    error.replace(&format!("{}/", site.0.path().display()), "")
}

#[test]
fn every_source_is_read_and_none_is_shown() {
    for keys in SOURCES {
        let (site, sources) = load(&format!("public = true\n{keys}"));
        let loaded = Config::load(&sources).expect(keys);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(loaded.config.upstreams[0].has_account(), "{keys}");
        let shown = loaded.config.show();
        for text in [&shown, &format!("{:?}", loaded.config), &format!("{sources:?}")] {
            assert!(!text.contains(SECRET) && !text.contains(AUTH), "{text}");
        }
        site.write("wharf.toml", &shown, 0o600);
        assert_eq!(Config::load(&sources).expect(&shown).config.show(), shown);
    }
}

#[test]
fn several_accounts_keep_their_order_and_names() {
    let keys = "public = true\n[[upstream.account]]\nname = \"b\"\nusername = \"u\"\npassword_env = \"HUB_TOKEN\"\n\
                [[upstream.account]]\nname = \"a\"\ncredential_helper = \"pass\"\n\
                [[upstream.account]]\nname = \"none\"\nanonymous = true\n";
    let (site, sources) = load(keys);
    let config = Config::load(&sources).expect("good").config;
    let names: Vec<_> = config.upstreams[0].accounts.iter().map(|each| &*each.name).collect();
    assert_eq!(names, ["b", "a", "none"]);
    assert!(matches!(config.upstreams[0].accounts[2].source, Source::Anonymous));
    site.write("wharf.toml", &config.show(), 0o600);
    assert_eq!(Config::load(&sources).expect("good").config.show(), config.show());
}

#[test]
fn cve_2026_27771_no_source_lends_an_account_to_everybody() {
    for keys in SOURCES {
        let error = refusal(keys);
        assert!(error.starts_with("wharf.toml:3: upstream."), "{error}");
        assert!(error.contains("could pull every private image"), "{error}");
        let error = refusal(&format!(
            "[[upstream.account]]\nname = \"x\"\nanonymous = true\n[[upstream.account]]\nname = \"a\"\n{keys}"
        ));
        assert!(error.contains("could pull every private image"), "{error}");
    }
    let nobody = "[[upstream.account]]\nname = \"x\"\nanonymous = true\n";
    let (_site, sources) = load(nobody);
    assert!(Config::load(&sources).is_ok());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let account = |keys: &str| format!("[[upstream.account]]\nname = \"a\"\n{keys}");
    for (keys, says) in [
        ("username = \"u\"".to_owned(), "a username without a password"),
        ("password_env = \"HUB_TOKEN\"".to_owned(), "a password without a user"),
        ("username = \"u\"\npassword_env = \"NONE\"".to_owned(), "NONE is not set"),
        (format!("{}password_env = \"HUB_TOKEN\"", SOURCES[0]), "leave one of them out"),
        (format!("{}{}", SOURCES[0], SOURCES[3]), "two sources for one account"),
        ("docker_config = \"p\"".to_owned(), "p is not JSON"),
        ("docker_config = \"nowhere\"".to_owned(), "nowhere does not exist"),
        ("credential_helper = \"a b\"".to_owned(), "not a credential helper"),
        ("helper_timeout = \"5s\"".to_owned(), "no helper is run here"),
        (
            "username = \"u\"\npassword_file = \"credential:../p\"".to_owned(),
            "not a credential's name",
        ),
        (format!("{}{}", SOURCES[0], account(SOURCES[2])), "beside [[upstream.account]]"),
        (account(""), "an account without credentials"),
        (account("anonymous = true\nusername = \"u\""), "has no credentials"),
        (format!("{}{}", account(SOURCES[0]), account(SOURCES[2])), "a second account a"),
        ("[[upstream.account]]\nanonymous = true".to_owned(), "an account without a name"),
        (format!("auth = \"client\"\n{}", account("anonymous = true")), "beside auth = \"client\""),
    ] {
        let error = refusal(&format!("{keys}\n"));
        assert!(error.contains(says), "{keys}: {error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}
