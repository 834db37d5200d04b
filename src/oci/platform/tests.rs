//! Spellings, and who runs what.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn platform(text: &str) -> Platform {
    Platform::parse_any(text).unwrap_or_else(|| panic!("{text} is a platform"))
}

/// Of all known images for Linux, those that `host` runs, the best first.
fn order(host: &str, rules: Rules) -> String {
    let (host, all) = (platform(host), known::all());
    let mut ranked: Vec<(Rank<'_>, &Platform)> =
        all.iter().filter_map(|image| host.rank(image, rules).map(|rank| (rank, image))).collect();
    ranked.sort();
    let names = ranked.into_iter().map(|(_, image)| image.to_string().replacen("linux/", "", 1));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn one_platform_has_one_spelling() {
    for (spelt, normal) in [
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm64/9.0", "linux/arm64/v9"),
        ("linux/aarch64/v9.0", "linux/arm64/v9"),
        ("linux/aarch64/v8.2", "linux/arm64/v8.2"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armhf/v6", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/8", "linux/arm/v8"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64/v2", "linux/amd64/v2"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("macOS/ARM64/V8", "darwin/arm64"),
        ("Linux/AMD64", "linux/amd64"),
        ("windows(10.0.20348.1)/x86_64", "windows(10.0.20348.1)/amd64"),
        ("windows(10.0+b+a+b)/amd64", "windows(10.0+a+b)/amd64"),
        ("linux(+gpu)/amd64", "linux(+gpu)/amd64"),
        ("linux()/amd64", "linux/amd64"),
    ] {
        assert_eq!(spelt.parse::<Platform>().expect(spelt).to_string(), normal, "{spelt}");
    }
}

#[test]
fn what_no_image_is_built_for_is_refused_with_what_to_write() {
    use PlatformError::{Architecture, Form, Os, Variant};
    for (text, why) in [
        ("", Form),
        ("linux", Form),
        ("arm64", Form),
        ("/", Form),
        ("linux/", Form),
        ("/arm64", Form),
        ("linux/arm/", Form),
        ("linux/arm/v7/", Form),
        ("linux/arm v7", Form),
        ("linux(1.0/arm", Form),
        ("linux(1.0)x/arm", Form),
        ("linux/arm/v7\n", Form),
        ("arm64/v8", Os),
        ("unknown/unknown", Os),
        ("linux/armv7", Architecture),
        ("linux/unknown", Architecture),
        ("linux/arm/v9", Variant),
        ("linux/arm64/v7", Variant),
        ("linux/amd64/v5", Variant),
        ("linux/s390x/z15", Variant),
    ] {
        assert_eq!(text.parse::<Platform>(), Err(why), "{text:?}");
    }
    assert!(format!("linux/{}", "a".repeat(65)).parse::<Platform>().is_err());
}

#[test]
fn known_platforms_are_few_enough_for_labels_and_spelt_in_paths_too() {
    let all = known::all();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(all.len() < 600, "{}", all.len());
    for platform in all {
        assert!(platform.is_known() && platform.label() == platform.to_string());
        assert_eq!(platform.to_string().parse(), Ok(platform.clone()));
        assert_eq!(Platform::from_path_segment(&platform.to_path_segment()), Ok(platform));
    }
    let versioned = platform("windows(10.0.20348)/amd64");
    assert!(!versioned.is_known());
    assert_eq!((versioned.label(), versioned.to_path_segment()), {
        ("windows/amd64".to_owned(), "windows-amd64".to_owned())
    });
    assert_eq!(Platform::new("linux", "z80", None).label(), "other");
}

#[test]
fn a_path_segment_has_no_slash() {
    assert_eq!(Platform::from_path_segment("linux-arm-v7"), Ok(platform("linux/arm/v7")));
    assert_eq!(Platform::from_path_segment("Linux-AArch64"), Ok(platform("linux/arm64")));
    for bad in
        ["", "linux", "linux/arm64", "linux-arm64-", "-arm64", "linux--arm", "windows(1)-arm"]
    {
        assert_eq!(Platform::from_path_segment(bad), Err(PlatformError::Segment), "{bad}");
    }
    assert_eq!(Platform::from_path_segment("alpine-arm64"), Err(PlatformError::Os));
}

#[test]
fn containerd_goes_down_from_the_host() {
    for (host, images) in [
        ("linux/arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
        ("linux/arm", "arm/v7 arm/v6 arm/v5"),
        ("linux/arm/v6", "arm/v6 arm/v5"),
        ("linux/arm/v5", "arm/v5"),
        ("linux/arm/v4", ""),
        ("linux/arm64", "arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
        ("linux/arm64/v8.2", "arm64/v8.2 arm64/v8.1 arm64 arm/v8 arm/v7 arm/v6 arm/v5"),
        (
            "linux/arm64/v9.1",
            "arm64/v9.1 arm64/v9 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 \
             arm/v8 arm/v7 arm/v6 arm/v5",
        ),
        ("linux/arm64/v80", "arm/v8 arm/v7 arm/v6 arm/v5"),
        ("linux/amd64", "amd64 386"),
        ("linux/amd64/v3", "amd64/v3 amd64/v2 amd64 386"),
        ("linux/amd64/v4000000000", "amd64/v4 amd64/v3 amd64/v2 amd64 386"),
        ("linux/386", "386"),
        ("linux/ppc64le/power9", "ppc64le/power9"),
        ("linux/riscv64", "riscv64"),
        ("unknown/unknown", ""),
    ] {
        assert_eq!(order(host, Rules::Containerd), images, "{host}");
    }
    let v9 = order("linux/arm64/v9.7", Rules::Containerd);
    assert!(v9.starts_with("arm64/v9.7 ") && v9.contains("arm64/v9 arm64/v8.9 arm64/v8.8"), "{v9}");
}

#[test]
fn containers_image_stays_with_the_architecture() {
    for (host, images) in [
        ("linux/arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
        ("linux/arm", "arm/v7 arm/v6 arm/v5"),
        ("linux/arm/v6", "arm/v6 arm/v5"),
        ("linux/arm64", "arm64"),
        ("linux/arm64/v8.2", "arm64/v8.2 arm64"),
        ("linux/amd64", "amd64"),
        ("linux/amd64/v3", "amd64/v3 amd64"),
        ("unknown/unknown", ""),
    ] {
        assert_eq!(order(host, Rules::ContainersImage), images, "{host}");
    }
}

#[test]
fn features_and_versions_count_where_the_client_looks_at_them() {
    for (host, image, containerd, containers_image) in [
        ("linux/amd64", "linux(1.2.3)/amd64", true, true),
        ("linux/amd64", "linux(+gpu)/amd64", false, true),
        ("linux(+gpu+npu)/amd64", "linux(+gpu)/amd64", true, true),
        ("linux(+gpu)/amd64", "linux(+gpu+npu)/amd64", false, true),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.9)/amd64", true, true),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.20348.9)/amd64", false, true),
        ("windows/amd64", "windows(10.0.20348.9+win32k)/amd64", true, true),
        ("windows/amd64", "linux/amd64", false, false),
        ("linux/amd64", "/amd64", true, false),
        ("linux/amd64", "linux/unknown", false, false),
    ] {
        let (host, image) = (platform(host), platform(image));
        assert_eq!(host.runs(&image, Rules::Containerd), containerd, "{host} {image}");
        assert_eq!(host.runs(&image, Rules::ContainersImage), containers_image, "{host} {image}");
    }
    let host = platform("linux(+gpu+npu)/amd64");
    let rank = |image: &Platform| host.rank(image, Rules::Containerd).is_some();
    let images = ["linux/amd64", "linux(+gpu)/amd64", "linux(+gpu+npu)/amd64"].map(platform);
    assert!(images.iter().all(rank));
    assert!(images.is_sorted_by(|few, many| {
        host.rank(few, Rules::Containerd) > host.rank(many, Rules::Containerd)
    }));
}

/// Parts as documents have them, and anything else.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "", "linux", "windows", "macOS", "arm", "armhf", "arm64", "aarch64", "amd64", "x86_64", "i386", "386",
            "v1", "v5", "v6", "7", "v7", "v8", "8", "v8.0", "v8.3", "v9", "v9.2", "unknown",
        ]).prop_map(str::to_owned),
        1 => ".{0,80}",
    ]
}

fn any_platform() -> impl Strategy<Value = Platform> {
    (part(), part(), part(), part(), prop::collection::vec(part(), 0..3)).prop_map(
        |(os, architecture, variant, version, features)| {
            Platform::new(&os, &architecture, Some(&variant))
                .with_os_version(&version)
                .with_os_features(features.iter().map(AsRef::as_ref))
        },
    )
}

proptest! {
    #[test]
    fn normalising_twice_is_normalising_once(platform in any_platform()) {
        let (os, architecture) = (platform.os(), platform.architecture());
        let again = Platform::new(os, architecture, platform.variant());
        prop_assert_eq!(again, platform.plain());
    }

    #[test]
    fn what_is_printed_is_read_again(platform in any_platform()) {
        prop_assert_eq!(Platform::parse_any(&platform.to_string()), Some(platform));
    }

    #[test]
    fn what_is_read_is_known_when_plain(text in ".{0,40}|linux/[a-z0-9]{0,6}(/v[0-9.]{1,3})?") {
        if let Ok(platform) = text.parse::<Platform>() {
            prop_assert!(platform.plain().is_known());
        }
        let _ = Platform::from_path_segment(&text);
    }

    #[test]
    fn a_host_runs_its_own_kind_best(host in any_platform(), other in any_platform()) {
        prop_assume!(!host.is_unknown() && host.os() != "windows");
        for rules in [Rules::Containerd, Rules::ContainersImage] {
            let own = host.rank(&host, rules);
            prop_assert!(own.is_some());
            if let Some(rank) = host.rank(&other, rules) {
                prop_assert!(own <= Some(rank));
            }
        }
    }
}
