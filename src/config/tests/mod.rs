//! What a configuration is refused for, and that what is shown is what is in force.

mod access;
mod accounts;
mod changes;
mod compose;
mod platforms;
mod prefetch;
mod refusals;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, Issuer,
    KeyIdMethod, KeyPair, date_time_ymd,
};

use super::*;
use crate::store::{Limits, Share};

/// A user whose password is "U*U", of the test vectors of crypt_blowfish.
const HTPASSWD: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

/// A directory with a `wharf.toml` in it.
struct Site(tempfile::TempDir);

impl Site {
    fn new(toml: &str) -> Self {
        let site = Self(tempfile::tempdir().expect("a temporary directory"));
        site.write("wharf.toml", toml, 0o600);
        site
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode set");
    }

    /// `server.pem`, its `server.key`, and the key of another certificate in `other.key`; lists of revoked certificates: one
    /// of the first in `good.crl`, and others that will not do.
    fn write_certificates(&self) {
        let made = || rcgen::generate_simple_self_signed(["wharf".to_owned()]).expect("one name");
        let (server, other) = (made(), made());
        self.write("server.pem", &server.cert.pem(), 0o644);
        self.write("server.key", &server.signing_key.serialize_pem(), 0o600);
        self.write("other.key", &other.signing_key.serialize_pem(), 0o600);
        let (server, other) = (&server.signing_key, &other.signing_key);
        let good = list("rcgen self signed cert", server, 2090);
        self.write("good.crl", &good, 0o644);
        self.write("over.crl", &list("rcgen self signed cert", server, 2020), 0o644);
        self.write("forged.crl", &list("rcgen self signed cert", other, 2090), 0o644);
        self.write("strange.crl", &list("others", other, 2090), 0o644);
        self.write("twice.crl", &format!("{good}{good}"), 0o644);
        let mut another = CertificateParams::new(Vec::new()).expect("no names are good names");
        another.distinguished_name = DistinguishedName::new();
        another.distinguished_name.push(DnType::CommonName, "another");
        let another = another.self_signed(other).expect("the key signs").pem();
        let both =
            fs::read_to_string(self.0.path().join("server.pem")).expect("written") + &another;
        self.write("two.pem", &both, 0o644);
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.0.path().join("wharf.toml")), ..Sources::default() }
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.sources())
    }

    /// The refusal, without the directory's name.
    fn refusal(&self) -> String {
        let error = self.load().expect_err("refused").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// An empty list of revoked certificates, which counts until then.
fn list(authority: &str, key: &KeyPair, until: i32) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2019, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let mut issuer = CertificateParams::new(Vec::new()).expect("no names are good names");
    issuer.distinguished_name = DistinguishedName::new();
    issuer.distinguished_name.push(DnType::CommonName, authority);
    let list = params.signed_by(&Issuer::new(issuer, key));
    list.expect("the key signs").pem().expect("it is written")
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn with_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let sources = Sources { environment: environment(variables), ..Sources::default() };
    Config::load(&sources).map(|loaded| loaded.config)
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let sources = Sources { file: Some(shipped.into()), ..Sources::default() };
    let loaded = Config::load(&sources).expect("the shipped file is good");
    assert_eq!(loaded.config.show(), Config::default().show());
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn the_shipped_file_names_every_key() {
    let shipped = include_str!("../../../config.toml");
    let site = everything();
    let uncommented: String =
        shipped.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let documented = keys(&uncommented);
    for (table, key) in keys(&site.load().expect("good").config.show()) {
        // Which is the same table.
        let table = table.replace("listener.tls", "server.tls");
        assert!(
            documented.contains(&(table.clone(), key.clone())),
            "config.toml says nothing of {key} in [{table}]"
        );
    }
}

#[test]
fn the_shipped_files_examples_are_good() {
    let example = |line: &str| {
        let bare = line.strip_prefix("# ")?;
        let key = bare.split_once(" = ").map(|(key, _)| key);
        let is_key =
            key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        // What needs files beside it is left out.
        let needs_files =
            matches!(
                key,
                Some(
                    "username"
                        | "password_file"
                        | "password_env"
                        | "docker_config"
                        | "credential_helper"
                        | "helper_timeout"
                        | "helper_env"
                        | "anonymous"
                        | "ca"
                        | "cert"
                        | "key"
                        | "client_ca"
                        | "client_crl"
                        | "client_auth"
                        | "tls"
                        | "users"
                        | "sign_in"
                        | "users_without_tls"
                        | "user"
                )
            ) || matches!(bare, "subject = \"pi-*\"" | "name = \"first\"" | "name = \"none\"");
        let is_table = bare.starts_with('[')
            && bare.ends_with(']')
            && !matches!(bare, "[server.tls]" | "[[upstream.account]]");
        ((is_key && !needs_files) || is_table).then(|| bare.to_owned())
    };
    let shipped = include_str!("../../../config.toml");
    let uncommented: Vec<String> =
        shipped.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
    let loaded = Site::new(&uncommented.join("\n")).load().expect("every example is good");
    assert_eq!(loaded.config.pull.platforms.clients.len(), 1);
    assert_eq!(loaded.config.pull.prefetch.images.len(), 1);
    assert_eq!(loaded.config.pull.compose.len(), 1);
    assert_eq!(loaded.config.upstreams.len(), 2);
    assert_eq!(loaded.config.listeners.len(), 1);
    assert_eq!(loaded.config.server.access.rules().len(), 1);
}

/// The tables of `text` and their keys; a table inside another is a key of it.
fn keys(text: &str) -> BTreeSet<(String, String)> {
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let name = line.trim_matches(['[', ']']);
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b))
        };
        if line.starts_with('[') && line.ends_with(']') && is_name(name) {
            table = name.to_owned();
            keys.extend(name.rsplit_once('.').map(|(outer, key)| (outer.into(), key.into())));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_name(key)) {
            keys.insert((table.clone(), key.to_owned()));
        }
    }
    keys
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(Site::new("").load().expect("good").config.show(), Config::default().show());
}

/// A site whose file says every key.
fn everything() -> Site {
    let site = Site::new(
        r#"
        [server]
        listen = ["127.0.0.1:0", "[::1]:5000"]
        max_connections = 7
        max_connections_per_client = 3
        max_requests_per_client = 2
        allow_clients = ["10.0.0.0/8", "fd00::1"]
        header_timeout = "1h 30m"
        drain = "0s"
        users = "htpasswd"
        sign_in = true
        users_without_tls = true
        tls = { cert = "server.pem", key = "server.key", client_ca = "server.pem", client_crl = "good.crl", client_auth = "required" }
        [limits]
        headers = 50
        header_bytes = "8KiB"
        list_entries = 10
        unknown_names = 7
        misses_per_client = 0
        questions = 5
        questions_per_registry = 4
        waiting_downloads = 0
        waiting_readers = 3
        document_room = "4MiB"
        document_room_per_client = "5MiB"
        manifest_bytes = "512KiB"
        manifest_entries = 100
        json_depth = 9
        token_bytes = "64KiB"
        error_bytes = "1KiB"
        verdicts = 12
        [[listener]]
        address = "0.0.0.0:5443"
        allow_clients = ["10.0.0.0/8"]
        tls = { cert = "server.pem", key = "server.key", client_ca = "server.pem", client_crl = "good.crl" }
        users = "htpasswd"
        sign_in = false
        users_without_tls = false
        [[listener]]
        address = "127.0.0.1:5001"
        [[access]]
        subject = "pi-*"
        user = "alice"
        clients = ["10.0.7.0/24", "fd00::1"]
        listener = "0.0.0.0:5443"
        allow = ["docker.io/library/*", "ghcr.io/acme/**"]
        [[access]]
        allow = ["**"]
        [admin]
        listen = "off"
        [cache]
        dir = "/srv/with \"quotes\""
        max_size = "32GiB"
        min_free = "5%"
        scrub = "off"
        tag_ttl = "1500ms"
        serve_stale = false
        [platforms]
        keep = ["linux/arm64", "linux/arm/v7", "linux/ARM/v6"]
        default = "linux/arm/v7"
        others = "refuse"
        answer = "manifest"
        header_from = ["10.0.7.12", "fd00:7::/64"]
        [[platforms.client]]
        match = "10.0.7.0/24"
        subject = "pi-7"
        listener = "[::1]:5000"
        host = "ARMv6.wharf.lan"
        platform = "linux/arm/v6"
        [[platforms.client]]
        match = "fd00:7::1"
        platform = ["linux/arm64", "linux/arm/v7"]
        [prefetch]
        on_pull = false
        concurrency = 64
        rate = "2MiB/s"
        follow = true
        quota_floor = 0
        [[prefetch.image]]
        name = "nginx"
        [[prefetch.image]]
        name = "ghcr.io/owner/app:1.2"
        platforms = ["linux/arm64"]
        every = "1m"
        window = "22:30-05:00"
        pinned = true
        [log]
        format = "json"
        level = "warn,wharf::upstream=debug"
        [[upstream]]
        registry = "GHCR.io"
        allow = ["owner/*", "user/**"]
        deny = ["owner/secret"]
        public = true
        endpoints = ["https://mirror.example/ghcr/", "http://10.0.0.1:5000"]
        username = "someone"
        password_file = "token"
        account_for = ["Mirror.example", "10.0.0.1:5000"]
        ca = "ca.pem"
        realms = ["Auth.example", "auth.example:8443"]
        internal = false
        least_rate = "off"
        attempts = 1
        [[compose]]
        name = "docker.io/user/test"
        platforms = { "linux/amd64" = "user/test", "linux/arm64" = "ghcr.io/user/arm64v8-test:1.2" }
        [[compose]]
        name = "registry.example/user/app:1"
        [compose.platforms]
        "linux/arm/v7" = "docker.io/user/arm32v7-app"
        "#,
    );
    site.write_certificates();
    site.write("htpasswd", HTPASSWD, 0o600);
    site.write("token", "hunter2\r\n", 0o640);
    site.write("ca.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", 0o644);
    site
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let site = everything();
    let first = site.load().expect("good");
    assert_eq!(first.warnings.len(), 1, "plain HTTP with a password: {:?}", first.warnings);

    let shown = first.config.show();
    let elsewhere = Site::new(&shown);
    let again = elsewhere.load().expect("what show prints is good").config;
    assert_eq!(again.show(), shown);
    assert_eq!(format!("{again:?}"), format!("{:?}", first.config));
}

#[test]
fn the_budget_and_what_stays_are_carried() {
    let config = everything().load().expect("good").config;
    let limits = Limits { max_size: Share::Bytes(32 << 30), min_free: Share::Percent(5) };
    assert_eq!(config.store.limits, limits);
    assert_eq!(config.pull.scrub, None);
    let pinned: Vec<_> =
        config.store.pinned.iter().map(|(name, tag)| format!("{name}:{tag}")).collect();
    assert_eq!(pinned, ["ghcr.io/owner/app:1.2"]);

    let config = Config::default();
    assert_eq!(config.store.limits, Limits::default());
    assert_eq!(config.pull.scrub, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(config.store.pinned, []);
}

#[test]
fn a_password_is_shown_nowhere() {
    let site = Site::new(
        "[[upstream]]\nregistry = \"docker.io\"\npublic = true\nusername = \"u\"\npassword_file = \"p\"",
    );
    site.write("p", "hunter2\n", 0o600);
    let config = site.load().expect("good").config;
    assert!(config.upstreams[0].has_account());
    assert!(!config.show().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn cve_2026_27771_an_account_is_not_lent_to_everybody_unless_that_is_said() {
    let load = |keys: &str, server: &str| {
        let site = Site::new(&format!(
            "[[upstream]]\nregistry = \"ghcr.io\"\n{keys}username = \"u\"\npassword_file = \"p\"\n{server}"
        ));
        site.write("p", "hunter2\n", 0o600);
        site.write_certificates();
        site.load().map(|_| ()).map_err(|error| error.to_string())
    };
    let tls = |auth: &str| {
        format!(
            "[server.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"server.pem\"\nclient_auth = \"{auth}\""
        )
    };
    for (keys, server) in [
        ("allow = [\"team/*\"]\n", String::new()),
        ("public = true\n", String::new()),
        ("", "[server]\nlisten = [\"127.0.0.1:5000\", \"[::1]:5000\"]".to_owned()),
        ("", "[server]\nallow_clients = [\"10.0.0.0/8\"]".to_owned()),
        ("", tls("required")),
    ] {
        assert_eq!(load(keys, &server), Ok(()), "{keys}{server}");
    }
    for (keys, server, open) in [
        ("", String::new(), "0.0.0.0:5000"),
        ("allow = []\npublic = false\ndeny = [\"team/*\"]\n", String::new(), "0.0.0.0:5000"),
        (
            "",
            "[server]\nlisten = [\"127.0.0.1:5000\", \"10.0.0.1:5000\"]".to_owned(),
            "10.0.0.1:5000",
        ),
        ("", tls("optional"), "0.0.0.0:5000"),
    ] {
        let line = 3 + keys.lines().count();
        let refusal =
            format!("wharf.toml:{line}: upstream.username: whoever reaches {open} could pull");
        let error = load(keys, &server).expect_err("it is open to all");
        assert!(error.contains(&refusal), "{error}");
    }
}

#[test]
fn warns_of_a_password_that_everyone_can_read() {
    let site = Site::new(
        "[[upstream]]\nregistry = \"docker.io\"\npublic = true\nusername = \"u\"\npassword_file = \"p\"",
    );
    site.write("p", "hunter2", 0o644);
    let warnings = site.load().expect("good").warnings;
    assert!(matches!(&warnings[..], [one] if one.contains("chmod 600")), "{warnings:?}");
}

#[test]
fn warns_of_endpoints_that_do_not_get_the_account() {
    let warnings = |keys: &str| {
        let account = "public = true\nusername = \"u\"\npassword_file = \"p\"";
        let site = Site::new(&format!("[[upstream]]\nregistry = \"docker.io\"\n{account}\n{keys}"));
        site.write("p", "hunter2", 0o600);
        site.load().expect("good").warnings
    };
    let two = "endpoints = [\"http://mirror.lan:5000\", \"https://registry-1.docker.io\"]\n";
    let told = warnings(two);
    assert_eq!(
        told,
        ["http://mirror.lan:5000/ is asked without the account for docker.io: if it may have the \
          password, write account_for = [\"mirror.lan:5000\"] in the [[upstream]] of docker.io"]
    );
    let told = warnings(&format!("{two}account_for = [\"mirror.lan:5000\"]"));
    assert!(matches!(&told[..], [one] if one.contains("unprotected")), "{told:?}");
    // The only one there is cannot be meant to do without.
    assert_eq!(warnings("endpoints = [\"https://mirror.lan:5000\"]"), [""; 0]);
    assert_eq!(
        warnings("endpoints = [\"https://registry-1.docker.io\", \"https://docker.io\"]"),
        [""; 0]
    );
    let nobody = Site::new(&format!("[[upstream]]\nregistry = \"docker.io\"\n{two}"));
    assert_eq!(nobody.load().expect("good").warnings, [""; 0]);
}

#[test]
fn what_may_be_inside_is_said_or_not() {
    for (keys, internal) in
        [("", None), ("internal = true", Some(true)), ("internal = false", Some(false))]
    {
        let site = Site::new(&format!("[[upstream]]\nregistry = \"docker.io\"\n{keys}"));
        let config = site.load().expect("good").config;
        assert_eq!(config.upstreams[0].internal, internal);
        assert_eq!(config.show().contains("internal"), internal.is_some());
    }
}

#[test]
fn warns_of_a_key_that_everyone_can_read() {
    let site = Site::new("[server.tls]\ncert = \"server.pem\"\nkey = \"server.key\"");
    site.write_certificates();
    assert_eq!(site.load().expect("good").warnings, [""; 0]);
    let key = fs::read_to_string(site.0.path().join("server.key")).expect("written");
    site.write("server.key", &key, 0o644);
    let warnings = site.load().expect("good").warnings;
    assert_eq!(
        warnings,
        ["every user of this machine can read server.key: run chmod 600 server.key"]
    );
}

/// A site whose uplink is gone gets no other, and is to come back after a power cut.
#[test]
fn warns_of_a_list_of_revoked_certificates_that_has_run_out() {
    let site = Site::new(
        "[server.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"server.pem\"\nclient_crl = \"over.crl\"",
    );
    site.write_certificates();
    let warnings = site.load().expect("good").warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let told = "over.crl holds a list of revoked certificates of CN=rcgen self signed cert, which ran out at \
                2020-01-01T00:00:00Z; it counts on";
    assert!(warning.starts_with(told), "{warning}");
}

#[test]
fn a_key_is_shown_nowhere() {
    let site = Site::new("[server.tls]\ncert = \"server.pem\"\nkey = \"server.key\"");
    site.write_certificates();
    let key = fs::read_to_string(site.0.path().join("server.key")).expect("written");
    let secret = key.lines().nth(1).expect("a line of the key itself");
    let config = site.load().expect("good").config;
    assert!(!config.show().contains(secret) && !format!("{config:?}").contains(secret));
}

#[test]
fn docker_hub_is_always_served() {
    let site = Site::new("[[upstream]]\nregistry = \"registry.example:5000\"");
    let config = site.load().expect("good").config;
    let names: Vec<_> =
        config.upstreams.iter().map(|upstream| upstream.registry.as_str()).collect();
    assert_eq!(names, ["docker.io", "registry.example:5000"]);
    assert_eq!(config.upstreams[1].endpoints[0].as_str(), "https://registry.example:5000/");
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let sources = Sources { file: Some("/nowhere/wharf.toml".into()), ..Sources::default() };
    let error = Config::load(&sources).expect_err("no such file").to_string();
    assert_eq!(error, "/nowhere/wharf.toml: the file does not exist");
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let site = Site::new(
        "[cache]\ntag_ttl = \"2m\"\nunknown_ttl = \"2m\"\ndir = \"file\"\n[log]\nformat = \"text\"",
    );
    let variables = [
        ("WHARF_CACHE__UNKNOWN_TTL", "3m"),
        ("WHARF_CACHE__DIR", "variable"),
        ("STATE_DIRECTORY", "/var/lib/wharf"),
    ];
    let overrides = Overrides {
        dir: Some("flag".into()),
        listen: vec![([127, 0, 0, 1], 1).into()],
        log_format: Some(LogFormat::Json),
    };
    let sources = Sources { environment: environment(&variables), overrides, ..site.sources() };
    let config = Config::load(&sources).expect("good").config;
    assert_eq!(config.pull.revalidate_timeout, Duration::from_secs(5), "the default");
    assert_eq!(config.pull.tag_ttl, Duration::from_secs(120), "the file");
    assert_eq!(config.pull.unknown_ttl, Duration::from_secs(180), "the variable");
    assert_eq!(config.store.dir, Path::new("flag"));
    assert_eq!(config.listen, [([127, 0, 0, 1], 1).into()]);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn variables_need_no_quotes() {
    let config = with_variables(&[
        ("WHARF_SERVER__LISTEN", "127.0.0.1:5000, [::1]:5000"),
        ("WHARF_SERVER__MAX_CONNECTIONS", "12"),
        ("WHARF_CACHE__SERVE_STALE", "false"),
        ("WHARF_CACHE__DIR", "2024"),
        ("WHARF_ADMIN__LISTEN", "off"),
        ("WHARF_CACHE__MAX_SIZE", "200MiB"),
        ("WHARF_CACHE__MIN_FREE", "0"),
        ("WHARF_CACHE__SCRUB", "0"),
    ])
    .expect("good");
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.server.max_connections, 12);
    assert!(!config.pull.serve_stale);
    assert_eq!(config.store.dir, Path::new("2024"));
    assert_eq!(config.admin, None);
    let limits = Limits { max_size: Share::Bytes(200 << 20), min_free: Share::Bytes(0) };
    assert_eq!((config.store.limits, config.pull.scrub), (limits, None));

    for list in ["[::1]:5000", "[\"[::1]:5000\"]"] {
        let config = with_variables(&[("WHARF_SERVER__LISTEN", list)]).expect("good");
        assert_eq!(config.listen, ["[::1]:5000".parse().expect("an address")], "{list}");
    }
}

#[test]
fn every_key_has_its_variable() {
    let defaults: toml::Table = toml::from_str(&Config::default().show()).expect("TOML");
    for (section, keys) in defaults.iter().filter(|(section, _)| *section != "upstream") {
        for (key, value) in keys.as_table().expect("a section") {
            let name = format!("WHARF_{section}__{key}").to_uppercase();
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let config = with_variables(&[(&name, &value)]).expect("its own default is good");
            assert_eq!(config.show(), Config::default().show(), "{name}={value}");
        }
    }
}

#[test]
fn refuses_variables_by_name_and_leaves_those_of_others_alone() {
    for (name, value, refusal) in [
        ("WHARF_CACHE__TAG_TLL", "1m", "unknown key \"tag_tll\": did you mean \"tag_ttl\"?"),
        ("WHARF_CAHCE__TAG_TTL", "1m", "unknown key \"cahce\": did you mean \"cache\"?"),
        ("WHARF_CACHE__TAG_TTL", "often", "\"often\" is not a duration"),
        ("WHARF_CACHE__MAX_DOWNLOADS", "many", "string \"many\" will not do: write a whole number"),
        ("WHARF_SERVER__LISTEN", "", "nowhere to listen"),
        ("WHARF_SERVER__TLS", "{}", "TLS cannot be set by variables"),
        ("WHARF_SERVER__TLS__CERT", "server.pem", "TLS cannot be set by variables"),
        ("WHARF_UPSTREAM__REGISTRY", "ghcr.io", "registries cannot be set by variables"),
        (
            "WHARF_COMPOSE__NAME",
            "user/test",
            "composed images cannot be set by variables: write [[compose]] in the file",
        ),
        (
            "WHARF_PLATFORMS__CLIENT",
            "10.0.7.0/24",
            "clients cannot be set by variables: write [[platforms.client]] in the file",
        ),
        (
            "WHARF_PLATFORMS__CLIENT__MATCH",
            "10.0.7.0/24",
            "clients cannot be set by variables: write [[platforms.client]] in the file",
        ),
        (
            "WHARF_PREFETCH__IMAGE",
            "nginx",
            "images to keep warm cannot be set by variables: write [[prefetch.image]] in the file",
        ),
        ("WHARF_PLATFORMS__KEEP", "linux/arm64,arm", "\"arm\" is not a platform: write os/"),
        ("WHARF_PLATFORMS__OTHERS", "drop", "\"drop\" is nothing to do with other platforms"),
        ("WHARF_PREFETCH__RATE", "2MiB", "\"2MiB\" is not a rate"),
        ("WHARF_CACHE__MAX_SIZE", "32", "\"32\" leaves no room for an image: write at least"),
        ("WHARF_CACHE__MIN_FREE", "some", "\"some\" is not a size: write bytes"),
        ("WHARF_CACHE__SCRUB", "never", "\"never\" is not a duration: write the time in which"),
    ] {
        let said = with_variables(&[(name, value)]).expect_err("refused").to_string();
        assert!(said.starts_with(&format!("{name}: {refusal}")), "{said}");
    }
    with_variables(&[("WHARF_PORT", "tcp://10.0.0.1:5000"), ("WHARF_SERVICE_HOST", "10.0.0.1")])
        .expect("Kubernetes sets these for a service called wharf");
}

#[test]
fn systemd_says_where_the_data_lives() {
    for (list, dir) in [
        ("/var/lib/wharf", "/var/lib/wharf"),
        ("/var/lib/a:/var/lib/b", "/var/lib/a"),
        ("", "wharf-data"),
    ] {
        let config = with_variables(&[("STATE_DIRECTORY", list)]).expect("good");
        assert_eq!(config.store.dir, Path::new(dir));
    }
}

#[test]
fn takes_levels_and_directives() {
    for level in
        ["off", "error", "WARN", "info", "debug", "trace", "info,wharf=trace", "a::b-c=debug"]
    {
        Site::new(&format!("[log]\nlevel = \"{level}\"")).load().expect(level);
    }
    let config = Site::new("[log]\nlevel = \"info,,wharf=trace,\"").load().expect("good");
    assert_eq!(config.config.log.level, "info,wharf=trace");
    for level in ["loud", "info, wharf=debug", "=debug", "wharf=", "wharf=loud", "a[b]=debug"] {
        let error = Site::new(&format!("[log]\nlevel = \"{level}\"")).load().expect_err(level);
        assert!(error.to_string().contains("is not a log level"), "{level}: {error}");
    }
}
