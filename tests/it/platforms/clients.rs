//! Who asks: rules, what was learned, what a User-Agent says, and nothing.

use std::{net::Ipv4Addr, time::Duration};

use wharf::{oci::Platform, pull::ClientRule};

use super::{Client, OFFICIAL, REPO, asked, by_digest, by_tag, engine, is_there, is_whole};
use crate::support::{FakeHub, Wharf, blob_path, client};

const HOSTS: [(u8, &str); 4] =
    [(2, "linux/arm/v6"), (3, "linux/arm/v7"), (4, "linux/arm64/v8"), (5, "linux/amd64")];

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

pub(super) fn rule(net: &str, platforms: &[&str]) -> ClientRule {
    ClientRule {
        net: Some(net.parse().expect("a network")),
        subject: None,
        listener: None,
        host: None,
        platforms: platforms.iter().map(|text| platform(text)).collect(),
    }
}

#[tokio::test]
async fn four_kinds_of_hosts_pull_one_tag_and_each_platform_crosses_once() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[70_000, 30_000]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        for (host, platform) in HOSTS {
            config.pull.platforms.clients.push(rule(&format!("127.0.0.{host}/32"), &[platform]));
        }
    })
    .await;
    for (host, platform) in HOSTS {
        let from = Ipv4Addr::new(127, 0, 0, host);
        // The list alone: what follows is fetched for this host, and for no other.
        let list = client::get_from(from, wharf.addr, &by_tag("1"), &[]).await;
        assert_eq!(list.bytes(), &image.index.bytes);
        wharf.quiet().await;
        assert!(is_whole(&wharf, image.child(platform)), "{platform}");
        let known = format!(
            "wharf_platform_resolutions_total{{platform=\"{}\",signal=\"rule\"}}",
            self::platform(platform)
        );
        assert_eq!(wharf.metric(&known), 1.0, "{known}");
    }
    for child in &image.children {
        let wanted = HOSTS.iter().any(|(_, platform)| *platform == child.platform);
        assert_eq!(asked(&hub, child), if wanted { 4 } else { 0 }, "{}", child.platform);
    }
    // The second host of each platform costs nothing.
    let before = wharf.metric("wharf_upstream_bytes_total{registry=\"docker.io\"}");
    for (host, platform) in HOSTS {
        let from = Ipv4Addr::new(127, 0, 0, host);
        let child = image.child(platform);
        let manifest = by_digest(&child.manifest.digest);
        assert_eq!(
            client::get_from(from, wharf.addr, &manifest, &[]).await.bytes(),
            &child.manifest.bytes
        );
        for blob in child.layers.iter().chain([&child.config]) {
            let answer =
                client::get_from(from, wharf.addr, &blob_path(REPO, &blob.digest), &[]).await;
            answer.expect(&blob.bytes);
            assert_eq!(answer.cache(), "hit");
        }
    }
    wharf.quiet().await;
    assert_eq!(wharf.metric("wharf_upstream_bytes_total{registry=\"docker.io\"}"), before);

    // What was left where it is, estimated from what was taken: the three others are as large as those, to a few bytes.
    assert_eq!(wharf.metric("wharf_skipped_platform_bytes_total"), 0.0, "not settled yet");
    wharf.clock.advance(Duration::from_secs(10 * 60));
    wharf.pull.attend().await;
    let size = |child: &crate::support::PushedManifest| {
        let parts = child.layers.iter().chain([&child.config, &child.manifest]);
        parts.map(|part| part.bytes.len() as f64).sum::<f64>()
    };
    let left = |child: &&crate::support::PushedManifest| {
        HOSTS.iter().all(|(_, platform)| *platform != child.platform)
    };
    let skipped: f64 = image.children.iter().filter(left).map(size).sum();
    let told = wharf.metric("wharf_skipped_platform_bytes_total");
    assert!((told - skipped).abs() / skipped < 0.001, "told {told}, left {skipped}");
    wharf.pull.attend().await;
    assert_eq!(wharf.metric("wharf_skipped_platform_bytes_total"), told, "counted once");
    wharf.stop().await;
}

#[tokio::test]
async fn what_a_client_took_before_is_fetched_for_it_next_time_and_after_a_restart() {
    let hub = FakeHub::start().await;
    let first = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let second = hub.push_image(REPO, "2", &OFFICIAL, &[1000]);
    let wharf = Wharf::start_with(&hub, |config| config.pull.prefetch.on_pull = true).await;
    let agents: Vec<String> = HOSTS.iter().map(|(n, _)| format!("containerd/1.7.{n}")).collect();
    let silent = Client::new(&wharf, "containerd/1.6.20");
    // Of a client that gives no sign, nothing is guessed.
    silent.get(&by_tag("1")).await;
    wharf.quiet().await;
    assert!(first.children.iter().all(|child| asked(&hub, child) == 0));
    for (agent, (_, platform)) in agents.iter().zip(HOSTS) {
        Client::new(&wharf, agent).pull("1", &first, platform).await;
    }
    wharf.quiet().await;
    let known: Vec<String> = wharf
        .pull
        .clients()
        .into_iter()
        .flat_map(|client| client.platforms)
        .map(|platform| platform.to_string())
        .collect();
    assert_eq!(known.len(), 4, "{known:?}");
    let wharf = wharf.restart().await;
    for (agent, (_, platform)) in agents.iter().zip(HOSTS) {
        Client::new(&wharf, agent).get(&by_tag("2")).await;
        wharf.quiet().await;
        assert!(is_whole(&wharf, second.child(platform)), "{platform}");
        assert_eq!(asked(&hub, second.child(platform)), 3, "{platform}");
    }
    for child in &second.children {
        let wanted = HOSTS.iter().any(|(_, platform)| *platform == child.platform);
        assert_eq!(is_there(&wharf, child), wanted, "{}", child.platform);
    }
    let learned = wharf
        .metric("wharf_platform_resolutions_total{platform=\"linux/arm/v6\",signal=\"learned\"}");
    assert_eq!(learned, 1.0);
    wharf.stop().await;
}

#[tokio::test]
async fn a_host_that_takes_less_than_it_could_is_not_taken_for_less() {
    let hub = FakeHub::start().await;
    let poor = hub.push_image(
        REPO,
        "poor",
        &[("linux", "amd64", None), ("linux", "arm", Some("v6"))],
        &[10],
    );
    let rich = hub.push_image(REPO, "rich", &OFFICIAL, &[10]);
    let wharf = Wharf::start_with(&hub, |config| config.pull.prefetch.on_pull = true).await;
    let pi = Client::new(&wharf, "containerd/1.7.0");
    pi.pull("rich", &rich, "linux/arm/v7").await;
    wharf.quiet().await;
    // There is nothing better for an ARMv7 host in this one.
    pi.get(&by_tag("poor")).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, poor.child("linux/arm/v6")));
    pi.pull("poor", &poor, "linux/arm/v6").await;
    wharf.quiet().await;
    let known = wharf.pull.clients();
    assert_eq!((known.len(), &known[0].platforms), (1, &vec![platform("linux/arm/v7")]));
    wharf.stop().await;
}

#[tokio::test]
async fn a_platform_may_be_named_by_path_by_header_and_by_listener_where_that_is_allowed() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.platforms.header_from.push("127.0.0.7/32".parse().expect("a network"));
        config.pull.platforms.clients.push(ClientRule {
            net: None,
            host: Some("armv6.lan".into()),
            ..rule("0.0.0.0/0", &["linux/arm/v6"])
        });
        config.pull.platforms.clients.push(rule("127.0.0.8/32", &["linux/386"]));
    })
    .await;
    let one = ("accept", wharf::oci::media_type::OCI_MANIFEST);
    let gets = async |from: u8, path: &str, headers: &[(&str, &str)]| {
        let answer = client::get_from([127, 0, 0, from].into(), wharf.addr, path, headers).await;
        let child = image.children.iter().find(|child| child.manifest.bytes == *answer.bytes());
        (child.map(|child| child.platform.clone()), answer.header("warning").map(str::to_owned))
    };
    let is = |platform: &str| (Some(platform.to_owned()), None);
    for path in [
        "/platform/linux-arm-v7/v2/library/busybox/manifests/1",
        "/v2/platform/linux-arm-v7/docker.io/library/busybox/manifests/1",
    ] {
        assert_eq!(gets(8, path, &[one]).await, is("linux/arm/v7"), "{path}");
    }
    let announces = ("wharf-platform", "linux/s390x");
    assert_eq!(gets(7, &by_tag("1"), &[one, announces]).await, is("linux/s390x"));
    assert_eq!(
        gets(7, &by_tag("1"), &[one, ("x-meta-wharf-platform", "linux/s390x")]).await,
        is("linux/s390x")
    );
    // It is not for everyone to say so, and nothing is lost by saying it.
    assert_eq!(gets(8, &by_tag("1"), &[one, announces]).await, is("linux/386"));
    let agent = engine("arm64");
    assert_eq!(
        gets(1, &by_tag("1"), &[one, announces, ("user-agent", &agent)]).await,
        is("linux/arm64/v8")
    );
    let (platform, warning) =
        gets(7, &by_tag("1"), &[one, ("wharf-platform", "toaster"), ("user-agent", &agent)]).await;
    assert_eq!(platform.as_deref(), Some("linux/arm64/v8"));
    assert!(warning.is_some_and(|warning| warning.contains("Wharf-Platform was not read")));
    assert_eq!(
        gets(1, &by_tag("1"), &[one, ("wharf-platform", "toaster"), ("user-agent", &agent)]).await,
        is("linux/arm64/v8")
    );
    // By which name it calls wharf.
    let raw = format!(
        "GET {} HTTP/1.1\r\nHost: ARMv6.lan:5000\r\nAccept: {}\r\nConnection: close\r\n\r\n",
        by_tag("1"),
        one.1
    );
    let heard = client::send_raw(wharf.addr, raw.as_bytes()).await;
    assert!(
        heard.ends_with(&image.child("linux/arm/v6").manifest.bytes),
        "{}",
        heard.escape_ascii()
    );
    let refused = wharf.get("/platform/toaster/v2/library/busybox/manifests/1").await;
    assert_eq!(refused.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn clients_without_number_cost_a_bounded_file_and_push_out_no_host_that_comes_again() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let wharf = Wharf::start(&hub).await;
    let pi = Client::new(&wharf, "containerd/pi");
    for n in 0..5000 {
        if n % 100 == 0 {
            pi.pull("1", &image, "linux/arm/v7").await;
        }
        let agent = format!("containerd/{n} {}", "x".repeat(300));
        let child = by_digest(&image.child("linux/386").manifest.digest);
        assert_eq!(Client::new(&wharf, &agent).get(&child).await.status, 200);
    }
    wharf.quiet().await;
    let known = wharf.pull.clients();
    assert!(known.len() <= 4200, "{} clients are remembered", known.len());
    assert!(
        known.iter().any(|client| client.user_agent == "containerd/pi"),
        "the host that came again is forgotten"
    );
    wharf.pull.write_down().await;
    let written =
        std::fs::metadata(wharf.cache().join("wharf/clients.json")).expect("written").len();
    assert!(written < 2 * 1024 * 1024, "{written} bytes");
    wharf.stop().await;
}
