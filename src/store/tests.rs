//! The store alone: what is written is found again, whichever files survive.

mod checkpoints;
mod damage;
mod power;
mod removal;
mod tables;

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::oci::{Descriptor, Manifest, MediaType, RegistryName, media_type};

fn repository(name: &str) -> Repository {
    Repository::new(RegistryName::docker_hub(), name).expect("a name")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let media_type: MediaType = media_type.parse().expect("a media type");
    Descriptor { media_type, digest: Digest::sha256(bytes), size: bytes.len() as u64 }
}

fn open(dir: &Path, fold_bytes: u64) -> Store {
    let config = Config::at(dir);
    Store::open_folding(&config, &Clock::system(), fold_bytes).expect("the store opens")
}

/// An index with one child, which has a config and a layer.
struct Image {
    index: (Descriptor, Bytes),
    child: (Descriptor, Bytes),
    layer: Descriptor,
}

fn image(seed: u32) -> Image {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &seed.to_be_bytes());
    let child = serde_json::json!({ "schemaVersion": 2, "config": layer, "layers": [layer] });
    let child = Bytes::from(child.to_string());
    let child = (descriptor(media_type::OCI_MANIFEST, &child), child);
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [child.0] });
    let index = Bytes::from(index.to_string());
    Image { index: (descriptor(media_type::OCI_INDEX, &index), index), child, layer }
}

async fn keep(store: &Store, repository: &Repository, image: &Image, tags: &[Tag]) {
    for ((descriptor, bytes), tags) in [(&image.index, tags), (&image.child, &[])] {
        let document = Manifest::parse(&descriptor.media_type, bytes).expect("a manifest");
        store.keep_manifest(repository, descriptor, &document, bytes, tags).await.expect("kept");
    }
}

async fn assert_keeps(store: &Store, repository: &Repository, image: &Image, name: &Tag) {
    assert_eq!(store.tag(repository, name).map(|(found, _)| found).as_ref(), Some(&image.index.0));
    for (descriptor, bytes) in [&image.index, &image.child] {
        assert_eq!(store.link(repository, &descriptor.digest).as_ref(), Some(descriptor));
        let kept = store.manifest(&descriptor.digest).await.expect("readable");
        assert_eq!(kept.as_ref(), Some(bytes));
    }
    assert_eq!(store.link(repository, &image.layer.digest).as_ref(), Some(&image.layer));
}

#[tokio::test]
async fn what_is_kept_is_found_again_with_and_without_the_tables_and_after_folds() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, images) = (repository("alpine"), (0..40).map(image).collect::<Vec<_>>());
    let lone = descriptor(media_type::OCTET_STREAM, b"a blob that no manifest names");
    for fold_bytes in [u64::MAX, 2000] {
        let store = open(dir.path(), fold_bytes);
        removal::put(&store, b"a blob that no manifest names").await;
        store.keep_link(&alpine, &lone).await.expect("kept");
        for (n, image) in images.iter().enumerate() {
            keep(&store, &alpine, image, &[tag(&format!("v{n}"))]).await;
        }
        store.pulled(&alpine, &images[3].index.0.digest);
        store.close().await;
        drop(store);
        for tables_are_lost in [false, true] {
            if tables_are_lost {
                fs::remove_dir_all(dir.path().join("wharf/index.sled")).expect("deleted");
            }
            let store = open(dir.path(), fold_bytes);
            for (n, image) in images.iter().enumerate() {
                assert_keeps(&store, &alpine, image, &tag(&format!("v{n}"))).await;
            }
            assert_eq!(store.link(&alpine, &lone.digest), Some(lone.clone()));
            assert_eq!(store.link(&repository("busybox"), &lone.digest), None);
            assert_eq!(store.tags(&alpine).len(), images.len());
            assert_eq!(store.repositories(None, 10), std::slice::from_ref(&alpine));
            store.close().await;
        }
    }
}

#[tokio::test]
async fn index_json_names_every_tag_and_no_child_that_an_index_leads_to() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (alpine, kept) = (repository("alpine"), image(1));
    let store = open(dir.path(), 1);
    keep(&store, &alpine, &kept, &[tag("3.20"), tag("latest")]).await;
    let moved = image(2);
    keep(&store, &alpine, &moved, &[tag("latest")]).await;
    store.pulled(&alpine, &moved.index.0.digest);
    store.close().await;
    drop(store);
    // Every fact made the journal longer than one byte, so all are folded but the last, at a start.
    open(dir.path(), 1).close().await;

    let text = fs::read(dir.path().join("index.json")).expect("written");
    let index: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let entries = index["manifests"].as_array().expect("entries");
    let names: BTreeMap<&str, &str> = entries
        .iter()
        .map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (name.as_str().expect("a name"), entry["digest"].as_str().expect("a digest"))
        })
        .collect();
    let (first, second) = (kept.index.0.digest.to_string(), moved.index.0.digest.to_string());
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [
            ("docker.io/library/alpine:3.20", first.as_str()),
            ("docker.io/library/alpine:latest", second.as_str()),
        ]
    );
    assert!(entries[1]["annotations"]["io.wharf.pulled"].is_string(), "{entries:?}");
    let journals = fs::read_dir(dir.path().join("wharf")).expect("there").filter(|entry| {
        let name = entry.as_ref().expect("readable").file_name();
        name.to_string_lossy().starts_with("journal-")
    });
    assert_eq!(journals.count(), 1, "a fold leaves one journal");
}

#[tokio::test]
async fn one_wharf_a_directory_and_none_for_another_form() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::at(dir.path());
    let store = open(dir.path(), u64::MAX);
    assert!(matches!(Store::open(&config, &Clock::system()), Err(Error::InUse { .. })));
    store.close().await;
    drop(store);
    fs::write(dir.path().join("wharf/version"), "3\n").expect("writable");
    let refused = Store::open(&config, &Clock::system()).expect_err("a later form");
    assert!(matches!(&refused, Error::Version { found, .. } if found == "3"), "{refused}");
}

#[tokio::test]
async fn what_an_older_wharf_kept_is_taken_over_and_marked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (repository, kept) = (repository("alpine"), image(1));
    let store = open(dir.path(), u64::MAX);
    keep(&store, &repository, &kept, &[tag("3.20")]).await;
    store.close().await;
    drop(store);
    fs::write(dir.path().join("wharf/version"), "1\n").expect("writable");
    let store = open(dir.path(), u64::MAX);
    let (meant, _) = store.tag(&repository, &tag("3.20")).expect("known");
    assert_eq!(meant.digest, kept.index.0.digest);
    let version = fs::read_to_string(dir.path().join("wharf/version")).expect("readable");
    assert_eq!(version, "2\n", "an older one would not heed what is written from now on");
    store.close().await;
}

#[tokio::test]
async fn sizes_are_those_of_the_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (store, kept) = (open(dir.path(), u64::MAX), image(1));
    keep(&store, &repository("alpine"), &kept, &[]).await;
    let digests = vec![kept.index.0.digest, kept.layer.digest, kept.child.0.digest];
    let sizes = store.sizes(digests).await.expect("readable");
    assert_eq!(sizes, [Some(kept.index.0.size), None, Some(kept.child.0.size)]);
    store.close().await;
}

/// What may happen to a partial blob.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Vec<u8>>),
    Reopen,
    Restart,
    Discard,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunk = proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        4 => proptest::collection::vec(chunk, 0..4).prop_map(Step::Append),
        2 => Just(Step::Reopen),
        1 => Just(Step::Restart),
        1 => Just(Step::Discard),
    ];
    proptest::collection::vec(step, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against a plain vector: what is on disk, what was hashed and what is counted are always the same bytes,
    /// and only the right ones become a blob.
    #[test]
    fn a_partial_blob_is_the_bytes_that_were_appended(steps in steps(), whole in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let store = open(dir.path(), u64::MAX);
            let mut expected: Vec<u8> = Vec::new();
            for step in &steps {
                match step {
                    Step::Append(chunks) => expected.extend(chunks.concat()),
                    Step::Reopen => {}
                    Step::Restart | Step::Discard => expected.clear(),
                }
            }
            let digest = if whole { Digest::sha256(&expected) } else { Digest::sha256(b"something else") };
            let alpine = repository("alpine");
            let begin = async || store.begin(&digest, &alpine, None, true).await.expect("begun");
            let mut partial = begin().await;
            for step in steps {
                match step {
                    Step::Append(chunks) => {
                        let chunks = chunks.into_iter().map(Bytes::from).collect();
                        let appended;
                        (partial, appended) = partial.append(chunks).await;
                        appended.expect("appended");
                    }
                    Step::Reopen => {
                        drop(partial);
                        partial = begin().await;
                    }
                    Step::Restart => {
                        let restarted;
                        (partial, restarted) = partial.restart().await;
                        restarted.expect("restarted");
                    }
                    Step::Discard => {
                        partial.discard().await;
                        partial = begin().await;
                    }
                }
            }
            assert_eq!(partial.written(), expected.len() as u64);
            let file = partial.file();
            match partial.verify().await {
                None => assert!(!whole),
                Some(verified) => {
                    assert!(whole);
                    let blob = verified.commit().await.expect("committed");
                    assert_eq!(blob.size(), expected.len() as u64);
                    if !expected.is_empty() {
                        let read = file.read(0, blob.size()).await.expect("readable");
                        assert_eq!(&read[..], &expected[..]);
                    }
                }
            }
            assert_eq!(store.blob(&digest).await.expect("readable").is_some(), whole);
            assert_eq!(fs::read_dir(dir.path().join("wharf/partial")).expect("there").count(), 0);
            store.close().await;
        });
    }
}

#[tokio::test]
async fn what_a_kill_between_two_steps_leaves_in_partial_is_swept_and_the_rest_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    open(dir.path(), recorder::FOLD_BYTES).close().await;
    let partial = dir.path().join("wharf/partial");
    let names = ["sha256-aa.json", ".new-x", "sha256-bb", "sha256-bb.json"];
    names.iter().for_each(|name| fs::write(partial.join(name), "{}").expect("written"));
    let store = open(dir.path(), recorder::FOLD_BYTES);
    let begun = [false, true].map(|keep| (keep, Digest::sha256(&[u8::from(keep)])));
    for (keep, digest) in begun {
        let begun =
            store.begin(&digest, &repository("alpine"), Some(9), keep).await.expect("begun");
        let (_, appended) = begun.append(vec![Bytes::from_static(b"half")]).await;
        appended.expect("appended");
    }
    store.close().await;
    drop(store);
    let store = open(dir.path(), recorder::FOLD_BYTES);
    let left = names.map(|name| partial.join(name).exists());
    assert_eq!(left, [false, false, true, true]);
    for (kept, digest) in begun {
        let partial = partial.join(digest.to_string().replace(':', "-"));
        assert_eq!((partial.exists(), partial.with_extension("json").exists()), (kept, kept));
    }
    store.close().await;
}

#[tokio::test]
async fn a_disk_that_is_well_again_is_noticed_without_a_pull() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path(), 1 << 20);
    let partial = dir.path().join("wharf/partial");
    fs::remove_dir(&partial).expect("nothing is in it");
    let begun = store.begin(&Digest::sha256(b"blob"), &repository("alpine"), Some(4), true).await;
    store.blob_failed(&begun.expect_err("there is no directory for it"));
    store.try_again().await;
    assert!(store.failing().is_some(), "still");
    fs::create_dir(&partial).expect("made");
    store.try_again().await;
    assert_eq!(store.failing(), None);
    assert_eq!(fs::read_dir(partial).expect("readable").count(), 0, "nothing is left of the trial");
    store.close().await;
}
