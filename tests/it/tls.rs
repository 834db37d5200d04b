//! TLS on the registry address: devices pull over it, and show who they are.
//!
//! Bug class: a handshake that fails, hangs or is none of TLS keeps others waiting, is not told why, or lets in
//! somebody who has not shown what must be shown.

use std::time::Duration;

use futures_util::future::join_all;
use rustls::{
    HandshakeKind, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use wharf::{
    config::Config,
    pull::ClientRule,
    server::{ClientAuth, Clients, Tls},
};

use crate::support::{
    FakeHub, Identity, PushedManifest, TestCa, TlsClient, Wharf, blob_path, client, deadline, noise,
};

const PING: &str = "GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\n";

/// Long enough for a machine that is busy with other tests to shake hands.
const PATIENCE: Duration = Duration::from_secs(2);

const EACH_VERSION: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A wharf that speaks TLS by certificates of `ca`, and believes `clients` about clients.
pub(crate) async fn start_with(
    ca: &TestCa,
    clients: Option<(&TestCa, ClientAuth)>,
    change: impl FnOnce(&mut Config),
) -> (FakeHub, Wharf) {
    let hub = FakeHub::start().await;
    let Identity { cert, key } = ca.server_identity();
    let clients = clients.map(|(ca, auth)| believing(ca, None, auth));
    let tls = Tls::new(cert.as_bytes(), key.as_bytes(), clients).expect("good files");
    let wharf = Wharf::start_with(&hub, |config| {
        config.server.door.tls = Some(tls);
        change(config);
    });
    let wharf = wharf.await;
    (hub, wharf)
}

/// Believes the certificates of `ca`, without those that a list of its own has taken back.
fn believing(ca: &TestCa, revoked: Option<String>, auth: ClientAuth) -> Clients {
    let authorities = ca.pem().as_bytes().to_vec();
    Clients { authorities, revoked: revoked.map(String::into_bytes), auth }
}

/// Waits until as many connections are open.
async fn until_open(wharf: &Wharf, count: f64) {
    let open = async {
        while (wharf.metric("wharf_open_connections") - count).abs() > 0.5 {
            tokio::task::yield_now().await;
        }
    };
    deadline(&format!("{count} open connections"), open).await;
}

/// How wharf refuses a client; in TLS 1.3 that comes after the client's side of the handshake.
async fn refusal(client: &TlsClient, wharf: &Wharf) -> String {
    match client.send_raw(wharf.addr, PING.as_bytes()).await {
        Ok(heard) => panic!("it was let in: {}", heard.escape_ascii()),
        Err(error) => error.to_string(),
    }
}

async fn is_let_in(client: &TlsClient, wharf: &Wharf) {
    assert_eq!(client.get(wharf.addr, "/v2/").await.status, 200);
}

async fn end(wharf: Wharf) {
    wharf.deserted().await;
    wharf.end().await;
}

#[tokio::test]
async fn devices_pull_over_tls() {
    let ca = TestCa::new();
    let (hub, wharf) = start_with(&ca, None, |_| ()).await;
    let image = hub.push_single("library/app", "1", ("linux", "arm64", None), &[3_000_000]);
    for version in EACH_VERSION {
        let client = TlsClient::speaking(&[version], &ca, None);
        let manifest = client.get(wharf.addr, "/v2/library/app/manifests/1").await;
        assert_eq!(manifest.bytes(), &image.manifest.bytes);
        let blob = client.get(wharf.addr, &blob_path("library/app", &image.layers[0].digest)).await;
        assert_eq!(blob.bytes(), &image.layers[0].bytes);
    }
    let spoken = TlsClient::new(&ca, None).connect(wharf.addr).await.expect("a handshake");
    assert_eq!(spoken.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    drop(spoken);
    // Somebody who does not know the authority does not believe wharf.
    let stranger = TlsClient::new(&TestCa::new(), None).connect(wharf.addr).await;
    assert!(stranger.is_err());
    end(wharf).await;
}

#[tokio::test]
async fn only_good_certificates_are_believed() {
    let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
    let known = devices.client_identity("device-1");
    let expired = devices.expired_identity("device-1");
    let strange = TestCa::named("others").client_identity("device-1");
    for auth in [ClientAuth::Optional, ClientAuth::Required] {
        let (_hub, wharf) = start_with(&ca, Some((&devices, auth)), |_| ()).await;
        for version in EACH_VERSION {
            let client =
                |identity: Option<&Identity>| TlsClient::speaking(&[version], &ca, identity);
            is_let_in(&client(Some(&known)), &wharf).await;
            let refused = refusal(&client(Some(&expired)), &wharf).await;
            assert!(refused.ends_with("alert: CertificateExpired"), "{version:?}: {refused}");
            let refused = refusal(&client(Some(&strange)), &wharf).await;
            assert!(refused.ends_with("alert: UnknownCA"), "{version:?}: {refused}");
            match auth {
                ClientAuth::Optional => is_let_in(&client(None), &wharf).await,
                ClientAuth::Required => {
                    let refused = refusal(&client(None), &wharf).await;
                    assert!(refused.contains("fatal alert"), "{version:?}: {refused}");
                }
            }
        }
        let unread =
            wharf.metric(r#"wharf_requests_total{endpoint="other",outcome="client_error"}"#);
        assert_eq!(unread, 0.0, "who is refused has not asked for anything");
        end(wharf).await;
    }
}

#[tokio::test]
async fn sessions_are_taken_up_again() {
    let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
    let known = devices.client_identity("device-1");
    let clients = Some((&devices, ClientAuth::Required));
    let (_hub, wharf) = start_with(&ca, clients, |_| ()).await;
    for version in EACH_VERSION {
        let client = TlsClient::speaking(&[version], &ca, Some(&known));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let stream = client.connect(wharf.addr).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
            let answer = client::over(stream, "GET", wharf.addr, "/v2/", &[]).await;
            assert_eq!(answer.expect("an answer").rest().await.status, 200);
        }
    }
    end(wharf).await;
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let ca = TestCa::new();
    let (_hub, wharf) = start_with(&ca, None, |_| ()).await;
    let answer = client::get(wharf.addr, "/v2/", &[]).await;
    assert_eq!(answer.refusal(), (400, "UNSUPPORTED".to_owned()));
    assert!(answer.json()["errors"][0]["message"].as_str().expect("text").contains("https://"));
    assert_eq!(answer.header("connection"), Some("close"));
    let long =
        format!("PUT /v2/ HTTP/1.1\r\ncontent-length: 500000\r\n\r\n{}", "x".repeat(500_000));
    for bytes in [long.as_bytes(), b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", &[0; 64], b"\x80\x2e\x01"]
    {
        let heard = client::send_raw(wharf.addr, bytes).await;
        assert!(heard.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{}", heard.escape_ascii());
    }
    // Begins as TLS does: the answer is an alert.
    for bytes in [&b"\x16nonsense"[..], &[22; 20_000]] {
        let heard = client::send_raw(wharf.addr, bytes).await;
        assert!(heard.is_empty() || heard[0] == 21, "{}", heard.escape_ascii());
    }
    end(wharf).await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_over_tls_too() {
    let ca = TestCa::new();
    let (_hub, wharf) = start_with(&ca, None, |_| ()).await;
    let large = format!("GET /v2/ HTTP/1.1\r\ncookie: {}\r\n\r\n", "x".repeat(900_000));
    for version in EACH_VERSION {
        let client = TlsClient::speaking(&[version], &ca, None);
        for (bytes, answers) in [
            ("nonsense\r\n\r\n", &["400"][..]),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["505"]),
            (&large, &["431"]),
            (&format!("{PING}nonsense\r\n\r\n"), &["200", "400"]),
        ] {
            let heard = client.send_raw(wharf.addr, bytes.as_bytes()).await.expect("a clean end");
            let heard = String::from_utf8(heard).expect("text");
            let heads = heard.split("HTTP/1.1 ").filter(|rest| rest.starts_with(char::is_numeric));
            let statuses: Vec<_> = heads.map(|head| &head[..3]).collect();
            assert_eq!(statuses, answers, "{heard}");
            let (_, body) = heard.rsplit_once("\r\n\r\n").expect("a body");
            let body: wharf::oci::ErrorBody =
                serde_json::from_str(body).expect("an OCI error body");
            assert_eq!(body.errors.len(), 1);
        }
    }
    end(wharf).await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut_short() {
    let ca = TestCa::new();
    let impatient = |config: &mut Config| config.server.header_timeout = PATIENCE;
    let (_hub, wharf) = start_with(&ca, None, impatient).await;
    let hello = TlsClient::new(&ca, None).hello();
    let hang = async |bytes: &[u8]| {
        let mut socket = TcpStream::connect(wharf.addr).await.expect("wharf listens");
        socket.write_all(bytes).await.expect("sent");
        // Held open: wharf ends it.
        let mut heard = Vec::new();
        let ended = socket.read_to_end(&mut heard);
        deadline("wharf to end a handshake", ended).await.expect("not reset");
        heard
    };
    let (silence, half, whole) =
        tokio::join!(hang(b""), hang(&hello[..hello.len() / 2]), hang(&hello));
    assert_eq!((silence, half), (Vec::new(), Vec::new()));
    assert_eq!(whole.first(), Some(&22), "its side of the handshake");
    end(wharf).await;
}

#[tokio::test]
async fn whoever_does_not_read_is_cut_off_over_tls_too() {
    let ca = TestCa::new();
    let impatient = |config: &mut Config| config.server.client_timeout = PATIENCE;
    let (hub, wharf) = start_with(&ca, None, impatient).await;
    let path = blob_path("library/app", &hub.put_blob("library/app", noise("large", 12 << 20)));
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a TCP socket has the option");
    let socket = socket.connect(wharf.addr).await.expect("wharf listens");
    let client = TlsClient::new(&ca, None);
    let mut stream = client.secure(socket).await.expect("a handshake");
    let request = format!("GET {path} HTTP/1.1\r\nhost: wharf\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    until_open(&wharf, 1.0).await;
    wharf.deserted().await;
    let mut received = Vec::new();
    let ended = deadline("the end of the connection", stream.read_to_end(&mut received)).await;
    assert!(ended.is_err() && received.len() < 12 << 20, "the whole blob in no time");
    wharf.end().await;
}

#[tokio::test]
async fn handshakes_that_hang_keep_nobody_waiting() {
    const HANGING: usize = 200;
    let ca = TestCa::new();
    // The last permit is for the one who speaks.
    let room = |config: &mut Config| {
        config.server.max_connections = HANGING + 1;
        config.server.drain = Duration::from_secs(600);
    };
    let (hub, wharf) = start_with(&ca, None, room).await;
    let blob = noise("blob", 100_000);
    let path = blob_path("library/app", &hub.put_blob("library/app", blob.clone()));
    let client = TlsClient::new(&ca, None);
    let half = &client.hello()[..100];
    let hanging = join_all((0..HANGING).map(|_| async {
        let mut socket = TcpStream::connect(wharf.addr).await.expect("wharf listens");
        socket.write_all(half).await.expect("sent");
        socket
    }));
    let hanging = deadline("connections", hanging).await;
    until_open(&wharf, HANGING as f64).await;
    assert_eq!(client.get(wharf.addr, &path).await.bytes(), &blob);
    until_open(&wharf, HANGING as f64).await;
    // Nor do they hold up a stop: this one waits for less than the drain time.
    wharf.end().await;
    drop(hanging);
}

#[tokio::test]
async fn a_certificate_tells_which_platform_a_device_has_and_what_it_took_is_its_own() {
    let ca = TestCa::new();
    let (hub, wharf) = start_with(&ca, Some((&ca, ClientAuth::Optional)), |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.platforms.clients.push(ClientRule {
            net: None,
            subject: Some("zero-1".into()),
            listener: None,
            host: None,
            platforms: vec!["linux/arm/v6".parse().expect("a platform")],
        });
    })
    .await;
    let platforms =
        [("linux", "amd64", None), ("linux", "arm", Some("v6")), ("linux", "arm64", None)];
    let image = hub.push_image("library/busybox", "1", &platforms, &[1000]);
    let next = hub.push_image("library/busybox", "2", &platforms, &[1000]);
    let device = |name: &str| TlsClient::new(&ca, Some(&ca.client_identity(name)));
    let is_whole = |child: &PushedManifest| {
        let parts = child.layers.iter().chain([&child.config, &child.manifest]);
        parts.into_iter().all(|part| wharf.blob_file(&part.digest).exists())
    };
    device("zero-1").get(wharf.addr, "/v2/library/busybox/manifests/1").await;
    wharf.quiet().await;
    let whole = image.children.iter().filter(|child| is_whole(child)).map(|child| &*child.platform);
    assert_eq!(whole.collect::<Vec<_>>(), ["linux/arm/v6"]);
    // Two devices behind one address, which say the same of themselves: only their certificates tell them apart.
    for (name, platform) in [("pi-4", "linux/arm64"), ("nuc", "linux/amd64")] {
        let child =
            format!("/v2/library/busybox/manifests/{}", image.child(platform).manifest.digest);
        device(name).get(wharf.addr, "/v2/library/busybox/manifests/1").await;
        assert_eq!(device(name).get(wharf.addr, &child).await.status, 200);
    }
    wharf.quiet().await;
    device("pi-4").get(wharf.addr, "/v2/library/busybox/manifests/2").await;
    wharf.quiet().await;
    let whole = next.children.iter().filter(|child| is_whole(child)).map(|child| &*child.platform);
    assert_eq!(whole.collect::<Vec<_>>(), ["linux/arm64"]);
    let mut known: Vec<String> =
        wharf.pull.clients().into_iter().map(|known| known.client).collect();
    known.sort();
    assert_eq!(known, ["nuc", "pi-4"]);
    end(wharf).await;
}

#[tokio::test]
async fn certificates_are_renewed_and_no_connection_is_dropped() {
    let (old, new, devices) = (TestCa::new(), TestCa::new(), TestCa::new());
    let tls = |ca: &TestCa, clients: &TestCa| {
        let Identity { cert, key } = ca.server_identity();
        let clients = Some(believing(clients, None, ClientAuth::Optional));
        Tls::new(cert.as_bytes(), key.as_bytes(), clients).expect("good files")
    };
    let running = tls(&old, &devices);
    let handle = running.clone();
    let (hub, wharf) =
        start_with(&old, None, |config| config.server.door.tls = Some(running)).await;
    let blob = noise("blob", 4 << 20);
    let path = blob_path("library/app", &hub.put_blob("library/app", blob.clone()));
    let before = TlsClient::new(&old, None);
    let mut open = before.connect(wharf.addr).await.expect("a handshake");
    open.write_all(PING.as_bytes()).await.expect("sent");
    open.read_exact(&mut [0; 15]).await.expect("answered");
    // In the middle of an answer, too.
    let stream = before.connect(wharf.addr).await.expect("a handshake");
    let mut answer =
        client::over(stream, "GET", wharf.addr, &path, &[]).await.expect("an answer begins");
    let begun = answer.read(1000).await;

    assert!(handle.adopt(&tls(&new, &devices)));
    assert!(!handle.adopt(&handle.clone()), "nothing has changed");
    let rest = answer.rest().await;
    assert!([&begun[..], rest.bytes()].concat() == blob);
    open.write_all(PING.as_bytes()).await.expect("it is open still");
    open.read_exact(&mut [0; 15]).await.expect("answered");
    assert_eq!(TlsClient::new(&new, None).get(wharf.addr, &path).await.bytes(), &blob);
    let resumed = before.connect(wharf.addr).await.expect("a session is taken up again");
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    TlsClient::new(&old, None).connect(wharf.addr).await.expect_err("another authority's");

    // Whom an authority has vouched for that counts no more is not believed because of a session.
    let device = TlsClient::new(&new, Some(&devices.client_identity("device")));
    device.get(wharf.addr, "/v2/").await;
    let resumed = device.connect(wharf.addr).await.expect("a session");
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(handle.adopt(&tls(&new, &TestCa::new())));
    let refused = device.send_raw(wharf.addr, PING.as_bytes()).await;
    refused.expect_err("its certificate is none of theirs");
    wharf.end().await;
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_is_turned_away() {
    let (ca, devices, others) =
        (TestCa::new(), TestCa::named("devices"), TestCa::named("other devices"));
    let (known, lost) = (devices.client_identity("known"), devices.client_identity("lost"));
    let [other, other_lost] = ["known", "lost"].map(|name| others.client_identity(name));
    for auth in [ClientAuth::Optional, ClientAuth::Required] {
        let lists = devices.list(&[&lost], 2090) + &others.list(&[&other_lost], 2090);
        let mut clients = believing(&devices, Some(lists), auth);
        clients.authorities.extend_from_slice(others.pem().as_bytes());
        let Identity { cert, key } = ca.server_identity();
        let tls = Tls::new(cert.as_bytes(), key.as_bytes(), Some(clients)).expect("good files");
        let (_hub, wharf) =
            start_with(&ca, None, |config| config.server.door.tls = Some(tls)).await;
        for version in EACH_VERSION {
            let client = |identity: &Identity| TlsClient::speaking(&[version], &ca, Some(identity));
            for identity in [&known, &other] {
                is_let_in(&client(identity), &wharf).await;
            }
            for identity in [&lost, &other_lost] {
                let refused = refusal(&client(identity), &wharf).await;
                assert!(refused.ends_with("alert: CertificateRevoked"), "{version:?}: {refused}");
            }
        }
        end(wharf).await;
    }
}

/// Bug class: a session that was agreed on before opens the door to a device that was stolen since.
#[tokio::test]
async fn who_is_taken_back_while_wharf_runs_is_not_let_in_by_a_session() {
    let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
    let (known, lost_one) = (devices.client_identity("known"), devices.client_identity("lost"));
    let tls = |revoked: &[&Identity]| {
        let Identity { cert, key } = ca.server_identity();
        let list = Some(devices.list(revoked, 2090));
        let clients = Some(believing(&devices, list, ClientAuth::Required));
        Tls::new(cert.as_bytes(), key.as_bytes(), clients).expect("good files")
    };
    let running = tls(&[]);
    let handle = running.clone();
    let (_hub, wharf) =
        start_with(&ca, None, |config| config.server.door.tls = Some(running)).await;
    for version in EACH_VERSION {
        handle.adopt(&tls(&[]));
        let [known, lost] = [&known, &lost_one]
            .map(|identity| TlsClient::speaking(&[version], &ca, Some(identity)));
        for client in [&known, &lost] {
            is_let_in(client, &wharf).await;
            let resumed = client.connect(wharf.addr).await.expect("a session");
            assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        }
        assert!(handle.adopt(&tls(&[&lost_one])), "another list");
        let refused = refusal(&lost, &wharf).await;
        assert!(refused.ends_with("alert: CertificateRevoked"), "{version:?}: {refused}");
        is_let_in(&known, &wharf).await;
    }
    end(wharf).await;
}

#[tokio::test]
async fn a_client_with_too_many_connections_is_told_so_in_tls_too() {
    let ca = TestCa::new();
    let (_hub, wharf) =
        start_with(&ca, None, |config| config.server.max_connections_per_client = 1).await;
    let plain = TlsClient::new(&ca, None);
    let first = plain.connect(wharf.addr).await.expect("a handshake");
    until_open(&wharf, 1.0).await;
    // One that would rather speak HTTP/2 hears it, too.
    for client in [plain, TlsClient::new(&ca, None).or_http2()] {
        let refused = client.get(wharf.addr, "/v2/").await;
        assert_eq!(refused.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
        assert!(refused.header("retry-after").is_some());
        let refused = client.connect(wharf.addr).await.expect("a handshake");
        assert_eq!(refused.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let spoken = wharf.get("/v2/").await;
    assert_eq!(spoken.status, 429, "in plain HTTP, and no worse off than others");
    // Whoever shakes hands and asks nothing is not waited for.
    let mut silent = TlsClient::new(&ca, None).connect(wharf.addr).await.expect("a handshake");
    let mut heard = Vec::new();
    // Whether or not it is told that nothing more comes.
    let _ = deadline("the other side to close", silent.read_to_end(&mut heard)).await;
    assert!(heard.is_empty(), "{}", heard.escape_ascii());
    let refused = "wharf_limit_reached_total{limit=\"connections_per_client\"}";
    assert_eq!(wharf.metric(refused), 6.0);
    drop(first);
    end(wharf).await;
}
