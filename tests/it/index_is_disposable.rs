//! A cache that forgets what it holds when an index breaks, or will not start, has lost the images just when
//! nobody can fetch them again. Files are the truth: the index may be deleted, the journal may be torn.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use wharf::{
    app::App,
    clock::Clock,
    oci::{Descriptor, Digest, Manifest, Repository, Tag, media_type},
    store::{self, Store},
};

use crate::support::{Blob, FakeHub, Fault, Gate, On, Wharf, client, noise};

const PLATFORMS: [(&str, &str, Option<&str>); 2] =
    [("linux", "amd64", None), ("linux", "arm64", None)];

/// What a wharf was asked for, and everything that it must be able to answer when it is alone.
struct Kept {
    manifests: Vec<(String, Blob)>,
    blobs: Vec<(String, Blob)>,
    referrers: (String, String),
}

impl Kept {
    /// Pulls two images, one platform of each, one as Docker does and one by `GET`; then the hub is stopped.
    async fn new() -> (Wharf, Self) {
        let mut hub = FakeHub::start().await;
        let wharf = Wharf::start(&hub).await;
        let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
        for (repo, tag) in [("library/busybox", "latest"), ("owner/app", "1.0")] {
            let image = hub.push_image(repo, tag, &PLATFORMS, &[2000, 30_000]);
            let child = image.child("linux/arm64");
            let path = |kind: &str, name: &str| format!("/v2/{repo}/{kind}/{name}");
            if repo == "library/busybox" {
                wharf.head(&path("manifests", tag)).await;
            } else {
                wharf.get(&path("manifests", tag)).await;
            }
            manifests.push((path("manifests", tag), image.index.clone()));
            for manifest in [&image.index, &child.manifest] {
                let name = manifest.digest.to_string();
                manifests.push((path("manifests", &name), manifest.clone()));
            }
            for blob in std::iter::once(&child.config).chain(&child.layers) {
                blobs.push((path("blobs", &blob.digest.to_string()), blob.clone()));
            }
        }
        let subject = manifests[0].1.digest;
        let index = format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"a/b\",\"digest\":\"{subject}\",\"size\":1}}]}}"
        );
        hub.referrers("library/busybox", subject, Some(index.clone().into()));
        let referrers = (format!("/v2/library/busybox/referrers/{subject}"), index);
        for (path, _) in manifests.iter().chain(&blobs) {
            assert_eq!(wharf.get(path).await.status, 200, "{path}");
        }
        assert_eq!(wharf.get(&referrers.0).await.bytes(), &referrers.1);
        // A blob that no manifest names, on the registry's word alone.
        let lone = noise("lone", 500);
        let digest = hub.put_blob("library/busybox", lone.clone());
        let lone = Blob { digest, media_type: "application/octet-stream", bytes: lone };
        let path = format!("/v2/library/busybox/blobs/{digest}");
        assert_eq!(wharf.get(&path).await.status, 200);
        blobs.push((path, lone));
        wharf.quiet().await;
        hub.stop().await;
        (wharf, Self { manifests, blobs, referrers })
    }

    async fn assert_serves_all(&self, wharf: &Wharf, when: &str) {
        for (path, manifest) in &self.manifests {
            let (head, get) = (wharf.head(path).await, wharf.get(path).await);
            assert_eq!(get.status, 200, "{when}: {path}");
            assert_eq!(get.bytes(), &manifest.bytes, "{when}: {path}");
            assert_eq!(get.header("content-type"), Some(manifest.media_type), "{when}: {path}");
            assert_eq!(head.headers.get("etag"), get.headers.get("etag"), "{when}: {path}");
        }
        for (path, blob) in &self.blobs {
            let answer = wharf.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.cache()), (200, "hit"), "{when}: {path}");
            assert_eq!(answer.bytes(), &blob.bytes, "{when}: {path}");
        }
        assert_eq!(wharf.get(&self.referrers.0).await.bytes(), &self.referrers.1, "{when}");
        let catalog = wharf.get("/v2/_catalog").await;
        let names = ["docker.io/library/busybox", "docker.io/owner/app"];
        assert_eq!(catalog.json()["repositories"], Value::from(names.to_vec()), "{when}");
    }
}

fn sled(dir: &Path) -> std::path::PathBuf {
    dir.join("wharf/index.sled")
}

/// Every file of the look-up tables.
fn tables(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![sled(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("it is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Does to each file of the tables what `change` makes of its bytes.
fn damage(dir: &Path, change: impl Fn(&mut Vec<u8>)) {
    for path in tables(dir) {
        let mut bytes = fs::read(&path).expect("readable");
        change(&mut bytes);
        fs::write(path, bytes).expect("writable");
    }
}

#[tokio::test]
async fn the_look_up_tables_may_be_deleted_and_spoilt() {
    let (mut wharf, kept) = Kept::new().await;
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 9] = [
        ("untouched", |_| ()),
        ("deleted", |dir| fs::remove_dir_all(sled(dir)).expect("deleted")),
        ("an empty directory", |dir| {
            fs::remove_dir_all(sled(dir)).expect("deleted");
            fs::create_dir(sled(dir)).expect("made");
        }),
        ("a file in its place", |dir| {
            fs::remove_dir_all(sled(dir)).expect("deleted");
            fs::write(sled(dir), b"not a directory").expect("written");
        }),
        ("emptied files", |dir| damage(dir, Vec::clear)),
        ("half of each file", |dir| damage(dir, |bytes| bytes.truncate(bytes.len() / 2))),
        ("noise", |dir| {
            damage(dir, |bytes| *bytes = noise("spoilt", bytes.len()).to_vec());
        }),
        ("noise behind the first bytes", |dir| {
            damage(dir, |bytes| {
                let from = bytes.len().min(100);
                let noise = noise("spoilt", bytes.len() - from);
                bytes[from..].copy_from_slice(&noise);
            });
        }),
        ("zeros where a power cut left a hole", |dir| {
            damage(dir, |bytes| {
                let (from, to) = (bytes.len() / 8, bytes.len() / 2);
                bytes[from..to].fill(0);
            });
        }),
    ];
    for (name, change) in damages {
        wharf = wharf.restart_after(change).await;
        kept.assert_serves_all(&wharf, name).await;
        wharf.quiet().await;
        // What was made anew holds as well.
        wharf = wharf.restart().await;
        kept.assert_serves_all(&wharf, name).await;
        wharf.quiet().await;
    }
    wharf.stop().await;
}

#[tokio::test]
async fn no_byte_of_the_look_up_tables_is_trusted() {
    let (mut wharf, kept) = Kept::new().await;
    for part in 0..PARTS {
        wharf = wharf.restart_after(|dir| hit_tables(dir, part)).await;
        kept.assert_serves_all(&wharf, &format!("part {part} of {PARTS}")).await;
        wharf.quiet().await;
    }
    wharf.stop().await;
}

const PARTS: usize = 12;

/// Changes some bytes at one of [`PARTS`] places of what is written in the tables.
fn hit_tables(dir: &Path, part: usize) {
    let path = sled(dir).join("db");
    let mut bytes = fs::read(&path).expect("sled keeps its records in one file");
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let from = used * part / PARTS;
    bytes[from..used.min(from + 50)].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(path, bytes).expect("writable");
}

/// Tables of more than one segment: of those sled reads most pages only when they are asked for.
#[tokio::test]
async fn no_page_of_large_look_up_tables_is_trusted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = store::Config::at(&dir.path().join("cache"));
    let open = || Store::open(&config, &Clock::system()).expect("the store opens");
    let store = open();
    let tags: Vec<Tag> = (0..20).map(|n| format!("{n:0>128}").parse().expect("a tag")).collect();
    let mut images = Vec::new();
    for n in 0..100 {
        let name = format!("docker.io/{}/{n}", "a".repeat(200));
        let repository: Repository = name.parse().expect("a repository");
        let bytes = noise(&name, 100);
        let manifest = Descriptor {
            media_type: "application/vnd.example.manifest.v1+json".parse().expect("a media type"),
            digest: Digest::sha256(&bytes),
            size: 100,
        };
        let kept = store.keep_manifest(&repository, &manifest, &Manifest::Opaque, &bytes, &tags);
        kept.await.expect("kept");
        images.push((repository, manifest));
    }
    let folded = entries(&config.dir);
    assert!(folded > 1000, "the journal was folded while in use: {folded}");
    store.close().await;
    drop(store);
    for part in 0..PARTS {
        hit_tables(&config.dir, part);
        let store = open();
        for (repository, manifest) in &images {
            assert_eq!(store.link(repository, &manifest.digest).as_ref(), Some(manifest), "{part}");
            for tag in &tags {
                let known = store.tag(repository, tag).map(|(known, _)| known);
                assert_eq!(known.as_ref(), Some(manifest), "{part}");
            }
        }
        store.close().await;
    }
    assert_eq!(entries(&config.dir), 2000);
}

/// How many images `index.json` lists.
fn entries(dir: &Path) -> usize {
    let json = fs::read(dir.join("index.json")).expect("index.json is always there");
    let index: Value = serde_json::from_slice(&json).expect("JSON");
    index["manifests"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_torn_journal_costs_nothing_but_its_last_line() {
    let (wharf, kept) = Kept::new().await;
    let journal = |dir: &Path| {
        let found = fs::read_dir(dir.join("wharf")).expect("readable").find_map(|entry| {
            let path = entry.expect("readable").path();
            path.file_name()?.to_str()?.starts_with("journal-").then_some(path)
        });
        found.expect("there is one journal")
    };
    let append = |dir: &Path, tail: &[u8]| {
        let path = journal(dir);
        let mut bytes = fs::read(&path).expect("readable");
        assert!(bytes.len() > 1000, "nothing was folded yet");
        bytes.extend_from_slice(tail);
        fs::write(path, bytes).expect("writable");
    };
    let half = b"0123456789abcdef {\"fact\":\"tag\",\"repository\":\"docker.io/lib";
    for (name, tail) in [
        ("nothing", &b""[..]),
        ("half a line", half),
        ("noise", &noise("torn", 3000)),
        ("a line that is not right", b"0123456789abcdef {\"fact\":\"none\"}\n"),
        ("zeros", &[0; 4096]),
    ] {
        for without_tables in [false, true] {
            let again = wharf.after_power_cut(|dir| {
                append(dir, tail);
                if without_tables {
                    fs::remove_dir_all(sled(dir)).expect("deleted");
                }
            });
            let again = again.await;
            kept.assert_serves_all(&again, name).await;
            let again = again.restart().await;
            kept.assert_serves_all(&again, name).await;
            again.quiet().await;
            again.stop().await;
        }
    }
    // The last line but no other goes with its own tail.
    let cut = wharf
        .after_power_cut(|dir| {
            let path = journal(dir);
            let bytes = fs::read(&path).expect("readable");
            fs::write(path, &bytes[..bytes.len() - 10]).expect("writable");
        })
        .await;
    let (lone, others) = kept.blobs.split_last().expect("the lone blob was the last");
    for (path, blob) in others {
        assert_eq!(cut.get(path).await.bytes(), &blob.bytes, "{path}");
    }
    assert_eq!(cut.get(&lone.0).await.status, 502, "whether it may be shown is to be asked");
    cut.quiet().await;
    cut.stop().await;
    // Tables that know of a line that the journal has lost.
    let path_of_lone = lone.0.clone();
    let wharf = wharf.restart_after(|dir| fs::write(journal(dir), b"").expect("writable")).await;
    assert_eq!(wharf.get(&path_of_lone).await.status, 502);
    let kept = Kept { blobs: others.to_vec(), ..kept };
    kept.assert_serves_all(&wharf, "a journal shorter than the tables say").await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_blob_appears_whole_or_not_at_all() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("library/busybox", "latest", &PLATFORMS, &[200_000]);
    let layer = &image.child("linux/arm64").layers[0];
    let wharf = Wharf::start(&hub).await;
    let file = wharf.cache().join("blobs/sha256").join(layer.digest.encoded());
    let gate = Gate::after(150_000);
    hub.fault(On::Blobs, Fault::Gate(gate.clone()));
    let path = format!("/v2/library/busybox/blobs/{}", layer.digest);
    let mut reader =
        client::open("GET", wharf.addr, &path, &[]).await.expect("an answer begins at once");
    assert_eq!(reader.read(150_000).await, layer.bytes[..150_000]);
    assert!(!file.exists());
    assert_eq!(wharf.partials().len(), 2, "the bytes, and where they come from");
    assert_eq!(fs::read_dir(file.parent().expect("a directory")).expect("readable").count(), 0);
    // What a power cut leaves is no blob either.
    let cut = wharf.after_power_cut(|_| ()).await;
    assert!(!cut.cache().join("blobs/sha256").join(layer.digest.encoded()).exists());
    cut.quiet().await;
    cut.stop().await;
    gate.open();
    assert_eq!(reader.rest().await.bytes(), &layer.bytes[150_000..]);
    wharf.quiet().await;
    assert_eq!(fs::read(&file).expect("it is there now"), layer.bytes);
    assert_eq!(wharf.partials(), [""; 0]);
    wharf.stop().await;
}

#[tokio::test]
async fn index_json_that_is_lost_is_written_anew_from_the_look_up_tables() {
    let (mut wharf, kept) = Kept::new().await;
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 4] = [
        ("deleted", |path| fs::remove_file(path).expect("deleted")),
        ("emptied", |path| fs::write(path, b"").expect("written")),
        ("cut off", |path| {
            let bytes = fs::read(path).expect("readable");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("another program's", |path| {
            fs::write(path, br#"{"schemaVersion":2,"manifests":[]}"#).expect("written");
        }),
    ];
    for (name, lose) in losses {
        // What it says before is what it says when it was lost and is written anew.
        let before = {
            let mut before = None;
            wharf = wharf.restart_after(|dir| before = Some(read_layout(dir))).await;
            wharf.quiet().await;
            before.expect("it was read")
        };
        wharf = wharf.restart_after(|dir| lose(&dir.join("index.json"))).await;
        kept.assert_serves_all(&wharf, name).await;
        wharf.quiet().await;
        // Now it is the only one that knows.
        wharf = wharf
            .restart_after(|dir| {
                assert_eq!(read_layout(dir), before, "{name}");
                fs::remove_dir_all(sled(dir)).expect("deleted");
            })
            .await;
        kept.assert_serves_all(&wharf, name).await;
        wharf.quiet().await;
    }
    wharf.stop().await;
}

#[tokio::test]
async fn index_json_that_is_lost_while_wharf_runs_is_written_anew_at_its_stop() {
    let (wharf, kept) = Kept::new().await;
    fs::remove_file(wharf.cache().join("index.json")).expect("deleted");
    let wharf = wharf.restart_after(|dir| fs::remove_dir_all(sled(dir)).expect("deleted")).await;
    kept.assert_serves_all(&wharf, "from the index.json that the stop wrote").await;
    wharf.quiet().await;
    wharf.stop().await;
}

/// Checks the directory as another program would read it ([image-spec, image-layout.md]); the images by name.
fn read_layout(dir: &Path) -> BTreeMap<String, Descriptor> {
    let read = |path: &str| fs::read(dir.join(path)).expect("the layout has it");
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    assert_eq!(json(&read("oci-layout")), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = json(&read("index.json"));
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], media_type::OCI_INDEX);
    let mut images = BTreeMap::new();
    for entry in index["manifests"].as_array().expect("a list") {
        let descriptor: Descriptor = serde_json::from_value(entry.clone()).expect("a descriptor");
        let bytes = read(&format!("blobs/sha256/{}", descriptor.digest.encoded()));
        assert_eq!(Digest::sha256(&bytes), descriptor.digest);
        assert_eq!(bytes.len() as u64, descriptor.size);
        let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
        if let Some(name) = name.as_str() {
            assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
            images.insert(name.to_owned(), descriptor);
        }
    }
    images
}

#[tokio::test]
async fn the_cache_directory_is_an_image_layout() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start(&hub).await;
    assert_eq!(read_layout(wharf.cache()), BTreeMap::new(), "from the beginning");
    wharf.stop().await;
    let (wharf, kept) = Kept::new().await;
    let wharf = wharf
        .restart_after(|dir| {
            let images = read_layout(dir);
            let names: Vec<&str> = images.keys().map(String::as_str).collect();
            assert_eq!(names, ["docker.io/library/busybox:latest", "docker.io/owner/app:1.0"]);
            for (name, (_, index)) in names.iter().zip(kept.manifests.iter().step_by(3)) {
                assert_eq!(images[*name].digest, index.digest);
                assert_eq!(images[*name].media_type.as_str(), index.media_type);
            }
            for blob in kept.manifests.iter().chain(&kept.blobs).map(|(_, blob)| blob) {
                let bytes = fs::read(dir.join("blobs/sha256").join(blob.digest.encoded()));
                assert_eq!(bytes.expect("it is in the layout"), blob.bytes);
            }
        })
        .await;
    kept.assert_serves_all(&wharf, "after the journal was folded").await;
    wharf.quiet().await;
    let wharf = wharf.restart_after(|dir| fs::remove_dir_all(sled(dir)).expect("deleted")).await;
    kept.assert_serves_all(&wharf, "from index.json alone").await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn one_directory_is_for_one_wharf_of_one_form() {
    let hub = FakeHub::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = dir.path().join("cache");
    let wharf = Wharf::start_with(&hub, |config| config.store.dir.clone_from(&cache)).await;
    let config = wharf.config().clone();
    let refused = async || match App::bind(config.clone()).await {
        Ok(_) => panic!("a second wharf uses the directory"),
        Err(error) => error.to_string(),
    };
    let said = refused().await;
    assert!(said.contains("is in use by another wharf; stop it, or"), "{said}");
    assert!(said.contains(cache.to_str().expect("text")) && !said.contains('\n'), "{said}");
    assert_eq!(wharf.get("/v2/").await.status, 200, "the first is not disturbed");
    wharf.quiet().await;
    wharf.stop().await;
    let version = cache.join("wharf/version");
    let ours = fs::read(&version).expect("it says which form it has");
    for later in ["3\n", "1.1\n", ""] {
        fs::write(&version, later).expect("writable");
        let said = refused().await;
        assert!(said.contains("written by another version of wharf"), "{said}");
        assert!(said.contains(cache.to_str().expect("text")) && !said.contains('\n'), "{said}");
        assert_eq!(fs::read_to_string(&version).expect("readable"), later, "it is left as it is");
    }
    fs::write(&version, ours).expect("writable");
    assert!(App::bind(config.clone()).await.is_ok());
}
