//! A large blob is fetched by ranges where that can be (bug class: a byte fetched twice or put in the wrong place, or a
//! registry that takes no ranges gives no blob).

use std::fs;

use bytes::Bytes;
use wharf::config::Config;

use crate::support::{FakeHub, Fault, Gate, On, Wharf, blob_path, client::Answer};

const REPO: &str = "library/large";
const MIB: usize = 1 << 20;
const LENGTH: usize = 40 * MIB;

/// A hub with an image of one large layer, of which wharf has the manifest.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    layer: Bytes,
    digest: wharf::oci::Digest,
    path: String,
}

impl Site {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let hub = FakeHub::start().await;
        let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[LENGTH]);
        let wharf = Wharf::start_with(&hub, |config| {
            // The first to ask for the layer is the client.
            config.pull.prefetch.on_pull = false;
            change(config);
        })
        .await;
        wharf.get(&format!("/v2/{REPO}/manifests/1")).await;
        let layer = &image.layers[0];
        let (digest, path) = (layer.digest, blob_path(REPO, &layer.digest));
        Self { hub, wharf, layer: layer.bytes.clone(), digest, path }
    }

    async fn get(&self) -> Answer {
        self.wharf.get(&self.path).await
    }

    /// The ranges that the CDN was asked for.
    fn ranges(&self) -> Vec<Option<String>> {
        self.hub.blob_gets(&self.digest).into_iter().map(|seen| seen.range).collect()
    }

    /// The blob comes whole, is kept, and no byte of it crossed the uplink twice.
    async fn comes(self) {
        self.get().await.expect(&self.layer);
        self.wharf.quiet().await;
        assert_eq!(self.hub.blob_bytes_sent(&self.digest), LENGTH as u64);
        assert_eq!(self.get().await.cache(), "hit");
        self.wharf.end().await;
    }
}

fn first_piece() -> Option<String> {
    Some("bytes=0-4194303".to_owned())
}

#[tokio::test]
async fn each_byte_comes_once_and_in_its_place() {
    let site = Site::start(|_| ()).await;
    site.get().await.expect(&site.layer);
    let ranges = site.ranges();
    assert_eq!(ranges[0], first_piece());
    assert!(ranges.len() > 2 && ranges.iter().all(Option::is_some), "{ranges:?}");
    assert_eq!(site.wharf.metric("wharf_download_resumes_total"), 0.0, "nothing broke");
    site.comes().await;
}

#[tokio::test]
async fn many_clients_share_the_pieces() {
    let site = Site::start(|_| ()).await;
    let clients = (0..20).map(|_| async { site.get().await.expect(&site.layer) });
    futures_util::future::join_all(clients).await;
    site.comes().await;
}

#[tokio::test]
async fn one_connection_is_one_request() {
    let site = Site::start(|config| config.pull.connections_per_blob = 1).await;
    site.get().await.expect(&site.layer);
    assert_eq!(site.ranges(), [None]);
    site.comes().await;
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_not_asked_for_them_again() {
    let site = Site::start(|_| ()).await;
    site.hub.fault(On::Blobs, Fault::IgnoreRange);
    site.get().await.expect(&site.layer);
    assert_eq!(site.ranges(), [first_piece()], "its answer is the blob");
    let other = site.hub.push_single(REPO, "2", ("linux", "arm64", None), &[LENGTH + 1]);
    site.wharf.get(&format!("/v2/{REPO}/manifests/2")).await;
    let layer = &other.layers[0];
    site.wharf.get(&blob_path(REPO, &layer.digest)).await.expect(&layer.bytes);
    let asked = site.hub.blob_gets(&layer.digest);
    assert_eq!(asked.iter().map(|seen| seen.range.clone()).collect::<Vec<_>>(), [None]);
    site.comes().await;
}

#[tokio::test]
async fn one_bad_moment_says_nothing_of_ranges_and_two_in_a_row_do() {
    let site = Site::start(|_| ()).await;
    // Whether the first request fails, and whether the blob comes by parts.
    let moments = [(true, false), (false, true), (true, false), (true, false), (false, false)];
    for (n, (fails, by_parts)) in moments.into_iter().enumerate() {
        let tag = format!("moment-{n}");
        let image = site.hub.push_single(REPO, &tag, ("linux", "arm64", None), &[LENGTH + n + 1]);
        site.wharf.get(&format!("/v2/{REPO}/manifests/{tag}")).await;
        if fails {
            site.hub.fault_next(1, On::Blobs, Fault::CloseBeforeHead);
        }
        let layer = &image.layers[0];
        site.wharf.get(&blob_path(REPO, &layer.digest)).await.expect(&layer.bytes);
        let last = site.hub.blob_gets(&layer.digest).pop().expect("it was asked for");
        assert_eq!(last.range.is_some(), by_parts, "blob {n}");
    }
    site.wharf.end().await;
}

#[tokio::test]
async fn a_registry_that_answers_ranges_wrongly_gives_the_blob_at_once() {
    let wrong = Fault::WrongContentRange("bytes 5-9/41943040");
    for fault in
        [wrong, Fault::status(416), Fault::status(403), Fault::status(500), Fault::CloseBeforeHead]
    {
        let site = Site::start(|_| ()).await;
        site.hub.fault_next(1, On::Blobs, fault.clone());
        site.get().await.expect(&site.layer);
        assert_eq!(site.ranges().last(), Some(&None), "{fault:?}");
        site.wharf.end().await;
    }
}

#[tokio::test]
async fn pieces_that_break_off_are_gone_on_from() {
    let site = Site::start(|_| ()).await;
    site.hub.fault(On::Blobs, Fault::CutAfter(3 << 20));
    site.get().await.expect(&site.layer);
    let ranges = site.ranges();
    assert!(ranges.contains(&Some("bytes=3145728-4194303".to_owned())), "{ranges:?}");
    site.comes().await;
}

#[tokio::test]
async fn wrong_bytes_in_any_piece_are_never_whole() {
    for at in [1, 9 * MIB, LENGTH - 1] {
        let site = Site::start(|_| ()).await;
        site.hub.fault(On::Blobs, Fault::FlipByte(at as u64));
        site.get().await.cut();
        site.wharf.quiet().await;
        assert!(!site.wharf.blob_file(&site.digest).exists());
        site.hub.clear_faults();
        site.get().await.expect(&site.layer);
        site.wharf.end().await;
    }
}

#[tokio::test]
async fn what_a_stop_leaves_is_a_beginning_without_holes() {
    let site = Site::start(|_| ()).await;
    let gate = Gate::after(3 << 20);
    site.hub.fault(On::Blobs, Fault::Gate(gate.clone()));
    let mut client = site.wharf.open(&site.path, &[]).await;
    client.read(3 * MIB).await;
    gate.halted(2).await;
    drop(client);
    site.wharf.deserted().await;
    let Site { hub, wharf, layer, digest, path } = site;
    let wharf = wharf
        .restart_after(|cache| {
            let partial = cache.join(format!("wharf/partial/sha256-{}", digest.encoded()));
            assert_eq!(fs::read(partial).expect("it is kept"), layer[..3 * MIB]);
        })
        .await;
    hub.clear_faults();
    hub.clear_log();
    wharf.get(&path).await.expect(&layer);
    let seen = hub.blob_gets(&digest);
    assert_eq!(seen[0].range.as_deref(), Some("bytes=3145728-7340031"));
    assert_eq!(hub.blob_bytes_sent(&digest), (LENGTH - 3 * MIB) as u64);
    wharf.end().await;
}

#[tokio::test]
async fn who_waits_for_the_beginning_waits_for_no_later_piece() {
    let site = Site::start(|_| ()).await;
    let gate = Gate::after(3 << 20);
    site.hub.fault(On::Blobs, Fault::Gate(gate.clone()));
    let mut client = site.wharf.open(&site.path, &[]).await;
    assert!(client.read(3 * MIB).await == site.layer[..3 * MIB]);
    // The next piece is asked for as this one ends, and its bytes wait for their turn.
    gate.halted(2).await;
    gate.open();
    client.expect(&site.layer.slice(3 * MIB..)).await;
    site.comes().await;
}
