//! Who takes which entry of which list.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::oci::{Manifest, media_type};

const ATTESTATION: &str = "attestation";
const BARE: &str = "bare";

fn parse(entries: &[Value]) -> ImageIndex {
    let document = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    let media_type = media_type::OCI_INDEX.parse().expect("a media type");
    match Manifest::parse(&media_type, document.as_bytes()) {
        Ok(Manifest::Index(index)) => index,
        other => panic!("{other:?} is no index"),
    }
}

/// An entry whose digest says that it is the `n`th of its list.
fn entry(n: usize, more: Value) -> Value {
    let digest = Digest::sha256(&n.to_be_bytes());
    let mut entry = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1 });
    let fields = more.as_object().expect("an object").clone();
    entry.as_object_mut().expect("an object").extend(fields);
    entry
}

/// An entry as lists have it: the platform as it is spelt, or one of the two constants.
fn spelt(n: usize, text: &str) -> Value {
    let mut parts = text.split('/');
    match text {
        BARE => entry(n, json!({})),
        ATTESTATION => entry(n, attestation()),
        _ => {
            let system = parts.next().expect("a system");
            let (os, version) = system.split_once('(').unwrap_or((system, ""));
            let mut platform = json!({ "os": os, "architecture": parts.next() });
            if let Some(variant) = parts.next() {
                platform["variant"] = variant.into();
            }
            if !version.is_empty() {
                platform["os.version"] = version.trim_end_matches(')').into();
            }
            entry(n, json!({ "platform": platform }))
        }
    }
}

fn attestation() -> Value {
    json!({
        "platform": { "os": "unknown", "architecture": "unknown" },
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": Digest::sha256(b"speaks of this"),
        },
    })
}

fn list(spellings: &[&str]) -> ImageIndex {
    let entries = spellings.iter().enumerate().map(|(n, text)| spelt(n, text));
    parse(&entries.collect::<Vec<_>>())
}

/// What a host takes from a list, as the list spells it.
fn taken<'a>(list: &[&'a str], index: &ImageIndex, host: &str, rules: Rules) -> &'a str {
    let host: Platform = host.parse().expect("a platform");
    let Some(entry) = index.select(&host, rules) else { return "nothing" };
    let place = index.entries.iter().position(|other| std::ptr::eq(other, entry));
    list[place.expect("an entry of the list")]
}

/// Panics unless each host takes from `list`, in both directions, what stands beside it: under containerd's rules,
/// and under those of containers/image.
fn assert_taken(list: &[&str], hosts: &[(&str, &str, &str)]) {
    let backwards: Vec<&str> = list.iter().rev().copied().collect();
    for list in [list, &backwards] {
        let index = self::list(list);
        for (host, containerd, containers_image) in hosts {
            let take = |rules| taken(list, &index, host, rules);
            assert_eq!(take(Rules::Containerd), *containerd, "{host} from {list:?}");
            assert_eq!(take(Rules::ContainersImage), *containers_image, "{host} from {list:?}");
        }
    }
}

#[test]
fn every_host_takes_its_own_from_a_full_list() {
    let list = [
        "linux/amd64",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64/v8",
        "linux/386",
        "linux/ppc64le",
        "linux/s390x",
        "linux/riscv64",
        "windows(10.0.17763.5)/amd64",
        "windows(10.0.20348.9)/amd64",
        ATTESTATION,
    ];
    assert_taken(
        &list,
        &[
            ("linux/amd64", "linux/amd64", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64", "linux/amd64"),
            ("linux/386", "linux/386", "linux/386"),
            ("linux/arm/v5", "linux/arm/v5", "linux/arm/v5"),
            ("linux/arm/v6", "linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/v7", "linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/v8", "linux/arm/v7", "linux/arm/v7"),
            ("linux/arm64", "linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm64/v8.2", "linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm64/v9", "linux/arm64/v8", "linux/arm64/v8"),
            ("linux/ppc64le", "linux/ppc64le", "linux/ppc64le"),
            ("linux/s390x", "linux/s390x", "linux/s390x"),
            ("linux/riscv64", "linux/riscv64", "linux/riscv64"),
            ("linux/loong64", "nothing", "nothing"),
            ("darwin/arm64", "nothing", "nothing"),
            ("freebsd/amd64", "nothing", "nothing"),
        ],
    );
    for (host, version) in [("", "10.0.20348.9"), ("(10.0.17763)", "10.0.17763.5")] {
        let (host, image) = (format!("windows{host}/amd64"), format!("windows({version})/amd64"));
        assert_eq!(taken(&list, &self::list(&list), &host, Rules::Containerd), image);
    }
}

#[test]
fn a_host_whose_own_is_missing_takes_what_it_can_run() {
    let (armv6, armv7) = ("linux/arm/v6", "linux/arm/v7");
    assert_taken(
        &["linux/amd64", armv6],
        &[
            (armv7, armv6, armv6),
            ("linux/arm/v5", "nothing", "nothing"),
            ("linux/arm64", armv6, "nothing"),
            ("linux/386", "nothing", "nothing"),
        ],
    );
    assert_taken(&["linux/amd64", armv7], &[("linux/arm64", armv7, "nothing")]);
    assert_taken(
        &["linux/arm/v5", armv7, armv6],
        &[("linux/arm64", armv7, "nothing"), (armv7, armv7, armv7), (armv6, armv6, armv6)],
    );
    // What says only `arm` is an ARMv7's.
    assert_taken(
        &["linux/amd64", "linux/arm", "linux/arm64"],
        &[(armv6, "nothing", "nothing"), (armv7, "linux/arm", "linux/arm")],
    );
    assert_taken(
        &["linux/386", "linux/arm/v5"],
        &[("linux/amd64", "linux/386", "nothing"), (armv6, "linux/arm/v5", "linux/arm/v5")],
    );
    assert_taken(
        &["linux/amd64", "linux/amd64/v3", "linux/amd64/v4"],
        &[("linux/amd64/v2", "linux/amd64", "linux/amd64"), {
            ("linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v3")
        }],
    );
    assert_taken(
        &["linux/arm64/v8", "linux/arm64/v8.1", "linux/arm64/v9"],
        &[("linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64/v8")],
    );
}

#[test]
fn what_names_no_platform_is_taken_when_nothing_else_fits() {
    assert_taken(
        &[BARE, "linux/amd64", ATTESTATION],
        &[("linux/amd64", "linux/amd64", "linux/amd64"), ("linux/arm64", BARE, BARE)],
    );
    assert_taken(&[ATTESTATION, "unknown/unknown"], &[("linux/arm64", "nothing", "nothing")]);
    assert_taken(&[], &[("linux/arm64", "nothing", "nothing")]);
}

#[test]
fn of_equals_the_first_is_taken() {
    let list = ["linux/amd64", "linux/arm64", "linux/arm64/v8", "linux/aarch64"];
    let index = self::list(&list);
    assert_eq!(taken(&list, &index, "linux/arm64", Rules::Containerd), "linux/arm64");
    assert_eq!(index.platforms().len(), 2);
    let bare = self::list(&[BARE, BARE]);
    let host = Platform::new("linux", "arm64", None);
    assert_eq!(bare.select(&host, Rules::Containerd), bare.entries.first());
}

#[test]
fn an_attestation_says_that_it_is_one_and_of_what() {
    let (kind, digest) = ("vnd.docker.reference.type", "vnd.docker.reference.digest");
    let subject = Digest::sha256(b"subject");
    for (annotations, attests) in [
        (json!({ kind: "attestation-manifest", digest: subject }), true),
        (json!({ kind: "attestation-manifest", digest: subject, "other": 3 }), true),
        (json!({ digest: subject }), false),
        (json!({ kind: "attestation-manifest" }), false),
        (json!({ kind: "something-else", digest: subject }), false),
        (json!({ kind: 3, digest: subject }), false),
        (json!({ kind: "attestation-manifest", digest: "sha256:short" }), false),
        (json!({ kind: "attestation-manifest", digest: null }), false),
    ] {
        let index = parse(&[entry(1, json!({ "annotations": annotations }))]);
        let found = index.attestations(&subject).count();
        assert_eq!((found == 1, index.images().count() == 0), (attests, attests), "{annotations}");
    }
}

#[test]
fn an_entry_that_is_malformed_does_not_take_the_others_with_it() {
    let good = spelt(0, "linux/arm64");
    for (bad, platform) in [
        (json!({ "platform": null, "annotations": null }), None),
        (json!({ "platform": {} }), Some("/")),
        (json!({ "platform": { "os": "linux", "architecture": null } }), Some("linux/")),
        (
            json!({ "platform": { "os": "linux", "architecture": "arm", "variant": "", "os.features": null } }),
            Some("linux/arm/v7"),
        ),
        (
            json!({ "platform": { "os": "linux", "architecture": "arm64", "os.features": ["b", "a"], "features": 3 } }),
            Some("linux(+a+b)/arm64"),
        ),
        (
            json!({ "platform": { "os": "a/b\n", "architecture": "Ä".repeat(70) } }),
            Some(&*format!("a_b_/{}", "_".repeat(64))),
        ),
        (json!({ "platform": "linux/arm64" }), Some("unknown/unknown")),
        (json!({ "platform": { "os": 3, "architecture": "arm64" } }), Some("unknown/unknown")),
        (
            json!({ "platform": { "os": "linux", "architecture": "arm64", "os.features": [1] } }),
            Some("unknown/unknown"),
        ),
        (json!({ "annotations": { "a": 1, "b": null, "c": {} } }), None),
        (json!({ "annotations": ["a"] }), None),
    ] {
        let index = parse(&[entry(1, bad.clone()), good.clone()]);
        let read = index.entries[0].platform.as_ref().map(ToString::to_string);
        assert_eq!((read.as_deref(), index.entries[0].attests), (platform, None), "{bad}");
        let host = Platform::new("linux", "arm64", None);
        assert_eq!(index.select(&host, Rules::Containerd), index.entries.get(1), "{bad}");
    }
}

/// Comparing each with each would take minutes here.
#[test]
fn a_list_of_ten_thousand_platforms_is_no_work() {
    let entries = (0..10_000).map(|n| spelt(n, &format!("linux/a{n}")));
    let index = parse(&entries.collect::<Vec<_>>());
    for _ in 0..10 {
        assert_eq!(index.platforms().len(), 10_000);
    }
    let host = Platform::new("linux", "a9999", None);
    assert_eq!(index.select(&host, Rules::Containerd), index.entries.last());
}

fn spellings() -> impl Strategy<Value = Vec<&'static str>> {
    let one = prop::sample::select(vec![
        "linux/amd64",
        "linux/amd64/v2",
        "linux/amd64/v3",
        "linux/386",
        "linux/arm",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm/v8",
        "linux/arm64",
        "linux/arm64/v8",
        "linux/arm64/v8.1",
        "linux/arm64/v9",
        "windows(10.0.17763.5)/amd64",
        "windows(10.0.20348.9)/amd64",
        BARE,
        ATTESTATION,
        "unknown/unknown",
        "linux/s390x",
    ]);
    prop::collection::vec(one, 0..12)
}

fn hosts() -> impl Strategy<Value = Platform> {
    let names = vec![
        "linux/amd64",
        "linux/amd64/v3",
        "linux/386",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm/v8",
        "linux/arm64",
        "linux/arm64/v8.2",
        "linux/arm64/v9.1",
        "windows/amd64",
        "windows(10.0.20348)/amd64",
    ];
    prop::sample::select(names).prop_map(|name| name.parse().expect("a platform"))
}

proptest! {
    #[test]
    fn nothing_is_taken_that_does_not_run(list in spellings(), host in hosts(), podman in any::<bool>()) {
        let rules = if podman { Rules::ContainersImage } else { Rules::Containerd };
        let index = self::list(&list);
        let taken = index.select(&host, rules);
        let fits = |entry: &IndexEntry| {
            entry.is_image() && entry.platform.as_ref().is_none_or(|image| host.runs(image, rules))
        };
        prop_assert!(taken.is_none_or(fits));
        prop_assert_eq!(taken.is_none(), !index.entries.iter().any(fits));
        let own = index.entries.iter().find(|entry| entry.platform.as_ref() == Some(&host));
        if own.is_some() {
            prop_assert_eq!(taken, own);
        }
    }

    #[test]
    fn order_decides_between_equals_only(
        (list, other) in spellings().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        host in hosts(),
        podman in any::<bool>(),
    ) {
        let rules = if podman { Rules::ContainersImage } else { Rules::Containerd };
        let (one, two) = (self::list(&list), self::list(&other));
        let taken = [&one, &two].map(|index| index.select(&host, rules));
        let rank = |entry: &IndexEntry| entry.platform.as_ref().map(|image| {
            host.rank(image, rules).map(|rank| format!("{rank:?}"))
        });
        prop_assert_eq!(taken[0].map(rank), taken[1].map(rank));
    }

    #[test]
    fn any_entry_is_read_or_refused(platform in json_value(), annotations in json_value(), host in hosts()) {
        let index = parse(&[entry(1, json!({ "platform": platform, "annotations": annotations }))]);
        for rules in [Rules::Containerd, Rules::ContainersImage] {
            let _ = index.select(&host, rules);
        }
        let _ = index.platforms();
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop::sample::select(vec![
            "os",
            "architecture",
            "variant",
            "os.version",
            "os.features",
            "vnd.docker.reference.type",
            "vnd.docker.reference.digest",
            "x",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
