//! Clients take turns (bug class: who comes with a thousand requests is served to the end before anybody else is).

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use wharf::oci::Digest;

use crate::support::{
    Challenge, FakeHub, Fault, Gate, On, PushedManifest, Wharf, blob_path,
    client::{Answer, get_from},
    deadline, noise,
};

const REPO: &str = "library/app";
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const DEVICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// As many as one client may have worked on.
const MANY: usize = 30;
const AT_ONCE: usize = 2;

fn get(from: Ipv4Addr, addr: SocketAddr, path: &str) -> JoinHandle<Answer> {
    let path = path.to_owned();
    tokio::spawn(async move { get_from(from, addr, &path, &[]).await })
}

/// Waits until so many stand in line.
async fn until_waiting(wharf: &Wharf, kind: &str, count: usize) {
    let metric = format!("wharf_waiting_for_turn{{kind=\"{kind}\"}}");
    let waiting = async {
        while wharf.metric(&metric) as usize != count {
            tokio::task::yield_now().await;
        }
    };
    deadline(&format!("{count} in line"), waiting).await;
}

async fn start() -> (FakeHub, Wharf) {
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.max_downloads = AT_ONCE;
        config.pull.limits.questions_per_registry = AT_ONCE;
    })
    .await;
    (hub, wharf)
}

/// The hub's requests that say one of `marks`, by its place among these, in the order in which they came.
fn asked(hub: &FakeHub, marks: &[String]) -> Vec<usize> {
    let log = hub.log();
    let of = |path: &str| marks.iter().position(|mark| path.contains(mark));
    log.iter().filter_map(|seen| of(&seen.path)).collect()
}

/// Lets what the hub was asked go on one by one until the device is asked for, which is the last of `marks`.
///
/// Two are asked of a crowd's when the device comes; the first place that is free goes to one more of the crowd, which is first
/// in the round, and the second to the device.
async fn assert_next_but_one(hub: &FakeHub, marks: &[String], gates: &[Gate]) {
    let device = marks.len() - 1;
    for turn in 0..2 {
        let at = asked(hub, marks);
        assert_eq!(at.len(), AT_ONCE + turn);
        assert!(!at.contains(&device), "no place was free");
        gates[at[turn]].open();
        let more = |_: &[_]| asked(hub, marks).len() > AT_ONCE + turn;
        hub.until("the next turn", more).await;
    }
    assert_eq!(asked(hub, marks).last(), Some(&device), "{:?}", asked(hub, marks));
}

#[tokio::test]
async fn a_clients_download_is_next_but_one_however_many_another_one_waits_for() {
    let (hub, wharf) = start().await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[10_000; MANY + 1]);
    // What a manifest names, asked for by nobody ahead.
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    let blobs = image.layers.into_iter().map(|layer| (layer.digest, layer.bytes)).collect();
    assert_taken_in_turn(hub, wharf, "download", blobs).await;
}

#[tokio::test]
async fn a_clients_unnamed_blob_is_next_but_one_however_many_another_one_asks_for() {
    let (hub, wharf) = start().await;
    let blobs = (0..=MANY).map(|n| noise(&format!("blob {n}"), 10_000));
    let blobs = blobs.map(|blob| (hub.put_blob(REPO, blob.clone()), blob)).collect();
    assert_taken_in_turn(hub, wharf, "unnamed", blobs).await;
}

/// All but the last are wanted by a crowd before the device wants that.
async fn assert_taken_in_turn(hub: FakeHub, wharf: Wharf, kind: &str, blobs: Vec<(Digest, Bytes)>) {
    let (digests, blobs): (Vec<Digest>, Vec<Bytes>) = blobs.into_iter().unzip();
    let gates: Vec<Gate> = digests.iter().map(|_| Gate::after(0)).collect();
    for (digest, gate) in digests.iter().zip(&gates) {
        hub.fault(On::Blob(*digest), Fault::Hold(gate.clone()));
    }
    let path = |n: usize| blob_path(REPO, &digests[n]);
    let mut open: Vec<_> = (0..MANY).map(|n| get(CROWD, wharf.addr, &path(n))).collect();
    until_waiting(&wharf, kind, MANY - AT_ONCE).await;
    open.push(get(DEVICE, wharf.addr, &path(MANY)));
    until_waiting(&wharf, kind, MANY + 1 - AT_ONCE).await;
    let marks: Vec<String> = digests.iter().map(Digest::encoded).collect();
    hub.until("two downloads", |_| asked(&hub, &marks).len() == AT_ONCE).await;
    assert_next_but_one(&hub, &marks, &gates).await;
    gates.iter().for_each(Gate::open);
    for (answer, blob) in join_all(open).await.into_iter().zip(&blobs) {
        assert_eq!(answer.expect("no panic").bytes(), blob);
    }
    until_waiting(&wharf, kind, 0).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_clients_question_is_next_but_one_however_many_another_one_asks() {
    const NAMES: [&str; 8] = [
        "library/a1/",
        "library/a2/",
        "library/a3/",
        "library/a4/",
        "library/a5/",
        "library/a6/",
        "library/a7/",
        "library/own/",
    ];
    let (hub, wharf) = start().await;
    let gates: Vec<Gate> = NAMES.iter().map(|_| Gate::after(0)).collect();
    for (name, gate) in NAMES.iter().zip(&gates) {
        hub.push_single(name.trim_end_matches('/'), "1", ("linux", "arm64", None), &[10]);
        hub.fault(On::Path(name), Fault::Hold(gate.clone()));
    }
    let crowd = NAMES.len() - 1;
    let ask = |from, n: usize| get(from, wharf.addr, &format!("/v2/{}tags/list", NAMES[n]));
    let mut open: Vec<_> = (0..crowd).map(|n| ask(CROWD, n)).collect();
    until_waiting(&wharf, "question", crowd - AT_ONCE).await;
    open.push(ask(DEVICE, crowd));
    until_waiting(&wharf, "question", crowd + 1 - AT_ONCE).await;
    let marks = NAMES.map(str::to_owned);
    hub.until("two questions", |_| asked(&hub, &marks).len() == AT_ONCE).await;
    assert_next_but_one(&hub, &marks, &gates).await;
    gates.iter().for_each(Gate::open);
    for answer in join_all(open).await {
        assert_eq!(answer.expect("no panic").status, 200);
    }
    wharf.end().await;
}

/// Of eight turns, those of blobs that nothing names.
const UNNAMED: usize = 2;

/// A wharf with eight turns, an image behind it, and a crowd that asks for so many blobs that are made up, as many of which as may
/// be the registry has been asked for, and does not answer.
struct Crowded {
    hub: FakeHub,
    wharf: Wharf,
    image: PushedManifest,
    gate: Gate,
    crowd: Vec<JoinHandle<Answer>>,
}

impl Crowded {
    async fn start(made_up: usize) -> Self {
        let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
        let wharf = Wharf::start_with(&hub, |config| config.pull.max_downloads = 8).await;
        let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[10_000]);
        let gate = Gate::after(0);
        let digests: Vec<_> =
            (0..made_up).map(|n| Digest::sha256(format!("{n}").as_bytes())).collect();
        for digest in &digests {
            hub.fault(On::Blob(*digest), Fault::Hold(gate.clone()));
        }
        let ask = |digest: &Digest| get(CROWD, wharf.addr, &blob_path(REPO, digest));
        let crowd = digests.iter().map(ask).collect();
        let marks: Vec<String> = digests.iter().map(Digest::encoded).collect();
        hub.until("all unnamed that may be", |_| asked(&hub, &marks).len() == UNNAMED).await;
        until_waiting(&wharf, "unnamed", made_up - UNNAMED).await;
        Self { hub, wharf, image, gate, crowd }
    }

    /// The image's layer, asked for from there.
    fn ask(&self, from: Ipv4Addr) -> JoinHandle<Answer> {
        get(from, self.wharf.addr, &blob_path(REPO, &self.image.layers[0].digest))
    }

    async fn learn_manifest(&self) {
        let manifest = self.wharf.get(&format!("/v2/{REPO}/manifests/1")).await;
        assert_eq!(manifest.status, 200);
    }

    async fn assert_comes(&self, asked: JoinHandle<Answer>) {
        let answer = deadline("the layer", asked).await.expect("no panic");
        assert_eq!(answer.bytes(), &self.image.layers[0].bytes);
    }

    /// Lets the registry say that there is nothing of what was made up.
    async fn end(self) {
        self.gate.open();
        for answer in join_all(self.crowd).await {
            assert_eq!(answer.expect("no panic").status, 404);
        }
        until_waiting(&self.wharf, "unnamed", 0).await;
        self.wharf.end().await;
        drop(self.hub);
    }
}

#[tokio::test]
async fn a_named_blob_is_asked_for_however_many_are_asked_for_that_nothing_names() {
    let site = Crowded::start(MANY).await;
    site.learn_manifest().await;
    site.assert_comes(site.ask(DEVICE)).await;
    site.end().await;
}

#[tokio::test]
async fn a_blob_that_a_manifest_names_meanwhile_waits_no_longer_among_the_unnamed() {
    let site = Crowded::start(UNNAMED).await;
    let early = site.ask(CROWD);
    until_waiting(&site.wharf, "unnamed", 1).await;
    site.learn_manifest().await;
    for asked in [site.ask(DEVICE), early] {
        site.assert_comes(asked).await;
    }
    site.end().await;
}

#[tokio::test]
async fn blobs_that_nothing_names_take_half_the_places_of_those_that_wait() {
    // Of eight that may run or wait.
    const PLACES: usize = 4;
    let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.max_downloads = 2;
        config.pull.limits.waiting_downloads = 6;
    })
    .await;
    let image = hub.push_single(REPO, "1", ("linux", "arm64", None), &[10_000; PLACES]);
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/1")).await.status, 200);
    let gate = Gate::after(0);
    hub.fault(On::Blobs, Fault::Hold(gate.clone()));
    let made_up = |n: usize| Digest::sha256(format!("{n}").as_bytes());
    let ask = |digest: &Digest| get(CROWD, wharf.addr, &blob_path(REPO, digest));
    let held: Vec<_> = (0..PLACES).map(|n| ask(&made_up(n))).collect();
    let full = async {
        while wharf.metric("wharf_downloads_in_flight") as usize != PLACES {
            tokio::task::yield_now().await;
        }
    };
    deadline("the places to be taken", full).await;
    let refused = wharf.get(&blob_path(REPO, &made_up(PLACES))).await;
    assert_eq!(refused.refusal(), (503, "TOOMANYREQUESTS".to_owned()));
    let pulled: Vec<_> = image.layers.iter().map(|layer| ask(&layer.digest)).collect();
    let joined = async {
        while wharf.metric("wharf_downloads_in_flight") as usize != 2 * PLACES {
            tokio::task::yield_now().await;
        }
    };
    deadline("the named to join", joined).await;
    gate.open();
    for (answer, layer) in join_all(pulled).await.into_iter().zip(&image.layers) {
        assert_eq!(answer.expect("no panic").bytes(), &layer.bytes);
    }
    for answer in join_all(held).await {
        assert_eq!(answer.expect("no panic").status, 404);
    }
    wharf.end().await;
}
