//! Making room, keeping what must stay, and finding what rotted, by the commands an operator has for it (bug classes: a
//! pin that does not hold; a removal that takes what another image needs, or frees nothing; a check that misses a bit, or
//! says that all is well while something is missing).

use std::fs;

use serde_json::{Value, json};

use super::{BOTH, Device, PLATFORMS, REPO, Said, Site, event, size, whole_size};
use crate::support::{Blob, FakeHub, PushedManifest, deadline};

const MIB: usize = 1 << 20;

/// A budget in MiB, and nothing that is to be left free.
fn budget(mib: usize) -> String {
    format!("[cache]\nmax_size = \"{mib}MiB\"\nmin_free = \"0\"\n")
}

/// `busybox:<tag>` of one layer.
fn push(hub: &FakeHub, tag: &str, mib: usize) -> PushedManifest {
    hub.push_single(REPO, tag, PLATFORMS[1], &[mib * MIB])
}

/// The tags that are kept, in order.
async fn tags(site: &Site) -> Vec<String> {
    let listed = site.json(&["ls"]).await;
    let name = |row: &Value| row["name"].as_str().expect("a name").to_owned();
    let names = listed.as_array().expect("a list").iter().map(name);
    names.map(|name| name.rsplit_once(':').expect("a tag").1.to_owned()).collect()
}

/// Bytes of all blob files; one that goes meanwhile counts or not.
fn bytes(site: &Site) -> u64 {
    let files = fs::read_dir(site.cache().join("blobs/sha256")).expect("it is there");
    files.map(|file| file.expect("readable").metadata().map_or(0, |file| file.len())).sum()
}

fn path(site: &Site, blob: &Blob) -> std::path::PathBuf {
    site.cache().join("blobs/sha256").join(blob.digest.encoded())
}

/// Flips one bit in the middle of a kept blob.
fn flip(site: &Site, blob: &Blob) {
    let path = path(site, blob);
    let mut bytes = fs::read(&path).expect("it is kept");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("the directory can be written");
}

#[tokio::test]
async fn what_is_pinned_stays_until_it_is_unpinned() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        for (tag, mib) in [("a", 4), ("b", 4), ("c", 5), ("d", 8)] {
            push(&hub, tag, mib);
        }
        let mut site = Site::start_with(&hub, daemon, &budget(10)).await;
        site.pull(&["busybox:a"]).await;
        let said = site.ok(&["pin", "busybox:a"]).await;
        assert_eq!(said, "docker.io/library/busybox:a: pinned\n");
        let said = site.ok(&["pin", "busybox:a"]).await;
        assert_eq!(said, "docker.io/library/busybox:a: was pinned already\n");
        let listed = site.ok(&["ls"]).await;
        assert!(listed.lines().next().is_some_and(|line| line.ends_with("PINNED")), "{listed}");
        let said = site.run(&["rm", "busybox:a"]).await;
        let sentence = "docker.io/library/busybox:a is pinned: `wharf unpin` it first";
        assert_eq!(said.sentence(), sentence);

        // It is known as pinned after a restart, too.
        site.restart().await;
        for tag in ["b", "c"] {
            site.pull(&[&format!("busybox:{tag}")]).await;
        }
        assert_eq!(tags(&site).await, ["a", "c"]);
        let unpinned = site.json(&["unpin", "busybox:a"]).await;
        let name = "docker.io/library/busybox:a";
        assert_eq!(unpinned, json!({ "name": name, "pinned": false, "changed": true }));
        site.pull(&["busybox:d"]).await;
        assert_eq!(tags(&site).await, ["d"]);
        site.end().await;
    }
}

#[tokio::test]
async fn what_the_configuration_pins_stays_whether_it_was_there_before_or_not() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        for (tag, mib) in [("a", 4), ("b", 4), ("c", 5)] {
            push(&hub, tag, mib);
        }
        let more =
            format!("{}[[prefetch.image]]\nname = \"busybox:a\"\npinned = true\n", budget(10));
        let site = Site::start_with(&hub, daemon, &more).await;
        for tag in ["a", "b", "c"] {
            site.pull(&[&format!("busybox:{tag}")]).await;
        }
        assert_eq!(tags(&site).await, ["a", "c"]);
        let listed = site.json(&["ls"]).await;
        assert_eq!((&listed[0]["pinned"], &listed[1]["pinned"]), (&json!(true), &json!(false)));
        site.end().await;
    }
}

#[tokio::test]
async fn a_removal_frees_what_no_other_image_needs() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = push(&hub, "1", 2);
        hub.move_tag(REPO, "2", image.manifest.digest);
        let other = push(&hub, "3", 1);
        let site = Site::start(&hub, daemon).await;
        for tag in ["1", "2", "3"] {
            site.pull(&[&format!("busybox:{tag}")]).await;
        }
        let removed = site.json(&["rm", "busybox:1"]).await;
        let name = "docker.io/library/busybox:1";
        assert_eq!(removed, json!({ "name": name, "freed": 0, "blobs": 0 }));
        assert!(site.is_whole(&image) && tags(&site).await == ["2", "3"]);
        let removed = site.json(&["rm", "busybox:2"]).await;
        assert_eq!((&removed["freed"], &removed["blobs"]), (&json!(whole_size(&image)), &json!(3)));
        assert_eq!((site.kept(&image).0, bytes(&site)), (0, whole_size(&other)));
        assert_eq!(tags(&site).await, ["3"]);

        // It is not remembered either: the next pull fetches it.
        let steps = site.pull(&["busybox:1"]).await;
        let done = steps.last().expect("an end");
        assert_eq!((event(done), &done["fetched"]), ("done", &json!(whole_size(&image))));
        assert!(site.is_whole(&image));
        site.end().await;
    }
}

#[tokio::test]
async fn a_collection_meets_a_lowered_budget_and_sweeps_what_no_image_needs() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        for tag in ["a", "b", "c"] {
            push(&hub, tag, 2);
        }
        let mut site = Site::start_with(&hub, daemon, &budget(100)).await;
        for tag in ["a", "b", "c"] {
            site.pull(&[&format!("busybox:{tag}")]).await;
        }
        let stopped = site.daemon.take();
        if let Some(daemon) = stopped {
            daemon.stop().await;
        }
        let stray = vec![7; MIB];
        let name = wharf::oci::Digest::sha256(&stray).encoded().to_owned();
        let stray_path = site.cache().join("blobs/sha256").join(name);
        fs::write(&stray_path, stray).expect("the directory can be written");
        site.rewrite(|text| text.replace("100MiB", "5MiB"));
        if daemon {
            site.serve().await;
        }
        let collected = site.json(&["gc"]).await;
        assert_eq!(collected["limit"], 5 * MIB);
        assert_eq!(collected["bytes"], bytes(&site));
        assert!(bytes(&site) <= 5 * MIB as u64, "{collected}");
        assert_eq!(tags(&site).await.len(), 2, "no more than needed goes: {collected}");
        assert!(!stray_path.exists(), "{collected}");
        let said = site.ok(&["gc"]).await;
        assert!(said.starts_with("Nothing was to be removed; 4.0"), "{said}");
        site.end().await;
    }
}

#[tokio::test]
async fn a_budget_that_is_lowered_by_a_reload_is_met_at_once() {
    let hub = FakeHub::start().await;
    for tag in ["a", "b", "c"] {
        push(&hub, tag, 2);
    }
    let site = Site::start_with(&hub, true, &budget(100)).await;
    for tag in ["a", "b", "c"] {
        site.pull(&[&format!("busybox:{tag}")]).await;
    }
    let daemon = site.daemon.as_ref().expect("it runs");
    // What is pinned by the same reload stays.
    let pin = "[[prefetch.image]]\nname = \"busybox:a\"\npinned = true\n";
    site.rewrite(|text| text.replace("100MiB", "3MiB") + pin);
    daemon.signal("HUP");
    let met = async {
        while bytes(&site) > 3 * MIB as u64 {
            tokio::task::yield_now().await
        }
    };
    deadline("the budget to be met", met).await;
    assert_eq!(tags(&site).await, ["a"]);
    assert_eq!(site.json(&["status"]).await["cache"]["limit"], 3 * MIB);
    site.end().await;
}

#[tokio::test]
async fn limits_that_cannot_be_met_are_said_and_stop_no_pull() {
    let hub = FakeHub::start().await;
    let image = push(&hub, "1", 1);
    let more = "[cache]\nmin_free = \"1000000TiB\"\n";
    let mut site = Site::start_with(&hub, true, more).await;
    let daemon = site.serve().await;
    daemon.until_logged("the limits of the cache cannot be met: the file system has ").await;
    let device = Device { wharf: daemon, user_agent: "containerd/v1.7.2" };
    device.take(&image).await;
    daemon.until_zero("wharf_downloads_in_flight").await;
    assert_eq!(site.kept(&image).0, 0, "nothing of it is kept");
    let said = site.ok(&["status"]).await;
    assert!(said.contains("\nWarning:     the file system has "), "{said}");
    assert!(said.contains("[cache] min_free is "), "{said}");

    site.rewrite(|text| text.replace("1000000TiB", "0"));
    let daemon = site.serve().await;
    daemon.signal("HUP");
    daemon.until_logged("the limits of the cache are met again").await;
    assert!(!site.ok(&["status"]).await.contains("Warning:"));
    site.pull(&["busybox:1"]).await;
    assert!(site.is_whole(&image));
    site.end().await;
}

/// The digests that the steps of a check name in `kind` events.
fn named(said: &Said, kind: &str) -> Vec<String> {
    let steps = said.steps();
    let of_kind = steps.iter().filter(|step| event(step) == kind);
    of_kind.map(|step| step["digest"].as_str().expect("a digest").to_owned()).collect()
}

#[tokio::test]
async fn a_flipped_bit_is_found_put_aside_and_repaired() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[2 * MIB, 1000]);
        let other = push(&hub, "2", 1);
        let site = Site::start(&hub, daemon).await;
        site.pull(&["--platform", "linux/arm64", "busybox:1", "busybox:2"]).await;
        let said = site.ok(&["verify"]).await;
        assert!(
            said.lines().last().is_some_and(|line| line.ends_with(": nothing is damaged")),
            "{said}"
        );

        let child = image.child("linux/arm64");
        let layer = &child.layers[0];
        flip(&site, layer);
        let said = site.run(&["verify", "--json"]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(named(&said, "bad"), [layer.digest.to_string()], "exactly that one");
        let bad = said.steps().into_iter().find(|step| event(step) == "bad").expect("found");
        assert_eq!(bad["images"], json!(["docker.io/library/busybox:1"]));
        assert_eq!(bad["size"], size(layer));
        assert!(!path(&site, layer).exists(), "it is put aside");
        assert!(site.is_whole(&other));
        let status = site.json(&["status"]).await;
        assert_eq!(status["cache"]["quarantined"], size(layer));

        let said = site.run(&["verify"]).await;
        assert_eq!(said.code, Some(1), "it is missing still: {said:?}");
        let said = site.run(&["verify", "--repair", "--json"]).await;
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
        assert_eq!(named(&said, "repaired"), [layer.digest.to_string()]);
        assert_eq!(fs::read(path(&site, layer)).expect("kept"), layer.bytes);
        let said = site.ok(&["verify", "--rate", "1GiB/s"]).await;
        assert!(
            said.lines().last().is_some_and(|line| line.ends_with(": nothing is damaged")),
            "{said}"
        );

        // Found and repaired in one go.
        flip(&site, layer);
        let said = site.ok(&["verify", "--repair"]).await;
        assert!(said.contains(&format!("damaged: {}, 2.00 MiB: ", layer.digest)), "{said}");
        assert!(said.contains(&format!("repaired: {}, 2.00 MiB", layer.digest)), "{said}");
        assert!(said.ends_with(": 1 damaged, 1 repaired\n"), "{said}");
        site.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_again_is_said_to_be_lost() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        let image = push(&hub, "1", 1);
        let site = Site::start_with(&hub, daemon, "attempts = 1\n").await;
        site.pull(&["busybox:1"]).await;
        hub.stop().await;
        flip(&site, &image.layers[0]);
        let said = site.run(&["verify", "--repair", "--json"]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(named(&said, "unrepaired"), [image.layers[0].digest.to_string()]);
        let steps = said.steps();
        let incomplete = steps.iter().find(|step| event(step) == "incomplete").expect("told");
        assert_eq!(incomplete["name"], "docker.io/library/busybox:1");
        assert_eq!((&incomplete["missing"], &incomplete["lost"]), (&json!(1), &json!(true)));
        assert_eq!(steps.last().expect("an end")["lost"], 1);
        assert!(said.err.contains("1 blob is damaged, and put aside"), "{said:?}");
        site.end().await;
    }
}

#[tokio::test]
async fn a_device_is_never_given_what_was_found_damaged() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &PLATFORMS, &[MIB]);
    let mut site = Site::start(&hub, true).await;
    site.pull(&["--platform", "linux/arm64", "busybox:1"]).await;
    let child = image.child("linux/arm64");
    flip(&site, &child.layers[0]);
    assert_eq!(site.run(&["verify"]).await.code, Some(1));
    let device = Device { wharf: site.serve().await, user_agent: "containerd/v1.7.2" };
    device.take(child).await;
    device.wharf.until_zero("wharf_downloads_in_flight").await;
    assert!(site.is_whole(child), "and it is kept again");
    assert_eq!(site.run(&["verify"]).await.code, Some(0));
    site.end().await;
}

#[tokio::test]
async fn the_status_adds_up() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let (one, two) = (push(&hub, "1", 2), push(&hub, "2", 1));
        let more = format!("{}scrub = \"2d\"\n", budget(100));
        let site = Site::start_with(&hub, daemon, &more).await;
        site.pull(&["busybox:1", "busybox:2"]).await;
        let status = site.json(&["status"]).await;
        let cache = &status["cache"];
        let kept = whole_size(&one) + whole_size(&two);
        assert_eq!((&cache["bytes"], bytes(&site)), (&json!(kept), kept), "{status}");
        assert_eq!((&cache["blobs"], &cache["images"]), (&json!(6), &json!(2)), "{status}");
        assert_eq!((&cache["limit"], &cache["min_free"]), (&json!(100 * MIB), &json!(0)));
        assert_eq!((&cache["reserved"], &cache["partial"]), (&json!(0), &json!(0)), "{status}");
        assert!(cache["free"].as_u64().is_some_and(|free| free > 0), "{status}");
        assert_eq!(status["downloads"], 0);
        let said = site.ok(&["status"]).await;
        assert!(said.contains("3.00 MiB of 100.00 MiB (3 %), 2 images in 6 blobs"), "{said}");
        if let Some(daemon) = &site.daemon {
            assert_eq!(status["scrub"]["period"], 2 * 86_400);
            site.rewrite(|text| text.replace("\"2d\"", "\"off\""));
            daemon.signal("HUP");
            daemon.until_logged("key=cache.scrub value=off").await;
            assert_eq!(site.json(&["status"]).await["scrub"], Value::Null);
        }
        site.end().await;
    }
}
