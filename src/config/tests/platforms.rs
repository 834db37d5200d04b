//! `[platforms]` and its clients.

use super::{Site, refusals::refuses, with_variables};
use crate::{
    config::{Overrides, Sources},
    oci::Platform,
    pull::{AnswerWith, ClientRule, Others},
};

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

#[test]
fn refuses_what_cannot_be_meant_of_platforms() {
    let platforms = |keys: &str| format!("[platforms]\n{keys}");
    let client = |keys: &str| format!("[[platforms.client]]\n{keys}");
    for (toml, refusal) in [
        (platforms("kept = []"), "2: platforms.kept: unknown key \"kept\": did you mean \"keep\"?"),
        ("platforms = \"linux/arm64\"".into(), "1: platforms: string \"linux/arm64\" will not do"),
        (
            platforms("keep = \"linux/arm64\""),
            "2: platforms.keep: string \"linux/arm64\" will not do: write a list of platforms",
        ),
        (platforms("keep = [7]"), "2: platforms.keep: integer 7 will not do: write a platform in"),
        (
            platforms("keep = [\n\"linux/arm64\",\n\"arm\"]"),
            "4: platforms.keep: \"arm\" is not a platform: write os/architecture",
        ),
        (
            platforms("keep = [\"linux/arm64\", \"linux/ARM64\"]"),
            "2: platforms.keep: linux/arm64 is given twice",
        ),
        (
            platforms("keep = [\"linux/arm64\", \"linux/arm64/v8\"]"),
            "2: platforms.keep: linux/arm64 is given twice",
        ),
        (
            platforms("keep = [\"linux/arm/v9\"]"),
            "2: platforms.keep: \"linux/arm/v9\" is not a platform: unknown variant",
        ),
        (
            platforms("keep = [\"linux/sparc64\"]"),
            "2: platforms.keep: \"linux/sparc64\" is not a platform: unknown arch",
        ),
        (
            platforms("default = \"\""),
            "2: platforms.default: \"\" is not a platform: write os/architecture",
        ),
        (
            platforms("default = [\"linux/arm64\"]"),
            "2: platforms.default: a list will not do: write a platform in quotes",
        ),
        (
            platforms("others = \"drop\""),
            "2: platforms.others: \"drop\" is nothing to do with other platforms: write \"relay\"",
        ),
        (platforms("others = false"), "2: platforms.others: boolean false will not do: write \"re"),
        (
            platforms("answer = \"list\""),
            "2: platforms.answer: \"list\" is nothing to answer a tag with: write \"index\"",
        ),
        (
            platforms("header_from = \"10.0.7.0/24\""),
            "2: platforms.header_from: string \"10.0.7.0/24\" will not do: write a list of networks",
        ),
        (
            platforms("header_from = [\"10.0.7.5/24\"]"),
            "2: platforms.header_from: \"10.0.7.5/24\" is an address inside a network: write \
             \"10.0.7.0/24\" for the network, or \"10.0.7.5\" for",
        ),
        (
            platforms("header_from = [\"10.0.7.5\", \"10.0.7.5/32\"]"),
            "2: platforms.header_from: 10.0.7.5/32 is given twice",
        ),
        (
            "[platforms]\n[platforms.client]\nmatch = \"::1\"".into(),
            "2: platforms.client: this table may come several times",
        ),
        (
            client("platform = \"linux/arm64\""),
            "1: platforms.client: a client that nothing is known by: write match = ",
        ),
        (client("subject = \"pi\""), "1: platforms.client: a client without a platform: write"),
        (
            client("match = \"::1\"\nplatforms = \"linux/arm64\""),
            "3: platforms.client.platforms: unknown key \"platforms\": did you mean \"platform\"?",
        ),
        (
            client("match = \"::1\"\nplatform = []"),
            "3: platforms.client.platform: no platform: write at least one",
        ),
        (
            client("match = \"::1\"\nplatform = 7"),
            "3: platforms.client.platform: integer 7 will not do: write a platform in quotes, such",
        ),
        (
            client("match = \"::1\"\nplatform = \"arm\""),
            "3: platforms.client.platform: \"arm\" is not a platform",
        ),
        (
            client("match = \"::1\"\nplatform = [\"linux/arm64\", \"linux/arm64\"]"),
            "3: platforms.client.platform: linux/arm64 is given twice",
        ),
        (client("match = \"\""), "2: platforms.client.match: \"\" is not a network: write one"),
        (client("match = \"10.0.7.0/33\""), "2: platforms.client.match: \"10.0.7.0/33\" is not a"),
        (client("match = \"10.0.7.*\""), "2: platforms.client.match: \"10.0.7.*\" is not a net"),
        (client("match = \"pi.lan\""), "2: platforms.client.match: \"pi.lan\" is not a network"),
        (
            client("match = \"fd00:7::1/64\""),
            "2: platforms.client.match: \"fd00:7::1/64\" is an address inside a network: write \
             \"fd00:7::/64\" for the network",
        ),
        (client("subject = \" \""), "2: platforms.client.subject: an empty subject names nobody"),
        (
            client("listener = \"0.0.0.0:5001\"\nplatform = \"linux/arm64\""),
            "2: platforms.client.listener: wharf does not listen on 0.0.0.0:5001: write one of \
             server.listen, or of a [[listener]], which are 0.0.0.0:5000",
        ),
        (
            client("listener = \"0.0.0.0:0\""),
            "2: platforms.client.listener: \"0.0.0.0:0\" names no listener: port 0 is any free one",
        ),
        (
            client("listener = \"5001\""),
            "2: platforms.client.listener: \"5001\" is not an address: write an IP address and a",
        ),
        (
            client("host = \"armv6.lan:5000\""),
            "2: platforms.client.host: \"armv6.lan:5000\" has a port: write the name alone, \
             \"armv6.lan\"",
        ),
        (client("host = \"\""), "2: platforms.client.host: \"\" is not a host name"),
        (
            client("host = \"http://armv6.lan/\""),
            "2: platforms.client.host: \"http://armv6.lan/\" is not a host name",
        ),
    ] {
        refuses(&toml, &format!("wharf.toml:{refusal}"));
    }
}

#[test]
fn every_key_of_platforms_is_carried() {
    let loaded = Site::new(
        r#"
        [server]
        listen = ["127.0.0.1:5000", "127.0.0.1:5002"]
        [platforms]
        keep = ["linux/arm64", "linux/arm/v7"]
        default = "linux/arm64"
        others = "keep"
        answer = "manifest"
        header_from = ["::ffff:10.0.0.0/104", "10.0.7.12", "fd00:7::1"]
        [[platforms.client]]
        listener = "127.0.0.1:5002"
        host = "ARMv6.Wharf.lan"
        platform = "linux/arm/v6"
        [[platforms.client]]
        match = "10.0.7.0/24"
        subject = "Pi 7"
        platform = ["linux/arm64", "linux/arm/v7"]
        "#,
    )
    .load()
    .expect("good");
    assert_eq!(loaded.warnings, [""; 0]);
    let platforms = loaded.config.pull.platforms;
    assert_eq!(platforms.keep, [platform("linux/arm64"), platform("linux/arm/v7")]);
    assert_eq!(platforms.default, Some(platform("linux/arm64")));
    assert_eq!((platforms.others, platforms.answer), (Others::Keep, AnswerWith::Manifest));
    let from: Vec<_> = platforms.header_from.iter().map(ToString::to_string).collect();
    assert_eq!(from, ["10.0.0.0/8", "10.0.7.12/32", "fd00:7::1/128"]);
    let expected = [
        ClientRule {
            net: None,
            subject: None,
            listener: Some(([127, 0, 0, 1], 5002).into()),
            host: Some("armv6.wharf.lan".into()),
            platforms: vec![platform("linux/arm/v6")],
        },
        ClientRule {
            net: Some("10.0.7.0/24".parse().expect("a network")),
            subject: Some("Pi 7".into()),
            listener: None,
            host: None,
            platforms: vec![platform("linux/arm64"), platform("linux/arm/v7")],
        },
    ];
    assert_eq!(platforms.clients, expected);
}

#[test]
fn a_listener_is_looked_for_when_every_layer_has_spoken() {
    let site = Site::new(
        "[[platforms.client]]\nlistener = \"127.0.0.1:5002\"\nplatform = \"linux/arm64\"",
    );
    let overrides =
        Overrides { listen: vec![([127, 0, 0, 1], 5002).into()], ..Overrides::default() };
    let sources = Sources { overrides, ..site.sources() };
    let config = crate::config::Config::load(&sources).expect("good").config;
    assert_eq!(config.pull.platforms.clients.len(), 1);
}

#[test]
fn variables_set_platforms() {
    let config = with_variables(&[
        ("WHARF_PLATFORMS__KEEP", "linux/arm64, linux/arm/v7"),
        ("WHARF_PLATFORMS__DEFAULT", "linux/arm64"),
        ("WHARF_PLATFORMS__ANSWER", "manifest"),
        ("WHARF_PLATFORMS__HEADER_FROM", "10.0.7.0/24,::1"),
        ("WHARF_PREFETCH__RATE", "2MiB/s"),
        ("WHARF_PREFETCH__ON_PULL", "false"),
        ("WHARF_PREFETCH__QUOTA_FLOOR", "0"),
    ])
    .expect("good");
    let platforms = config.pull.platforms;
    assert_eq!(platforms.keep, [platform("linux/arm64"), platform("linux/arm/v7")]);
    assert_eq!(platforms.default, Some(platform("linux/arm64")));
    assert_eq!(platforms.answer, AnswerWith::Manifest);
    assert_eq!(platforms.header_from.len(), 2);
    let prefetch = config.pull.prefetch;
    assert_eq!((prefetch.rate, prefetch.quota_floor), (Some(2 << 20), 0));
    assert!(!prefetch.on_pull);
}

#[test]
fn warns_of_platforms_that_lie_outside_those_kept() {
    let keep = "[platforms]\nkeep = [\"linux/arm64\"]\ndefault = \"linux/arm64\"\n";
    let client = "[[platforms.client]]\nmatch = \"::1\"\n";
    let image = "[[prefetch.image]]\nname = \"nginx\"\n";
    for (toml, warning) in [
        (keep.to_owned(), None),
        ("[platforms]\ndefault = \"linux/arm64\"".into(), None),
        (
            "[platforms]\nkeep = [\"linux/arm64\"]\ndefault = \"linux/arm/v7\"".into(),
            Some("clients that give no sign are taken for linux/arm/v7, platforms.default, which"),
        ),
        (
            // Nothing that wharf itself runs on.
            "[platforms]\nkeep = [\"linux/s390x\"]".into(),
            Some("clients that give no sign are taken for "),
        ),
        (format!("{keep}{client}platform = \"linux/arm/v7\""), None),
        (
            format!("{keep}others = \"refuse\"\n{client}platform = \"linux/arm/v7\""),
            Some(
                "a [[platforms.client]] is refused all it asks for: platforms.keep has none of linux/arm/v7",
            ),
        ),
        (
            format!(
                "{keep}others = \"refuse\"\n{client}platform = [\"linux/386\", \"linux/arm64\"]"
            ),
            None,
        ),
        (
            format!("{keep}{image}platforms = [\"linux/arm64\", \"linux/arm/v7\"]"),
            Some(
                "docker.io/library/nginx:latest is not kept warm for linux/arm/v7: platforms.keep",
            ),
        ),
        (format!("{keep}others = \"keep\"\n{image}platforms = [\"linux/arm/v7\"]"), None),
        (format!("{keep}{image}"), None),
    ] {
        let warnings = Site::new(&toml).load().expect("good").warnings;
        let expected = warning.iter().len();
        assert_eq!(warnings.len(), expected, "{toml}\n  warns {warnings:?}");
        for (said, warning) in warnings.iter().zip(warning) {
            assert!(said.starts_with(warning), "{toml}\n  warns {said}");
        }
    }
}
