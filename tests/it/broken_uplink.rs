//! A thin uplink that breaks (bug class: what crossed it once is fetched again, or the client is made to see
//! that something broke).

use std::{fs, time::Duration};

use bytes::Bytes;
use wharf::{config::Config, oci::Digest};

use crate::support::{
    Challenge, FakeHub, Fault, Gate, Host, On, Seen, Wharf, blob_path, client::Answer, noise,
};

const REPO: &str = "library/busybox";
const MIB: usize = 1 << 20;
const RESUMES: &str = "wharf_download_resumes_total";

/// A hub with one blob, and a wharf in front of it that has not seen it.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    blob: Bytes,
    digest: Digest,
    path: String,
}

impl Site {
    async fn start(size: usize) -> Self {
        Self::start_with(size, |_| ()).await
    }

    async fn start_with(size: usize, change: impl FnOnce(&mut Config)) -> Self {
        let hub = FakeHub::start().await;
        let blob = noise("over a thin uplink", size);
        let digest = hub.put_blob(REPO, blob.clone());
        let wharf = Wharf::start_with(&hub, change).await;
        Self { path: blob_path(REPO, &digest), hub, wharf, blob, digest }
    }

    /// What the CDN was asked for, with the bytes that it sent.
    fn gets(&self) -> Vec<(Option<String>, u64)> {
        let gets = self.hub.blob_gets(&self.digest).into_iter();
        gets.map(|Seen { range, body_bytes_sent, .. }| (range, body_bytes_sent)).collect()
    }

    /// Downloads the first `bytes` of the blob, then stops wharf; all clients have left before.
    async fn stop_midway(self, bytes: usize) -> Self {
        let gate = Gate::after(bytes as u64);
        self.hub.fault(On::Blobs, Fault::Gate(gate.clone()));
        let mut client = self.wharf.open(&self.path, &[]).await;
        client.read(bytes).await;
        drop(client);
        self.wharf.deserted().await;
        let wharf = self.wharf.restart_after(|cache| {
            let partial = cache.join(format!("wharf/partial/sha256-{}", self.digest.encoded()));
            assert_eq!(fs::metadata(&partial).expect("it is kept").len(), bytes as u64);
            let beside =
                fs::read_to_string(partial.with_extension("json")).expect("it says whence");
            let origin = beside.lines().next().expect("a line");
            let origin: serde_json::Value = serde_json::from_str(origin).expect("JSON");
            assert_eq!(origin["repository"], format!("docker.io/{REPO}"));
        });
        let wharf = wharf.await;
        self.hub.clear_faults();
        self.hub.clear_log();
        Self { wharf, ..self }
    }

    async fn get(&self) -> Answer {
        self.wharf.get(&self.path).await
    }
}

fn from(offset: usize) -> Option<String> {
    Some(format!("bytes={offset}-"))
}

#[tokio::test]
async fn a_body_cut_every_5_mib_is_one_body_to_the_client() {
    let site = Site::start(32 * MIB).await;
    site.hub.fault(On::Blobs, Fault::CutAfter(5 << 20));
    site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
    let gets = site.gets();
    let want = (1..7).map(|n| (from(n * 5 * MIB), if n < 6 { 5 << 20 } else { 2 << 20 }));
    assert_eq!(gets[0], (None, 5 << 20));
    assert_eq!(gets[1..], want.collect::<Vec<_>>(), "each byte crossed once");
    assert_eq!(site.wharf.metric(RESUMES), 6.0);
    site.wharf.quiet().await;
    assert_eq!(site.get().await.header("wharf-cache"), Some("hit"));
    site.wharf.end().await;
}

#[tokio::test]
async fn the_rest_comes_from_the_next_endpoint_when_the_first_one_dies() {
    let (mut first, second) = (FakeHub::start().await, FakeHub::start().await);
    let blob = noise("at two endpoints", 8 * MIB);
    let digest = first.put_blob(REPO, blob.clone());
    second.put_blob(REPO, blob.clone());
    let wharf = Wharf::start_with(&first, |config| {
        let url = second.url(Host::Registry).parse().expect("an address");
        config.upstreams[0].endpoints.push(url);
    })
    .await;
    let gate = Gate::after(3 << 20);
    first.fault(On::Blobs, Fault::Gate(gate.clone()));

    let mut client = wharf.open(&blob_path(REPO, &digest), &[]).await;
    let begun = client.read(3 * MIB).await;
    gate.halted(1).await;
    first.stop().await;
    client.expect(&blob.slice(begun.len()..)).await;
    assert_eq!(begun, blob[..begun.len()]);
    assert_eq!(first.blob_bytes_sent(&digest), 3 << 20);
    let rest = second.blob_gets(&digest);
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].range.clone(), rest[0].body_bytes_sent), (from(3 * MIB), 5 << 20));
    assert_eq!(wharf.metric(RESUMES), 1.0);
    wharf.end().await;
}

#[tokio::test]
async fn a_body_that_stalls_goes_on_over_another_connection() {
    let short = |config: &mut Config| {
        config.upstreams[0].patience.idle = Duration::from_secs(1);
    };
    let site = Site::start_with(2 * MIB, short).await;
    site.hub.fault_next(1, On::Blobs, Fault::StallAfter(700_000));
    site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
    let rest = (2 * MIB - 700_000) as u64;
    assert_eq!(site.gets(), [(None, 700_000), (from(700_000), rest)]);
    assert_eq!(site.wharf.metric(RESUMES), 1.0);
    site.wharf.end().await;
}

#[tokio::test]
async fn an_upstream_that_ignores_ranges_sends_all_again_and_the_client_sees_one_body() {
    let site = Site::start(2 * MIB).await;
    site.hub.fault_next(1, On::Blobs, Fault::CutAfter(700_000));
    site.hub.fault(On::Blobs, Fault::IgnoreRange);
    site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
    assert_eq!(site.gets(), [(None, 700_000), (from(700_000), site.blob.len() as u64)]);
    assert_eq!(site.wharf.metric(RESUMES), 1.0);
    site.wharf.end().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_on_as_well() {
    let site = Site::start(2 * MIB).await;
    let cut = Fault::All(vec![Fault::NoLength, Fault::CutAfter(700_000)]);
    site.hub.fault(On::Blobs, cut);
    let stream = site.wharf.open(&site.path, &[]).await;
    assert_eq!(stream.header("content-length"), None);
    stream.expect(&site.blob).await;
    let rest = (2 * MIB - 1_400_000) as u64;
    assert_eq!(
        site.gets(),
        [(None, 700_000), (from(700_000), 700_000), (from(1_400_000), rest)],
        "each byte crossed once"
    );
    site.wharf.end().await;
}

#[tokio::test]
async fn a_restarted_wharf_fetches_the_rest_only() {
    let site = Site::start(4 * MIB).await.stop_midway(3 * MIB).await;
    let part = site.wharf.open(&site.path, &[("range", "bytes=-10")]).await;
    assert_eq!(part.header("content-range"), Some("bytes 4194294-4194303/4194304"));
    site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
    part.expect(&site.blob.slice(4 * MIB - 10..)).await;
    assert_eq!(site.gets(), [(from(3 * MIB), 1 << 20)]);
    assert_eq!(site.wharf.metric(RESUMES), 1.0);
    site.wharf.end().await;
}

#[tokio::test]
async fn what_came_before_the_restart_survives_every_refusal() {
    let mut site = Site::start(2 * MIB).await.stop_midway(MIB).await;
    // The registry is away, its limit is reached, its CDN takes no signature, an account is missing.
    site.hub.stop().await;
    assert_eq!(site.get().await.status, 502);
    site.hub.resume();
    for (fault, status) in [
        (Fault::too_many_requests("60"), 429),
        (Fault::status(403), 502),
        (Fault::status(503), 502),
    ] {
        site.hub.fault(On::Blobs, fault);
        assert_eq!(site.get().await.status, status);
        site.wharf.quiet().await;
        site.hub.clear_faults();
    }
    // A repository that has no such blob, and one that nobody may read.
    site.hub.put_blob("team/without", "something else");
    for repository in ["team/without", "team/unheard-of"] {
        let answer = site.wharf.get(&blob_path(repository, &site.digest)).await;
        assert_eq!(answer.status, 404);
        site.wharf.quiet().await;
    }
    site.wharf.open(&site.path, &[]).await.expect(&site.blob).await;
    assert_eq!(site.gets(), [(from(MIB), 1 << 20)]);
    site.wharf.end().await;
}

#[tokio::test]
async fn a_download_that_is_given_up_is_cut_and_its_bytes_wait_for_the_next() {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let blob = noise("given up", 2 * MIB);
    let digest = hub.put_blob(REPO, blob.clone());
    let path = blob_path(REPO, &digest);
    let wharf = Wharf::start_with(&hub, |config| config.upstreams[0].patience.attempts = 1).await;
    hub.fault_next(1, On::Blobs, Fault::CutAfter(MIB as u64));
    hub.fault(On::Blobs, Fault::CloseBeforeHead);

    let cut = wharf.get(&path).await.body.expect_err("a body that is not whole");
    assert_eq!(cut.received, blob[..cut.received.len()]);
    wharf.quiet().await;
    assert!(!wharf.blob_file(&digest).exists());
    hub.clear_faults();
    hub.clear_log();
    wharf.open(&path, &[]).await.expect(&blob).await;
    let gets = hub.blob_gets(&digest);
    assert_eq!(gets.len(), 1);
    assert_eq!((gets[0].range.clone(), gets[0].body_bytes_sent), (from(MIB), 1 << 20));
    wharf.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_makes_no_tag_stale() {
    let site = Site::start(MIB).await;
    site.hub.push_single(REPO, "latest", ("linux", "arm64", None), &[10]);
    let tag = format!("/v2/{REPO}/manifests/latest");
    assert_eq!(site.wharf.get(&tag).await.status, 200);
    site.wharf.clock.advance(Duration::from_secs(3600));
    site.hub.fault_next(1, On::Blobs, Fault::CutAfter(1000));
    assert_eq!(site.wharf.get(&site.path).await.bytes(), &site.blob);
    site.hub.fault(On::Blobs, Fault::CutAfter(1000));
    let cut = site.hub.put_blob(REPO, noise("cut", MIB));
    let path = blob_path(REPO, &cut);
    let broken = site.wharf.get(&path);
    let broke = site.hub.until("it to break", |seen| {
        seen.iter().any(|seen| seen.is_blob_body(&cut) && seen.body_bytes_sent == 1000)
    });
    let (broken, ()) = tokio::join!(broken, broke);
    assert!(broken.body.is_err());
    let answer = site.wharf.get(&tag).await;
    assert_eq!((answer.header("wharf-cache"), answer.header("warning")), (Some("hit"), None));
    site.wharf.stop().await;
}
