//! Memory grows neither with the blob nor with its readers (bug class: a buffer per reader that fills when the
//! reader is slow, or a blob that passes through memory).

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
};

use crate::support::{FakeHub, Fault, Gate, On, Program, blob_path, client};

const REPO: &str = "library/busybox";
const MIB: usize = 1 << 20;
const READERS: usize = 200;
const LIMIT_MIB: f64 = 96.0;

#[expect(clippy::print_stderr, reason = "the figures are worth having when all is well, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_readers_of_one_cold_blob_fit_into_96_mib() {
    let hub = FakeHub::start().await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[64 * MIB]);
    let (blob, digest) = (image.layers[0].bytes.clone(), image.layers[0].digest);
    let wharf = Program::start(&hub).await;
    let idle = wharf.peak_resident_bytes();
    let gate = Gate::after(16 << 20);
    hub.fault(On::Blob(digest), Fault::Gate(gate.clone()));

    let (path, addr) = (blob_path(REPO, &digest), wharf.addr);
    let mut opening = JoinSet::new();
    for _ in 0..READERS {
        let path = path.clone();
        opening.spawn(async move {
            let mut reader = client::open("GET", addr, &path, &[]).await.expect("an answer begins");
            let begun = reader.read(MIB).await;
            (reader, begun)
        });
    }
    let readers = opening.join_all().await;
    gate.halted(1).await;
    gate.open();
    // Nobody reads: whatever is to be sent to 200 of them waits in wharf or in the system's own buffers.
    wharf.until_zero("wharf_downloads_in_flight").await;
    let waiting = wharf.peak_resident_bytes();

    let mut reading = JoinSet::new();
    let mut waiters = Vec::new();
    for (n, (reader, begun)) in readers.into_iter().enumerate() {
        assert!(blob[..begun.len()] == begun, "reader {n} began with other bytes");
        if n % 8 == 0 {
            let rest = blob.slice(begun.len()..);
            reading.spawn(async move { reader.expect(&rest).await });
        } else {
            waiters.push(reader);
        }
    }
    assert_eq!(reading.join_all().await.len(), READERS / 8);
    let peak = wharf.peak_resident_bytes();
    let [idle, waiting, peak] = [idle, waiting, peak].map(|bytes| bytes as f64 / MIB as f64);
    eprintln!("resident: {idle:.1} MiB idle, {waiting:.1} while all wait, {peak:.1} at most");
    assert!(peak < LIMIT_MIB, "{peak:.1} MiB resident");
    assert_eq!(hub.blob_gets(&digest).len(), 1);
    drop(waiters);
    wharf.end().await;
}

#[expect(clippy::print_stderr, reason = "the figures are worth having when all is well, too")]
#[tokio::test]
async fn a_connection_on_which_nothing_is_said_takes_a_few_kib() {
    const CONNECTIONS: usize = 800;
    // Of one client there are no more than 256. With hyper's buffers, each would take some 36 KiB, which is 28 MiB.
    const CLIENTS: usize = 4;
    const GROWTH_MIB: f64 = 16.0;
    let hub = FakeHub::start().await;
    let wharf = Program::start(&hub).await;
    let request = b"GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\n";
    let open = async |n: usize| {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = Ipv4Addr::new(127, 0, 1, 1 + (n % CLIENTS) as u8);
        socket.bind((from, 0).into()).expect("an address of this machine");
        let mut stream = socket.connect(wharf.addr).await.expect("wharf listens");
        // Every other one has asked something before.
        if n % 2 == 0 {
            stream.write_all(request).await.expect("sent");
            let count = stream.read(&mut [0; 1024]).await.expect("an answer");
            assert!(count > 0, "connection {n} was closed");
        }
        stream
    };
    drop(open(0).await);
    let idle = wharf.peak_resident_bytes();
    let mut connections = Vec::new();
    for n in 0..CONNECTIONS {
        connections.push(open(n).await);
    }
    let full = wharf.peak_resident_bytes();
    let growth = (full - idle) as f64 / MIB as f64;
    eprintln!("resident: {growth:.1} MiB more for {CONNECTIONS} connections");
    assert!(growth < GROWTH_MIB, "{growth:.1} MiB more for {CONNECTIONS} connections");
    // All of them are as good as new.
    for (n, stream) in connections.iter_mut().enumerate() {
        stream.write_all(request).await.expect("sent");
        let mut answer = [0; 1024];
        let count = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..count].starts_with(b"HTTP/1.1 200 "), "connection {n}");
    }
    drop(connections);
    wharf.until_zero("wharf_open_connections").await;
    wharf.end().await;
}
