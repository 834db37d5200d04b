//! What stays, what goes and how wharf is, as far as that is said without a budget: an operator who mistypes a name or a
//! directory is told so, and a stopped wharf's status is not taken for a running one's.

use serde_json::Value;

use super::{BOTH, PLATFORMS, REPO, Site};
use crate::support::FakeHub;

/// The commands, each with what it needs.
const COMMANDS: [&[&str]; 6] = [
    &["pin", "busybox:1"],
    &["unpin", "busybox:1"],
    &["rm", "busybox:1"],
    &["gc"],
    &["verify"],
    &["status"],
];

#[tokio::test]
async fn a_cache_that_is_not_there_is_said_and_not_made() {
    let hub = FakeHub::start().await;
    let site = Site::start(&hub, false).await;
    for arguments in COMMANDS {
        for json in [&[][..], &["--json"]] {
            let said = site.run(&[arguments, json].concat()).await;
            let sentence = "there is no cache in \"cache\": say where it is with --dir or --config";
            assert_eq!((said.sentence(), &*said.out), (sentence, ""), "{arguments:?}");
        }
    }
    assert!(!site.cache().exists());
}

#[tokio::test]
async fn what_is_not_kept_is_neither_pinned_nor_removed() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
        let site = Site::start(&hub, daemon).await;
        site.pull(&["busybox:1"]).await;
        for command in ["pin", "unpin", "rm"] {
            let said = site.run(&[command, "busybox:2"]).await;
            let sentence = "docker.io/library/busybox:2 is not kept here; `wharf ls` lists what is, \
                            `wharf pull` fetches it";
            assert_eq!((said.sentence(), &*said.out), (sentence, ""), "{command}");
            let said = site.run(&[command, "busybox:2", "busybox:3"]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            let done = if command == "rm" { "removed" } else { &format!("{command}ned") };
            let last = format!("wharf: 2 of 2 images could not be {done}");
            assert_eq!(said.err.lines().count(), 3, "{said:?}");
            assert_eq!(said.err.lines().last(), Some(&*last), "{said:?}");
        }
        site.end().await;
    }
}

#[tokio::test]
async fn what_the_configuration_pins_is_unpinned_there() {
    let more = "[[prefetch.image]]\nname = \"busybox:1\"\npinned = true\n";
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
        let site = Site::start_with(&hub, daemon, more).await;
        site.pull(&["busybox:1"]).await;
        for command in ["unpin", "rm"] {
            let said = site.run(&[command, "busybox:1"]).await;
            let sentence = "docker.io/library/busybox:1 is pinned by the configuration: take pinned = \
                            true out of its [[prefetch.image]], and reload or restart wharf";
            assert_eq!(said.sentence(), sentence);
        }
        site.end().await;
    }
}

#[tokio::test]
async fn status_tells_a_running_wharf_from_a_stopped_one_and_a_registry_that_is_gone() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
        let site = Site::start_with(&hub, daemon, "attempts = 1\n").await;
        site.pull(&["busybox:1"]).await;
        let status = site.json(&["status"]).await;
        assert_eq!(status["running"], daemon);
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["degraded"], Value::Null);
        let [registry] = &status["upstreams"].as_array().expect("a list")[..] else {
            panic!("one registry: {status}")
        };
        assert_eq!(registry["registry"], "docker.io");
        // Who opens the cache anew has asked nobody.
        assert_eq!(registry["up"], if daemon { Value::Bool(true) } else { Value::Null });

        let said = site.ok(&["status"]).await;
        assert!(said.lines().all(|line| line.len() <= 120), "{said}");
        let state = if daemon { "State:       running" } else { "State:       stopped" };
        assert_eq!(said.lines().nth(1), Some(state), "{said}");

        if daemon {
            hub.stop().await;
            site.run(&["pull", "busybox:2"]).await;
            let status = site.json(&["status"]).await;
            assert_eq!(status["upstreams"][0]["up"], false);
            let said = site.ok(&["status"]).await;
            assert!(said.contains("Registries:  docker.io  down for "), "{said}");
        }
        site.end().await;
    }
}
