//! What came is served with no registry at all, under the digests that it came with.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};
use tar::EntryType;
use wharf::oci::Digest;

use super::{CONFIG, INDEX, LAYER, MANIFEST, Tar, blob_path, descriptor, index_of, manifest};
use crate::{
    commands::{BOTH, Site},
    support::{FakeHub, client, names, noise},
};

const APP: &str = "docker.io/library/app:1";

/// A site whose registry does not answer.
async fn dark(daemon: bool) -> Site {
    let mut hub = FakeHub::start().await;
    let site = Site::start(&hub, daemon).await;
    hub.stop().await;
    site
}

/// That wharf serves this manifest of `library/app` by these tags and by its digest, with these blobs, and keeps no others.
async fn assert_served(site: &mut Site, tags: &[&str], manifest: &[u8], blobs: &[&[u8]]) {
    let addr = site.serve().await.addr;
    let digest = Digest::sha256(manifest);
    for reference in tags.iter().map(ToString::to_string).chain([digest.to_string()]) {
        let path = format!("/v2/library/app/manifests/{reference}");
        let answer = client::get(addr, &path, &[]).await;
        assert_eq!(
            answer.header("docker-content-digest"),
            Some(&*digest.to_string()),
            "{reference}"
        );
        answer.expect(manifest);
    }
    for blob in blobs {
        let path = format!("/v2/library/app/blobs/{}", Digest::sha256(blob));
        client::get(addr, &path, &[]).await.expect(blob);
    }
    let mut all: Vec<_> = blobs.iter().chain([&manifest]).map(|bytes| hex(bytes)).collect();
    all.sort_unstable();
    assert_eq!(kept(site), all);
}

fn kept(site: &Site) -> Vec<String> {
    names(&site.cache().join("blobs/sha256"))
}

fn hex(bytes: &[u8]) -> String {
    Digest::sha256(bytes).encoded()
}

/// An OCI image layout in a directory: its manifest, config and layer.
fn lay_out(directory: &Path) -> [Vec<u8>; 3] {
    let (config, layer) = (b"{}".to_vec(), noise("laid out", 300_000).to_vec());
    let document = manifest(&config, &layer);
    fs::create_dir_all(directory.join("blobs/sha256")).expect("made");
    let index = index_of(MANIFEST, &document, APP).to_string().into_bytes();
    let marker = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    for (name, bytes) in [("oci-layout", &marker), ("index.json", &index)] {
        fs::write(directory.join(name), bytes).expect("written");
    }
    for blob in [&document, &config, &layer] {
        fs::write(directory.join(blob_path(blob)), blob).expect("written");
    }
    [document, config, layer]
}

/// As Engine 25 and later write it: a layout that says the names, and beside it, for older ones, what these read.
#[tokio::test]
async fn what_a_newer_docker_saved_is_served_as_its_layout_says() {
    let layers = [noise("lower", 90_000), noise("upper", 5000)];
    let ids = layers.each_ref().map(|layer| Digest::sha256(layer));
    // The lower one twice: a step that changed nothing.
    let order = [0, 1, 0];
    let config = json!({ "architecture": "arm64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": order.map(|layer| ids[layer]) } });
    let config = config.to_string().into_bytes();
    let layer = |layer: usize| descriptor(LAYER, &layers[layer]);
    let document = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config), "layers": order.map(layer) });
    let document = document.to_string().into_bytes();
    let named = |tag: &str| {
        let mut entry = descriptor(MANIFEST, &document);
        entry["platform"] = json!({ "architecture": "arm64", "os": "linux" });
        entry["annotations"] = json!({ "io.containerd.image.name": format!("docker.io/library/app:{tag}"),
            "org.opencontainers.image.ref.name": tag });
        entry
    };
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named("1"), named("latest")] });
    let sources: serde_json::Map<String, Value> =
        ids.iter().enumerate().map(|(at, id)| (id.to_string(), layer(at))).collect();
    let list = json!([{ "Config": blob_path(&config), "RepoTags": ["app:1", "app:latest"],
        "Layers": order.map(|layer| blob_path(&layers[layer])), "LayerSources": sources }]);
    let top = ids[0].encoded();
    let repositories = json!({ "app": { "1": top, "latest": top } });
    // What was an image's layer before there were manifests: nothing in the layout leads to it.
    let ancient = json!({ "id": "c".repeat(64), "os": "linux" }).to_string().into_bytes();
    let mut tar = Tar::default().member("blobs/", EntryType::Directory, b"", |_| {}).member(
        "blobs/sha256/",
        EntryType::Directory,
        b"",
        |_| {},
    );
    for blob in [&layers[1][..], &ancient, &document, &config, &layers[0][..]] {
        tar = tar.blob(blob);
    }
    let tar = tar.json("index.json", &index).json("manifest.json", &list).layout();
    let archive = tar.json("repositories", &repositories).end();

    for daemon in BOTH {
        let mut site = dark(daemon).await;
        fs::write(site.dir.path().join("saved.tar"), &archive).expect("written");
        let said = site.json(&["import", "saved.tar"]).await;
        let digest = Digest::sha256(&document).to_string();
        let images = said["images"].as_array().expect("a list");
        let images: Vec<_> =
            images.iter().map(|image| (&image["name"], &image["digest"])).collect();
        let [one, latest] =
            ["1", "latest"].map(|tag| json!(format!("docker.io/library/app:{tag}")));
        assert_eq!(images, [(&one, &json!(digest)), (&latest, &json!(digest))]);
        site.ok(&["gc"]).await;
        let blobs = [&config[..], &layers[0][..], &layers[1][..]];
        assert_served(&mut site, &["1", "latest"], &document, &blobs).await;
        site.end().await;
    }
}

#[tokio::test]
async fn a_directory_is_taken_in_as_the_archive_of_it_would_be() {
    for daemon in BOTH {
        let mut site = dark(daemon).await;
        let [document, config, layer] = lay_out(&site.dir.path().join("layout"));
        symlink("layout", site.dir.path().join("here")).expect("made");
        let said = site.json(&["import", "layout/"]).await;
        assert_eq!(said["images"][0]["name"], APP);
        assert_eq!(said["images"][0]["digest"], Digest::sha256(&document).to_string());
        assert_eq!((&said["blobs"], &said["known"]), (&json!(3), &json!(0)));
        // Which directory is meant, the operator has said: not what is in it.
        let again = site.json(&["import", "here"]).await;
        assert_eq!((&again["blobs"], &again["known"]), (&json!(0), &json!(3)));
        assert_served(&mut site, &["1"], &document, &[&config, &layer]).await;
        site.end().await;
    }
}

/// As with an image of one's own, under a name that Docker Hub gives to nobody.
#[tokio::test]
async fn a_registry_that_has_no_such_image_does_not_take_away_what_came_by_hand() {
    let hub = FakeHub::start().await;
    let mut site = Site::start(&hub, true).await;
    let [document, ..] = lay_out(&site.dir.path().join("layout"));
    let addr = site.serve().await.addr;
    let path = "/v2/library/app/manifests/1";
    assert_eq!(client::get(addr, path, &[]).await.status, 404, "nobody has it");
    site.ok(&["import", "layout"]).await;
    // The registry is asked the first time, and its no is known the second.
    for _ in 0..2 {
        let answer = client::get(addr, path, &[]).await;
        assert_eq!(answer.header("wharf-cache"), Some("stale"));
        answer.expect(&document);
    }
    site.ok(&["unpin", APP]).await;
    assert_eq!(client::get(addr, path, &[]).await.status, 404, "nobody wants it to stay");
    site.ok(&["pin", APP]).await;
    client::get(addr, path, &[]).await.expect(&document);
    site.end().await;
}

#[tokio::test]
async fn ghsa_r3h2_a_link_in_a_directory_is_not_followed_out_of_it() {
    for daemon in BOTH {
        let site = dark(daemon).await;
        let outside = site.dir.path().join("outside");
        lay_out(&outside);
        let layout = site.dir.path().join("layout");
        let layer = blob_path(&noise("laid out", 300_000));
        for (path, target) in [
            (&*layer, outside.join(&layer)),
            // Within the directory: it is a link all the same.
            (&layer, Path::new("../../oci-layout").to_owned()),
            ("blobs/sha256", outside.join("blobs/sha256")),
            ("blobs", outside.join("blobs")),
            ("index.json", outside.join("index.json")),
            // Around and around.
            ("blobs/sha256", Path::new("..").to_owned()),
        ] {
            lay_out(&layout);
            let replaced = layout.join(path);
            if replaced.is_dir() {
                fs::remove_dir_all(&replaced).expect("it is there");
            } else {
                fs::remove_file(&replaced).expect("it is there");
            }
            symlink(&target, replaced).expect("made");
            let said = site.run(&["import", "layout"]).await;
            assert_eq!(said.code, Some(1), "{path} -> {target:?}: {said:?}");
            assert!(said.err.contains(path) && said.err.contains("link"), "{path}: {said:?}");
            assert_eq!(kept(&site), [""; 0], "{path}");
            fs::remove_dir_all(&layout).expect("it is there");
        }
        assert_eq!(site.json(&["ls"]).await, json!([]));
        site.end().await;
    }
}
