//! A tag that is asked for too often spends the pull quota, one that is asked for too seldom goes out of
//! date, and one that is recorded wrongly is found out only when there is no upstream left to ask.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use wharf::{
    config::Config,
    oci::{Digest, media_type},
};

use crate::support::{
    Blob, FakeHub, Fault, Gate, Host, On, Wharf,
    client::{self, Answer, Headers},
    deadline, noise,
};

const REPO: &str = "library/busybox";
const TAG: &str = "/v2/library/busybox/manifests/latest";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// Just past the time to live of a tag.
const TTL: Duration = Duration::from_secs(61);

/// No upstream is slow here: a busy machine is not to look like one.
async fn start(hub: &FakeHub) -> Wharf {
    let patient = |config: &mut Config| config.pull.revalidate_timeout = Duration::from_secs(30);
    Wharf::start_with(hub, patient).await
}

fn by_digest(digest: &Digest) -> String {
    format!("/v2/{REPO}/manifests/{digest}")
}

fn names(answer: &Answer, manifest: &Blob) -> bool {
    answer.status == 200
        && answer.header("docker-content-digest") == Some(&*manifest.digest.to_string())
}

/// The four headers that clients go by; the same for `HEAD` and `GET`.
fn facts(answer: &Answer) -> [Option<String>; 4] {
    ["content-type", "content-length", "docker-content-digest", "etag"]
        .map(|name| answer.header(name).map(str::to_owned))
}

#[tokio::test]
async fn within_its_time_to_live_a_tag_costs_nothing() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = start(&hub).await;
    assert_eq!(wharf.get(TAG).await.cache(), "miss");
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 0));
    hub.clear_log();
    wharf.clock.advance(Duration::from_secs(59));
    for answer in [wharf.get(TAG).await, wharf.head(TAG).await, wharf.get(TAG).await] {
        assert!(names(&answer, &image.index));
        assert_eq!(answer.cache(), "hit");
    }
    assert_eq!(hub.count(|_| true), 0, "{:?}", hub.log());
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_moved_tag_is_fetched_and_what_it_meant_stays() {
    let hub = FakeHub::start().await;
    let old = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = start(&hub).await;
    wharf.get(TAG).await;
    let new = hub.push_image(REPO, "new", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", new.index.digest);
    assert!(names(&wharf.get(TAG).await, &old.index), "it is still fresh");
    wharf.clock.advance(TTL);
    hub.clear_log();
    let moved = wharf.get(TAG).await;
    assert!(names(&moved, &new.index));
    assert_eq!((moved.bytes(), moved.cache()), (&new.index.bytes, "miss"));
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 1));
    hub.clear_log();
    let kept = wharf.get(&by_digest(&old.index.digest)).await;
    assert_eq!((kept.bytes(), kept.cache()), (&old.index.bytes, "hit"));
    assert_eq!(wharf.head(TAG).await.cache(), "hit");
    // Back to what is kept already: nothing needs to be fetched.
    hub.move_tag(REPO, "latest", old.index.digest);
    wharf.clock.advance(TTL);
    assert!(names(&wharf.get(TAG).await, &old.index));
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (0, 1));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn head_and_then_get_by_digest_is_a_pull_that_outlives_the_upstream() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    hub.move_tag(REPO, "also", image.index.digest);
    let wharf = start(&hub).await;
    assert!(names(&wharf.head(TAG).await, &image.index));
    wharf.get(&by_digest(&image.index.digest)).await;
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 1));
    let also = format!("/v2/{REPO}/manifests/also");
    assert!(names(&wharf.head(&also).await, &image.index));
    assert_eq!(hub.manifest_gets(), 1, "a second tag of a kept manifest needs no document");

    hub.stop().await;
    wharf.clock.advance(TTL);
    let mut wharf = wharf;
    for _ in 0..2 {
        for tag in [TAG, &also] {
            let (get, head) = (wharf.get(tag).await, wharf.head(tag).await);
            assert_eq!((get.bytes(), get.cache()), (&image.index.bytes, "stale"));
            assert!(names(&head, &image.index));
        }
        wharf = wharf.restart().await;
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_time_to_live_of_zero_asks_every_time() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = Wharf::start_with(&hub, |config| config.pull.tag_ttl = Duration::ZERO).await;
    for (gets, heads) in [(1, 0), (1, 1), (1, 2)] {
        assert!(names(&wharf.get(TAG).await, &image.index));
        assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (gets, heads));
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_by_digest_is_asked_for_once() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[1000]);
    let child = image.child("linux/arm64");
    let paths = [
        by_digest(&image.index.digest),
        by_digest(&child.manifest.digest),
        format!("/v2/{REPO}/blobs/{}", child.config.digest),
        format!("/v2/{REPO}/blobs/{}", child.layers[0].digest),
    ];
    let wharf = start(&hub).await;
    for path in &paths {
        assert_eq!(wharf.get(path).await.cache(), "miss", "{path}");
    }
    wharf.quiet().await;
    hub.clear_log();
    wharf.clock.advance(Duration::from_secs(30 * 24 * 3600));
    for path in &paths {
        assert_eq!(wharf.get(path).await.cache(), "hit", "{path}");
        assert_eq!(wharf.head(path).await.cache(), "hit", "{path}");
    }
    let wharf = wharf.restart().await;
    for path in &paths {
        assert_eq!(wharf.get(path).await.cache(), "hit", "{path}");
    }
    assert_eq!(hub.count(|_| true), 0, "{:?}", hub.log());
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn what_is_unknown_is_asked_for_again_soon_but_not_at_once() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "latest", ARM64, &[10]);
    let wharf = start(&hub).await;
    let missing = Digest::sha256(b"missing");
    let image = b"{\"config\":{\"mediaType\":\"a/b\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},\"layers\":[]}";
    let put = |repo: &str, tag| hub.put_manifest(repo, tag, media_type::OCI_MANIFEST, &image[..]);
    let table: [(String, &str, &dyn Fn()); 4] = [
        (format!("/v2/{REPO}/manifests/soon"), "MANIFEST_UNKNOWN", &|| {
            put(REPO, Some("soon"));
        }),
        ("/v2/library/nowhere/manifests/latest".to_owned(), "NAME_UNKNOWN", &|| {
            put("library/nowhere", Some("latest"));
        }),
        (by_digest(&Digest::sha256(image)), "MANIFEST_UNKNOWN", &|| {
            put(REPO, None);
        }),
        (format!("/v2/{REPO}/blobs/{missing}"), "BLOB_UNKNOWN", &|| {
            hub.put_blob(REPO, &b"missing"[..]);
        }),
    ];
    // The first row makes the third known, so that one goes before.
    for row in [2, 0, 1, 3] {
        let (path, code, publish) = &table[row];
        let asked = || hub.count(|seen| seen.path == *path && seen.host == Host::Registry);
        assert_eq!(wharf.get(path).await.refusal(), (404, (*code).to_owned()), "{path}");
        let once = asked();
        assert!(once > 0, "{path}");
        publish();
        wharf.clock.advance(Duration::from_secs(29));
        assert_eq!(wharf.get(path).await.refusal(), (404, (*code).to_owned()), "{path}");
        assert_eq!(wharf.head(path).await.status, 404, "{path}");
        assert_eq!(asked(), once, "{path}");
        wharf.clock.advance(Duration::from_secs(2));
        assert_eq!(wharf.get(path).await.status, 200, "{path}");
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn every_accept_that_takes_a_list_gets_the_same_entry() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[("linux", "amd64", None), ARM64], &[10]);
    let (oci, docker) = (media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST);
    let (index, list) = (media_type::OCI_INDEX, media_type::DOCKER_LIST);
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let joined = format!("{docker}, {list};q=0.5, {oci},{index}");
    let accepts: [Headers<'_>; 6] = [
        &[("accept", index), ("accept", oci), ("accept", list), ("accept", docker)],
        &[("accept", docker), ("accept", schema1), ("accept", index), ("accept", list)],
        &[("accept", &joined)],
        &[("accept", index), ("accept", "*/*")],
        &[("accept", "*/*")],
        &[],
    ];
    let wharf = start(&hub).await;
    let gate = Gate::after(0);
    hub.fault(On::Manifests, Fault::Hold(gate.clone()));
    let clients = accepts.map(|accept| client::get(wharf.addr, TAG, accept));
    let let_them_go = async {
        gate.halted(1).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(clients), let_them_go);
    for answer in answers {
        assert!(names(&answer, &image.index));
        assert_eq!(
            (answer.header("content-type"), answer.bytes()),
            (Some(index), &image.index.bytes)
        );
    }
    for accept in accepts {
        assert!(names(&client::head(wharf.addr, TAG, accept).await, &image.index));
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 0));
    let log = hub.log();
    let asked = log.iter().find(|seen| seen.is_manifest()).expect("one was asked for");
    for kind in [oci, docker, index, list] {
        assert!(asked.accept.iter().any(|accept| accept == kind), "{:?}", asked.accept);
    }
    assert_eq!(asked.accept_encoding.as_deref(), Some("identity"));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn the_media_type_is_the_registrys_word_and_stays_it() {
    let mut hub = FakeHub::start().await;
    let child = hub.push_single(REPO, "child", ARM64, &[10]);
    let entry = |kind: &str, blob: &Blob| serde_json::json!({ "mediaType": kind, "digest": blob.digest, "size": blob.bytes.len() });
    let document = |value: serde_json::Value| Bytes::from(value.to_string());
    let config = entry("application/vnd.docker.container.image.v1+json", &child.config);
    let list = document(serde_json::json!({
        "schemaVersion": 2, "manifests": [entry(media_type::OCI_MANIFEST, &child.manifest)],
    }));
    let docker_child = document(serde_json::json!({ "schemaVersion": 2, "config": config }));
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let parameter = format!("{}; charset=utf-8", media_type::OCI_INDEX);
    let documents = [
        ("list", media_type::DOCKER_LIST, media_type::DOCKER_LIST, list.clone()),
        ("index", parameter.as_str(), media_type::OCI_INDEX, [b" ", &*list].concat().into()),
        ("v2s2", media_type::DOCKER_MANIFEST, media_type::DOCKER_MANIFEST, docker_child),
        ("schema1", schema1, schema1, noise("signed", 400)),
        ("artifact", artifact, artifact, Bytes::from_static(b"{\"blobs\":[]}")),
        ("oci", media_type::OCI_MANIFEST, media_type::OCI_MANIFEST, child.manifest.bytes.clone()),
    ];
    for (tag, kind, _, bytes) in &documents {
        hub.put_manifest(REPO, Some(tag), kind, bytes.clone());
    }
    let wharf = start(&hub).await;
    let check = async |wharf: &Wharf| {
        for (tag, _, kind, bytes) in &documents {
            let tag = format!("/v2/{REPO}/manifests/{tag}");
            for path in [tag, by_digest(&Digest::sha256(bytes))] {
                let (head, get) = (wharf.head(&path).await, wharf.get(&path).await);
                assert_eq!(get.header("content-type"), Some(*kind), "{path}");
                assert_eq!(get.bytes(), bytes, "{path}");
                assert_eq!(facts(&head), facts(&get), "{path}");
            }
        }
    };
    check(&wharf).await;
    hub.stop().await;
    wharf.clock.advance(TTL);
    check(&wharf).await;
    let wharf = wharf.restart().await;
    check(&wharf).await;
    let sled = |dir: &std::path::Path| {
        std::fs::remove_dir_all(dir.join("wharf/index.sled")).expect("it is there");
    };
    let wharf = wharf.restart_after(sled).await;
    check(&wharf).await;
    let wharf = wharf.restart().await;
    check(&wharf).await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn head_and_get_say_the_same_whatever_is_kept() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[70_000]);
    let layer = &image.child("linux/arm64").layers[0];
    let blob = format!("/v2/{REPO}/blobs/{}", layer.digest);
    let paths = [TAG.to_owned(), by_digest(&image.children[0].manifest.digest), blob];
    let wharf = start(&hub).await;
    let mut said = Vec::new();
    for path in &paths {
        let cold = wharf.head(path).await;
        assert_eq!((cold.status.as_u16(), cold.bytes().len()), (200, 0), "{path}");
        let get = wharf.get(path).await;
        assert_eq!(get.header("content-length"), Some(&*get.bytes().len().to_string()), "{path}");
        let digest = get.header("docker-content-digest").expect("a digest");
        assert_eq!(get.header("etag"), Some(&*format!("\"{digest}\"")), "{path}");
        assert_eq!(get.header("content-encoding"), None, "{path}");
        assert_eq!(facts(&cold), facts(&get), "{path}");
        said.push(facts(&get));
    }
    assert_eq!(hub.blob_bytes_sent(&layer.digest), 70_000, "HEAD carried none of it");
    let again = async |wharf: &Wharf| {
        for (path, said) in paths.iter().zip(&said) {
            assert_eq!(facts(&wharf.head(path).await), *said, "{path}");
            assert_eq!(facts(&wharf.get(path).await), *said, "{path}");
        }
    };
    again(&wharf).await;
    hub.stop().await;
    wharf.clock.advance(TTL);
    again(&wharf).await;
    let wharf = wharf.restart().await;
    again(&wharf).await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn past_it_one_head_answers_all_who_wait() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = start(&hub).await;
    wharf.get(TAG).await;
    wharf.clock.advance(TTL);
    hub.clear_log();
    let gate = Gate::after(0);
    hub.fault(On::Manifests, Fault::Hold(gate.clone()));
    let clients = (0..50).map(|n| {
        let method = if n % 2 == 0 { "GET" } else { "HEAD" };
        client::request(method, wharf.addr, TAG, &[])
    });
    let let_them_go = async {
        let all = async {
            while wharf.metric("wharf_open_connections") < 50.0 {
                tokio::task::yield_now().await;
            }
        };
        deadline("50 clients", all).await;
        gate.halted(1).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(join_all(clients), let_them_go);
    for answer in answers {
        assert!(names(&answer, &image.index));
        assert_eq!(answer.cache(), "hit");
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (0, 1));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn an_old_head_does_not_turn_a_tag_back() {
    let mut hub = FakeHub::start().await;
    let old = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let wharf = start(&hub).await;
    assert!(names(&wharf.head(TAG).await, &old.index));
    let new = hub.push_image(REPO, "new", &[ARM64], &[10]);
    hub.move_tag(REPO, "latest", new.index.digest);
    wharf.clock.advance(TTL);
    assert!(names(&wharf.get(TAG).await, &new.index));
    // The first client goes on with the digest that it was told.
    assert!(names(&wharf.get(&by_digest(&old.index.digest)).await, &old.index));
    hub.stop().await;
    wharf.clock.advance(TTL);
    assert!(names(&wharf.get(TAG).await, &new.index));
    let wharf = wharf.restart().await;
    assert!(names(&wharf.get(TAG).await, &new.index));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_tell_the_length_is_as_good() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let other = hub.push_image(REPO, "other", &[ARM64], &[10]);
    let wharf = start(&hub).await;
    hub.fault(On::ManifestHeads, Fault::NoLength);
    let head = wharf.head(TAG).await;
    assert!(names(&head, &image.index));
    assert_eq!(head.header("content-length"), Some(&*image.index.bytes.len().to_string()));
    hub.clear_log();
    assert!(names(&wharf.get(TAG).await, &image.index));
    assert!(names(&wharf.head(TAG).await, &image.index));
    assert_eq!(hub.count(|_| true), 0, "the tag is fresh: {:?}", hub.log());
    // And to a manifest that is kept already.
    wharf.get(&by_digest(&other.index.digest)).await;
    hub.move_tag(REPO, "latest", other.index.digest);
    wharf.clock.advance(TTL);
    assert!(names(&wharf.get(TAG).await, &other.index));
    hub.stop().await;
    let wharf = wharf.restart().await;
    assert!(names(&wharf.get(TAG).await, &other.index));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_head_that_tells_a_wrong_length_spoils_no_body() {
    for off in [-7, 7] {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
        let wharf = start(&hub).await;
        hub.fault(On::ManifestHeads, Fault::WrongLength(off));
        assert!(names(&wharf.head(TAG).await, &image.index));
        wharf.get(&by_digest(&image.index.digest)).await;
        let (head, get) = (wharf.head(TAG).await, wharf.get(TAG).await);
        assert_eq!(get.bytes(), &image.index.bytes, "{off}");
        assert_eq!(facts(&head), facts(&get), "{off}");
        wharf.quiet().await;
        wharf.stop().await;
    }
}

#[tokio::test]
async fn a_registry_whose_head_is_of_no_use_is_asked_by_get() {
    for fault in [Fault::NoDigestHeader, Fault::status(405), Fault::status(400)] {
        let hub = FakeHub::start().await;
        let old = hub.push_image(REPO, "latest", &[ARM64], &[10]);
        let wharf = start(&hub).await;
        let text = format!("{fault:?}");
        hub.fault(On::ManifestHeads, fault);
        assert!(names(&wharf.head(TAG).await, &old.index), "{text}");
        wharf.clock.advance(TTL);
        let confirmed = wharf.get(TAG).await;
        assert!(names(&confirmed, &old.index), "{text}");
        assert_ne!(confirmed.cache(), "stale", "{text}");
        let new = hub.push_image(REPO, "new", &[ARM64], &[10]);
        hub.move_tag(REPO, "latest", new.index.digest);
        wharf.clock.advance(TTL);
        assert!(names(&wharf.head(TAG).await, &new.index), "{text}");
        hub.clear_log();
        assert!(names(&wharf.get(TAG).await, &new.index), "{text}");
        assert_eq!(hub.count(|_| true), 0, "{text}");
        wharf.quiet().await;
        wharf.stop().await;
    }
}

#[tokio::test]
async fn what_a_list_says_of_a_child_does_not_replace_what_the_registry_said() {
    let mut hub = FakeHub::start().await;
    let child = hub.push_single(REPO, "child", ARM64, &[10]).manifest;
    let list_saying = |kind: &str| {
        let entry = serde_json::json!({ "mediaType": kind, "digest": child.digest, "size": child.bytes.len() });
        serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }).to_string()
    };
    let wharf = start(&hub).await;
    let path = by_digest(&child.digest);
    let before = facts(&wharf.get(&path).await);
    assert_eq!(before[0].as_deref(), Some(media_type::OCI_MANIFEST));
    for (tag, kind) in
        [("octets", media_type::OCTET_STREAM), ("docker", media_type::DOCKER_MANIFEST)]
    {
        hub.put_manifest(REPO, Some(tag), media_type::OCI_INDEX, list_saying(kind));
        assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/{tag}")).await.status, 200);
        let after = wharf.get(&path).await;
        assert_eq!((facts(&after), after.cache()), (before.clone(), "hit"), "after the list {tag}");
    }
    hub.stop().await;
    let without_sled = wharf
        .after_power_cut(|dir| {
            std::fs::remove_dir_all(dir.join("wharf/index.sled")).expect("it is there");
        })
        .await;
    assert_eq!(facts(&without_sled.get(&path).await), before, "after the journal was read again");
    without_sled.stop().await;
    let wharf = wharf.restart().await;
    assert_eq!(facts(&wharf.get(&path).await), before);
    wharf.quiet().await;
    wharf.stop().await;
}
