//! What came by hand counts when all of it is here and right, and is then served with no registry at all.

use std::fs;

use serde_json::json;
use wharf::{bundle::PublicKey, oci::Digest};

use super::{KIB, Opened, Pushed, digest};
use crate::{
    commands::{BOTH, Site},
    support::{FakeHub, client, names},
};

pub(super) const EXPORT: [&str; 5] = ["--platform", "linux/arm64", "-o", "b.tar", "app:1"];

/// A bundle of an image with layers of these seeds and lengths, and the image.
pub(super) async fn bundle(
    hub: &FakeHub,
    tag: &str,
    layers: &[(&str, usize)],
    more: &[&str],
) -> (Pushed, Vec<u8>) {
    let image = Pushed::to(hub, tag, layers);
    let home = Site::start(hub, false).await;
    let name = format!("app:{tag}");
    home.export(&[&EXPORT[..4], &[&*name], more].concat()).await;
    let bytes = home.bytes("b.tar");
    home.end().await;
    (image, bytes)
}

pub(super) fn put(site: &Site, name: &str, bytes: &[u8]) {
    fs::write(site.at(name), bytes).expect("written");
}

/// The names of the kept blobs, sorted.
fn blobs(site: &Site) -> Vec<String> {
    names(&site.cache().join("blobs/sha256"))
}

/// Nothing of an import that did not come to its end lies about.
fn assert_tidy(site: &Site) {
    assert_eq!(names(&site.cache().join("wharf/partial")), [""; 0]);
}

pub(super) async fn assert_served(site: &mut Site, image: &Pushed, tag: &str) {
    assert_whole(site, image, &[tag]).await;
}

/// That all of it is served, by these tags and by its digest.
pub(super) async fn assert_whole(site: &mut Site, image: &Pushed, tags: &[&str]) {
    let addr = site.serve().await.addr;
    let path = |kind: &str, digest: &Digest| format!("/v2/library/app/{kind}/{digest}");
    for by in tags.iter().map(ToString::to_string).chain([digest(&image.index).to_string()]) {
        let answer = client::get(addr, &format!("/v2/library/app/manifests/{by}"), &[]).await;
        assert_eq!(answer.bytes(), &image.index, "{by}");
    }
    for document in [&image.manifest, &image.attestation] {
        let answer = client::get(addr, &path("manifests", &digest(document)), &[]).await;
        assert_eq!(answer.bytes(), document);
    }
    for blob in image.layers.iter().chain([&image.config, &image.statement]) {
        let answer = client::get(addr, &path("blobs", &digest(blob)), &[]).await;
        assert_eq!(answer.bytes(), blob);
        // Bytes are shared, permission is not.
        let elsewhere = format!("/v2/library/other/blobs/{}", digest(blob));
        assert_ne!(client::get(addr, &elsewhere, &[]).await.status, 200);
    }
}

#[tokio::test]
async fn what_was_imported_is_served_with_no_registry_at_all() {
    for daemon in BOTH {
        let mut hub = FakeHub::start().await;
        let (image, bytes) = bundle(&hub, "1", &[("a", 300 * KIB), ("b", 3000)], &[]).await;
        hub.stop().await;
        let mut site = Site::start(&hub, daemon).await;
        put(&site, "b.tar", &bytes);
        let said = site.json(&["import", "b.tar"]).await;
        assert_eq!(said["images"][0]["name"], "docker.io/library/app:1");
        assert_eq!(said["images"][0]["digest"], digest(&image.index).to_string());
        assert_eq!((&said["blobs"], &said["known"]), (&json!(image.all().len()), &json!(0)));
        assert_served(&mut site, &image, "1").await;
        let kept = site.json(&["ls"]).await;
        assert_eq!(kept[0]["pinned"], json!(true), "{kept}");
        // Once more: nothing is written, and nothing is lost.
        let again = site.json(&["import", "b.tar"]).await;
        assert_eq!((&again["blobs"], &again["bytes"]), (&json!(0), &json!(0)));
        site.restart().await;
        assert_served(&mut site, &image, "1").await;
        assert_tidy(&site);
        site.end().await;
    }
}

#[tokio::test]
async fn an_archive_that_is_refused_leaves_nothing() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let (_, bytes) = bundle(&hub, "1", &[("a", 300 * KIB), ("b", 3000)], &[]).await;
        let site = Site::start(&hub, daemon).await;
        let mut wrong = bytes.clone();
        let at = bytes.len() - 100 * KIB;
        wrong[at] ^= 1;
        for (archive, why) in [
            (&bytes[..bytes.len() - 200 * KIB], "cut off"),
            (&wrong[..], "digest"),
            (&b"not a tar archive"[..], "tar"),
            (&[][..], "tar"),
        ] {
            put(&site, "b.tar", archive);
            let said = site.run(&["import", "b.tar"]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(why), "{why}: {said:?}");
            assert_eq!(blobs(&site), [""; 0], "{why}");
            assert_tidy(&site);
        }
        assert_eq!(site.json(&["ls"]).await, json!([]));
        site.end().await;
    }
}

#[tokio::test]
async fn a_delta_needs_its_base_and_says_what_of_it_is_missing() {
    let hub = FakeHub::start().await;
    let seeds = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let mut layers = seeds.map(|seed| (seed, 30 * KIB));
    let first = Pushed::to(&hub, "1", &layers);
    layers[3] = ("new three", 20 * KIB);
    layers[8] = ("new eight", 10 * KIB);
    let second = Pushed::to(&hub, "2", &layers);
    let home = Site::start(&hub, false).await;
    home.export(&EXPORT).await;
    let delta = ["--platform", "linux/arm64", "--since", "b.tar", "-o", "d.tar", "app:2"];
    let said = home.export(&delta).await;
    let (whole, delta) = (home.bytes("b.tar"), home.bytes("d.tar"));
    home.end().await;

    // The two layers that changed and the new documents, to the byte.
    let documents =
        [&second.index, &second.manifest, &second.config, &second.attestation, &second.statement];
    let changed = [&second.layers[3], &second.layers[8]];
    let mut new: Vec<_> =
        documents.into_iter().chain(changed).map(|new| (digest(new), new.len() as u64)).collect();
    new.sort_unstable();
    let opened = Opened::archive(&delta);
    let mut carried: Vec<_> =
        opened.contents().blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    carried.sort_unstable();
    assert_eq!(carried, new);
    assert_eq!(opened.blobs().len(), new.len());
    assert_eq!(said["bytes"], delta.len());
    assert_eq!(said["base"], json!({ "blobs": 8, "bytes": 8 * 30 * KIB }));
    let unchanged: Vec<_> =
        second.layers.iter().filter(|layer| first.layers.contains(layer)).map(digest).collect();
    assert_eq!(unchanged.len(), 8);

    for daemon in BOTH {
        let mut site = Site::start(&hub, daemon).await;
        put(&site, "b.tar", &whole);
        put(&site, "d.tar", &delta);
        let said = site.run(&["import", "d.tar"]).await;
        assert_eq!(said.code, Some(1));
        for layer in &unchanged {
            assert!(said.err.contains(&layer.to_string()), "{said:?}");
        }
        assert!(said.err.contains("docker.io/library/app:2"), "{said:?}");
        assert_eq!(blobs(&site), [""; 0]);
        assert_tidy(&site);
        site.json(&["import", "b.tar"]).await;
        let said = site.json(&["import", "d.tar"]).await;
        assert_eq!((&said["blobs"], &said["known"]), (&json!(7), &json!(0)), "{said}");
        assert_served(&mut site, &second, "2").await;
        assert_served(&mut site, &first, "1").await;
        site.end().await;
    }
}

#[tokio::test]
async fn a_site_takes_what_its_own_people_signed_and_nothing_else() {
    let hub = FakeHub::start().await;
    let home = Site::start(&hub, false).await;
    Pushed::to(&hub, "1", &[("a", 3000)]);
    for name in ["site.key", "other.key"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"));
        let made =
            command.args(["key", "new", name]).current_dir(home.dir.path()).env_clear().output();
        assert!(made.expect("runs").status.success());
    }
    home.export(&EXPORT).await;
    let unsigned = home.bytes("b.tar");
    home.export(&[&["--sign", "site.key", "--force"], &EXPORT[..]].concat()).await;
    let signed = home.bytes("b.tar");
    let text = |name: &str| String::from_utf8(home.bytes(name)).expect("text");
    let [ours, theirs] = ["site.key.pub", "other.key.pub"].map(text);
    let key: PublicKey = ours.parse().expect("a key");
    let configured = format!("\n[airgap]\ntrusted_keys = [\"{key}\"]\n");
    for daemon in BOTH {
        let site = Site::start(&hub, daemon).await;
        let strict = Site::start_with(&hub, daemon, &configured).await;
        for (site, is_strict) in [(&site, false), (&strict, true)] {
            site.write("ours.pub", &ours);
            site.write("theirs.pub", &theirs);
            put(site, "u.tar", &unsigned);
            put(site, "s.tar", &signed);
            for (arguments, takes) in [
                (&["import", "u.tar"][..], !is_strict),
                (&["import", "--require-signature", "ours.pub", "u.tar"], false),
                (&["import", "--require-signature", "theirs.pub", "s.tar"], false),
                (&["import", "--require-signature", "ours.pub", "s.tar"], true),
                (&["import", "s.tar"], true),
            ] {
                let said = site.run(arguments).await;
                assert_eq!(
                    said.code == Some(0),
                    takes,
                    "{arguments:?}, strict: {is_strict}: {said:?}"
                );
            }
        }
        site.end().await;
        strict.end().await;
    }
    home.end().await;
}

#[tokio::test]
async fn what_appears_in_the_folder_is_taken_in_once_and_told_beside_it() {
    let hub = FakeHub::start().await;
    let (image, bytes) = bundle(&hub, "1", &[("a", 30 * KIB)], &[]).await;
    let wharf = crate::support::Wharf::start(&hub).await;
    let folder = tempfile::tempdir().expect("a directory");
    let mut drops = wharf::app::Folder::at(folder.path().to_owned());
    drops.look(&wharf.pull).await;
    let path = folder.path().join("site.tar");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    fs::write(folder.path().join("notes.txt"), "nothing").expect("written");
    fs::write(folder.path().join("broken.tar"), "no archive").expect("written");
    // It grows.
    drops.look(&wharf.pull).await;
    fs::write(&path, &bytes).expect("written");
    drops.look(&wharf.pull).await;
    assert!(!folder.path().join("site.tar.imported").exists());
    drops.look(&wharf.pull).await;
    let told = fs::read_to_string(folder.path().join("site.tar.imported")).expect("told");
    assert!(told.contains(&digest(&image.index).to_string()), "{told}");
    let refused = fs::read_to_string(folder.path().join("broken.tar.refused")).expect("told");
    assert!(refused.starts_with("refused: "), "{refused}");
    assert_eq!(wharf.metric("wharf_imports_total{outcome=\"taken\"}"), 1.0);
    // Not again: neither by this wharf nor by the next.
    drops.look(&wharf.pull).await;
    let mut next = wharf::app::Folder::at(folder.path().to_owned());
    next.look(&wharf.pull).await;
    next.look(&wharf.pull).await;
    assert_eq!(wharf.metric("wharf_imports_total{outcome=\"taken\"}"), 1.0);
    assert_eq!(wharf.metric("wharf_imports_total{outcome=\"refused\"}"), 1.0);
    assert_eq!(wharf.pull.images().await.expect("known").len(), 1);
    wharf.end().await;
}
