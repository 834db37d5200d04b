//! HTTP/2 on the registry address: devices pull over it, several blobs at a time.
//!
//! Bug class: what HTTP/1.1 bounds by one request a connection has no bound here: open answers, half heads, requests that
//! are taken back, answers that nobody takes, connections on which something always moves.
//!
//! Long, since each bound has a test.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use wharf::{
    config::Config,
    pull::ClientRule,
    server::{Access, AccessRule, ClientAuth, Users},
    upstream::{self, Terms},
};

use crate::{
    support::{
        Challenge, FakeHub, Fault, Host, Identity, On, Program, PushedManifest, TestCa, TlsClient,
        Wharf, blob_path, deadline,
        http2::{
            CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, Http2,
            PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        },
        noise, upstream,
    },
    tls::start_with,
};

/// Long enough for a machine that is busy with other tests to shake hands.
const PATIENCE: Duration = Duration::from_secs(2);
/// What clients in Go take unread.
const WINDOW: u32 = 4 << 20;

// Reasons ([RFC 9113 §7](https://www.rfc-editor.org/rfc/rfc9113#section-7)).
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn start(change: impl FnOnce(&mut Config)) -> (TlsClient, FakeHub, Wharf) {
    let ca = TestCa::new();
    let (hub, wharf) = start_with(&ca, None, change).await;
    (TlsClient::new(&ca, None).or_http2(), hub, wharf)
}

/// The odd numbers, which are a client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

async fn end(wharf: Wharf) {
    wharf.deserted().await;
    wharf.end().await;
}

#[tokio::test]
async fn devices_pull_over_http2() {
    let (client, hub, wharf) = start(|_| ()).await;
    let image =
        hub.push_single("library/app", "1", ("linux", "arm64", None), &[3_000_000, 70_000, 1]);
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let manifest = device.ask("GET", "/v2/library/app/manifests/1", &[]).await;
    assert_eq!(manifest.bytes(), &image.manifest.bytes);
    let head = device.ask("HEAD", "/v2/library/app/manifests/1", &[]).await;
    assert_eq!(head.header("docker-content-digest"), Some(&*image.manifest.digest.to_string()));
    let length = image.manifest.bytes.len().to_string();
    assert_eq!((head.header("content-length"), head.bytes().len()), (Some(&*length), 0));
    // Cold and warm, all at once on one connection.
    for _ in 0..2 {
        let blobs = image.layers.iter().chain([&image.config]);
        join_all(blobs.map(async |blob| {
            let answer = device.ask("GET", &blob_path("library/app", &blob.digest), &[]).await;
            assert_eq!(answer.bytes(), &blob.bytes);
            assert_eq!(answer.header("content-length"), Some(&*blob.bytes.len().to_string()));
        }))
        .await;
    }
    let layer = &image.layers[0];
    let path = blob_path("library/app", &layer.digest);
    for (range, from, to) in
        [("bytes=2999999-", 2_999_999, 3_000_000), ("bytes=10-70000", 10, 70_001)]
    {
        let part = device.ask("GET", &path, &[("range", range)]).await;
        assert_eq!((part.status.as_u16(), part.bytes()), (206, &layer.bytes.slice(from..to)));
    }
    let beyond = device.ask("GET", &path, &[("range", "bytes=3000000-")]).await;
    assert_eq!(beyond.status.as_u16(), 416);
    let etag = format!("\"{}\"", layer.digest);
    assert_eq!(device.ask("GET", &path, &[("if-none-match", &*etag)]).await.status.as_u16(), 304);
    let unknown = device.ask("GET", "/v2/library/app/manifests/2", &[]).await;
    assert_eq!(unknown.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(device.ask("PUT", &path, &[]).await.refusal(), (405, "UNSUPPORTED".to_owned()));
    assert_eq!(wharf.metric("wharf_open_connections"), 1.0);
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn a_body_that_is_wrong_never_looks_whole() {
    let (client, hub, wharf) = start(|_| ()).await;
    let good = noise("blob", 300_000);
    let digest = hub.put_blob("library/app", good);
    hub.fault(On::Blob(digest), Fault::FlipByte(200_000));
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let answer = device.ask("GET", &blob_path("library/app", &digest), &[]).await;
    answer.body.expect_err("a body that is cut");
    // It is the stream that ends, and not the others' connection.
    assert_eq!(device.ask("GET", "/v2/", &[]).await.status, 200);
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn who_a_device_is_and_what_it_calls_wharf_counts_over_http2() {
    let ca = TestCa::new();
    let rule = |subject: Option<&str>, host: Option<&str>, platform: &str| ClientRule {
        net: None,
        subject: subject.map(Into::into),
        listener: None,
        host: host.map(Into::into),
        platforms: vec![platform.parse().expect("a platform")],
    };
    let (hub, wharf) = start_with(&ca, Some((&ca, ClientAuth::Optional)), |config| {
        config.pull.platforms.clients = vec![
            rule(Some("zero-1"), None, "linux/arm/v6"),
            rule(None, Some("127.0.0.1"), "linux/arm64"),
        ];
    })
    .await;
    let platforms = [("linux", "arm", Some("v6")), ("linux", "arm64", None)];
    hub.push_image("library/busybox", "1", &platforms, &[1000]);
    let resolved = |platform: &str| {
        let (text, _) = wharf.metrics.render();
        let text = String::from_utf8(text).expect("text");
        let start =
            format!("wharf_platform_resolutions_total{{platform=\"{platform}\",signal=\"rule\"}}");
        text.lines().any(|line| line.starts_with(&start))
    };
    for (identity, platform) in
        [(Some(ca.client_identity("zero-1")), "linux/arm/v6"), (None, "linux/arm64")]
    {
        assert!(!resolved(platform), "{platform}");
        let client = TlsClient::new(&ca, identity.as_ref()).or_http2();
        let device = Http2::connect(&client, wharf.addr, WINDOW).await;
        device.ask("GET", "/v2/library/busybox/manifests/1", &[]).await;
        assert!(resolved(platform), "{platform}");
    }
    end(wharf).await;
}

#[tokio::test]
async fn who_may_pull_what_counts_over_http2() {
    // "U*U", of the test vectors of crypt_blowfish.
    const ALICE: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
    const RIGHT: [(&str, &str); 1] = [("authorization", "Basic YWxpY2U6VSpV")];
    const WRONG: [(&str, &str); 1] = [("authorization", "Basic YWxpY2U6VSpW")];
    let (client, hub, wharf) = start(|config| {
        config.server.door.users = Some(Users::parse(ALICE).expect("good lines"));
        config.server.door.sign_in = true;
        config.server.access = Access::new(vec![AccessRule {
            subject: None,
            user: Some("alice".parse().expect("a pattern")),
            clients: Vec::new(),
            listener: None,
            allow: vec!["docker.io/library/*".parse().expect("a pattern")],
        }]);
    })
    .await;
    let platform = ("linux", "arm64", None);
    let image = hub.push_single("library/app", "1", platform, &[1000]);
    let secret = hub.push_single("secret/app", "1", platform, &[2000]);
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let blob = |name: &str, image: &PushedManifest| blob_path(name, &image.layers[0].digest);
    let (served, refused) = (blob("library/app", &image), blob("secret/app", &secret));

    for path in ["/v2/", "/v2/library/app/manifests/1", &served] {
        for (headers, said) in [(&[][..], "sign in"), (&WRONG, "wrong")] {
            let answer = device.ask("GET", path, headers).await;
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Basic realm=\"wharf\""), "{challenge}");
            let body = String::from_utf8_lossy(answer.bytes()).into_owned();
            assert!(body.contains(said), "{path}: {body}");
            assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".to_owned()), "{path}");
        }
    }
    for path in ["/v2/secret/app/manifests/1", &refused] {
        let answer = device.ask("GET", path, &RIGHT).await;
        assert_eq!(answer.refusal(), (403, "DENIED".to_owned()), "{path}");
    }
    assert_eq!(hub.log().len(), 0, "nobody was to be asked for that");
    assert_eq!(device.ask("GET", &served, &RIGHT).await.bytes(), &image.layers[0].bytes);
    // Who was let in once on a connection has to say so again.
    assert_eq!(device.ask("GET", &served, &[]).await.status.as_u16(), 401);
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn what_a_registry_gives_to_one_account_is_not_anothers_over_http2() {
    const ALICE: (&str, &str) = ("authorization", "Basic YWxpY2U6VSpV");
    const MALLORY: (&str, &str) = ("authorization", "Basic bWFsbG9yeTpVKlU=");
    let site = FakeHub::builder().challenge(Challenge::Bearer).without_redirect().start().await;
    let image = site.push_single("team/app", "1", ("linux", "arm64", None), &[1000]);
    site.allow("alice", "U*U", "team/app");
    let (client, _hub, wharf) = start(|config| {
        let registry = "registry.lan".parse().expect("a registry");
        let hour = Duration::from_secs(3600);
        let clients = Some(Terms { ttl: hour, offline_grace: hour });
        let own = upstream(registry, &[&site.url(Host::Registry)]);
        config.upstreams.push(upstream::Config { clients, ..own });
    })
    .await;
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let layer = &image.layers[0];
    let path = blob_path("registry.lan/team/app", &layer.digest);
    for _ in 0..2 {
        assert_eq!(device.ask("GET", &path, &[]).await.status, 401);
        assert_ne!(device.ask("GET", &path, &[MALLORY]).await.status, 200);
        // Kept from here on; what one account was given on this connection is not the others'.
        assert_eq!(device.ask("GET", &path, &[ALICE]).await.bytes(), &layer.bytes);
    }
    drop(device);
    end(wharf).await;
}

/// The settings that wharf announces, by their numbers.
async fn settings(frames: &mut Frames) -> Vec<(u16, u32)> {
    let settings = frames.next_of(SETTINGS).await.expect("settings");
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let pair = |pair: &[u8]| (number(&pair[..2]) as u16, number(&pair[2..]));
    settings.payload.chunks(6).map(pair).collect()
}

#[tokio::test]
async fn a_connection_has_so_many_requests_at_once_and_no_more() {
    let (client, _hub, wharf) = start(|_| ()).await;
    let mut device = Frames::connect(&client, wharf.addr, 0).await;
    let announced = settings(&mut device).await;
    let most = announced.iter().find(|(number, _)| *number == 3).expect("a number of streams").1;
    assert!(announced.contains(&(6, 32 * 1024)), "the length of heads: {announced:?}");
    // None of the answers is taken.
    let asked: Vec<_> = streams(most + 1).map(|stream| Frame::get(stream, "/v2/")).collect();
    assert!(device.send(&asked).await);
    let refused = device.next_of(RST_STREAM).await.expect("a refusal");
    assert_eq!((refused.stream, refused.reason()), (2 * most + 1, REFUSED_STREAM));
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn open_answers_of_one_client_count_as_its_connections_do() {
    const MOST: usize = 5;
    let (client, hub, wharf) =
        start(|config| config.server.max_connections_per_client = MOST).await;
    let path = blob_path("library/app", &hub.put_blob("library/app", noise("large", 1 << 20)));
    let devices = [
        Http2::connect(&client, wharf.addr, 1000).await,
        Http2::connect(&client, wharf.addr, 1000).await,
    ];
    let mut unread = Vec::new();
    for n in 0..MOST {
        unread.push(devices[n % 2].open("GET", &path, &[]).await.expect("an answer"));
    }
    for device in &devices {
        let refused = device.ask("GET", "/v2/", &[]).await;
        assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("5"));
    }
    let read = unread.remove(0).rest().await;
    assert_eq!(read.bytes().len(), 1 << 20);
    let answered = async { while devices[1].ask("GET", "/v2/", &[]).await.status != 200 {} };
    deadline("the place to be free again", answered).await;
    drop((unread, devices));
    end(wharf).await;
}

#[tokio::test]
async fn the_limits_on_heads_hold_over_http2_as_they_are_configured() {
    let (client, _hub, wharf) = start(|config| {
        (config.server.headers, config.server.header_bytes) = (16, 4096);
    })
    .await;
    let mut frames = Frames::connect(&client, wharf.addr, 100).await;
    let announced = settings(&mut frames).await;
    assert!(announced.contains(&(6, 4096)), "the length of heads: {announced:?}");
    drop(frames);
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let names: Vec<_> = (0..17).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    assert_eq!(device.ask("GET", "/v2/", &many[..10]).await.status.as_u16(), 200);
    assert_eq!(device.ask("GET", "/v2/", &many).await.refusal(), (431, "UNSUPPORTED".to_owned()));
    assert_eq!(wharf.metric("wharf_limit_reached_total{limit=\"head\"}"), 1.0);
    let long = "y".repeat(5000);
    assert_eq!(device.ask("GET", "/v2/", &[("x", &*long)]).await.status.as_u16(), 431);
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn heads_are_no_longer_than_over_http_1() {
    let (client, _hub, wharf) = start(|_| ()).await;
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    let names: Vec<_> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    assert_eq!(device.ask("GET", "/v2/", &many[..90]).await.status.as_u16(), 200);
    assert_eq!(device.ask("GET", "/v2/", &many).await.refusal(), (431, "UNSUPPORTED".to_owned()));
    drop(device);
    // Longer than was announced.
    let mut device = Frames::connect(&client, wharf.addr, 100).await;
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x7f];
    field.extend_from_slice(&[b'x'; 16_256]);
    let Frame { payload: mut block, .. } = Frame::get(1, "/v2/");
    let first = Frame::new(HEADERS, END_STREAM, 1, &block);
    block.clear();
    (0..3).for_each(|_| block.extend_from_slice(&field));
    let mut frames = vec![first];
    frames.extend(block.chunks(16_000).map(|part| Frame::new(CONTINUATION, 0, 1, part)));
    frames.last_mut().expect("some").flags = END_HEADERS;
    assert!(device.send(&frames).await);
    loop {
        let Some(frame) = device.next().await else { break };
        assert_ne!(frame.kind, DATA, "it was answered");
        if frame.stream == 1 || frame.kind == GOAWAY {
            break;
        }
    }
    drop(device);
    end(wharf).await;
}

#[tokio::test]
async fn a_head_that_never_ends_ends_its_connection() {
    let (client, _hub, wharf) = start(|_| ()).await;
    for part in [&[][..], &[0x82; 16_000]] {
        let mut device = Frames::connect(&client, wharf.addr, 100).await;
        let Frame { payload, .. } = Frame::get(1, "/v2/");
        assert!(device.send(&[Frame::new(HEADERS, END_STREAM, 1, &payload)]).await);
        let endless = vec![Frame::new(CONTINUATION, 0, 1, part); 10];
        let mut sent = 0;
        while sent < 10_000 && device.send(&endless).await {
            sent += endless.len();
        }
        assert!(sent < 10_000, "it takes all that comes");
    }
    end(wharf).await;
}

#[tokio::test]
async fn cve_2023_44487_requests_that_are_taken_back_at_once_end_their_connection() {
    let (client, hub, wharf) = start(|_| ()).await;
    let mut device = Frames::connect(&client, wharf.addr, 100).await;
    let digest = hub.put_blob("library/app", noise("blob", 1000));
    let path = blob_path("library/app", &digest);
    let rapid = streams(2000).flat_map(|stream| [Frame::get(stream, &path), Frame::reset(stream)]);
    // The other side may have heard enough before all is sent.
    device.send(&rapid.collect::<Vec<_>>()).await;
    if let Some(away) = device.next_of(GOAWAY).await {
        assert_eq!(away.reason(), ENHANCE_YOUR_CALM);
    }
    device.rest().await;
    end(wharf).await;
}

#[tokio::test]
async fn requests_that_are_taken_back_half_way_end_their_connection() {
    const TRIES: u32 = 500;
    let (client, _hub, wharf) = start(|_| ()).await;
    // Each is taken back when its answer begins: nothing is pending then that HTTP/2 itself could count.
    let mut device = Frames::connect(&client, wharf.addr, 0).await;
    let mut begun = 0;
    for stream in streams(TRIES) {
        if !device.send(&[Frame::get(stream, "/v2/")]).await
            || device.next_of(HEADERS).await.is_none()
            || !device.send(&[Frame::reset(stream)]).await
        {
            break;
        }
        begun += 1;
    }
    assert!((100..200).contains(&begun), "{begun} were begun");
    wharf.deserted().await;
    assert_eq!(wharf.metric("wharf_limit_reached_total{limit=\"taken_back\"}"), 1.0);
    // Not so those who let most be answered.
    let mut device = Frames::connect(&client, wharf.addr, 2).await;
    let mut numbers = streams(2 * TRIES);
    for _ in 0..TRIES {
        for is_taken_back in [false, true] {
            let stream = numbers.next().expect("enough");
            assert!(device.send(&[Frame::get(stream, "/v2/")]).await);
            device.next_of(HEADERS).await.expect("an answer");
            if is_taken_back {
                assert!(device.send(&[Frame::reset(stream)]).await);
            } else {
                device.next_of(DATA).await.expect("all of it");
            }
        }
    }
    drop(device);
    end(wharf).await;
}

/// Sends frames of this kind on a connection, and reads what comes back, until it is ended.
async fn flood(client: &TlsClient, addr: SocketAddr, frame: &Frame) -> Vec<Frame> {
    let mut device = Frames::connect(client, addr, 100).await;
    let mut heard = Vec::new();
    while device.send(std::slice::from_ref(frame)).await {
        match device.next().await {
            Some(frame) if frame.kind == GOAWAY => heard.push(frame),
            Some(_) => {}
            None => break,
        }
    }
    heard
}

#[tokio::test]
async fn pings_and_settings_are_no_requests() {
    let (client, _hub, wharf) = start(|config| config.server.header_timeout = PATIENCE).await;
    let (ping, settings) =
        (Frame::new(PING, 0, 0, &[0; 8]), Frame::new(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]));
    let (by_ping, by_settings) =
        tokio::join!(flood(&client, wharf.addr, &ping), flood(&client, wharf.addr, &settings));
    for heard in [by_ping, by_settings] {
        assert_eq!(heard.first().map(Frame::reason), Some(NO_ERROR), "it is told before");
    }
    end(wharf).await;
}

#[tokio::test]
async fn whoever_sends_frames_and_reads_none_is_cut_off() {
    let (client, _hub, wharf) = start(|config| config.server.client_timeout = PATIENCE).await;
    for frame in [Frame::new(PING, 0, 0, &[0; 8]), Frame::new(SETTINGS, 0, 0, &[])] {
        let mut device = Frames::connect(&client, wharf.addr, 100).await;
        let flood = vec![frame; 10_000];
        // Acknowledgements fill the way back: nothing is taken in any more, and then it is over.
        let ended = async { while device.send(&flood).await {} };
        deadline("the connection to end", ended).await;
    }
    end(wharf).await;
}

#[tokio::test]
async fn half_a_head_and_silence_are_ended() {
    let (client, _hub, wharf) = start(|config| config.server.header_timeout = PATIENCE).await;
    let Frame { payload, .. } = Frame::get(1, "/v2/");
    let half = Frame::new(HEADERS, END_STREAM, 1, &payload[..3]);
    let hang = async |frames: Vec<Frame>| {
        let mut device = Frames::connect(&client, wharf.addr, 100).await;
        assert!(device.send(&frames).await);
        device.rest().await.iter().any(|frame| frame.kind == GOAWAY)
    };
    let (is_told, _, mute) = tokio::join!(hang(Vec::new()), hang(vec![half]), async {
        // Agreed on HTTP/2, and not a word of it.
        let mut stream = client.connect(wharf.addr).await.expect("a handshake");
        let mut heard = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard);
        deadline("the connection to end", read).await
    });
    assert!(is_told);
    drop(mute);
    end(wharf).await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_cut_and_not_its_neighbours() {
    let (client, hub, wharf) = start(|config| config.server.client_timeout = PATIENCE).await;
    let path = blob_path("library/app", &hub.put_blob("library/app", noise("large", 1 << 20)));
    // Nothing of it, some of it, all but the last byte.
    for window in [0, 70_000, (1 << 20) - 1] {
        let mut device = Frames::connect(&client, wharf.addr, window).await;
        let more = Frame::new(WINDOW_UPDATE, 0, 0, &(4_u32 << 20).to_be_bytes());
        assert!(device.send(&[more, Frame::get(1, &path)]).await);
        let mut taken = 0;
        let cut = loop {
            let frame = device.next().await.expect("the connection stays");
            match frame.kind {
                DATA => taken += frame.payload.len(),
                RST_STREAM => break frame,
                _ => {}
            }
        };
        assert_eq!((cut.stream, cut.reason(), taken), (1, CANCEL, window as usize));
        assert!(device.send(&[Frame::get(3, "/v2/")]).await);
        let answered = device.next_of(HEADERS).await.expect("an answer");
        assert_eq!(answered.stream, 3);
    }
    end(wharf).await;
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_while_its_answer_is_made() {
    let (client, hub, wharf) = start(|config| config.server.header_timeout = PATIENCE).await;
    let digest = hub.put_blob("library/app", noise("blob", 100_000));
    hub.fault(On::Blob(digest), Fault::Stall);
    let mut device = Frames::connect(&client, wharf.addr, 100).await;
    assert!(device.send(&[Frame::get(1, &blob_path("library/app", &digest))]).await);
    let ping = device.next_of(PING).await.expect("a question whether it is there");
    assert_eq!(ping.payload.len(), 8);
    // It does not answer.
    let rest = device.rest().await;
    assert!(rest.iter().all(|frame| frame.kind != RST_STREAM), "{rest:?}");
    drop(device);
    wharf.deserted().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_stop_lets_open_answers_end_and_waits_for_nobody_who_is_quiet() {
    let drain = |config: &mut Config| config.server.drain = Duration::from_secs(600);
    let (client, hub, wharf) = start(drain).await;
    let blob = noise("large", 3 << 20);
    let path = blob_path("library/app", &hub.put_blob("library/app", blob.clone()));
    let (device, quiet) = (
        Http2::connect(&client, wharf.addr, 1000).await,
        Http2::connect(&client, wharf.addr, 1000).await,
    );
    assert_eq!(quiet.ask("GET", "/v2/", &[]).await.status, 200);
    // This one does not even read.
    let dead = Frames::connect(&client, wharf.addr, 100).await;
    let mut open = device.open("GET", &path, &[]).await.expect("an answer");
    let first = open.read(1).await;
    let (rest, ()) = tokio::join!(
        async {
            quiet.until_ended().await;
            open.rest().await
        },
        wharf.stop()
    );
    assert_eq!([&first[..], &rest.bytes()[..]].concat(), blob);
    device.until_ended().await;
    drop(dead);
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_no_more_than_two_pieces_each() {
    const CONNECTIONS: usize = 8;
    const EACH: u32 = 32;
    const PART: u32 = 70_000;
    // As much again for what the threads of a busy machine hold.
    const GROWTH_MAX: u64 = 2 * (CONNECTIONS as u64 * EACH as u64) * 2 * 64 * 1024;
    let (ca, hub) = (TestCa::new(), FakeHub::start().await);
    let site = Program::site(&hub, "[server.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n");
    let Identity { cert, key } = ca.server_identity();
    for (name, text) in [("server.pem", cert), ("server.key", key)] {
        std::fs::write(site.path().join(name), text).expect("written");
    }
    let wharf = Program::start_in(site).await;
    let client = TlsClient::new(&ca, None).or_http2();
    let blob = noise("large", 4 << 20);
    let path = blob_path("library/app", &hub.put_blob("library/app", blob.clone()));
    let device = Http2::connect(&client, wharf.addr, WINDOW).await;
    assert_eq!(device.ask("GET", &path, &[]).await.bytes(), &blob);
    drop(device);
    let before = wharf.peak_resident_bytes();
    let unread = join_all((0..CONNECTIONS).map(async |_| {
        let mut device = Frames::connect(&client, wharf.addr, PART).await;
        let more = Frame::new(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        assert!(device.send(&[more]).await);
        let asked: Vec<_> = streams(EACH).map(|stream| Frame::get(stream, &path)).collect();
        assert!(device.send(&asked).await);
        let mut taken = 0;
        while taken < (EACH * PART) as usize {
            taken += device.next_of(DATA).await.expect("a part of each").payload.len();
        }
        device
    }))
    .await;
    let growth = wharf.peak_resident_bytes() - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes more for {CONNECTIONS} times {EACH} answers");
    drop(unread);
    wharf.until_zero("wharf_open_connections").await;
    wharf.end().await;
}
