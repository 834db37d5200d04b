//! What only the look-up tables tell at once, whatever becomes of them.

use std::time::Duration;

use super::{super::index::age_tables, *};
use crate::oci::Platform;

/// An index of these children, with platform and what each attests.
fn list(children: &[(&Descriptor, &str, Option<Digest>)]) -> (Descriptor, Bytes) {
    let entry = |(child, platform, attests): &(&Descriptor, &str, Option<Digest>)| {
        let (os, architecture) = platform.split_once('/').expect("a platform");
        let mut entry = serde_json::json!(child);
        entry["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
        if let Some(attests) = attests {
            entry["annotations"] = serde_json::json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": attests,
            });
        }
        entry
    };
    let entries: Vec<_> = children.iter().map(entry).collect();
    let bytes = serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    (descriptor(media_type::OCI_INDEX, bytes.as_bytes()), bytes.into())
}

async fn keep_list(store: &Store, repository: &Repository, list: &(Descriptor, Bytes), name: &str) {
    let document = Manifest::parse(&list.0.media_type, &list.1).expect("an index");
    let tags = [tag(name)];
    store.keep_manifest(repository, &list.0, &document, &list.1, &tags).await.expect("kept");
}

/// Damages the tables of a store that is closed.
type Damage = fn(&Path);

const DAMAGES: [Damage; 4] = [
    |_| {},
    age_tables,
    |tables| fs::remove_dir_all(tables).expect("deleted"),
    |tables| {
        for file in fs::read_dir(tables).expect("there") {
            let path = file.expect("readable").path();
            if path.is_file() {
                fs::write(path, b"nothing that anybody wrote").expect("writable");
            }
        }
    },
];

#[tokio::test]
async fn how_an_index_lists_a_manifest_is_known_whatever_becomes_of_the_tables() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, busybox) = (repository("alpine"), repository("busybox"));
    let (image, proof) = (image(1).child.0, image(2).child.0);
    let lists = [
        list(&[(&image, "linux/arm", None), (&proof, "unknown/unknown", Some(image.digest))]),
        list(&[(&image, "linux/arm64", None), (&image, "linux/arm", None)]),
    ];
    let store = open(dir.path(), u64::MAX);
    keep_list(&store, &alpine, &lists[0], "latest").await;
    keep_list(&store, &busybox, &lists[1], "latest").await;
    store.close().await;
    drop(store);
    let listed = |list: &(Descriptor, Bytes), platform: &str, attests| Listed {
        index: list.0.digest,
        platform: Platform::parse_any(platform),
        attests,
    };
    for damage in DAMAGES {
        damage(&dir.path().join("wharf/index.sled"));
        let store = open(dir.path(), u64::MAX);
        assert_eq!(
            store.listed(&alpine, &image.digest),
            Some(listed(&lists[0], "linux/arm/v7", None))
        );
        let attests = Some(image.digest);
        assert_eq!(
            store.listed(&alpine, &proof.digest),
            Some(listed(&lists[0], "unknown/unknown", attests))
        );
        // Of an index that lists a manifest twice, the first entry counts.
        assert_eq!(
            store.listed(&busybox, &image.digest),
            Some(listed(&lists[1], "linux/arm64", None))
        );
        assert_eq!(store.listed(&busybox, &proof.digest), None);
        assert_eq!(store.listed(&alpine, &lists[0].0.digest), None);
        store.close().await;
    }
}

#[tokio::test]
async fn of_several_indexes_the_last_says_how_a_manifest_is_listed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, child) = (repository("alpine"), image(1).child.0);
    let (clock, config) = (Clock::system(), Config::at(dir.path()));
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/386"];
    let store = Store::open(&config, &clock).expect("the store opens");
    let mut last = None;
    for platform in platforms {
        let list = list(&[(&child, platform, None)]);
        keep_list(&store, &alpine, &list, platform.trim_start_matches("linux/")).await;
        clock.advance(Duration::from_secs(1));
        last = Some(list.0.digest);
        assert_eq!(store.listed(&alpine, &child.digest).map(|listed| listed.index), last);
    }
    store.close().await;
    drop(store);
    for damage in DAMAGES {
        damage(&dir.path().join("wharf/index.sled"));
        let store = Store::open(&config, &clock).expect("the store opens");
        assert_eq!(store.listed(&alpine, &child.digest).map(|listed| listed.index), last);
        store.close().await;
    }
}

#[tokio::test]
async fn when_an_image_was_last_pulled_is_known_at_once_and_after_a_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, kept) = (repository("alpine"), image(1));
    let (clock, config) = (Clock::system(), Config::at(dir.path()));
    let store = Store::open(&config, &clock).expect("the store opens");
    keep(&store, &alpine, &kept, &[tag("latest")]).await;
    let index = kept.index.0.digest;
    assert_eq!(store.last_pulled(&alpine, &index), None);
    store.pulled(&alpine, &index);
    store.pulled(&alpine, &Digest::sha256(b"relayed, not kept"));
    let first = store.last_pulled(&alpine, &index);
    assert!(first.is_some());
    store.flush_pulled().await.expect("written down");
    assert_eq!(store.last_pulled(&alpine, &index), first);
    clock.advance(Duration::from_secs(1000));
    store.pulled(&alpine, &index);
    let last = store.last_pulled(&alpine, &index);
    assert!(last > first);
    store.close().await;
    drop(store);
    for damage in DAMAGES {
        damage(&dir.path().join("wharf/index.sled"));
        let store = Store::open(&config, &clock).expect("the store opens");
        assert_eq!(store.last_pulled(&alpine, &index), last);
        assert_eq!(store.last_pulled(&alpine, &Digest::sha256(b"relayed, not kept")), None);
        assert_eq!(store.last_pulled(&repository("busybox"), &index), None);
        store.close().await;
    }
}
