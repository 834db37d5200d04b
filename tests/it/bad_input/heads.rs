//! Heads that are not HTTP/1.1, or barely; other protocols on the plain port; what comes behind a request.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use wharf::oci::ErrorCode::{NameUnknown, Unsupported};

use super::{
    Gets, assert_all, raw, run,
    site::{REPO, Row, Site},
};
use crate::support::deadline;

/// What hyper refuses: nothing follows it on its connection.
const UNREADABLE: Gets = Gets::error(400, Unsupported).with(&[("connection", "close")]);
const TOO_LARGE: Gets = Gets::error(431, Unsupported).with(&[("connection", "close")]);
const HTTP_2: Gets = Gets::error(505, Unsupported).with(&[("connection", "close")]);
const PING: Gets = Gets::ok(200).with(&[("content-length", "2")]);

/// The rest of a good head.
const END: &str = "host: wharf\r\nconnection: close\r\n\r\n";

fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let with = |line: &[u8]| [b"GET /v2/ HTTP/1.1\r\n", line, b"\r\n", END.as_bytes()].concat();
    let line = |line: &str| format!("{line}\r\n{END}").into_bytes();
    let mut client_hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    client_hello.extend((0..506).map(|byte| byte as u8));
    vec![
        ("HTTP/0.9", b"GET /v2/\r\n\r\n".into()),
        ("no target", line("GET HTTP/1.1")),
        ("nothing but a method", line("GET")),
        ("two spaces", line("GET  /v2/ HTTP/1.1")),
        ("a space in the target", line("GET /v2/ x HTTP/1.1")),
        ("a tab for a space", line("GET\t/v2/\tHTTP/1.1")),
        ("a control character in the target", line("GET /v2/\u{1} HTTP/1.1")),
        ("a target that is no address", line("GET http:// HTTP/1.1")),
        ("a method with a colon", line("GE:T /v2/ HTTP/1.1")),
        ("HTTP/2.0 in the line", line("GET /v2/ HTTP/2.0")),
        ("HTTP/1.2", line("GET /v2/ HTTP/1.2")),
        ("HTTP/11", line("GET /v2/ HTTP/11")),
        ("http/1.1", line("GET /v2/ http/1.1")),
        ("another protocol", line("GET /v2/ ICY/1.0")),
        ("a TLS ClientHello", client_hello),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".into()),
        ("SMTP", b"EHLO wharf.example\r\n".into()),
        ("SOCKS 5", vec![5, 1, 0]),
        ("a PROXY line", line("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /v2/ HTTP/1.1")),
        ("zeros", vec![0; 64]),
        ("bytes", (0..=255).collect()),
        ("a header without a name", with(b": x")),
        ("a header without a colon", with(b"nonsense")),
        ("a space before the colon", with(b"accept : */*")),
        ("a header name that is none", with(b"acc(ept): */*")),
        ("a header name beyond ASCII", with("accept\u{fc}: */*".as_bytes())),
        ("a folded line", with(b"accept: a/b,\r\n c/d")),
        ("a zero in a value", with(b"accept: a\0b")),
        ("a bell in a value", with(b"accept: a\x07b")),
        ("a lone return in a value", with(b"accept: a\rb")),
        ("two lengths", with(b"content-length: 1\r\ncontent-length: 2")),
        ("lengths in a list", with(b"content-length: 1, 2")),
        ("a length with a sign", with(b"content-length: +1")),
        ("a negative length", with(b"content-length: -1")),
        ("a length beyond all", with(b"content-length: 18446744073709551616")),
        ("an empty length", with(b"content-length:")),
        ("a coding that is not chunked", with(b"transfer-encoding: gzip")),
        ("a coding behind chunked", with(b"transfer-encoding: chunked, gzip")),
        ("chunks in HTTP/1.0", line("POST /v2/ HTTP/1.0\r\ntransfer-encoding: chunked")),
    ]
}

fn too_large() -> Vec<(&'static str, Vec<u8>)> {
    let with = |lines: String| format!("GET /v2/ HTTP/1.1\r\n{lines}{END}").into_bytes();
    let target = |length: usize| format!("GET /v2/{} HTTP/1.1\r\n{END}", "a".repeat(length));
    vec![
        ("101 headers", with("accept: */*\r\n".repeat(99))),
        ("10,000 headers", with("accept: */*\r\n".repeat(10_000))),
        ("a header of 40 kB", with(format!("cookie: {}\r\n", "x".repeat(40_000)))),
        ("a header of 900 kB", with(format!("cookie: {}\r\n", "x".repeat(900_000)))),
        ("a header's name of 70 kB", with(format!("{}: x\r\n", "x".repeat(70_000)))),
        ("a target of 64 KiB", target(65_536).into()),
        ("a target of 1 MB without end", "GET /v2/".bytes().chain(vec![b'a'; 1_000_000]).collect()),
        ("the greatest length", with("content-length: 18446744073709551615\r\n".to_owned())),
        ("a method of 40 kB", format!("{} /v2/ HTTP/1.1\r\n{END}", "M".repeat(40_000)).into()),
    ]
}

/// Odd, but no reason not to answer.
fn readable() -> Vec<(&'static str, Vec<u8>, Gets)> {
    let no_address = Gets::error(404, NameUnknown);
    let ping = |rest: &[u8]| [b"GET /v2/ HTTP/1.1\r\nconnection: close\r\n", rest].concat();
    let line = |line: &str| format!("{line}\r\n{END}").into_bytes();
    vec![
        // wharf serves one site: it does not look at the name under which it is asked.
        ("no Host", ping(b"\r\n"), PING),
        ("two Hosts", ping(b"host: a\r\nhost: b\r\n\r\n"), PING),
        ("a Host that is none", ping(b"host: /\xff/\r\n\r\n"), PING),
        ("HTTP/1.0", b"GET /v2/ HTTP/1.0\r\n\r\n".into(), PING),
        ("empty lines before it", line("\r\n\r\nGET /v2/ HTTP/1.1"), PING),
        (
            "lines that end in a line feed only",
            b"GET /v2/ HTTP/1.1\nconnection: close\n\n".into(),
            PING,
        ),
        ("a target without a slash", line("GET v2 HTTP/1.1"), no_address),
        ("99 headers", ping(&[&b"accept: */*\r\n".repeat(98)[..], b"\r\n"].concat()), PING),
        ("headers of 30 kB", ping(&[b"cookie: ", &[b'x'; 30_000][..], b"\r\n\r\n"].concat()), PING),
        (
            "values that are not UTF-8",
            ping(b"user-agent: \xff\xfe\r\naccept: \x80\r\nrange: \xff\r\n\r\n"),
            PING,
        ),
        (
            "empty values",
            ping(b"accept:\r\nrange:\r\nif-none-match: \r\nuser-agent:\r\n\r\n"),
            PING,
        ),
        ("an address of its own", line("GET http://example.org/v2/ HTTP/1.1"), PING),
        (
            "a proxy's request",
            line("GET http://169.254.169.254/latest/meta-data/ HTTP/1.1"),
            no_address,
        ),
        (
            "a proxy's request with a name",
            line("GET http://u:p@quay.io/v2/quay.io/a/manifests/1 HTTP/1.1"),
            no_address,
        ),
        ("an upgrade to HTTP/2", ping(b"upgrade: h2c\r\nconnection: upgrade\r\n\r\n"), PING),
        (
            "an upgrade to WebSocket",
            ping(b"upgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"),
            PING,
        ),
        ("credentials", ping(b"authorization: Basic eDp5\r\n\r\n"), PING),
        (
            "garbage for conditions",
            ping(b"if-none-match: ,,\"\r\nif-range: \xff\r\nif-modified-since: soon\r\n\r\n"),
            PING,
        ),
        ("a body", ping(b"content-length: 5\r\n\r\nhello"), PING),
        ("a body that does not come", ping(b"content-length: 5000000\r\n\r\nhello"), PING),
        (
            "a length and chunks",
            ping(b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /"),
            PING,
        ),
        ("chunks that are none", ping(b"transfer-encoding: chunked\r\n\r\nhello"), PING),
        (
            "a body that waits for leave",
            ping(b"content-length: 5\r\nexpect: 100-continue\r\n\r\n"),
            PING,
        ),
        ("leave for something else", ping(b"expect: tea\r\n\r\n"), PING),
    ]
}

/// Several requests on one connection.
fn pipelined(blob: &str) -> Vec<Row> {
    const GET: &str = "GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\n";
    const BLOB: Gets = Gets::ok(200).with(&[("content-length", "1000")]);
    const LAST: Gets = PING.with(&[("connection", "close")]);
    let row = |what: &str, bytes: String, gets: Vec<Gets>| Row {
        methods: vec!["GET"; gets.len()],
        gets,
        ..Row::new(what, bytes, PING)
    };
    let get_blob = format!("GET {blob} HTTP/1.1\r\nhost: wharf\r\n");
    vec![
        row("50 requests", format!("{}GET /v2/ HTTP/1.1\r\n{END}", GET.repeat(49)), vec![PING; 50]),
        row("nonsense behind a request", format!("{GET}nonsense\r\n\r\n"), vec![PING, UNREADABLE]),
        row(
            "nonsense behind a blob",
            format!("{get_blob}\r\nnonsense\r\n\r\n"),
            vec![BLOB, UNREADABLE],
        ),
        row(
            "too much behind a blob",
            format!("{get_blob}\r\n{}", "x".repeat(50_000)),
            vec![BLOB, TOO_LARGE],
        ),
        row(
            "HTTP/2 behind a request",
            format!("{GET}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            vec![PING, HTTP_2],
        ),
        row(
            "nonsense behind HTTP/1.0",
            "GET /v2/ HTTP/1.0\r\nconnection: keep-alive\r\n\r\nnonsense\r\n\r\n".to_owned(),
            vec![PING.with(&[("connection", "keep-alive")]), UNREADABLE],
        ),
        row(
            "a request behind a body",
            format!(
                "GET /v2/ HTTP/1.1\r\ncontent-length: 5\r\n\r\nhelloGET /v2/ HTTP/1.1\r\n{END}"
            ),
            vec![PING, LAST],
        ),
        row(
            "a request behind chunks",
            format!(
                "GET /v2/ HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                 GET /v2/ HTTP/1.1\r\n{END}"
            ),
            vec![PING, LAST],
        ),
        row(
            "nonsense behind a body",
            format!("{get_blob}content-length: 5\r\n\r\nhellononsense\r\n\r\n"),
            vec![BLOB, UNREADABLE],
        ),
        row(
            "a request that is a body",
            format!("GET /v2/ HTTP/1.1\r\ncontent-length: {}\r\n{END}{GET}", GET.len()),
            vec![LAST],
        ),
        // A length and chunks: whoever stands in front may disagree on where the body ends.
        row(
            "a request behind a body of two ends",
            format!(
                "GET /v2/ HTTP/1.1\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n\
                 0\r\n\r\n{GET}"
            ),
            vec![LAST],
        ),
        row(
            "half a request behind a request",
            format!("GET /v2/ HTTP/1.1\r\n{END}GET /v2/ HT"),
            vec![LAST],
        ),
    ]
}

#[test]
fn heads_that_are_none() {
    run(async {
        let site = Site::start().await;
        let mut rows = Vec::new();
        rows.extend(
            unreadable().into_iter().map(|(what, bytes)| Row::new(what, bytes, UNREADABLE)),
        );
        rows.extend(too_large().into_iter().map(|(what, bytes)| Row::new(what, bytes, TOO_LARGE)));
        let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..];
        rows.push(Row::new("HTTP/2", preface, HTTP_2));
        rows.extend(readable().into_iter().map(|(what, bytes, gets)| Row::new(what, bytes, gets)));
        rows.extend(pipelined(&site.blob));
        let mut results = Vec::new();
        for row in &rows {
            results.push(site.check(row).await);
        }
        site.end().await;
        assert_all(results, 80);
    });
}

#[test]
fn a_head_that_breaks_off_gets_no_answer() {
    run(async {
        let site = Site::start().await;
        let target = format!("GET /v2/{REPO}/manifests/latest HTTP/1.1\r\nhost: wh");
        for bytes in [&b""[..], b"\r\n\r\n", b"G", b"GET /v2/ HT", target.as_bytes()] {
            let heard = raw::hang_up_after(site.wharf.addr, bytes).await;
            assert_eq!(heard, b"", "to {}", bytes.escape_ascii());
        }
        site.end().await;
    });
}

/// Long enough that wharf keeps nothing of the connection but what it has read.
#[test]
fn a_head_of_which_half_came_with_the_one_before_is_read_on_after_a_pause() {
    run(async {
        let site = Site::start().await;
        let talk = async {
            let mut socket = TcpStream::connect(site.wharf.addr).await.expect("wharf listens");
            let half = "GET /v2/ HTTP/1.1\r\nhost: wharf\r\n\r\nGET /v2/ HT";
            socket.write_all(half.as_bytes()).await.expect("sent");
            let mut answer = [0; 4096];
            let count = socket.read(&mut answer).await.expect("an answer");
            assert!(raw::answers(&answer[..count], &["GET"]).is_ok_and(|it| it[0].status == 200));
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(500) {
                assert_eq!(site.wharf.get("/v2/").await.status, 200);
            }
            socket.write_all(format!("TP/1.1\r\n{END}").as_bytes()).await.expect("sent");
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.expect("an answer");
            assert!(raw::answers(&rest, &["GET"]).is_ok_and(|it| it[0].status == 200));
        };
        deadline("both answers", talk).await;
        site.end().await;
    });
}
