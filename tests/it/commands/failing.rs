//! What cannot be done is said in a sentence, soon, and with what to do about it.

use std::process::Command;

use super::{BOTH, PLATFORMS, REPO, Running, Said, Site, event};
use crate::support::{FakeHub, Fault, Gate, On};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn what_the_site_does_not_keep_is_refused_with_what_to_configure() {
    for daemon in BOTH {
        for others in ["relay", "refuse"] {
            let hub = FakeHub::start().await;
            let image = hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
            let more = format!(
                "[platforms]\nkeep = [\"linux/arm64\"]\ndefault = \"linux/arm64\"\nothers = \"{others}\"\n"
            );
            let site = Site::start_with(&hub, daemon, &more).await;
            let why = "images for linux/arm/v7 are not kept here: add it to [platforms] keep, or set others = \"keep\"";
            let both =
                ["pull", "--platform", "linux/arm/v7", "--platform", "linux/arm64", "busybox:1"];
            let said = site.run(&both).await;
            assert_eq!(said.sentence(), format!("docker.io/library/busybox:1: {why}"));
            assert_eq!(site.platforms_kept(&image), ["linux/arm64"], "what may be kept is");

            let child = &image.child("linux/arm/v7").manifest.digest;
            hub.clear_log();
            let said = site.run(&["pull", &format!("busybox@{child}")]).await;
            assert_eq!(said.sentence(), format!("docker.io/library/busybox@{child}: {why}"));
            assert_eq!(hub.log().len(), 0, "nothing is asked for what is not kept");
            assert_eq!(site.platforms_kept(&image), ["linux/arm64"]);
            site.end().await;
        }
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_said_and_what_is_kept_is_found_without_it() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
        let site = Site::start(&hub, daemon).await;
        site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
        hub.stop().await;
        for command in ["pull", "inspect", "explain"] {
            let said = site.run(&[command, "busybox:2"]).await;
            assert!(said.sentence().contains("the registry did not answer: "), "{said:?}");
        }
        let steps = site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
        assert_eq!(event(steps.last().expect("an end")), "done", "all of it is here");
        // A daemon has just had it confirmed; who opens the cache anew has not.
        assert_eq!(steps[0]["stale"], !daemon);
        let said = site.run(&["pull", "--platform", "linux/amd64", "busybox:1"]).await;
        assert!(said.sentence().contains("the registry did not answer: "), "{said:?}");
        site.end().await;
    }
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_without_end() {
    let quick = "first_byte_timeout = \"1s\"\nattempts = 1\n";
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
        hub.fault(On::Any, Fault::Stall);
        let site = Site::start_with(&hub, daemon, quick).await;
        let said = site.run(&["pull", "busybox:1"]).await;
        assert!(said.sentence().contains("the registry did not answer: "), "{said:?}");
        site.end().await;
    }
}

/// What a pull says that the disk did not take.
fn not_kept(said: &Said, name: &str) {
    assert_eq!(said.code, Some(1), "{said:?}");
    let last = said.err.lines().last().expect("a sentence");
    let begins = format!("wharf: docker.io/library/{name}: what was fetched is not kept: ");
    assert!(last.starts_with(&begins) && last.contains("File too large"), "{said:?}");
}

#[tokio::test]
async fn a_full_disk_under_the_daemon_fails_the_pull_and_the_next_one_is_well() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &PLATFORMS, &[16 * MIB]);
    let child = image.child("linux/arm64");
    let mut site = Site::start(&hub, true).await;
    let pull = ["--platform", "linux/arm64", "busybox:1"];
    let limit = (5 * MIB) as u64;
    site.serve().await.limit_files(Some(limit));
    not_kept(&site.run(&[&["pull"], &pull[..]].concat()).await, "busybox:1");
    assert!(site.ok(&["ls"]).await.contains("linux/arm64 (partial)"));

    // Not even a manifest.
    hub.push_single(REPO, "2", PLATFORMS[1], &[]);
    site.serve().await.limit_files(Some(0));
    not_kept(&site.run(&["pull", "busybox:2"]).await, "busybox:2");
    site.serve().await.limit_files(None);
    site.pull(&["busybox:2"]).await;
    site.pull(&pull).await;
    assert!(site.is_whole(child));
    site.end().await;
}

#[tokio::test]
async fn a_full_disk_under_a_command_fails_it_and_the_next_one_is_well() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &PLATFORMS, &[16 * MIB]);
    let site = Site::start(&hub, false).await;
    let pull = ["pull", "--platform", "linux/arm64", "busybox:1"];
    let limited = |bytes: usize| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--fsize={bytes}")).args(["env", "--ignore-signal=XFSZ"]);
        command.arg(env!("CARGO_BIN_EXE_wharf")).args(site.complete(&pull));
        Running::begin(command.current_dir(site.dir.path()), "")
    };
    not_kept(&limited(5 * MIB).ended().await, "busybox:1");
    assert!(site.ok(&["ls"]).await.contains("linux/arm64 (partial)"));
    site.ok(&pull).await;
    assert!(site.is_whole(image.child("linux/arm64")));
    site.end().await;

    // Where not even the cache can be opened.
    let site = Site::start(&hub, false).await;
    let mut command = Command::new("prlimit");
    command.args(["--fsize=0", "env", "--ignore-signal=XFSZ"]);
    command.arg(env!("CARGO_BIN_EXE_wharf")).args(site.complete(&pull));
    let said = Running::begin(command.current_dir(site.dir.path()), "").ended().await;
    let sentence = said.err.lines().last().expect("a sentence");
    assert!(sentence.starts_with("wharf: the cache directory \"cache\" cannot "), "{said:?}");
    assert!(!said.err.contains("panicked"), "{said:?}");
}

#[tokio::test]
async fn two_commands_at_a_time_without_a_daemon_are_told_of_each_other() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "1", PLATFORMS[1], &[100_000]);
    let gate = Gate::after(1000);
    hub.fault(On::Blob(image.layers[0].digest), Fault::Gate(gate.clone()));
    let site = Site::start(&hub, false).await;
    let first = site.begin(&["pull", "busybox:1"]);
    gate.halted(1).await;
    let second = site.run(&["ls"]).await;
    assert!(second.sentence().contains("is a command itself, try again"), "{second:?}");
    gate.open();
    assert_eq!(first.ended().await.code, Some(0));
    site.end().await;
}
