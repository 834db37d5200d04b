//! What is damaged is not served on: the client has it from the registry, and the next one from the cache again.

use std::fs::{self, File};

use super::{KEPT, REPO, SIZE, Site, TO_SECOND, put_aside};
use crate::support::{Fault, On, blob_path, noise};

const RELAY: &str = r#"wharf_verify_failures_total{stage="relay"}"#;

fn cut_off(site: &Site, len: u64) {
    let file = File::options().write(true).open(site.file()).expect("kept");
    file.set_len(len).expect("cut off, or filled up");
}

#[tokio::test]
async fn a_blob_of_another_length_is_never_served() {
    for len in [0, 1, SIZE as u64 - 1, SIZE as u64 + 1] {
        let site = Site::start(SIZE).await;
        cut_off(&site, len);
        let head = site.wharf.head(&site.path).await;
        assert_eq!(head.header("content-length"), Some(&*SIZE.to_string()));
        let ranged = [("range", "bytes=-1")];
        site.wharf.open(&site.path, &ranged).await.expect(&site.bytes.slice(SIZE - 1..)).await;
        site.wharf.quiet().await;
        assert_eq!(site.hub.blob_bytes_sent(&site.digest), SIZE as u64, "{len}: fetched once");
        assert_eq!(site.wharf.metric(KEPT), 1.0);
        let answer = site.wharf.get(&site.path).await;
        assert_eq!((answer.cache(), answer.bytes()), ("hit", &site.bytes));
        assert_eq!(site.quarantine(), [""; 0], "{len}: kept again");
        site.wharf.end().await;
    }
}

#[tokio::test]
async fn without_the_registry_it_is_an_error_and_stays_aside() {
    let mut site = Site::start(SIZE).await;
    cut_off(&site, 9);
    site.hub.stop().await;
    for _ in 0..2 {
        let answer = site.wharf.get(&site.path).await;
        assert_eq!(answer.refusal().0, 502);
    }
    assert_eq!(site.wharf.metric(KEPT), 1.0);
    assert_eq!(site.quarantine(), put_aside(&site.digest));
    let note = site.wharf.cache().join("wharf/quarantine").join(&put_aside(&site.digest)[1]);
    let note = fs::read_to_string(note).expect("readable");
    assert!(note.contains("it is 9 bytes long instead of 5000000"), "{note}");
    let wharf = site.wharf.restart().await;
    let mut site = Site { wharf, ..site };
    assert_eq!(site.quarantine(), put_aside(&site.digest));
    site.hub.resume();
    site.recovers().await;
}

#[tokio::test]
async fn a_manifest_that_tells_a_wrong_length_takes_no_blob_from_others() {
    let site = Site::start(SIZE).await;
    let layer = serde_json::json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": site.digest,
        "size": SIZE - 1,
    });
    let media_type = site.image.manifest.media_type;
    let mut lie: serde_json::Value =
        serde_json::from_slice(&site.image.manifest.bytes).expect("JSON");
    lie["layers"] = serde_json::json!([layer]);
    site.hub.put_manifest("liar/image", Some("latest"), media_type, lie.to_string());
    site.wharf.get("/v2/liar/image/manifests/latest").await.bytes();
    for _ in 0..2 {
        let answer = site.wharf.get(&blob_path("liar/image", &site.digest)).await;
        assert!(answer.status != 200 || answer.body.is_err(), "{}", answer.status);
    }
    let answer = site.wharf.get(&site.path).await;
    assert_eq!((answer.cache(), answer.bytes()), ("hit", &site.bytes));
    assert_eq!((site.quarantine(), site.wharf.metric(KEPT)), (Vec::new(), 0.0));
    site.wharf.end().await;
}

#[tokio::test]
async fn a_blob_that_cannot_be_opened_is_fetched_again() {
    let site = Site::start(SIZE).await;
    site.disk.hit(&site.file(), true, 0);
    assert_eq!(site.wharf.head(&site.path).await.status, 200);
    let answer = site.wharf.get(&site.path).await;
    assert_eq!((answer.cache(), answer.bytes()), ("miss", &site.bytes));
    site.wharf.quiet().await;
    assert_eq!((site.wharf.metric(KEPT), site.quarantine()), (1.0, Vec::new()));
    let answer = site.wharf.get(&site.path).await;
    assert_eq!((answer.cache(), answer.bytes()), ("hit", &site.bytes));
    site.wharf.end().await;
}

#[tokio::test]
async fn a_read_error_in_mid_body_sends_the_client_on_to_the_registry() {
    // In the first part, the second and the third, at their beginnings and in their midst.
    for passes in [1, 5, 10, TO_SECOND, 19, 22] {
        for (range, from, to) in
            [(None, 0, SIZE), (Some("bytes=0-"), 0, SIZE), (Some("bytes=9-4999998"), 9, SIZE - 1)]
        {
            let site = Site::start(SIZE).await;
            site.disk.hit(&site.file(), true, passes);
            let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
            site.wharf.open(&site.path, &headers).await.expect(&site.bytes.slice(from..to)).await;
            site.wharf.quiet().await;
            assert!(site.hub.blob_bytes_sent(&site.digest) < SIZE as u64 || passes < 10);
            assert_eq!(site.wharf.metric(KEPT), 1.0);
            assert_eq!(site.quarantine(), put_aside(&site.digest));
            site.recovers().await;
        }
    }
}

#[tokio::test]
async fn with_the_registry_gone_the_body_is_cut_where_the_disk_fails() {
    let mut site = Site::start(SIZE).await;
    site.hub.stop().await;
    site.disk.hit(&site.file(), true, TO_SECOND);
    let answer = site.wharf.get(&site.path).await;
    let cut = answer.body.expect_err("cut").received;
    assert!(cut.len() < SIZE && site.bytes.starts_with(&cut));
    site.wharf.quiet().await;
    assert_eq!(site.quarantine(), put_aside(&site.digest));
    site.wharf.stop().await;
}

#[tokio::test]
async fn what_the_registry_puts_behind_what_was_read_is_verified_before_the_last_piece() {
    for (case, fault) in [
        ("its end is wrong", Fault::FlipByte(SIZE as u64 - 1)),
        ("its middle is wrong", Fault::FlipByte(4_000_000)),
    ] {
        let site = Site::start(SIZE).await;
        site.hub.fault(On::Blobs, fault);
        site.disk.hit(&site.file(), true, TO_SECOND);
        let answer = site.wharf.get(&site.path).await;
        assert!(answer.body.expect_err(case).received.len() < SIZE, "{case}");
        assert_eq!(site.wharf.metric(RELAY), 1.0, "{case}");
        site.hub.clear_faults();
        site.recovers().await;
    }
}

#[tokio::test]
async fn what_rotted_before_the_read_error_makes_no_whole_body_either() {
    let site = Site::start(SIZE).await;
    let mut bytes = site.bytes.to_vec();
    bytes[7] ^= 1;
    fs::write(site.file(), bytes).expect("written in place");
    site.disk.hit(&site.file(), true, TO_SECOND);
    let answer = site.wharf.get(&site.path).await;
    assert!(answer.body.expect_err("cut").received.len() < SIZE);
    site.recovers().await;
}

#[tokio::test]
async fn a_client_is_cut_when_what_it_has_cannot_be_read_again() {
    let site = Site::start(SIZE).await;
    site.disk.hit(&site.file(), false, TO_SECOND);
    let answer = site.wharf.get(&site.path).await;
    let cut = answer.body.expect_err("cut").received;
    assert!(cut.len() < SIZE && site.bytes.starts_with(&cut));
    // For a part of it nothing is to be read again.
    let site = Site::start(SIZE).await;
    site.disk.hit(&site.file(), false, TO_SECOND);
    let ranged = [("range", "bytes=1-")];
    site.wharf.open(&site.path, &ranged).await.expect(&site.bytes.slice(1..)).await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_served_ends_no_body() {
    // More than sockets hold.
    let size = 32 << 20;
    let site = Site::start(size).await;
    let mut whole = site.wharf.open(&site.path, &[]).await;
    let mut part = site.wharf.open(&site.path, &[("range", "bytes=5-")]).await;
    let begun = [whole.read(1).await, part.read(1).await];
    cut_off(&site, (size / 2) as u64);
    for (begun, stream, from) in [(&begun[0], whole, 0), (&begun[1], part, 5)] {
        let rest = stream.rest().await;
        let got = [&begun[..], &rest.bytes()[..]].concat();
        assert!(got == site.bytes[from..], "other bytes from {from}");
    }
    site.wharf.quiet().await;
    assert_eq!((site.wharf.metric(KEPT), site.quarantine()), (1.0, put_aside(&site.digest).into()));
    site.recovers().await;
}

#[tokio::test]
async fn a_damaged_manifest_is_fetched_again_or_an_error() {
    let digest_of = |site: &Site| site.image.manifest.digest;
    for name in ["latest", "digest"] {
        let mut site = Site::start(SIZE).await;
        let (digest, right) = (digest_of(&site), site.image.manifest.bytes.clone());
        let reference = if name == "latest" { name.to_owned() } else { digest.to_string() };
        let path = format!("/v2/{REPO}/manifests/{reference}");
        let file = site.wharf.blob_file(&digest);
        let damaged = noise("another", right.len());

        // What was read once is in memory.
        let wharf = site.wharf.restart_after(|_| fs::write(&file, &damaged).expect("there")).await;
        site = Site { wharf, ..site };
        let answer = site.wharf.get(&path).await;
        assert_eq!((answer.cache(), answer.bytes()), ("miss", &right), "{name}");
        assert_eq!((site.wharf.metric(KEPT), site.quarantine()), (1.0, Vec::new()));
        assert_eq!(fs::read(&file).expect("kept"), right);

        let wharf = site.wharf.restart_after(|_| fs::write(&file, &damaged).expect("there")).await;
        site = Site { wharf, ..site };
        site.hub.stop().await;
        for _ in 0..2 {
            let (status, _) = site.wharf.get(&path).await.refusal();
            assert_eq!(status, 502, "{name}");
        }
        assert_eq!((site.wharf.metric(KEPT), site.quarantine()), (1.0, put_aside(&digest).into()));
        let wharf = site.wharf.restart().await;
        site = Site { wharf, ..site };
        assert_eq!(site.quarantine(), put_aside(&digest), "a start changes nothing");
        site.hub.resume();
        let answer = site.wharf.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &right), "{name}");
        assert_eq!(site.quarantine(), [""; 0]);
        // What it names was there all the time.
        let layer = site.wharf.get(&site.path).await;
        assert_eq!((layer.cache(), layer.bytes()), ("hit", &site.bytes));
        site.wharf.end().await;
    }
}
