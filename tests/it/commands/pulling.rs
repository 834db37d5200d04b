//! What is fetched, and nothing else.

use serde_json::{Value, json};
use wharf::oci::media_type;

use super::{
    BOTH, Device, PLATFORMS, REPO, Site, contents, event, manifest_path, size, whole_size,
};
use crate::support::{Blob, FakeHub, PushedImage};

/// Pulls, and pulls again: what the second says.
async fn twice(site: &Site, hub: &FakeHub, arguments: &[&str]) -> Vec<Value> {
    let first = site.pull(arguments).await;
    let done = first.last().expect("an end");
    assert_eq!((event(done), &done["fetched"]), ("done", &done["size"]), "{first:?}");
    let before = contents(hub);
    let second = site.pull(arguments).await;
    let done = second.last().expect("an end");
    assert_eq!((event(done), &done["fetched"]), ("done", &json!(0)), "{second:?}");
    assert_eq!(contents(hub), before);
    for step in second.iter().filter(|step| event(step) == "blob") {
        assert_eq!((&step["hit"], &step["here"]), (&json!(true), &step["size"]));
    }
    second
}

#[tokio::test]
async fn the_platforms_that_are_named_are_fetched_and_no_other() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[700_000, 10]);
        let mut site = Site::start(&hub, daemon).await;
        let named = ["--platform", "linux/arm/v7", "--platform", "linux/arm64", "busybox:1"];
        let steps = twice(&site, &hub, &named).await;
        assert_eq!(steps[0]["platforms"], json!(["linux/arm/v7", "linux/arm64"]));
        assert_eq!(site.platforms_kept(&image), ["linux/arm64", "linux/arm/v7"]);

        let (arm64, v7) = (image.child("linux/arm64"), image.child("linux/arm/v7"));
        let kept = size(&image.index) + whole_size(arm64) + whole_size(v7);
        assert_eq!(steps.last().expect("an end")["size"], kept);
        let listed = site.json(&["ls"]).await;
        assert_eq!(listed[0]["name"], "docker.io/library/busybox:1");
        assert_eq!(listed[0]["size"], kept);
        let platforms = listed[0]["platforms"].as_array().expect("a list");
        for (row, child) in platforms.iter().zip([arm64, v7]) {
            assert_eq!((&row["platform"], &row["whole"]), (&json!(child.platform), &json!(true)));
            let size = json!(whole_size(child));
            assert_eq!((&row["kept"], &row["size"]), (&size, &size));
        }
        assert_eq!(platforms.len(), 2);

        hub.clear_log();
        let device = Device { wharf: site.serve().await, user_agent: "containerd/v1.7.2" };
        device.pull("1", &image, "linux/arm/v7").await;
        // A daemon that has just been started has the tag confirmed.
        assert_eq!(contents(&hub), 0, "{:?}", hub.log());
        assert_eq!(hub.count(|_| true) == 0, daemon, "{:?}", hub.log());
        site.end().await;
    }
}

#[tokio::test]
async fn without_platforms_those_of_the_site_are_fetched_as_far_as_the_image_has_them() {
    let keep = "[platforms]\nkeep = [\"linux/arm64\", \"linux/riscv64\", \"linux/arm/v7\"]\ndefault = \"linux/arm64\"\n";
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
        let foreign = hub.push_image(REPO, "s390x", &PLATFORMS[3..], &[1000]);
        let site = Site::start_with(&hub, daemon, keep).await;
        let steps = twice(&site, &hub, &["busybox:1"]).await;
        assert_eq!(steps[0]["platforms"], json!(["linux/arm64", "linux/arm/v7"]));
        assert_eq!(site.platforms_kept(&image), ["linux/arm64", "linux/arm/v7"]);
        // Of none of them there is anything.
        let said = site.run(&["pull", "busybox:s390x"]).await;
        assert!(said.sentence().ends_with("it has linux/s390x"), "{said:?}");
        assert!(site.platforms_kept(&foreign).is_empty());
        site.end().await;
    }
}

#[tokio::test]
async fn a_platform_that_is_asked_for_in_vain_fails_and_the_others_are_fetched() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS[..2], &[1000]);
        let site = Site::start(&hub, daemon).await;
        let said = site
            .run(&["pull", "--platform", "linux/riscv64", "--platform", "linux/arm64", "busybox:1"])
            .await;
        assert_eq!(
            said.sentence(),
            "docker.io/library/busybox:1: the image has no manifest for linux/riscv64; \
             it has linux/amd64, linux/arm64"
        );
        assert_eq!(site.platforms_kept(&image), ["linux/arm64"]);
        site.end().await;
    }
}

/// Puts an attestation of every child into the image's list, under `attested`: of each, its parts.
fn attest(hub: &FakeHub, image: &PushedImage) -> Vec<[Blob; 3]> {
    let mut list: Value = serde_json::from_slice(&image.index.bytes).expect("JSON");
    let put = |text: String| {
        let digest = hub.put_blob(REPO, text.clone());
        Blob { digest, media_type: "application/vnd.in-toto+json", bytes: text.into() }
    };
    let named = |blob: &Blob| json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let mut attestations = Vec::new();
    for child in &image.children {
        let (config, statement) =
            (put("{}".to_owned()), put(format!("in-toto of {}", child.platform)));
        let document = json!({
            "schemaVersion": 2, "config": named(&config), "layers": [named(&statement)],
        })
        .to_string();
        let digest = hub.put_manifest(REPO, None, media_type::OCI_MANIFEST, document.clone());
        let manifest =
            Blob { digest, media_type: media_type::OCI_MANIFEST, bytes: document.into() };
        let mut entry = named(&manifest);
        entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": child.manifest.digest,
        });
        list["manifests"].as_array_mut().expect("a list").push(entry);
        attestations.push([manifest, config, statement]);
    }
    hub.put_manifest(REPO, Some("attested"), media_type::OCI_INDEX, list.to_string());
    attestations
}

#[tokio::test]
async fn attestations_come_along() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS[..2], &[1000]);
        let attestations = attest(&hub, &image);
        let site = Site::start(&hub, daemon).await;
        twice(&site, &hub, &["--platform", "linux/arm64", "busybox:attested"]).await;
        assert_eq!(site.platforms_kept(&image), ["linux/arm64"]);
        let kept = |parts: &[Blob; 3]| parts.each_ref().map(|part| site.keeps(part));
        // Both have the same config.
        assert_eq!(kept(&attestations[0]), [false, true, false]);
        assert_eq!(kept(&attestations[1]), [true; 3]);
        // In tables they are not among the platforms.
        assert!(!site.ok(&["ls"]).await.contains("unknown/unknown"));
        site.end().await;
    }
}

#[tokio::test]
async fn a_tag_without_a_list_and_a_digest_are_fetched_as_they_are() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[1000]);
        let single = hub.push_single(REPO, "single", PLATFORMS[2], &[2000, 3000]);
        let site = Site::start(&hub, daemon).await;
        let steps = twice(&site, &hub, &["busybox:single"]).await;
        assert_eq!(
            (&steps[0]["platforms"], &steps.last().expect("an end")["size"]),
            (&json!([]), &json!(whole_size(&single)))
        );
        assert!(site.is_whole(&single));

        let child = image.child("linux/s390x");
        twice(&site, &hub, &[&format!("busybox@{}", child.manifest.digest)]).await;
        assert_eq!(site.platforms_kept(&image), ["linux/s390x"]);
        let list = format!("busybox@{}", image.index.digest);
        twice(&site, &hub, &["--platform", "linux/amd64", &list]).await;
        assert_eq!(site.platforms_kept(&image), ["linux/amd64", "linux/s390x"]);

        let missing = image.child("linux/arm64").manifest.digest;
        assert_eq!(hub.count(|seen| seen.path == manifest_path(&missing)), 0);
        // In words, too.
        let said = site.ok(&["pull", "busybox:single"]).await;
        let [resolved, done] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
        let name = "docker.io/library/busybox:single: ";
        assert_eq!(*resolved, format!("{name}{}", single.manifest.digest));
        assert!(done.starts_with(name) && done.ends_with("all of it was here already"), "{said}");
        site.end().await;
    }
}

#[tokio::test]
async fn what_two_platforms_share_is_fetched_and_counted_once() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[50_000]);
        // The second is arm64 with another name.
        let site = Site::start(&hub, daemon).await;
        let named = ["--platform", "linux/arm64", "--platform", "linux/arm64/v8", "busybox:1"];
        let steps = twice(&site, &hub, &named).await;
        let child = image.child("linux/arm64");
        let kept = size(&image.index) + whole_size(child);
        assert_eq!(steps.last().expect("an end")["size"], kept);
        assert_eq!(steps.iter().filter(|step| event(step) == "blob").count(), 2, "{steps:?}");
        site.end().await;
    }
}

const LIST: &str = "\
# what the ship needs
busybox:1
  busybox:nosuch   # misspelt

docker.io/library/busybox:1
busybox:2
";

#[tokio::test]
async fn one_bad_image_of_a_list_does_not_keep_the_others_from_being_fetched() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let images = ["1", "2"].map(|tag| hub.push_single(REPO, tag, PLATFORMS[1], &[1000]));
        for (list, input) in [("list.txt", ""), ("-", LIST)] {
            let site = Site::start(&hub, daemon).await;
            site.write("list.txt", LIST);
            hub.clear_log();
            let said = site.begin_reading(&["pull", "--file", list], input).ended().await;
            assert_eq!(said.code, Some(1));
            assert_eq!(
                said.err.lines().collect::<Vec<_>>(),
                [
                    "wharf: docker.io/library/busybox:nosuch: the registry has no such manifest in this repository",
                    "wharf: 1 of 3 images could not be fetched",
                ]
            );
            assert_eq!(said.out.lines().count(), 4, "{}", said.out);
            assert!(images.iter().all(|image| site.is_whole(image)));
            assert_eq!(hub.manifest_gets(), 3, "each is asked for once");
            site.end().await;
        }
    }
}

#[tokio::test]
async fn a_list_with_a_line_that_is_no_name_fetches_nothing() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let site = Site::start(&hub, daemon).await;
        let list = format!("{LIST}Busy Box\n");
        site.write("list.txt", &list);
        for (file, says) in
            [("list.txt", "wharf: list.txt:7: \"Busy Box\": "), ("-", "wharf: -:7: ")]
        {
            let said = site.begin_reading(&["pull", "--file", file], &list).ended().await;
            assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
            assert!(said.err.starts_with(says) && said.err.lines().count() == 1, "{said:?}");
        }
        assert_eq!(hub.log().len(), 0);
        site.end().await;
    }
}
