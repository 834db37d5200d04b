use super::*;
use crate::oci::{Descriptor, Digest, IndexEntry, media_type};

const DOCKER: &str = "docker/24.0.7 go/go1.20.10 git-commit/311b9ff kernel/KERNEL os/linux arch/ARCH \
                      UpstreamClient(Docker-Client/24.0.7 \\(linux\\))";

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

fn asker(user_agent: &str) -> Asker {
    let user_agent = user_agent.into();
    Asker { user_agent, ..Asker::at("10.0.0.7".parse().expect("an address")) }
}

fn docker(architecture: &str, kernel: &str) -> Asker {
    asker(&DOCKER.replace("KERNEL", kernel).replace("ARCH", architecture))
}

fn site(change: impl FnOnce(&mut Platforms)) -> Clients {
    let mut config = Platforms { host: platform("linux/amd64"), ..Platforms::default() };
    change(&mut config);
    Clients::new(config)
}

fn shown(platforms: &[Platform]) -> Vec<String> {
    platforms.iter().map(ToString::to_string).collect()
}

/// An index of images of these platforms.
fn index(platforms: &[&str]) -> ImageIndex {
    let entry = |text: &&str| IndexEntry {
        descriptor: Descriptor {
            media_type: media_type::OCI_MANIFEST.parse().expect("a media type"),
            digest: Digest::sha256(text.as_bytes()),
            size: 1,
        },
        platform: Some(platform(text)),
        attests: None,
    };
    ImageIndex { entries: platforms.iter().map(entry).collect() }
}

#[test]
fn what_real_clients_send_is_read() {
    let (containerd, images) = (Rules::Containerd, Rules::ContainersImage);
    let (said, unsaid) = (Signal::UserAgent, Signal::Default);
    let clients = site(|_| ());
    for (user_agent, expected, signal, rules) in [
        (
            "docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1.0-18-arm64 os/linux arch/arm64 \
             UpstreamClient(Docker-Client/20.10.24+dfsg1 \\(linux\\))",
            "linux/arm64",
            said,
            containerd,
        ),
        (
            "docker/28.3.2 go/go1.24.5 git-commit/e77ff99 kernel/6.6.87.2-microsoft-standard-WSL2 os/linux \
             arch/amd64 containerd-client/2.1.3+unknown storage-driver/overlayfs UpstreamClient(compose/2.38)",
            "linux/amd64",
            said,
            containerd,
        ),
        (
            "docker/27.0.3 go/go1.21.11 git-commit/662f78c kernel/10.0.20348 os/windows arch/amd64",
            "windows/amd64",
            said,
            containerd,
        ),
        (
            "balena-engine/20.10.43 go/go1.17.13 git-commit/d6acd29 kernel/5.15.92-v8 os/linux arch/arm64 \
             UpstreamClient(Balena-Engine-Client/20.10.43 \\(linux\\))",
            "linux/arm64",
            said,
            containerd,
        ),
        ("cri-o/1.30.0 go/go1.22.0 os/linux arch/arm64", "linux/arm64", said, images),
        ("cri-o/1.30.0 go/go1.22.0 os/linux arch/arm", "linux/arm/v7", said, images),
        ("containers/5.30.0 (github.com/containers/image)", "linux/amd64", unsaid, images),
        ("libpod/4.3.1", "linux/amd64", unsaid, images),
        ("Buildah/1.28.2", "linux/amd64", unsaid, images),
        ("skopeo/1.9.3", "linux/amd64", unsaid, images),
        ("containerd/1.6.20~ds1", "linux/amd64", unsaid, containerd),
        ("containerd/v1.7.11-k3s2", "linux/amd64", unsaid, containerd),
        ("buildkit/v0.21", "linux/amd64", unsaid, containerd),
        ("go-containerregistry/v0.19.1", "linux/amd64", unsaid, containerd),
        ("curl/7.88.1", "linux/amd64", unsaid, containerd),
        ("", "linux/amd64", unsaid, containerd),
        // What is no platform says nothing.
        ("docker/24 os/linux arch/toaster", "linux/amd64", unsaid, containerd),
        ("docker/24 os/unknown arch/unknown", "linux/amd64", unsaid, containerd),
        ("docker/24 os/linux", "linux/amd64", unsaid, containerd),
        ("docker/24 os/ arch/", "linux/amd64", unsaid, containerd),
        ("os/linux/arm arch/v7", "linux/amd64", unsaid, containerd),
    ] {
        let who = clients.resolve(&asker(user_agent));
        assert_eq!(shown(&who.platforms), [expected], "{user_agent}");
        assert_eq!((who.signal, who.rules), (signal, rules), "{user_agent}");
        // Nothing is fetched on a guess.
        let ahead = who.fetched_ahead(clients.default().is_some());
        assert_eq!(ahead.is_some(), signal == said, "{user_agent}");
    }
}

#[test]
fn an_arm_variant_is_the_configured_one_else_what_the_kernel_hints_at() {
    for (kernel, keep, default, expected) in [
        ("6.6.31+rpt-rpi-v6", vec![], None, "linux/arm/v6"),
        ("6.6.31+rpt-rpi-v7", vec![], None, "linux/arm/v7"),
        ("6.6.31+rpt-rpi-v7l", vec![], None, "linux/arm/v7"),
        ("6.6.31+rpt-rpi-v8", vec![], None, "linux/arm/v8"),
        ("5.10.17-v7+", vec![], None, "linux/arm/v7"),
        ("5.10.17-v7l+", vec![], None, "linux/arm/v7"),
        ("5.10.103-v8+", vec![], None, "linux/arm/v8"),
        ("5.10.17+", vec![], None, "linux/arm/v7"),
        ("6.1.0-18-armmp", vec![], None, "linux/arm/v7"),
        ("", vec![], None, "linux/arm/v7"),
        ("5.10.17-v7l+", vec!["linux/arm/v6"], None, "linux/arm/v6"),
        ("5.10.17-v7l+", vec!["linux/arm64", "linux/arm/v6"], None, "linux/arm/v6"),
        ("6.6.31+rpt-rpi-v6", vec!["linux/arm/v6", "linux/arm/v7"], None, "linux/arm/v6"),
        ("5.10.17+", vec!["linux/arm/v6", "linux/arm/v7"], None, "linux/arm/v7"),
        ("5.10.17-v7l+", vec!["linux/arm64"], None, "linux/arm/v7"),
        ("5.10.17-v7l+", vec![], Some("linux/arm/v6"), "linux/arm/v6"),
        ("5.10.17-v7l+", vec!["linux/arm/v7"], Some("linux/arm/v6"), "linux/arm/v6"),
        ("5.10.17-v7l+", vec!["linux/arm/v6"], Some("linux/amd64"), "linux/arm/v6"),
    ] {
        let clients = site(|config| {
            config.keep = keep.iter().map(|text| platform(text)).collect();
            config.default = default.map(platform);
        });
        let who = clients.resolve(&docker("arm", kernel));
        assert_eq!(shown(&who.platforms), [expected], "{kernel}, {keep:?}, {default:?}");
        assert_eq!(who.signal, Signal::UserAgent, "{kernel}");
        // Whatever it is taken for, no variant is called wrong; another architecture is.
        assert!(!who.cannot_run(&platform("linux/arm/v8")), "{kernel}");
        assert!(who.cannot_run(&platform("linux/arm64")), "{kernel}");
    }
    // A kernel's name says nothing of other architectures.
    let who = site(|_| ()).resolve(&docker("arm64", "6.6.31+rpt-rpi-v6"));
    assert_eq!(shown(&who.platforms), ["linux/arm64"]);
}

#[test]
fn the_stronger_sign_counts() {
    let net = |text: &str| text.parse().expect("a network");
    let rule = |change: fn(&mut ClientRule), platforms: &[&str]| {
        let platforms = platforms.iter().map(|text| platform(text)).collect();
        let mut rule =
            ClientRule { net: None, subject: None, listener: None, host: None, platforms };
        change(&mut rule);
        rule
    };
    let clients = site(|config| {
        config.default = Some(platform("linux/arm/v5"));
        config.header_from = vec![net("10.0.0.0/8")];
        config.clients = vec![
            rule(|rule| rule.subject = Some("pi".into()), &["linux/arm/v6"]),
            rule(|rule| rule.host = Some("arm.lan".into()), &["linux/arm/v7"]),
            rule(|rule| rule.listener = "127.0.0.1:5006".parse().ok(), &["linux/386"]),
            rule(
                |rule| {
                    rule.net = "10.0.0.0/24".parse().ok();
                    rule.host = Some("both.lan".into());
                },
                &["linux/s390x", "linux/amd64"],
            ),
            rule(|rule| rule.net = "fd00::/8".parse().ok(), &["linux/riscv64"]),
        ];
    });
    let arm64 = || docker("arm64", "");
    clients.learned.learn(ClientKey::of(&asker("containerd/1.7")), &platform("linux/ppc64le"), 1);
    let strong = |address: &str| Asker {
        address: address.parse().expect("an address"),
        in_path: Some(platform("linux/mips64le")),
        in_header: Some(platform("linux/loong64")),
        subjects: vec!["other".into(), "pi".into()],
        host: Some("arm.lan".into()),
        ..arm64()
    };
    let named = |host: &str| Asker { host: Some(host.into()), ..arm64() };
    let at = |address: &str| Asker { address: address.parse().expect("one"), ..asker("") };
    for (asker, expected, signal) in [
        (strong("10.0.0.7"), vec!["linux/mips64le"], Signal::Path),
        (Asker { in_path: None, ..strong("10.0.0.7") }, vec!["linux/loong64"], Signal::Header),
        (
            Asker { in_path: None, ..strong("::ffff:10.0.0.7") },
            vec!["linux/loong64"],
            Signal::Header,
        ),
        // Others may not announce anything; the first rule that fits counts.
        (Asker { in_path: None, ..strong("11.0.0.7") }, vec!["linux/arm/v6"], Signal::Rule),
        (named("arm.lan"), vec!["linux/arm/v7"], Signal::Rule),
        (named("wharf.lan"), vec!["linux/arm64"], Signal::UserAgent),
        (
            Asker { listener: "127.0.0.1:5006".parse().ok(), ..named("wharf.lan") },
            vec!["linux/386"],
            Signal::Rule,
        ),
        (
            Asker { listener: "127.0.0.1:5007".parse().ok(), ..named("wharf.lan") },
            vec!["linux/arm64"],
            Signal::UserAgent,
        ),
        (named("both.lan"), vec!["linux/s390x", "linux/amd64"], Signal::Rule),
        (
            Asker { host: Some("both.lan".into()), ..at("10.0.1.7") },
            vec!["linux/arm/v5"],
            Signal::Default,
        ),
        (at("fd00::1"), vec!["linux/riscv64"], Signal::Rule),
        (asker("containerd/1.7"), vec!["linux/ppc64le"], Signal::Learned),
        (asker("containerd/1.6"), vec!["linux/arm/v5"], Signal::Default),
    ] {
        let who = clients.resolve(&asker);
        assert_eq!(
            (shown(&who.platforms), who.signal),
            (expected.iter().map(ToString::to_string).collect(), signal),
            "{asker:?}"
        );
        assert_eq!(who.fetched_ahead(true), who.platforms.first());
        let is_told = matches!(signal, Signal::Path | Signal::Header | Signal::Rule);
        assert_eq!(clients.learns_from(&who, &platform("linux/arm64")), !is_told);
    }
}

#[test]
fn several_platforms_of_one_host_are_none_of_them_wrong() {
    let clients = site(|config| {
        config.clients.push(ClientRule {
            net: "10.0.0.0/8".parse().ok(),
            subject: None,
            listener: None,
            host: None,
            platforms: vec![platform("linux/arm/v6"), platform("linux/amd64")],
        });
    });
    let who = clients.resolve(&asker(""));
    assert_eq!(who.fetched_ahead(false), Some(&platform("linux/arm/v6")));
    for fits in ["linux/arm/v6", "linux/arm/v5", "linux/amd64", "linux/amd64/v3", "linux/386"] {
        assert!(!who.cannot_run(&platform(fits)), "{fits}");
    }
    for wrong in ["linux/arm/v7", "linux/arm64", "windows/amd64"] {
        assert!(who.cannot_run(&platform(wrong)), "{wrong}");
    }
    assert!(!who.cannot_run(&Platform::new("unknown", "unknown", None)));
    // Of a client that gives no sign, nothing is known that would be wrong.
    let silent = site(|_| ()).resolve(&asker(""));
    assert!(!silent.cannot_run(&platform("linux/s390x")));
}

#[test]
fn what_a_host_took_says_more_than_its_user_agent() {
    let clients = site(|_| ());
    let takes = |asker: &Asker, list: &[&str], chosen: &str| {
        let who = clients.resolve(asker);
        clients.chose(asker, &who, Some(&index(list)), &platform(chosen), 1);
        let who = clients.resolve(asker);
        (shown(&who.platforms), who.signal)
    };
    let all = ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"];
    let learned = |platforms: &[&str]| {
        (platforms.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), Signal::Learned)
    };
    // An ARMv6 that calls itself arm: taken for arm/v7 at first.
    let zero = docker("arm", "5.10.17+");
    assert_eq!(takes(&zero, &all, "linux/arm/v6"), learned(&["linux/arm/v6"]));
    assert!(clients.resolve(&zero).cannot_run(&platform("linux/arm/v7")));
    // One that takes what there is, and could do with more.
    let two = docker("arm", "6.6.31+rpt-rpi-v7");
    assert_eq!(takes(&two, &["linux/arm/v6"], "linux/arm/v6"), learned(&["linux/arm/v7"]));
    // A host that takes another architecture now and then is still what it says.
    let server = docker("amd64", "");
    assert_eq!(
        takes(&server, &all, "linux/arm64"),
        learned(&["linux/arm64", "linux/amd64"]),
        "with --platform, and nothing else so far"
    );
    assert_eq!(takes(&server, &all, "linux/amd64"), learned(&["linux/amd64", "linux/arm64"]));
    assert_eq!(takes(&server, &all, "linux/arm64"), learned(&["linux/amd64", "linux/arm64"]));
    assert!(clients.resolve(&server).cannot_run(&platform("linux/arm64")));
    // Two hosts behind one address that call themselves alike: both are known, the latest first.
    let behind_nat = asker("containerd/1.7.2");
    assert_eq!(takes(&behind_nat, &all, "linux/arm64"), learned(&["linux/arm64"]));
    assert_eq!(takes(&behind_nat, &all, "linux/amd64"), learned(&["linux/amd64", "linux/arm64"]));
    assert!(!clients.resolve(&behind_nat).cannot_run(&platform("linux/s390x")));
    // What is built for nothing that there is teaches nothing.
    let odd = asker("odd");
    let strange = Platform::new("linux", "z80", None);
    clients.chose(&odd, &clients.resolve(&odd), None, &strange, 1);
    assert_eq!(clients.resolve(&odd).signal, Signal::Default);
}

#[test]
fn the_only_platform_that_is_kept_is_the_sites_default() {
    for (keep, default, expected, ahead) in [
        (vec![], None, "linux/amd64", None),
        (vec!["linux/arm64"], None, "linux/arm64", Some("linux/arm64")),
        (vec!["linux/arm64", "linux/arm/v7"], None, "linux/amd64", None),
        (vec!["linux/arm64"], Some("linux/arm/v7"), "linux/arm/v7", Some("linux/arm/v7")),
    ] {
        let clients = site(|config| {
            config.keep = keep.iter().map(|text| platform(text)).collect();
            config.default = default.map(platform);
        });
        let who = clients.resolve(&asker("containerd/1.7"));
        assert_eq!(
            (shown(&who.platforms), who.signal),
            (vec![expected.to_owned()], Signal::Default)
        );
        let fetched = who.fetched_ahead(clients.default().is_some()).map(ToString::to_string);
        assert_eq!(fetched.as_deref(), ahead, "{keep:?}");
    }
}
