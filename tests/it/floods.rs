//! Floods from a few clients, and a pull beside them (bug classes: a few clients take all places, turns or memory; what they
//! took is not given back).

use std::{net::Ipv4Addr, process::Command, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::{Instant, interval, timeout},
};
use wharf::oci::Digest;

use crate::support::{FakeHub, Program, PushedImage, blob_path, client::get_from, deadline};

const REPO: &str = "library/app";
/// Above what it takes when all is quiet, which is much as tests build it: it stays below 128 MiB as it is released.
const GROWTH_MIB: f64 = 100.0;

/// Of so many addresses, each of which may have all of its connections.
const IDLERS: usize = 10;
const BEGINNERS: usize = 4;
const INVENTOR: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 3);
/// Of several addresses, with as many connections as each may have.
const COLLECTORS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 1, 4),
    Ipv4Addr::new(127, 0, 1, 5),
    Ipv4Addr::new(127, 0, 1, 6),
    Ipv4Addr::new(127, 0, 1, 7),
];
const DEVICE: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// Pulls the image as a device does: its tag, its manifest, its blobs.
async fn pull(wharf: &Program, tag: &str, image: &PushedImage) {
    let get = async |path: String| get_from(DEVICE, wharf.addr, &path, &[]).await;
    let child = image.child("linux/arm64");
    let manifest = format!("/v2/{REPO}/manifests/{}", child.manifest.digest);
    assert_eq!(get(format!("/v2/{REPO}/manifests/{tag}")).await.bytes(), &image.index.bytes);
    assert_eq!(get(manifest).await.bytes(), &child.manifest.bytes);
    for blob in &child.layers {
        assert_eq!(get(blob_path(REPO, &blob.digest)).await.bytes(), &blob.bytes);
    }
}

async fn connect_from(from: Ipv4Addr, wharf: &Program) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this machine");
    // Of a queue that is full, the system tells by a reset.
    socket.connect(wharf.addr).await.ok()
}

#[expect(clippy::print_stderr, reason = "the figures are worth having when all is well, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_comes_through_beside_floods_and_all_is_given_back() {
    const IDLE: usize = 2_000;
    // Told late by then, and 200 at a time: each thousand takes five seconds.
    const NAMES: usize = 1_000;
    const DIGESTS: usize = 1_000;
    // Both ends of every connection are of this machine.
    let own = std::process::id().to_string();
    let raised =
        Command::new("prlimit").args([&format!("--pid={own}"), "--nofile=16384:"]).status();
    assert!(raised.expect("prlimit runs").success());
    let hub = FakeHub::start().await;
    let image = |tag: &str| hub.push_image(REPO, tag, &[("linux", "arm64", None)], &[1 << 20; 3]);
    let first = image("first");
    let wharf = Program::start(&hub).await;
    pull(&wharf, "first", &first).await;
    let (quiet, own) = (wharf.peak_resident_bytes(), wharf.own_mib());

    let one_of =
        |net: u8, count: usize, n: usize| Ipv4Addr::new(127, 0, net, 1 + (n % count) as u8);
    let idle = stream::iter(0..IDLE).map(|n| connect_from(one_of(3, IDLERS, n), &wharf));
    let idle: Vec<_> = idle.buffer_unordered(64).collect().await;
    let begun = join_all((0..500).map(async |n| {
        let mut socket = connect_from(one_of(4, BEGINNERS, n), &wharf).await?;
        let _ = socket.write_all(b"GET /v2/ HTTP/1.1\r\nhost: wharf\r\nx-more: ").await;
        Some(socket)
    }))
    .await;
    let all = async {
        while wharf.metric("wharf_open_connections").await < (IDLE + 500) as f64 {
            tokio::task::yield_now().await;
        }
    };
    deadline("all of them to be open", all).await;
    let addr = wharf.addr;
    let inventing = tokio::spawn(async move {
        let invented = stream::iter(0..NAMES).map(async |n| {
            let path = format!("/v2/invented/name-{n}/manifests/latest");
            get_from(INVENTOR, addr, &path, &[]).await.status.as_u16()
        });
        invented.buffer_unordered(200).collect::<Vec<_>>().await
    });
    let collecting = tokio::spawn(async move {
        let asked = (0..DIGESTS).map(async |n| {
            let path = blob_path(REPO, &Digest::sha256(&n.to_be_bytes()));
            get_from(COLLECTORS[n % 4], addr, &path, &[]).await.status.as_u16()
        });
        stream::iter(asked).buffer_unordered(DIGESTS).collect::<Vec<_>>().await
    });
    // Cold and warm, for as long as the floods last.
    let (mut pulls, mut slowest) = (0, Duration::ZERO);
    while !inventing.is_finished() || !collecting.is_finished() {
        let tag = format!("tag-{pulls}");
        let cold = image(&tag);
        for _ in 0..2 {
            let begun = Instant::now();
            pull(&wharf, &tag, &cold).await;
            slowest = slowest.max(begun.elapsed());
            pulls += 1;
        }
    }
    let told = inventing.await.expect("no panic");
    assert!(told.iter().all(|status| [404, 429, 503].contains(status)), "{told:?}");
    let told = collecting.await.expect("no panic");
    assert!(told.iter().all(|status| [404, 429, 503].contains(status)), "{told:?}");
    let most = wharf.peak_resident_bytes();
    let [quiet, most] = [quiet, most].map(|bytes| bytes as f64 / f64::from(1 << 20));
    eprintln!(
        "resident: {quiet:.1} MiB quiet, {most:.1} at most; {pulls} pulls meanwhile, {slowest:?} the slowest"
    );
    assert!(pulls > 1, "the floods were over before a pull was");
    assert!(most - quiet < GROWTH_MIB, "{most:.1} MiB resident, {quiet:.1} before");

    drop((idle, begun));
    for metric in ["wharf_open_connections", "wharf_downloads_in_flight"] {
        deadline("what was taken to be given back", wharf.until_zero(metric)).await;
    }
    // What stays is sled's, most of it, as tests are built: 21 MiB for figures, touched when it first writes.
    let full = wharf.own_mib();
    let most = own + (full - own) / 2.0;
    assert!(full > own + 40.0, "{full:.1} MiB, {own:.1} before: nothing is there to give back");
    // That is looked for every few seconds, and done every twenty at most.
    let (mut looks, mut left) = (interval(Duration::from_millis(200)), wharf.own_mib());
    let given_back = timeout(Duration::from_secs(40), async {
        while left > most {
            looks.tick().await;
            left = wharf.own_mib();
        }
    });
    let in_time = given_back.await.is_ok();
    eprintln!("{left:.1} MiB left, {own:.1} before");
    assert!(in_time, "{left:.1} MiB left, {own:.1} before");
    pull(&wharf, "first", &first).await;
    wharf.end().await;
}
