//! What the cache holds and what a device gets of it, as `ls`, `inspect` and `explain` say.

use serde_json::{Value, json};

use super::{BOTH, Device, PLATFORMS, REPO, Site, contents, manifest_path, size, whole_size};
use crate::{
    platforms::engine,
    support::{FakeHub, Fault, On, PushedImage, client},
};

/// The cells of a table's lines, by white space.
fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// What `inspect` must say of the image of which `whole` is kept, and nothing else.
async fn inspected(site: &Site, image: &PushedImage, whole: &str, outcome: &str) {
    let seen = site.json(&["inspect", "busybox:1"]).await;
    assert_eq!(seen["name"], "docker.io/library/busybox:1");
    assert_eq!(seen["digest"], json!(image.index.digest));
    assert_eq!((&seen["size"], &seen["outcome"]), (&json!(size(&image.index)), &json!(outcome)));
    let rows = seen["manifests"].as_array().expect("a list");
    assert_eq!(rows.len(), image.children.len());
    for (row, child) in rows.iter().zip(&image.children) {
        let (is_whole, all) = (child.platform == whole, whole_size(child));
        assert_eq!(row["platform"], json!(child.platform));
        assert_eq!(
            (&row["whole"], &row["kept"]),
            (&json!(is_whole), &json!(all * u64::from(is_whole)))
        );
        let content = is_whole.then(|| all - size(&child.manifest));
        assert_eq!(row["content_size"], json!(content));
    }
    let said = site.ok(&["inspect", "busybox:1"]).await;
    let lines = cells(&said);
    assert_eq!(lines[0], ["Name:", "docker.io/library/busybox:1"]);
    assert_eq!(lines[1], ["Digest:", &image.index.digest.to_string()]);
    // A daemon that heard that the registry does not answer does not ask again at once.
    assert_eq!(lines[3], ["Answer:", outcome]);
    for (line, child) in lines[6..].iter().zip(&image.children) {
        let digest = child.manifest.digest.to_string();
        assert_eq!(line[..2], [&*child.platform, &*digest], "{said}");
        let kept = if child.platform == whole { "whole" } else { "nothing" };
        assert_eq!(line.last(), Some(&kept), "{said}");
    }
}

#[tokio::test]
async fn an_inspection_says_the_same_before_and_after_a_restart_and_without_a_registry() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[30_000]);
        let mut site = Site::start(&hub, daemon).await;
        let first = site.json(&["inspect", "busybox:1"]).await;
        assert_eq!((&first["outcome"], contents(&hub)), (&json!("miss"), 1));
        site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
        inspected(&site, &image, "linux/arm64", "hit").await;
        site.restart().await;
        inspected(&site, &image, "linux/arm64", "hit").await;
        hub.stop().await;
        // A daemon that has just confirmed the tag does not ask again.
        inspected(&site, &image, "linux/arm64", if daemon { "hit" } else { "stale" }).await;
        site.restart().await;
        inspected(&site, &image, "linux/arm64", "stale").await;
        let missing = site.run(&["inspect", "busybox:2"]).await;
        assert!(missing.sentence().starts_with("the registry did not answer: "), "{missing:?}");
        site.end().await;
    }
}

fn explained<'a>(explanation: &'a Value, keys: &[&str]) -> Vec<&'a str> {
    keys.iter().map(|key| explanation[key].as_str().unwrap_or("null")).collect()
}

#[tokio::test]
async fn a_client_that_taught_wharf_its_platform_is_explained_by_its_address() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &PLATFORMS, &[30_000]);
    let mut site = Site::start(&hub, true).await;
    let device = Device { wharf: site.serve().await, user_agent: "containerd/v1.7.2" };
    device.pull("1", &image, "linux/arm/v7").await;
    // The last byte is handed out before the blob is kept.
    device.wharf.until_zero("wharf_downloads_in_flight").await;
    let child = image.child("linux/arm/v7").manifest.digest.to_string();
    let asked = ["explain", "--client", "127.0.0.1", "busybox:1"];
    for state in ["asked at once", "restarted", "without a daemon", "without a registry"] {
        match state {
            "restarted" => site.restart().await,
            "without a daemon" => site.daemon.take().expect("it runs").stop().await,
            "without a registry" => hub.stop().await,
            _ => {}
        }
        let said = site.json(&asked).await;
        assert_eq!(
            explained(&said, &["client", "signal", "manifest", "platform", "policy"]),
            ["127.0.0.1", "learned", &child, "linux/arm/v7", "keep"],
            "{state}"
        );
        assert_eq!((&said["platforms"], &said["whole"]), (&json!(["linux/arm/v7"]), &json!(true)));
        let text = site.ok(&asked).await;
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "docker.io/library/busybox:1 for 127.0.0.1");
        assert_eq!(lines[1], "  runs      linux/arm/v7 (learned)");
        assert_eq!(
            lines[2],
            "  because   127.0.0.1 (\"containerd/v1.7.2\") took linux/arm/v7 from a list before"
        );
        assert_eq!(lines[4], format!("  gets      {child} for linux/arm/v7"));
        assert_eq!(lines[5..], ["  in cache  whole", "  policy    kept"]);
    }
    site.end().await;
}

#[tokio::test]
async fn what_decides_for_a_client_is_named() {
    let rules = "[platforms]\nkeep = [\"linux/arm64\"]\ndefault = \"linux/arm64\"\nothers = \"relay\"\n\
                 [[platforms.client]]\nmatch = \"10.0.7.0/24\"\nplatform = \"linux/arm/v7\"\n\
                 [[platforms.client]]\nmatch = \"10.0.8.0/24\"\nplatform = \"linux/riscv64\"\n";
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
        let mut site = Site::start_with(&hub, daemon, rules).await;
        let quiet = |mut arguments: Vec<&'static str>| {
            arguments.insert(0, "explain");
            arguments.push("busybox:1");
            arguments
        };
        let agent = "docker/27.3.1 go/go1.22 git-commit/41ca978 kernel/6.1.0 os/linux arch/amd64";
        for _ in 0..2 {
            for (arguments, signal, runs, policy) in [
                (vec!["--client", "10.0.7.12"], "rule", "linux/arm/v7", "relay"),
                (vec!["--client", "10.0.9.12"], "default", "linux/arm64", "keep"),
                (vec![], "default", "linux/arm64", "keep"),
                (vec!["--user-agent", agent], "user_agent", "linux/amd64", "relay"),
                (
                    vec!["--client", "10.0.7.12", "--user-agent", agent],
                    "rule",
                    "linux/arm/v7",
                    "relay",
                ),
            ] {
                let arguments = quiet(arguments);
                let said = site.run(&[&arguments[..], &["--json"]].concat()).await;
                assert_eq!(said.code, Some(0), "{said:?}");
                let said: Value = serde_json::from_str(&said.out).expect("JSON");
                let child = image.child(runs).manifest.digest.to_string();
                assert_eq!(
                    explained(&said, &["signal", "manifest", "platform", "policy"]),
                    [signal, &child, runs, policy],
                    "{arguments:?}"
                );
                assert_eq!(said["whole"], json!(false));
            }
            site.restart().await;
        }
        // An image that has nothing for the client is an answer, not a failure.
        let said = site.run(&quiet(vec!["--client", "10.0.8.1"])).await;
        assert_eq!(said.code, Some(0));
        let lines: Vec<_> = said.out.lines().collect();
        assert_eq!(lines[1], "  runs      linux/riscv64 (rule)");
        assert_eq!(
            lines[2],
            "  because   a [[platforms.client]] rule says that 10.0.8.1 is linux/riscv64"
        );
        assert_eq!(lines[3], "  offered   linux/amd64, linux/arm64, linux/arm/v7, linux/s390x");
        assert_eq!(lines[4..], ["  gets      none of them fits"]);
        let missing = site.run(&["explain", "busybox:2"]).await;
        assert_eq!(missing.code, Some(1));
        assert!(
            missing.err.ends_with("wharf: the registry has no such manifest in this repository\n")
        );
        site.end().await;
    }
}

#[tokio::test]
async fn what_is_not_whole_is_marked_and_sizes_are_those_of_what_is_kept() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[40_000, 50_000]);
        let other = hub.push_single(REPO, "2", PLATFORMS[2], &[10_000]);
        let site = Site::start(&hub, daemon).await;
        let child = image.child("linux/arm64");
        let (first, second) = (&child.layers[0], &child.layers[1]);
        hub.fault(On::Blob(second.digest), Fault::status(404));
        let said = site.run(&["pull", "--platform", "linux/arm64", "busybox:1"]).await;
        assert_eq!(said.code, Some(1));
        let why =
            "wharf: docker.io/library/busybox:1: the registry has no such blob in this repository";
        assert_eq!(said.err.lines().last(), Some(why), "{}", said.err);
        assert!(site.keeps(first) && !site.keeps(second));

        let said = site.ok(&["ls"]).await;
        assert_eq!(
            cells(&said)[1][..3],
            ["docker.io/library/busybox:1", "linux/arm64", "(partial)"]
        );
        let listed = site.json(&["ls", "busybox:1"]).await;
        let row = &listed[0]["platforms"][0];
        let kept = whole_size(child) - size(second);
        assert_eq!((&row["whole"], &row["kept"]), (&json!(false), &json!(kept)));
        assert_eq!(row["size"], whole_size(child));
        assert_eq!(listed[0]["size"], size(&image.index) + kept);

        // Another tag may still be there when the time for which the no is believed is not over.
        hub.clear_faults();
        site.pull(&["busybox:2"]).await;
        let listed = site.json(&["ls", "busybox"]).await;
        let names: Vec<_> =
            listed.as_array().expect("a list").iter().map(|row| &row["name"]).collect();
        assert_eq!(names, ["docker.io/library/busybox:1", "docker.io/library/busybox:2"]);
        assert_eq!(listed[1]["size"], whole_size(&other));
        assert_eq!(listed[1]["platforms"][0]["platform"], "linux/arm/v7", "its config says so");

        for name in ["nosuch", "busybox:3", "ghcr.io/library/busybox"] {
            let said = site.run(&["ls", name]).await;
            assert_eq!(said.sentence(), format!("nothing called {name} is kept in \"cache\""));
            let said = site.run(&["ls", "--json", name]).await;
            assert_eq!((said.code, said.out.as_str()), (Some(1), "[]\n"));
        }
        let steps = site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
        assert_eq!(steps.last().expect("an end")["fetched"], size(second));
        assert!(!site.ok(&["ls"]).await.contains("partial"));
        site.end().await;
    }
}

#[tokio::test]
async fn what_a_command_did_is_no_pull_of_a_device() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
    let site = Site::start(&hub, true).await;
    site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
    site.json(&["inspect", "busybox:1"]).await;
    site.json(&["explain", "--user-agent", &engine("arm64"), "busybox:1"]).await;
    assert_eq!(site.json(&["ls"]).await[0]["pulled"], json!(null));
    let daemon = site.daemon.as_ref().expect("it runs");
    let digest = image.child("linux/arm64").manifest.digest;
    client::get(daemon.addr, &format!("/v2/{REPO}/manifests/1"), &[]).await;
    client::get(daemon.addr, &manifest_path(&digest), &[]).await;
    assert!(site.json(&["ls"]).await[0]["pulled"].is_u64());
    site.end().await;
}
