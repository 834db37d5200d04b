//! What is in a bundle: all that a site needs of the chosen platforms, and nothing else.

use std::fs;

use serde_json::json;
use wharf::oci::media_type;

use super::{KIB, Opened, Pushed, REPO, descriptor, digest, document, noise, sorted};
use crate::{
    commands::{BOTH, Site},
    support::{FakeHub, Wharf},
};

#[tokio::test]
async fn a_bundle_has_the_whole_list_and_of_its_images_those_of_the_chosen_platforms() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = Pushed::to(&hub, "1", &[("a", 300 * KIB), ("b", 10)]);
        let site = Site::start(&hub, daemon).await;
        let said = site.export(&["--platform", "linux/arm64", "-o", "b.tar", "app:1"]).await;
        let bundle = Opened::file(&site.at("b.tar"));
        assert_eq!(bundle.blobs(), image.all());
        let at = |bytes| format!("blobs/sha256/{}", digest(bytes).encoded());
        assert_eq!(bundle.members[&at(&image.index)], image.index, "to the byte");
        let layers: Vec<_> = image.layers.iter().map(at).collect();
        assert_eq!(
            bundle.names[..9],
            [
                "oci-layout",
                "wharf-bundle.json",
                "index.json",
                "manifest.json",
                &at(&image.index),
                &at(&image.manifest),
                &at(&image.config),
                &at(&image.attestation),
                &layers[0],
            ]
        );
        assert_eq!(bundle.json("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
        let mut entry = descriptor(media_type::OCI_INDEX, &image.index);
        entry["annotations"] = json!({
            "io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1",
        });
        assert_eq!(bundle.json("index.json")["manifests"], json!([entry]));
        let config = at(&image.config);
        let docker = json!([{ "Config": config, "RepoTags": ["docker.io/library/app:1"], "Layers": layers }]);
        assert_eq!(bundle.json("manifest.json"), docker);
        assert_eq!(site.bytes("b.tar.receipt"), bundle.members["wharf-bundle.json"]);
        assert!(!site.at("b.tar.part").exists());

        assert_eq!(
            (&said["images"], &said["blobs"]),
            (&json!(1), &json!(image.all().len())),
            "{said}"
        );
        assert_eq!(said["platforms"], json!(["linux/arm64"]));
        assert_eq!(said["bytes"], site.bytes("b.tar").len());
        assert_eq!(said["left"], json!({ "platforms": 1, "bytes": 0, "unknown": 1 }));
        site.end().await;
    }
}

#[tokio::test]
async fn the_same_images_make_the_same_bundle() {
    let hub = FakeHub::start().await;
    for tag in ["1", "2", "3"] {
        Pushed::to(&hub, tag, &[(tag, 20 * KIB), ("shared", 5000)]);
    }
    let mut site = Site::start(&hub, true).await;
    let all = ["--platform", "linux/arm64", "app:1", "app:2", "app:3", "-o", "first.tar"];
    site.export(&all).await;
    let first = site.bytes("first.tar");
    let again =
        ["--platform", "linux/arm64", "app:3", "app:2", "-o", "second.tar", "app:1", "app:2"];
    site.export(&again).await;
    assert_eq!(site.bytes("second.tar"), first, "in whatever order they are asked for");
    let said =
        site.run(&["export", "--platform", "linux/arm64", "-o", "-", "--file", "list"]).await;
    assert_eq!(said.code, Some(2), "there is no list");
    site.restart().await;
    site.export(&["--platform", "linux/arm64", "app:1", "app:2", "app:3", "-o", "third.tar"]).await;
    assert_eq!(site.bytes("third.tar"), first, "by another process");
    site.end().await;
    let site = Site::start(&hub, false).await;
    site.export(&all).await;
    assert_eq!(site.bytes("first.tar"), first, "by another cache, without a daemon");
    // A list is read as well, and a bundle to standard output is the same.
    site.write("list", "app:1\napp:2 # all\napp:3\n");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["export", "--config", "config.toml", "--dir", "cache", "--file", "list", "-o", "-"])
        .current_dir(site.dir.path())
        .env_clear()
        .output()
        .expect("it runs");
    assert!(output.stdout == first, "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("3 images for linux/arm64"), "{said}");
    assert!(said.contains("left out what is for other platforms: 3 images"), "{said}");
    site.end().await;
}

#[tokio::test]
async fn without_an_uplink_what_is_whole_is_exported_and_what_is_not_is_named() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        let whole = Pushed::to(&hub, "whole", &[("w", 1000)]);
        let half = Pushed::to(&hub, "half", &[("h", 1000), ("i", 2000)]);
        let mut site = Site::start(&hub, daemon).await;
        for name in ["app:whole", "app:half"] {
            site.pull(&["--platform", "linux/arm64", name]).await;
        }
        hub.stop().await;
        site.restart().await;
        let lost = digest(&half.layers[1]);
        fs::remove_file(site.cache().join("blobs/sha256").join(lost.encoded())).expect("deleted");
        // What is kept whole is what is meant where nothing is said.
        site.export(&["-o", "b.tar", "app:whole"]).await;
        assert_eq!(Opened::file(&site.at("b.tar")).blobs(), whole.all());
        let wanted = ["--platform", "linux/arm64", "app:half", "app:whole", "app:never"];
        let said = site.run(&[&["export", "-o", "c.tar"], &wanted[..]].concat()).await;
        let last = said.err.lines().last().expect("a sentence");
        for part in [
            "app:half for linux/arm64 is not whole here",
            "2000 B",
            &lost.to_string(),
            "app:never: ",
        ] {
            assert!(last.contains(part), "{part}: {last}");
        }
        assert_eq!((said.code, last.contains("app:whole")), (Some(1), false), "{last}");
        let other =
            site.run(&["export", "-o", "c.tar", "--platform", "linux/s390x", "app:whole"]).await;
        assert!(other.err.contains("it has linux/amd64, linux/arm64"), "{other:?}");
        assert!(!site.at("c.tar").exists() && !site.at("c.tar.part").exists());
        site.end().await;
    }
}

#[tokio::test]
async fn what_was_signed_is_signed_on_the_other_side() {
    let hub = FakeHub::start().await;
    let image = Pushed::to(&hub, "1", &[("a", 1000)]);
    let tag = format!("sha256-{}.sig", digest(&image.index).encoded());
    let payload = noise("payload", 200);
    let config = noise("config", 20);
    for bytes in [&payload, &config] {
        hub.put_blob(REPO, bytes.clone());
    }
    let signature =
        document(&config, &[("application/vnd.dev.cosign.simplesigning.v1+json", &payload)]);
    hub.put_manifest(REPO, Some(&tag), media_type::OCI_MANIFEST, signature.clone());
    // What refers to the arm64 image: one that is pulled, and one that nobody did.
    let sbom = noise("sbom", 400);
    hub.put_blob(REPO, sbom.clone());
    let referrer = document(&config, &[("application/spdx+json", &sbom)]);
    hub.put_manifest(REPO, None, media_type::OCI_MANIFEST, referrer.clone());
    let other = noise("nobody has it", 30);
    let entries = [&referrer, &other].map(|bytes| descriptor(media_type::OCI_MANIFEST, bytes));
    let list =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let list: bytes::Bytes = list.to_string().into();
    hub.referrers(REPO, digest(&image.manifest), Some(list.clone()));

    let mut site = Site::start(&hub, true).await;
    site.pull(&["--platform", "linux/arm64", "app:1"]).await;
    site.pull(&[&format!("app:{tag}")]).await;
    site.pull(&[&format!("app@{}", digest(&referrer))]).await;
    let addr = site.serve().await.addr;
    let path = format!("/v2/{REPO}/referrers/{}", digest(&image.manifest));
    assert_eq!(crate::support::client::get(addr, &path, &[]).await.bytes(), &list);

    let said = site.export(&["--platform", "linux/arm64", "-o", "b.tar", "app:1"]).await;
    assert_eq!((&said["images"], &said["attached"]), (&json!(1), &json!(2)), "{said}");
    let bundle = Opened::file(&site.at("b.tar"));
    let more = [&signature, &payload, &config, &list, &referrer, &sbom].map(digest);
    assert_eq!(bundle.blobs(), sorted(image.all().into_iter().chain(more)));
    let contents = bundle.contents();
    let names: Vec<_> = contents.images.iter().map(|image| image.named.to_string()).collect();
    let of = format!("the referrers of docker.io/library/app@{}", digest(&image.manifest));
    assert_eq!(names, ["docker.io/library/app:1", &format!("docker.io/library/app:{tag}"), &of]);
    // It is found by its tag, but is no image to unpack.
    let entry = &bundle.json("index.json")["manifests"][1];
    assert_eq!(entry["annotations"], json!({ "org.opencontainers.image.ref.name": tag }));
    site.end().await;
}

#[tokio::test]
async fn an_image_of_one_platform_and_one_by_digest_are_exported() {
    let hub = FakeHub::start().await;
    let single = hub.push_single(REPO, "single", ("linux", "arm", Some("v7")), &[1000]);
    let listed = Pushed::to(&hub, "1", &[("a", 1000)]);
    let site = Site::start(&hub, false).await;
    let by_digest = format!("app@{}", digest(&listed.index));
    site.export(&["-o", "b.tar", "--platform", "linux/arm64", "app:single", &by_digest]).await;
    let bundle = Opened::file(&site.at("b.tar"));
    let parts = single.layers.iter().chain([&single.config, &single.manifest]);
    assert_eq!(
        bundle.blobs(),
        sorted(listed.all().into_iter().chain(parts.map(|part| part.digest)))
    );
    let index = bundle.json("index.json");
    let platform = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
    assert_eq!(index["manifests"][0]["platform"], platform);
    let annotations =
        json!({ "io.containerd.image.name": format!("docker.io/library/{by_digest}") });
    assert_eq!(index["manifests"][1]["annotations"], annotations);
    assert_eq!(bundle.json("manifest.json").as_array().expect("a list").len(), 2);
    assert_eq!(bundle.json("manifest.json")[1]["RepoTags"], json!([]));
    site.end().await;
}

#[tokio::test]
async fn what_is_composed_is_exported_under_its_own_name() {
    let hub = FakeHub::start().await;
    let [amd64, arm64] = ["amd64", "arm64"]
        .map(|name| hub.push_single(&format!("team/{name}"), "1", ("linux", name, None), &[1000]));
    let compose = "[[compose]]\nname = \"site.lan/app\"\n[compose.platforms]\n\"linux/amd64\" = \"docker.io/team/amd64\"\n\
                   \"linux/arm64\" = \"docker.io/team/arm64\"\n";
    let site = Site::start_with(&hub, false, compose).await;
    site.export(&["--platform", "linux/arm64", "-o", "b.tar", "site.lan/app:1"]).await;
    let bundle = Opened::file(&site.at("b.tar"));
    let blobs = bundle.blobs();
    let contents = bundle.contents();
    assert_eq!(contents.images[0].named.to_string(), "site.lan/app:1");
    let parts = arm64.layers.iter().chain([&arm64.config, &arm64.manifest]).map(|part| part.digest);
    assert_eq!(blobs, sorted(parts.chain([contents.images[0].digest])));
    assert!(!blobs.contains(&amd64.manifest.digest));
    site.end().await;
}

#[tokio::test]
async fn what_is_exported_is_not_evicted_meanwhile() {
    let hub = FakeHub::start().await;
    let image = Pushed::to(&hub, "1", &[("a", 100 * KIB)]);
    let wharf = Wharf::start(&hub).await;
    let (events, mut told) = tokio::sync::mpsc::channel(1000);
    let pull = wharf.pull.clone();
    let exporting = tokio::spawn(async move {
        let image = "app:1".parse().expect("a name");
        pull.export(&[image], &["linux/arm64".parse().expect("a platform")], &events).await
    });
    let mut last = None;
    while !matches!(last, Some(wharf::pull::ExportEvent::Ready)) {
        last = crate::support::deadline("the next event", told.recv()).await;
        assert!(last.is_some(), "it ended");
    }
    let here = || image.all().iter().filter(|digest| wharf.blob_file(digest).exists()).count();
    let name = "docker.io/library/app:1".parse().expect("a name");
    // Nothing names it any more, and still it is not swept.
    let _ = wharf.pull.remove(&name).await;
    wharf.pull.collect().await.expect("collected");
    assert_eq!(here(), image.all().len());
    drop(told);
    crate::support::deadline("the export to end", exporting).await.expect("joined").expect("well");
    wharf.pull.collect().await.expect("collected");
    assert!(here() < image.all().len(), "it was held, and by nothing else");
    wharf.end().await;
}
