//! Whoever looks after a site asks what is there before the uplink goes: a list that calls an image whole when a
//! layer is missing sends a device out with nothing to start.

use std::fs;

use serde_json::{Value, json};
use wharf::{
    oci::{Descriptor, media_type},
    pull::{Error, Inspection, KeptImage},
};

use crate::support::{Blob, FakeHub, PushedManifest, Seen, Wharf, client};

const PLATFORMS: [(&str, &str, Option<&str>); 3] =
    [("linux", "amd64", None), ("linux", "arm64", Some("v8")), ("linux", "arm", Some("v7"))];

async fn listed(wharf: &Wharf) -> Vec<KeptImage> {
    let pull = wharf.pull.clone();
    let listing = tokio::spawn(async move { pull.images().await });
    listing.await.expect("no panic").expect("listed")
}

async fn inspect(wharf: &Wharf, image: &str) -> Result<Inspection, Error> {
    let (pull, image) = (wharf.pull.clone(), image.parse().expect("an image name"));
    let looking = tokio::spawn(async move { pull.inspect(&image).await });
    looking.await.expect("no panic")
}

async fn get_manifest(wharf: &Wharf, repo: &str, reference: &str) -> client::Answer {
    let answer = wharf.get(&format!("/v2/{repo}/manifests/{reference}")).await;
    assert_eq!(answer.status, 200, "{repo} {reference}");
    answer
}

async fn get_blobs(wharf: &Wharf, repo: &str, blobs: impl IntoIterator<Item = &Blob>) {
    for blob in blobs {
        let answer = wharf.get(&format!("/v2/{repo}/blobs/{}", blob.digest)).await;
        assert_eq!(answer.bytes(), &blob.bytes);
    }
    wharf.quiet().await;
}

fn size(blob: &Blob) -> u64 {
    blob.bytes.len() as u64
}

fn whole_size(image: &PushedManifest) -> u64 {
    let parts = image.layers.iter().chain([&image.config, &image.manifest]);
    parts.map(size).sum()
}

/// `linux/arm64 whole` and so on, in the order of the report.
fn rows(image: &KeptImage) -> Vec<String> {
    let row = |row: &wharf::pull::KeptPlatform| {
        let platform = row.platform.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        format!("{platform} {}", if row.whole { "whole" } else { "partly" })
    };
    image.platforms.iter().map(row).collect()
}

#[tokio::test]
async fn what_is_kept_is_listed_by_name_with_what_is_missing() {
    let hub = FakeHub::start().await;
    let busybox = hub.push_image("library/busybox", "latest", &PLATFORMS, &[2000, 3000]);
    let app = hub.push_single("owner/app", "1.0", ("linux", "arm", Some("v6")), &[4000]);
    let wharf = Wharf::start(&hub).await;
    assert_eq!(listed(&wharf).await, []);

    get_manifest(&wharf, "owner/app", "1.0").await;
    get_manifest(&wharf, "library/busybox", "latest").await;
    let (arm64, armv7) = (busybox.child("linux/arm64/v8"), busybox.child("linux/arm/v7"));
    for child in [arm64, armv7] {
        get_manifest(&wharf, "library/busybox", &child.manifest.digest.to_string()).await;
    }
    get_blobs(&wharf, "library/busybox", arm64.layers.iter().chain([&arm64.config])).await;
    get_blobs(&wharf, "library/busybox", &armv7.layers[..1]).await;

    let images = listed(&wharf).await;
    let names: Vec<_> = images.iter().map(|image| (image.name.as_str(), image.digest)).collect();
    assert_eq!(
        names,
        [
            ("docker.io/library/busybox:latest", busybox.index.digest),
            ("docker.io/owner/app:1.0", app.manifest.digest),
        ]
    );
    let [first, second] = &images[..] else { panic!("two images: {images:?}") };
    assert_eq!(rows(first), ["linux/arm64 whole", "linux/arm/v7 partly"]);
    let [whole, partly] = &first.platforms[..] else { panic!("two platforms: {first:?}") };
    assert_eq!((whole.kept, whole.size), (whole_size(arm64), Some(whole_size(arm64))));
    assert_eq!(partly.kept, size(&armv7.manifest) + size(&armv7.layers[0]));
    assert_eq!(partly.size, Some(whole_size(armv7)));
    assert_eq!(first.size, size(&busybox.index) + whole.kept + partly.kept);
    assert!(first.pulled.is_some() && first.since > 0);
    // Without an index, the config says what the image is for.
    assert_eq!(rows(second), ["? partly"]);
    get_blobs(&wharf, "owner/app", app.layers.iter().chain([&app.config])).await;
    let images = listed(&wharf).await;
    assert_eq!(rows(&images[1]), ["linux/arm/v6 whole"]);

    // A layer that lost its end is no layer.
    let layer = wharf.cache().join("blobs/sha256").join(app.layers[0].digest.encoded());
    fs::write(&layer, &app.layers[0].bytes[..3999]).expect("writable");
    let images = listed(&wharf).await;
    assert_eq!(rows(&images[1]), ["linux/arm/v6 partly"]);
    wharf.stop().await;
}

fn descriptor(bytes: &str, media_type: &str) -> Value {
    let digest = wharf::oci::Digest::sha256(bytes.as_bytes());
    json!(Descriptor {
        media_type: media_type.parse().expect("a media type"),
        digest,
        size: bytes.len() as u64
    })
}

#[tokio::test]
async fn an_index_in_an_index_is_followed_and_an_attestation_only_counted() {
    let hub = FakeHub::start().await;
    let image = hub.push_single("owner/app", "amd64", PLATFORMS[0], &[100]);
    let proof = hub.push_single("owner/app", "proof", ("unknown", "unknown", None), &[50]);
    let manifest = json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": image.manifest.digest, "size": size(&image.manifest),
    });
    let attestation = json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": proof.manifest.digest, "size": size(&proof.manifest),
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.manifest.digest,
        },
    });
    // Each of these lists the next one many times over: followed as often as listed, they would never end.
    let mut inner = json!({ "schemaVersion": 2, "manifests": [manifest, attestation] }).to_string();
    let mut indexes = vec![inner.clone()];
    for _ in 0..3 {
        let mut entry = descriptor(&inner, media_type::OCI_INDEX);
        entry["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        inner = json!({ "schemaVersion": 2, "manifests": vec![entry; 200] }).to_string();
        indexes.push(inner.clone());
    }
    for (n, index) in indexes.iter().enumerate() {
        let tag = (n == 3).then_some("nested");
        hub.put_manifest("owner/app", tag, media_type::OCI_INDEX, index.clone());
    }
    let wharf = Wharf::start(&hub).await;
    get_manifest(&wharf, "owner/app", "nested").await;
    for index in indexes.iter().rev() {
        let digest = wharf::oci::Digest::sha256(index.as_bytes());
        get_manifest(&wharf, "owner/app", &digest.to_string()).await;
    }
    for manifest in [&image, &proof] {
        get_manifest(&wharf, "owner/app", &manifest.manifest.digest.to_string()).await;
        get_blobs(&wharf, "owner/app", manifest.layers.iter().chain([&manifest.config])).await;
    }
    let images = listed(&wharf).await;
    let [kept] = &images[..] else { panic!("one image: {images:?}") };
    // The word of the nearest index that says anything goes before that of the config.
    assert_eq!(rows(kept), ["linux/arm64 whole"]);
    let indexes: u64 = indexes.iter().map(|index| index.len() as u64).sum();
    assert_eq!(kept.size, indexes + whole_size(&image) + whole_size(&proof));
    wharf.stop().await;
}

#[tokio::test]
async fn an_inspection_fetches_one_document_and_shows_what_of_it_is_kept() {
    let mut hub = FakeHub::start().await;
    let busybox = hub.push_image("library/busybox", "latest", &PLATFORMS, &[2000]);
    let wharf = Wharf::start(&hub).await;
    let seen = inspect(&wharf, "busybox").await.expect("inspected");
    let fetched = |seen: &Seen| seen.is_manifest() || seen.path.contains("/blobs/");
    assert_eq!((hub.manifest_gets(), hub.count(fetched)), (1, 1), "{:?}", hub.log());
    assert_eq!(
        (seen.name.as_str(), seen.digest, seen.size, seen.outcome.as_str()),
        ("docker.io/library/busybox:latest", busybox.index.digest, size(&busybox.index), "miss")
    );
    let platforms: Vec<_> = seen.manifests.iter().map(|row| json!(row.platform)).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    for (row, child) in seen.manifests.iter().zip(&busybox.children) {
        assert_eq!((row.digest, row.size), (child.manifest.digest, size(&child.manifest)));
        assert_eq!((row.content_size, row.kept, row.whole), (None, 0, false));
    }
    // Looking is not pulling.
    let images = listed(&wharf).await;
    assert_eq!((images[0].pulled, rows(&images[0])), (None, vec![]));

    let arm64 = busybox.child("linux/arm64/v8");
    let digest = arm64.manifest.digest.to_string();
    get_manifest(&wharf, "library/busybox", &digest).await;
    get_blobs(&wharf, "library/busybox", arm64.layers.iter().chain([&arm64.config])).await;
    hub.stop().await;
    let seen = inspect(&wharf, "busybox").await.expect("inspected");
    let row = &seen.manifests[1];
    assert_eq!((seen.outcome.as_str(), row.whole, row.kept), ("hit", true, whole_size(arm64)));
    assert_eq!(row.content_size, Some(whole_size(arm64) - size(&arm64.manifest)));

    let alone = inspect(&wharf, &format!("busybox@{digest}")).await.expect("inspected");
    let [row] = &alone.manifests[..] else { panic!("one manifest: {alone:?}") };
    assert_eq!((row.digest, row.whole), (arm64.manifest.digest, true));
    assert_eq!(json!(row.platform), "linux/arm64");

    let unknown = inspect(&wharf, "ghcr.io/owner/app").await;
    assert!(matches!(unknown, Err(Error::RegistryUnknown(_))), "{unknown:?}");
    let missing = inspect(&wharf, "busybox:1").await;
    assert!(matches!(missing, Err(Error::Unavailable(_))), "{missing:?}");
    wharf.stop().await;
}
