//! One name for images of one platform each: a host gets its own image under it, whichever repository holds that, and
//! a wrong index would be a wrong image on every host of the site.

mod faults;
mod names;
mod policy;

use std::{fs, time::Duration};

use futures_util::future::join_all;
use wharf::{
    config::Config,
    oci::{Digest, media_type},
    pull::{Composed, Part},
};

use crate::support::{
    FakeHub, Fault, Gate, Host, On, PushedManifest, Wharf,
    client::{self, Answer},
    upstream,
};

const AMD64: (&str, &str, Option<&str>) = ("linux", "amd64", None);
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const LAN: &str = "registry.lan:5000";

/// Just past the time to live of a tag, and past the longest rest of a sick endpoint.
const LATER: Duration = Duration::from_secs(61);

const NAME: &str = "/v2/user/test";
const TAG: &str = "/v2/user/test/manifests/latest";

/// `[[compose]]`: names are full, and may have tags.
fn compose(name: &str, parts: &[(&str, &str)]) -> Composed {
    let split = |name: &str| match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.parse(), Some(tag.parse())),
        _ => (name.parse(), None),
    };
    let read = |name: &str| {
        let (repository, tag) = split(name);
        (repository.expect("a repository"), tag.transpose().expect("a tag"))
    };
    let (repository, tag) = read(name);
    let parts = parts.iter().map(|(platform, part)| {
        let (repository, tag) = read(part);
        (platform.parse().expect("a platform"), Part { repository, tag })
    });
    Composed { repository, tag, parts: parts.collect() }
}

/// The name is the amd64 image's own; the arm64 image is in another registry.
fn own_and_lan() -> Composed {
    let arm64 = format!("{LAN}/arm64v8-test");
    compose(
        "docker.io/user/test",
        &[("linux/amd64", "docker.io/user/test"), ("linux/arm64", &arm64)],
    )
}

/// Docker Hub, a registry of the site, and both images under `latest`.
struct Two {
    hub: FakeHub,
    site: FakeHub,
    amd64: PushedManifest,
    arm64: PushedManifest,
}

impl Two {
    async fn start() -> Self {
        let (hub, site) = (FakeHub::start().await, FakeHub::start().await);
        let amd64 = hub.push_single("user/test", "latest", AMD64, &[5000, 100]);
        let arm64 = site.push_single("arm64v8-test", "latest", ARM64, &[7000]);
        Self { hub, site, amd64, arm64 }
    }

    async fn wharf(&self, image: Composed) -> Wharf {
        self.wharf_with(image, |_| ()).await
    }

    async fn wharf_with(&self, image: Composed, change: impl FnOnce(&mut Config)) -> Wharf {
        Wharf::start_with(&self.hub, |config| {
            let endpoint = self.site.url(Host::Registry);
            config.upstreams.push(upstream(LAN.parse().expect("a registry"), &[&endpoint]));
            config.pull.compose = vec![image];
            // No upstream is slow here: a busy machine is not to look like one.
            config.pull.revalidate_timeout = Duration::from_secs(30);
            change(config);
        })
        .await
    }

    fn heads(&self) -> (usize, usize) {
        (self.hub.manifest_heads(), self.site.manifest_heads())
    }

    fn gets(&self) -> (usize, usize) {
        (self.hub.manifest_gets(), self.site.manifest_gets())
    }

    fn clear_logs(&self) {
        self.hub.clear_log();
        self.site.clear_log();
    }

    fn asked(&self) -> usize {
        self.hub.count(|_| true) + self.site.count(|_| true)
    }
}

fn digest(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.header("docker-content-digest").expect("a digest").to_owned()
}

/// The index that was answered: each platform and its manifest.
#[track_caller]
fn entries(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.header("content-type"), Some(media_type::OCI_INDEX));
    let index = answer.json();
    let entry = |entry: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let platform = &entry["platform"];
        (
            format!("{}/{}", text(&platform["os"]), text(&platform["architecture"])),
            text(&entry["digest"]),
        )
    };
    index["manifests"].as_array().expect("a list").iter().map(entry).collect()
}

fn listed(parts: &[&PushedManifest]) -> Vec<(String, String)> {
    parts.iter().map(|part| (part.platform.clone(), part.manifest.digest.to_string())).collect()
}

fn blobs(image: &PushedManifest) -> impl Iterator<Item = &crate::support::Blob> {
    std::iter::once(&image.config).chain(&image.layers)
}

/// What a host asks for that has read the index.
async fn pull(wharf: &Wharf, name: &str, image: &PushedManifest) {
    let manifest = &image.manifest;
    let path = format!("{name}/manifests/{}", manifest.digest);
    let (head, get) = (wharf.head(&path).await, wharf.get(&path).await);
    assert_eq!(get.bytes(), &manifest.bytes, "{path}");
    for answer in [head, get] {
        assert_eq!(answer.header("content-type"), Some(manifest.media_type));
        assert_eq!(answer.header("content-length"), Some(&*manifest.bytes.len().to_string()));
    }
    for blob in blobs(image) {
        let path = format!("{name}/blobs/{}", blob.digest);
        assert_eq!(wharf.get(&path).await.bytes(), &blob.bytes, "{path}");
        let head = wharf.head(&path).await;
        assert_eq!(head.header("content-length"), Some(&*blob.bytes.len().to_string()), "{path}");
    }
}

#[tokio::test]
async fn every_platform_pulls_by_the_one_name_from_where_its_image_is() {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let mut two = Two::start().await;
        let wharf = two.wharf(own_and_lan()).await;
        let (head, get) = (wharf.head(TAG).await, wharf.get(TAG).await);
        assert_eq!(head.headers.get("content-length"), get.headers.get("content-length"));
        assert_eq!(digest(&head), digest(&get));
        assert_eq!(digest(&get), Digest::sha256(get.bytes()).to_string());
        assert_eq!((head.cache(), get.cache()), ("miss", "hit"));
        assert_eq!(entries(&get), listed(&[&two.amd64, &two.arm64]));
        assert_eq!((two.heads(), two.gets()), ((1, 1), (0, 0)));
        for image in [&two.amd64, &two.arm64, &two.amd64] {
            pull(&wharf, NAME, image).await;
        }
        wharf.quiet().await;
        for (image, here, elsewhere) in
            [(&two.amd64, &two.hub, &two.site), (&two.arm64, &two.site, &two.hub)]
        {
            for blob in blobs(image) {
                assert_eq!(here.blob_bytes_sent(&blob.digest), blob.bytes.len() as u64);
                assert_eq!(elsewhere.count(|seen| seen.path.contains(&blob.digest.encoded())), 0);
            }
            let manifest = image.manifest.digest.to_string();
            assert_eq!(elsewhere.count(|seen| seen.path.contains(&manifest)), 0);
        }
        assert_eq!(two.gets(), (1, 1));
        // All of it outlives registries and restarts.
        two.hub.stop().await;
        two.site.stop().await;
        let wharf = wharf.restart().await;
        for answer in [wharf.get(TAG).await, wharf.head(TAG).await] {
            assert_eq!((digest(&answer), answer.cache()), (digest(&get), "stale"));
            assert!(answer.header("warning").is_some_and(|text| text.starts_with("299 ")));
        }
        let by_digest = wharf.get(&format!("{NAME}/manifests/{}", digest(&get))).await;
        assert_eq!((by_digest.bytes(), by_digest.cache()), (get.bytes(), "hit"));
        pull(&wharf, NAME, &two.arm64).await;
        pull(&wharf, NAME, &two.amd64).await;
        wharf.end().await;
        digests.push(digest(&get));
    }
    assert_eq!(digests[0], digests[1], "two wharfs compose the same");
}

#[tokio::test]
async fn a_part_that_moves_makes_another_index_and_what_was_stays() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let old = wharf.get(TAG).await;
    pull(&wharf, NAME, &two.amd64).await;
    let mut before = digest(&old);
    let moves = [
        (&two.hub, two.hub.push_single("user/test", "new", AMD64, &[10])),
        (&two.site, two.site.push_single("arm64v8-test", "new", ARM64, &[10])),
    ];
    for (registry, moved) in moves {
        let repo = if moved.platform == "linux/amd64" { "user/test" } else { "arm64v8-test" };
        registry.move_tag(repo, "latest", moved.manifest.digest);
        assert_eq!(digest(&wharf.get(TAG).await), before, "it is still fresh");
        wharf.clock.advance(LATER);
        let get = wharf.get(TAG).await;
        assert_ne!(digest(&get), before);
        assert!(entries(&get).contains(&listed(&[&moved])[0]));
        pull(&wharf, NAME, &moved).await;
        before = digest(&get);
    }
    let kept = wharf.get(&format!("{NAME}/manifests/{}", digest(&old))).await;
    assert_eq!((kept.bytes(), kept.cache()), (old.bytes(), "hit"));
    wharf.end().await;
}

/// Everything that is written down of names.
fn written(wharf: &Wharf) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![wharf.cache().join("index.json")];
    for entry in fs::read_dir(wharf.cache().join("wharf")).expect("it is there") {
        let path = entry.expect("readable").path();
        files.extend(Some(path).filter(|path| path.to_string_lossy().contains("journal")));
    }
    files.sort();
    let read = |path: std::path::PathBuf| {
        (path.to_string_lossy().into_owned(), fs::read(&path).expect("readable"))
    };
    files.into_iter().map(read).collect()
}

#[tokio::test]
async fn what_does_not_change_costs_a_head_for_each_part_and_no_write() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let first = digest(&wharf.get(TAG).await);
    for image in [&two.amd64, &two.arm64, &two.amd64, &two.arm64] {
        pull(&wharf, NAME, image).await;
    }
    wharf.quiet().await;
    let before = written(&wharf);
    for _ in 0..3 {
        wharf.clock.advance(LATER);
        two.clear_logs();
        for _ in 0..2 {
            let answer = wharf.get(TAG).await;
            assert_eq!((digest(&answer), answer.cache()), (first.clone(), "hit"));
            assert_eq!((two.heads(), two.gets()), ((1, 1), (0, 0)));
        }
    }
    assert!(written(&wharf) == before, "nothing changed, and something was written");
    wharf.end().await;
}

#[tokio::test]
async fn a_hundred_clients_at_once_are_one_question_to_each_part() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let gate = Gate::after(0);
    two.site.fault(On::ManifestHeads, Fault::Hold(gate.clone()));
    let clients = (0..100).map(|_| client::get(wharf.addr, TAG, &[]));
    let let_them_go = async {
        gate.halted(1).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(clients), let_them_go);
    for answer in &answers {
        assert_eq!(digest(answer), digest(&answers[0]));
    }
    assert_eq!((two.heads(), two.gets()), ((1, 1), (0, 0)));
    wharf.end().await;
}

#[tokio::test]
async fn of_a_part_that_is_a_list_the_entry_for_its_platform_is_taken() {
    let two = Two::start().await;
    let list =
        two.site.push_image("multi", "latest", &[AMD64, ARM64, ("linux", "s390x", None)], &[10]);
    let wharf = two
        .wharf(compose(
            "docker.io/user/test",
            &[("linux/arm64", &format!("{LAN}/multi")), ("linux/amd64", "docker.io/user/test")],
        ))
        .await;
    let get = wharf.get(TAG).await;
    assert_eq!(entries(&get), listed(&[&two.amd64, list.child("linux/arm64")]));
    assert_eq!(two.gets(), (0, 1), "the list is fetched, once");
    pull(&wharf, NAME, list.child("linux/arm64")).await;
    // What else belongs to the list can be had, too, as attestations and nested lists are.
    pull(&wharf, NAME, list.child("linux/s390x")).await;
    let whole = wharf.get(&format!("{NAME}/manifests/{}", list.index.digest)).await;
    assert_eq!(whole.bytes(), &list.index.bytes);
    wharf.clock.advance(LATER);
    two.clear_logs();
    assert_eq!(digest(&wharf.get(TAG).await), digest(&get));
    assert_eq!((two.heads(), two.gets()), ((1, 1), (0, 0)));
    wharf.end().await;
}
