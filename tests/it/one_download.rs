//! One download per digest, whoever waits (bug class: a second asker costs a second download, waits for the
//! whole of the first, or ends it by leaving).

use std::ops::Range;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use wharf::oci::Digest;

use crate::support::{FakeHub, Fault, Gate, Host, On, Wharf, blob_path, client::Stream, noise};

const REPO: &str = "library/busybox";
const MIB: usize = 1 << 20;

/// What one client of the stampede asks for, and what it must get.
struct Ask {
    range: Option<(String, Range<usize>)>,
    /// Reads this much and goes.
    leaves_after: Option<usize>,
}

impl Ask {
    /// The ask of client `n` of 200, for a blob of `size` bytes.
    fn nth(n: usize, size: usize) -> Self {
        let part = |header: String, range| Some((format!("bytes={header}"), range));
        let (at, few) = (n * (size / 200), 1 + n * 5003);
        let range = match n % 10 {
            0 => None,
            1..5 => part(format!("{at}-{}", at + few - 1), at..(at + few).min(size)),
            5 | 6 => part(format!("{}-", size - few), size - few..size),
            7 | 8 => part(format!("-{few}"), size - few..size),
            _ => None,
        };
        Self { range, leaves_after: (n % 10 >= 8).then_some(1 + n * 10_007) }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.range.iter().map(|(header, _)| ("range", header.as_str())).collect()
    }

    /// Status, `Content-Range` and `Content-Length`.
    fn head(&self, size: usize) -> (u16, Option<String>, Option<String>) {
        let Some((_, Range { start, end })) = self.range.clone() else {
            return (200, None, Some(size.to_string()));
        };
        (206, Some(format!("bytes {start}-{}/{size}", end - 1)), Some((end - start).to_string()))
    }

    async fn read(self, mut stream: Stream, blob: &Bytes, held: usize) {
        let range = self.range.map_or(0..blob.len(), |(_, range)| range);
        let Some(few) = self.leaves_after else { return stream.expect(&blob.slice(range)).await };
        // What the gate holds back cannot be waited for.
        let few = few.min(held.saturating_sub(range.start)).min(range.len());
        assert!(stream.read(few).await[..few] == blob[range][..few]);
    }
}

fn head(stream: &Stream) -> (u16, Option<String>, Option<String>) {
    let text = |name| stream.header(name).map(str::to_owned);
    (stream.status.as_u16(), text("content-range"), text("content-length"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_cost_one_download() {
    let (size, held) = (64 * MIB, 16 * MIB);
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[size]);
    let (blob, digest) = (image.layers[0].bytes.clone(), image.layers[0].digest);
    // One request for all of it, so that it can be held in its middle; of several, [`super::pieces`] tells.
    let wharf = Wharf::start_with(&hub, |config| config.pull.connections_per_blob = 1).await;
    wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
    let gate = Gate::after(held as u64);
    hub.fault(On::Blob(digest), Fault::Gate(gate.clone()));

    let (path, addr) = (blob_path(REPO, &digest), wharf.addr);
    let mut asking = JoinSet::new();
    for n in 0..200 {
        let path = path.clone();
        asking.spawn(async move {
            let ask = Ask::nth(n, size);
            let stream = crate::support::client::open("GET", addr, &path, &ask.headers()).await;
            (ask, stream.expect("an answer begins"))
        });
    }
    let asked = asking.join_all().await;
    gate.halted(1).await;
    assert_eq!(hub.blob_bytes_sent(&digest), held as u64, "all are there, and the blob is not");
    let mut leading = 0;
    for (ask, stream) in &asked {
        assert_eq!(head(stream), ask.head(size));
        let outcome = stream.header("wharf-cache").expect("said");
        assert!(["miss", "coalesced"].contains(&outcome), "{outcome}");
        leading += usize::from(outcome == "miss");
    }
    assert_eq!(leading, 1, "one began the download, the others joined it");

    let (mut leavers, mut stayers) = (JoinSet::new(), JoinSet::new());
    for (ask, stream) in asked {
        let blob = blob.clone();
        let clients = if ask.leaves_after.is_some() { &mut leavers } else { &mut stayers };
        clients.spawn(async move { ask.read(stream, &blob, held).await });
    }
    assert_eq!(leavers.join_all().await.len(), 40);
    gate.open();
    assert_eq!(stayers.join_all().await.len(), 160);

    hub.until("the blob to have been sent", |_| hub.blob_bytes_sent(&digest) == size as u64).await;
    let gets = hub.blob_gets(&digest);
    assert_eq!(gets.len(), 1, "{gets:?}");
    assert_eq!((gets[0].host, gets[0].range.as_deref()), (Host::Cdn, None));
    wharf.end().await;
}

#[tokio::test]
async fn a_follower_gets_its_head_while_the_body_is_held() {
    let hub = FakeHub::start().await;
    let blob = noise("held", 300_000);
    let path = blob_path(REPO, &hub.put_blob(REPO, blob.clone()));
    let wharf = Wharf::start(&hub).await;
    let gate = Gate::after(0);
    hub.fault(On::Blobs, Fault::Gate(gate.clone()));

    let mut leader = wharf.open(&path, &[]).await;
    let mut follower = wharf.open(&path, &[]).await;
    let range = wharf.open(&path, &[("range", "bytes=5-9")]).await;
    gate.halted(1).await;
    for (stream, outcome) in [(&leader, "miss"), (&follower, "coalesced"), (&range, "coalesced")] {
        assert_eq!(stream.header("wharf-cache"), Some(outcome));
    }
    assert_eq!(follower.header("content-length"), Some("300000"));
    assert_eq!(range.header("content-range"), Some("bytes 5-9/300000"));
    assert!(leader.chunk().now_or_never().is_none() && follower.chunk().now_or_never().is_none());

    gate.allow(10);
    assert_eq!(range.rest().await.bytes(), &blob[5..10], "a range waits for its own bytes only");
    gate.open();
    leader.expect(&blob).await;
    follower.expect(&blob).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_download_outlives_all_its_clients_and_is_kept() {
    let hub = FakeHub::start().await;
    let blob = noise("deserted", 3 * MIB);
    let digest = hub.put_blob(REPO, blob.clone());
    let path = blob_path(REPO, &digest);
    let wharf = Wharf::start(&hub).await;
    let gate = Gate::after(MIB as u64);
    hub.fault(On::Blobs, Fault::Gate(gate.clone()));

    let mut clients = Vec::new();
    for range in ["bytes=0-", "bytes=5-", "bytes=-7"] {
        clients.push(wharf.open(&path, &[("range", range)]).await);
    }
    clients[0].read(1000).await;
    gate.halted(1).await;
    drop(clients);
    wharf.deserted().await;
    gate.open();
    wharf.quiet().await;
    assert!(wharf.blob_file(&digest).exists());
    assert_eq!(hub.blob_gets(&digest).len(), 1);
    hub.clear_log();

    let kept = wharf.get(&path).await;
    assert_eq!((kept.header("wharf-cache"), kept.bytes()), (Some("hit"), &blob));
    assert_eq!(hub.count(|_| true), 0, "{:?}", hub.log());
    wharf.end().await;
}

#[tokio::test]
async fn parallel_ranges_of_a_cold_blob_share_one_download() {
    let hub = FakeHub::start().await;
    let blob = noise("in four parts", 4 * MIB);
    let digest = hub.put_blob(REPO, blob.clone());
    let wharf = Wharf::start(&hub).await;
    let path = blob_path(REPO, &digest);
    let part = async |n: usize| {
        let (start, end) = (n * MIB, (n + 1) * MIB);
        let range = format!("bytes={start}-{}", end - 1);
        wharf.open(&path, &[("range", &range)]).await.expect(&blob.slice(start..end)).await;
    };
    // As clients do that fetch in parallel; the last part is asked for first.
    tokio::join!(part(3), part(1), part(0), part(2));
    let gets = hub.blob_gets(&digest);
    assert_eq!((gets.len(), gets[0].range.as_deref()), (1, None));
    assert_eq!(hub.blob_bytes_sent(&digest), blob.len() as u64);
    wharf.end().await;
}

#[tokio::test]
async fn a_head_of_a_cold_blob_downloads_nothing() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[100_000]);
    let (named, unnamed) = (image.layers[0].digest, hub.put_blob(REPO, noise("unnamed", 70_000)));
    let wharf = Wharf::start(&hub).await;
    wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
    hub.clear_log();

    let answer = wharf.head(&blob_path(REPO, &named)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, Some("100000")));
    assert_eq!(answer.header("docker-content-digest"), Some(&*named.to_string()));
    assert_eq!(hub.count(|_| true), 0, "the manifest says how long it is: {:?}", hub.log());

    for _ in 0..2 {
        let answer = wharf.head(&blob_path(REPO, &unnamed)).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, Some("70000")));
    }
    assert_eq!(hub.blob_heads(REPO), 1, "what the registry said is remembered");
    assert_eq!(wharf.head(&blob_path(REPO, &Digest::sha256(b"no such blob"))).await.status, 404);

    wharf.quiet().await;
    for digest in [named, unnamed] {
        assert_eq!(hub.blob_bytes_sent(&digest), 0);
        assert!(!wharf.blob_file(&digest).exists());
    }
    wharf.end().await;
}

#[tokio::test]
async fn bytes_are_shared_between_repositories_and_permission_is_not() {
    let hub = FakeHub::start().await;
    let blob = noise("shared", 500_000);
    let digest = hub.put_blob("team/one", blob.clone());
    for repository in ["team/two", "team/three"] {
        hub.put_blob(repository, blob.clone());
    }
    for repository in ["team/without", "team/late"] {
        hub.put_blob(repository, "something else");
    }
    let wharf = Wharf::start(&hub).await;
    let path = |repository| blob_path(repository, &digest);
    let gate = Gate::after(1000);
    hub.fault(On::Blob(digest), Fault::Gate(gate.clone()));

    let leader = wharf.open(&path("team/one"), &[]).await;
    gate.halted(1).await;
    let follower = wharf.open(&path("team/two"), &[]).await;
    assert_eq!(follower.header("wharf-cache"), Some("coalesced"));
    assert_eq!((hub.blob_heads("team/one"), hub.blob_heads("team/two")), (0, 1));
    for repository in ["team/without", "team/late", "team/unheard-of"] {
        assert_eq!(wharf.get(&path(repository)).await.status, 404, "{repository}, in flight");
        assert_eq!(wharf.head(&path(repository)).await.status, 404, "{repository}, in flight");
    }
    gate.open();
    leader.expect(&blob).await;
    follower.expect(&blob).await;
    wharf.quiet().await;

    for repository in ["team/one", "team/two", "team/three", "team/three"] {
        let kept = wharf.get(&path(repository)).await;
        assert_eq!((kept.header("wharf-cache"), kept.bytes()), (Some("hit"), &blob));
    }
    assert_eq!((hub.blob_heads("team/one"), hub.blob_heads("team/two")), (0, 1));
    assert_eq!(hub.blob_heads("team/three"), 1);
    hub.put_blob("team/late", blob.clone());
    for repository in ["team/without", "team/late", "team/unheard-of"] {
        assert_eq!(wharf.get(&path(repository)).await.status, 404, "{repository}, a moment later");
    }
    wharf.clock.advance(std::time::Duration::from_secs(31));
    assert_eq!(wharf.get(&path("team/late")).await.bytes(), &blob);
    for repository in ["team/without", "team/unheard-of"] {
        assert_eq!(wharf.get(&path(repository)).await.status, 404, "{repository}, when kept");
    }
    assert_eq!(hub.blob_gets(&digest).len(), 1);
    assert_eq!(hub.blob_bytes_sent(&digest), blob.len() as u64);
    wharf.end().await;
}

#[tokio::test]
async fn followers_are_told_of_bytes_and_not_of_another_repositorys_failure() {
    let hub = FakeHub::start().await;
    let blob = noise("denied to one", 200_000);
    let digest = hub.put_blob("team/one", blob.clone());
    hub.put_blob("team/two", blob.clone());
    let wharf = Wharf::start(&hub).await;
    let gate = Gate::after(0);
    let denied = Fault::All(vec![Fault::status(403), Fault::Hold(gate.clone())]);
    hub.fault(On::Path("/v2/team/one/blobs/"), denied);

    let (one, two) = (blob_path("team/one", &digest), blob_path("team/two", &digest));
    let later = async {
        gate.halted(1).await;
        wharf.get(&two).await
    };
    let release = async {
        hub.until("the follower's permission", |_| hub.blob_heads("team/two") == 1).await;
        gate.open();
    };
    let (leader, follower, ()) = tokio::join!(wharf.get(&one), later, release);
    assert_eq!(leader.status, 403);
    assert_eq!(follower.bytes(), &blob);
    assert_eq!(hub.blob_gets(&digest).len(), 1);
    wharf.end().await;
}
