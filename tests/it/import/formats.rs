//! The archives that other programs write, as far as they differ.

use serde_json::json;
use tar::EntryType;
use wharf::{bundle::Terms, oci::Digest};

use super::{
    INDEX, MANIFEST, Tar, blob_path, descriptor, gzip, index_of, manifest, take, terms,
    written_by_tar, zstd,
};

const CONFIG: &[u8] = b"{}";
const LAYERED: &[u8] = b"layer";

fn layout(name: &str) -> Vec<(String, Vec<u8>)> {
    let document = manifest(CONFIG, LAYERED);
    let index = index_of(MANIFEST, &document, name).to_string().into_bytes();
    let mut members = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index),
    ];
    members.extend([CONFIG, LAYERED, &document].map(|blob| (blob_path(blob), blob.to_vec())));
    members
}

#[test]
fn a_layout_is_read_packed_or_not_and_whatever_comes_first() {
    let mut members = layout("docker.io/site/app:1");
    let forward = written_by_tar(&members);
    members.reverse();
    let backward = written_by_tar(&members);
    let mut dotted = Tar::default().member("./", EntryType::Directory, b"", |_| {});
    for (path, bytes) in &members {
        dotted = dotted.file(&format!("./{path}"), bytes);
    }
    for archive in [gzip(&forward), zstd(&forward), forward, backward, dotted.end()] {
        let (brought, taken) = take(&archive, &terms());
        let brought = brought.expect("read");
        let [image] = brought.images.as_slice() else { panic!("{brought:?}") };
        assert_eq!(image.named.to_string(), "docker.io/site/app:1");
        assert_eq!(image.root.digest, Digest::sha256(&manifest(CONFIG, LAYERED)));
        assert_eq!((image.documents.len(), taken.blobs.len()), (1, 3));
    }
}

#[test]
fn a_tag_alone_is_one_of_the_repository_that_is_said() {
    let archive = written_by_tar(&layout("3.20"));
    let name = Some("ghcr.io/site/app".parse().expect("a name"));
    let (brought, _) = take(&archive, &Terms { name, ..terms() });
    assert_eq!(brought.expect("read").images[0].named.to_string(), "ghcr.io/site/app:3.20");
    let (brought, _) = take(&archive, &terms());
    assert!(brought.expect_err("nameless").to_string().contains("--name"));
    let archive = written_by_tar(&layout("index.docker.io/library/alpine:3.20"));
    let (brought, _) = take(&archive, &terms());
    assert_eq!(brought.expect("read").images[0].named.to_string(), "docker.io/library/alpine:3.20");
}

#[test]
fn of_a_list_the_manifests_are_taken_that_travelled() {
    let (document, far) = (manifest(CONFIG, LAYERED), manifest(CONFIG, b"far"));
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [descriptor(MANIFEST, &far), descriptor(MANIFEST, &document)] });
    let list = list.to_string().into_bytes();
    let tar = Tar::default().layout().blob(&list).blob(&document).blob(CONFIG).blob(LAYERED);
    let (brought, _) =
        take(&tar.json("index.json", &index_of(INDEX, &list, "site/app:1")).end(), &terms());
    let brought = brought.expect("read");
    let digests: Vec<_> = brought.images[0].documents.iter().map(|(d, _)| d.digest).collect();
    assert_eq!(digests, [Digest::sha256(&document), Digest::sha256(&list)]);
}

#[test]
fn for_what_docker_saved_the_same_manifest_is_made_each_time() {
    let config = json!({ "architecture": "arm64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(LAYERED), Digest::sha256(LAYERED)] } });
    let config = config.to_string();
    let config_json = format!("{}.json", Digest::sha256(config.as_bytes()).encoded());
    let (first, second) = ("a".repeat(64), "b".repeat(64));
    let list = json!([{ "Config": config_json, "RepoTags": ["alpine:3.20", "alpine:latest"],
        "Layers": [format!("{first}/layer.tar"), format!("{second}/layer.tar")] }]);
    let tar = Tar::default()
        .file(&config_json, config.as_bytes())
        .member(&format!("{first}/"), EntryType::Directory, b"", |_| {})
        .file(&format!("{first}/VERSION"), b"1.0")
        .file(&format!("{first}/json"), b"{}")
        .file(&format!("{first}/layer.tar"), LAYERED)
        .link(&format!("{second}/layer.tar"), EntryType::Symlink, &format!("../{first}/layer.tar"))
        .json("manifest.json", &list)
        .json("repositories", &json!({}));
    let archive = tar.end();
    let (brought, taken) = take(&archive, &terms());
    let brought = brought.expect("read");
    let names: Vec<_> = brought.images.iter().map(|image| image.named.to_string()).collect();
    assert_eq!(names, ["docker.io/library/alpine:3.20", "docker.io/library/alpine:latest"]);
    assert_eq!(brought.images[0].root, brought.images[1].root);
    assert_eq!(taken.blobs.len(), 3, "config, layer, manifest");
    let made = &taken.blobs[&brought.images[0].root.digest];
    let made: serde_json::Value = serde_json::from_slice(made).expect("JSON");
    assert_eq!(made["layers"][1]["digest"], json!(Digest::sha256(LAYERED)));
    assert_eq!(take(&archive, &terms()).0.expect("read"), brought);
}

#[test]
fn an_archive_without_an_end_is_taken_if_its_images_are_whole() {
    let mut tar = Tar::default();
    for (path, bytes) in &layout("site/app:1") {
        tar = tar.file(path, bytes);
    }
    let whole = tar.unended();
    assert_eq!(take(&whole, &terms()).0.expect("read").images.len(), 1);
    let mut padded = whole.clone();
    padded.resize(whole.len() + 20 * 512, 0);
    assert_eq!(take(&gzip(&padded), &terms()).0.expect("read").images.len(), 1);
    let error = take(&whole[..whole.len() - 1024], &terms()).0.expect_err("cut").to_string();
    assert!(error.starts_with("the archive is cut off or damaged: it has no end; "), "{error}");
}

#[test]
fn beside_an_index_the_list_of_docker_says_nothing() {
    let mut members = layout("site/app:1");
    members.push(("manifest.json".to_owned(), b"{".to_vec()));
    let (brought, _) = take(&written_by_tar(&members), &terms());
    assert_eq!(brought.expect("read").images.len(), 1);
}

#[test]
fn what_a_list_holds_beside_manifests_is_no_document() {
    let document = manifest(CONFIG, LAYERED);
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [descriptor(super::LAYER, LAYERED), descriptor(MANIFEST, &document)] });
    let list = list.to_string().into_bytes();
    let tar = Tar::default().layout().blob(&list).blob(&document).blob(CONFIG).blob(LAYERED);
    let archive = tar.json("index.json", &index_of(INDEX, &list, "site/app:1")).end();
    let brought = take(&archive, &terms()).0.expect("read");
    let digests: Vec<_> = brought.images[0].documents.iter().map(|(d, _)| d.digest).collect();
    assert_eq!(digests, [Digest::sha256(&document), Digest::sha256(&list)]);
}
