//! What a file that is read again changes.

use super::*;

const BEFORE: &str = r#"
[cache]
max_size = "10GiB"
[[prefetch.image]]
name = "nginx"
[[prefetch.image]]
name = "redis"
pinned = true
[[upstream]]
registry = "ghcr.io"
"#;

fn changes(after: &str) -> Changes {
    let load = |toml| Site::new(toml).load().expect("good").config;
    load(BEFORE).changes(&load(after))
}

fn at_once(changes: &Changes) -> Vec<(&str, &str)> {
    changes.at_once.iter().map(|(key, said)| (&**key, &**said)).collect()
}

#[test]
fn what_is_said_in_another_way_changes_nothing() {
    let same = BEFORE.replace("10GiB", "10240 MiB").replace("\"nginx\"", "\"nginx:latest\"");
    assert_eq!(changes(&same), Changes::default());
    assert_eq!(changes(&format!("{BEFORE}[log]\nlevel = \"info\"\n")), Changes::default());
}

#[test]
fn limits_pins_and_the_log_change_at_once() {
    let after = BEFORE
        .replace("max_size = \"10GiB\"", "max_size = \"1GiB\"\nmin_free = \"0\"\nscrub = \"off\"")
        .replace("name = \"nginx\"", "name = \"nginx\"\npinned = true")
        + "[log]\nlevel = \"debug\"\n";
    let seen = changes(&after);
    assert_eq!(
        at_once(&seen),
        [
            ("cache.max_size", "1GiB"),
            ("cache.min_free", "0"),
            ("cache.scrub", "off"),
            ("log.level", "debug"),
            (
                "prefetch.image.pinned",
                "docker.io/library/nginx:latest, docker.io/library/redis:latest"
            ),
        ]
    );
    assert_eq!(seen.at_start, [""; 0]);
    let unpinned = changes(&BEFORE.replace("pinned = true", ""));
    assert_eq!(at_once(&unpinned), [("prefetch.image.pinned", "none")]);
}

#[test]
fn certificates_change_at_once_and_tls_itself_does_not() {
    let load = |keys: &str| {
        let site = Site::new(&format!("[server]\n{keys}"));
        site.write_certificates();
        site.load().expect("good").config
    };
    let plain = load("");
    let tls = load("tls = { cert = \"server.pem\", key = \"server.key\" }");
    let clients = load(
        "tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"server.pem\", client_auth = \"required\" }",
    );
    let seen = tls.changes(&clients);
    assert!(
        matches!(&seen.at_once[..], [(key, said)] if key == "server.tls" && said.ends_with("server.pem"))
    );
    assert_eq!(seen.at_start, [""; 0]);
    for (old, new) in [(&plain, &tls), (&tls, &plain)] {
        let seen = old.changes(new);
        assert_eq!((at_once(&seen), &seen.at_start[..]), (vec![], &["server.tls".to_owned()][..]));
        let mut adopted = old.clone();
        adopted.adopt(new);
        assert_eq!(adopted.server.door.tls.is_some(), old.server.door.tls.is_some());
    }
    let mut adopted = tls;
    adopted.adopt(&clients);
    assert_eq!(adopted.door_files, clients.door_files);
}

#[test]
fn everything_else_waits_for_the_next_start_and_is_named() {
    let after = BEFORE
        .replace(
            "max_size = \"10GiB\"",
            "max_size = \"10GiB\"\ntag_ttl = \"2m\"\ndir = \"elsewhere\"",
        )
        .replace("name = \"nginx\"", "name = \"nginx\"\nevery = \"1h\"")
        .replace("ghcr.io", "quay.io")
        + "[platforms]\ndefault = \"linux/arm64\"\n[[compose]]\nname = \"user/test\"\n\
           platforms = { \"linux/amd64\" = \"user/test\" }\n[log]\nformat = \"json\"\n";
    let seen = changes(&after);
    assert_eq!(
        seen.at_start,
        [
            "cache.dir",
            "cache.tag_ttl",
            "[[compose]]",
            "log.format",
            "platforms.default",
            "[[prefetch.image]]",
            "[[upstream]]",
        ]
    );
    assert_eq!(at_once(&seen), []);
}

#[test]
fn what_is_adopted_is_what_changes_at_once() {
    let load = |toml: &str| Site::new(toml).load().expect("good").config;
    let mut config = load(BEFORE);
    let new = load(
        "[cache]\nmax_size = \"1GiB\"\nmin_free = \"0\"\nscrub = \"2d\"\ntag_ttl = \"2m\"\n[log]\nlevel = \"warn\"",
    );
    config.adopt(&new);
    let left = config.changes(&new);
    assert_eq!(left.at_once, []);
    assert_eq!(left.at_start, ["cache.tag_ttl", "[[prefetch.image]]", "[[upstream]]"]);
}
