//! Who may come, sign in and pull: what of it is refused, and what is open to all.

use super::*;

const TLS: &str = "tls = { cert = \"server.pem\", key = \"server.key\" }\n";

fn site(toml: &str) -> Site {
    let site = Site::new(toml);
    site.write_certificates();
    site.write("htpasswd", HTPASSWD, 0o600);
    site.write("md5", "# site\nalice:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n", 0o600);
    site.write("empty", "", 0o600);
    site.write("open", HTPASSWD, 0o644);
    site.write("p", "hunter2\n", 0o600);
    site
}

fn access(keys: &str) -> String {
    format!("[[access]]\n{keys}")
}

#[test]
fn refuses_with_the_line_the_key_and_what_to_write() {
    let listener = |keys: &str| format!("[[listener]]\n{keys}");
    let all = "allow = [\"**\"]";
    for (toml, refusal) in [
        (access(""), "1: access: a rule that allows nothing: write allow = "),
        (access("allow = []"), "1: access: a rule that allows nothing"),
        (
            access("allow = [\"library/nginx\"]"),
            "2: access.allow: \"library/nginx\" matches nothing: library is none of the registries, which are docker.io",
        ),
        (
            access("allow = [\"ghcr.io/acme/*\"]"),
            "2: access.allow: \"ghcr.io/acme/*\" matches nothing: ghcr.io is none of the registries",
        ),
        (
            access("allow = [\"nginx\"]"),
            "2: access.allow: \"nginx\" matches no repository: write a registry and a name",
        ),
        (
            access("allow = [\"docker.io/library/nginx:1\"]"),
            "2: access.allow: \"docker.io/library/nginx:1\" matches no repository",
        ),
        (access("allow = [\"docker.io/\"]"), "2: access.allow: \"docker.io/\" matches no rep"),
        (
            access("allow = [\"docker.io/[a\"]"),
            "2: access.allow: \"docker.io/[a\" is not a pattern",
        ),
        (access("allow = [\"**\", \"**\"]"), "2: access.allow: ** is given twice: write it once"),
        (
            access("allow = \"**\""),
            "2: access.allow: string \"**\" will not do: write a list of reg",
        ),
        (
            access(&format!("{all}\nclients = []")),
            "3: access.clients: no client: write at least one",
        ),
        (
            access(&format!("{all}\nsubject = \"pi-*\"")),
            "3: access.subject: nobody shows a certificate there: write client_ca into [server] tls",
        ),
        (
            access(&format!("{all}\nsubject = \" \"")),
            "3: access.subject: an empty name is nobody's",
        ),
        (
            access(&format!("{all}\nsubject = \"a***\"")),
            "3: access.subject: \"a***\" is not a pattern",
        ),
        (
            access(&format!("{all}\nuser = \"alice\"")),
            "3: access.user: nobody can sign in there: write users = \"htpasswd\" into [server]",
        ),
        (
            access(&format!("{all}\nlistener = \"0.0.0.0:5443\"")),
            "3: access.listener: wharf does not listen on 0.0.0.0:5443: write one of server.listen, or of a \
             [[listener]], which are 0.0.0.0:5000",
        ),
        (access("usr = \"alice\""), "2: access.usr: unknown key \"usr\": did you mean \"user\"?"),
        (
            // The users are of another listener.
            format!(
                "[server]\nlisten = [\"127.0.0.1:5000\"]\n{}{}",
                listener("address = \"127.0.0.1:5443\"\nusers = \"htpasswd\"\n"),
                access(&format!("{all}\nlistener = \"127.0.0.1:5000\"\nuser = \"alice\""))
            ),
            "9: access.user: nobody can sign in there",
        ),
        (listener(""), "1: listener: a listener without an address: write address = "),
        (
            listener("address = \"0.0.0.0:0\""),
            "2: listener.address: \"0.0.0.0:0\" names no listener: port 0 is any free one, write a fixed",
        ),
        (
            format!(
                "[server]\nlisten = [\"0.0.0.0:5000\"]\n{}",
                listener("address = \"0.0.0.0:5000\"")
            ),
            "4: listener.address: 0.0.0.0:5000 is listened on already",
        ),
        (
            listener("address = \"0.0.0.0:5000\"\n[[listener]]\naddress = \"0.0.0.0:5000\""),
            "4: listener.address: 0.0.0.0:5000 is listened on already",
        ),
        (
            listener("address = \"127.0.0.1:5001\""),
            "admin.listen: 127.0.0.1:5001 is also in a [[listener]]",
        ),
        (
            listener("address = \"0.0.0.0:5443\"\ntls = { cert = \"server.pem\" }"),
            "3: listener.tls: TLS without a key",
        ),
        (
            listener("address = \"0.0.0.0:5443\"\nsign_in = true"),
            "3: listener.sign_in: nobody to sign in: write users = ",
        ),
        ("[server]\nsign_in = true".into(), "2: server.sign_in: nobody to sign in"),
        (
            listener("address = \"0.0.0.0:5443\"\nusers = \"htpasswd\""),
            "3: listener.users: passwords would cross the network unprotected to 0.0.0.0:5443: write tls = ",
        ),
        (
            "[server]\nusers = \"htpasswd\"".into(),
            "2: server.users: passwords would cross the network unprotected to 0.0.0.0:5000",
        ),
        (
            format!("[server]\n{TLS}users = \"md5\""),
            "3: server.users: md5 line 2 has a password that is kept by MD5, which is guessed quickly: write this line \
             anew with: htpasswd -B",
        ),
        (
            format!("[server]\n{TLS}users = \"empty\""),
            "3: server.users: empty line 1 and all others name",
        ),
        (format!("[server]\n{TLS}users = \"none\""), "3: server.users: none does not exist"),
        ("[server]\nlisten = []".into(), "2: server.listen: nowhere to listen"),
    ] {
        let said = site(&toml).refusal();
        let wanted = if refusal.starts_with("admin") {
            refusal.to_owned()
        } else {
            format!("wharf.toml:{refusal}")
        };
        assert!(said.starts_with(&wanted), "{toml}\n{said}\n{wanted}");
        assert!(!said.contains("lZL6V"), "{said}");
    }
    for name in [
        "WHARF_SERVER__USERS",
        "WHARF_SERVER__SIGN_IN",
        "WHARF_ACCESS__ALLOW",
        "WHARF_LISTENER__TLS",
    ] {
        let error = with_variables(&[(name, "x")]).expect_err("refused").to_string();
        assert!(
            error.starts_with(name) && error.contains("in the file that WHARF_CONFIG names"),
            "{error}"
        );
    }
    let error = with_variables(&[("WHARF_SERVER__LISTEN", "[]")]).expect_err("refused").to_string();
    assert!(error.contains("nowhere to listen"), "{error}");
}

#[test]
fn passwords_come_over_tls_or_on_loopback_or_the_operator_knows_better() {
    let warnings = |toml: &str| site(toml).load().expect(toml).warnings;
    let users = "users = \"htpasswd\"\n";
    assert_eq!(warnings(&format!("[server]\n{TLS}{users}")), [""; 0]);
    assert_eq!(warnings(&format!("[server]\nlisten = [\"[::1]:5000\"]\n{users}")), [""; 0]);
    assert_eq!(warnings(&format!("[[listener]]\naddress = \"127.0.0.1:5000\"\n{users}")), [""; 0]);
    let told = warnings(&format!("[server]\n{users}users_without_tls = true"));
    assert!(matches!(&told[..], [one] if one.contains("unprotected to 0.0.0.0:5000")), "{told:?}");
    let told = warnings(&format!("[server]\n{TLS}users = \"open\""));
    assert!(matches!(&told[..], [one] if one.contains("chmod 600 open")), "{told:?}");
}

#[test]
fn who_writes_where_to_listen_gets_no_address_besides() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:5443\"\n";
    let addresses = |toml: &str, variables: &[(&str, &str)]| {
        let site = site(toml);
        let sources = Sources { environment: environment(variables), ..site.sources() };
        let config = Config::load(&sources).expect(toml).config;
        let shown = Site::new(&config.show()).load().expect("what show prints is good").config;
        assert_eq!(shown.show(), config.show());
        config.addresses().map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(addresses("", &[]), ["0.0.0.0:5000"]);
    assert_eq!(addresses(listener, &[]), ["127.0.0.1:5443"]);
    let server = "[server]\nlisten = [\"127.0.0.1:5000\"]\n";
    assert_eq!(
        addresses(&format!("{server}{listener}"), &[]),
        ["127.0.0.1:5000", "127.0.0.1:5443"]
    );
    let variable = [("WHARF_SERVER__LISTEN", "127.0.0.1:5002")];
    assert_eq!(addresses(listener, &variable), ["127.0.0.1:5002", "127.0.0.1:5443"]);
}

#[test]
fn cve_2026_27771_an_account_is_open_where_somebody_unknown_may_pull_all_of_its_registry() {
    let load = |more: &str| {
        let toml = format!(
            "{more}[[upstream]]\nregistry = \"ghcr.io\"\nusername = \"u\"\npassword_file = \"p\"\n"
        );
        site(&toml).load().map(|_| ()).map_err(|error| error.to_string())
    };
    let listener = |keys: &str| format!("[[listener]]\naddress = \"0.0.0.0:5443\"\n{keys}");
    let mtls = |auth: &str| {
        format!(
            "tls = {{ cert = \"server.pem\", key = \"server.key\", client_ca = \"server.pem\", client_auth = \"{auth}\" }}\n"
        )
    };
    let users = format!("{TLS}users = \"htpasswd\"\n");
    let sign_in = format!("{users}sign_in = true\n");
    for closed in [
        listener("allow_clients = [\"10.0.0.0/8\"]\n"),
        listener(&mtls("required")),
        listener(&sign_in),
        format!("[server]\n{sign_in}"),
        format!("[server]\n{sign_in}{}", listener(&mtls("required"))),
        access("allow = [\"docker.io/**\", \"ghcr.io/acme/*\"]\n"),
        access("clients = [\"10.0.0.0/8\"]\nallow = [\"**\"]\n"),
        format!("{}{}", listener(&users), access("user = \"*\"\nallow = [\"**\"]\n")),
        format!(
            "{}{}",
            listener(&mtls("optional")),
            access("subject = \"*\"\nallow = [\"ghcr.io/**\"]\n")
        ),
        format!(
            "[server]\nlisten = [\"127.0.0.1:5000\"]\n{}{}",
            listener("allow_clients = [\"10.0.0.0/8\"]\n"),
            access("allow = [\"**\"]\n")
        ),
    ] {
        assert_eq!(load(&closed), Ok(()), "{closed}");
    }
    for (open, at) in [
        (listener(""), "0.0.0.0:5443"),
        (listener(&users), "0.0.0.0:5443"),
        (listener(&mtls("optional")), "0.0.0.0:5443"),
        (format!("[server]\n{sign_in}{}", listener("")), "0.0.0.0:5443"),
        (
            format!("[server]\nlisten = [\"10.0.0.1:5000\"]\n{}", listener(&mtls("required"))),
            "10.0.0.1:5000",
        ),
        (access("allow = [\"**\"]\n"), "0.0.0.0:5000"),
        (access("allow = [\"ghcr.io/**\"]\n"), "0.0.0.0:5000"),
        (
            format!(
                "{}{}",
                listener(""),
                access("listener = \"0.0.0.0:5443\"\nallow = [\"**\"]\n")
            ),
            "0.0.0.0:5443",
        ),
    ] {
        let error = load(&open).expect_err(&open);
        assert!(error.contains(&format!("whoever reaches {at} could pull")), "{open}{error}");
    }
}

#[test]
fn rules_and_users_change_at_once_and_listeners_at_the_next_start() {
    let load = |toml: &str| site(toml).load().expect(toml).config;
    let server = format!("[server]\n{TLS}users = \"htpasswd\"\n");
    let listener = "[[listener]]\naddress = \"127.0.0.1:5443\"\n";
    let old = load(&format!("{server}{listener}"));
    let new = load(&format!(
        "{server}sign_in = true\n{listener}allow_clients = [\"10.0.0.0/8\"]\n{}",
        access("allow = [\"docker.io/library/*\"]")
    ));
    let changes = old.changes(&new);
    let at_once: Vec<_> = changes.at_once.iter().map(|(key, said)| (&**key, &**said)).collect();
    // Each site has files of its own.
    assert_eq!(at_once[0], ("[[access]]", "1 rule"));
    assert!(
        at_once[1..].iter().all(|(key, _)| ["server.tls", "server.users"].contains(key)),
        "{at_once:?}"
    );
    assert_eq!(changes.at_start, ["[[listener]]", "server.sign_in"]);
    let (mut adopted, serving) = (old.clone(), old);
    adopted.adopt(&new);
    assert_eq!(
        serving.server.access.rules(),
        new.server.access.rules(),
        "what serves has them too"
    );
    let left = adopted.changes(&new);
    assert_eq!(left.at_once, []);
    assert_eq!(left.at_start, ["[[listener]]", "server.sign_in"]);
}

#[test]
fn rules_do_not_go_before_what_takes_their_place() {
    let load = |more: &str| {
        let toml = format!(
            "{more}[[upstream]]\nregistry = \"ghcr.io\"\nusername = \"u\"\npassword_file = \"p\"\n"
        );
        site(&toml).load().expect("good").config
    };
    let mut config = load(&access("clients = [\"10.0.0.0/8\"]\nallow = [\"**\"]\n"));
    let before = config.server.access.rules();
    let new = load("[server]\nallow_clients = [\"10.0.0.0/8\"]\n");
    // By then nobody would be asked where he comes from.
    let changes = config.changes(&new);
    assert!(!changes.at_once.iter().any(|(key, _)| key == "[[access]]"), "{:?}", changes.at_once);
    assert!(changes.at_start.contains(&"[[access]]".to_owned()), "{:?}", changes.at_start);
    config.adopt(&new);
    assert_eq!(config.server.access.rules(), before);

    let narrower = load(&access("clients = [\"10.0.0.0/16\"]\nallow = [\"**\"]\n"));
    config.adopt(&narrower);
    assert_eq!(config.server.access.rules(), narrower.server.access.rules());
}
