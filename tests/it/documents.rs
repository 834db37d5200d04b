//! Documents take the memory they are long, and not more than there is for all of them (bug classes: a document of 4 MiB
//! that is a hundred when it is read, and one for each of a thousand clients that do not read).

use std::{env, fmt::Write as _, fs, net::Ipv4Addr, process::Command};

use bytes::Bytes;
use futures_util::future::join_all;
use wharf::oci::{Digest, MANIFEST_MAX_BYTES, Manifest, MediaType, Platform, media_type};

use crate::support::{FakeHub, Fault, On, Program, Wharf, client};

/// Says in a process of its own which document it is to read.
const HOSTILE: &str = "WHARF_TEST_HOSTILE_DOCUMENT";

/// As much as may be allocated while a document is read, in its lengths.
const LENGTHS: f64 = 3.0;

/// A document that is as long as any may be: what is in it, its type, what it begins with, what comes as often as there is
/// room for it, and its end.
type Hostile = (&'static str, &'static str, [String; 3]);

fn hostile() -> Vec<Hostile> {
    let entry = |more: &str| {
        let (kind, digest) = (media_type::OCI_MANIFEST, Digest::sha256(b"x"));
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1{more}}}"#)
    };
    let list = |entries: &str| format!(r#"{{"manifests":[{entries}]}}"#);
    let filled = |parts: [&str; 3]| parts.map(str::to_owned);
    let within = |more: &str, part: &str, after: &str| {
        let whole = list(&entry(&format!("{more}\u{0}{after}")));
        let (before, after) = whole.split_once('\u{0}').expect("one is there");
        filled([before, part, after])
    };
    let image = |more: &str| format!(r#"{{"config":{}{more}"#, entry(""));
    let (index, manifest) = (media_type::OCI_INDEX, media_type::OCI_MANIFEST);
    vec![
        ("numbers in an entry", index, within(r#","x":["#, "0,", "]")),
        ("keys of an entry", index, within("", r#","x":0"#, "")),
        ("objects in a platform", index, within(r#","platform":{"x":["#, "{},", "]}")),
        ("features", index, within(r#","platform":{"os.features":["#, r#""","#, "]}")),
        ("features that differ", index, within(r#","platform":{"os.features":["#, r#""a","#, "]}")),
        ("a platform that is a list", index, within(r#","platform":["#, "0,", "]")),
        ("annotations", index, within(r#","annotations":{"x":["#, "0,", "]}")),
        (
            "an annotation",
            index,
            within(r#","annotations":{"vnd.docker.reference.type":["#, "0,", "]}"),
        ),
        ("entries", index, filled([r#"{"manifests":["#, &format!("{},", entry("")), "]}"])),
        (
            "entries for platforms",
            index,
            filled([
                r#"{"manifests":["#,
                &format!(
                    "{},",
                    entry(r#","platform":{"os":"a","architecture":"b","variant":"c"}"#)
                ),
                "]}",
            ]),
        ),
        ("layers", manifest, filled([&image(r#","layers":["#), &format!("{},", entry("")), "]}"])),
        ("numbers for layers", manifest, filled([&image(r#","layers":["#), "0,", "]}"])),
        ("keys at the top", manifest, filled([&image(""), r#","x":0"#, "}"])),
        ("keys at the top, all the same", manifest, filled([&image(""), r#","layers":0"#, "}"])),
        ("escapes", manifest, filled([&image(r#","mediaType":""#), r"\u0061", r#""}"#])),
        ("an artifact", "a/x.manifest.y", filled([r#"{"x":["#, "0,", "]}"])),
        (
            "a config",
            media_type::OCI_CONFIG,
            filled([r#"{"os":"a","architecture":"b","x":["#, "0,", "]}"]),
        ),
        (
            "a config's features",
            media_type::OCI_CONFIG,
            filled([r#"{"os.features":["#, r#""","#, "]}"]),
        ),
    ]
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "figures, and what the other process says"
)]
#[test]
fn a_hostile_document_takes_three_times_its_length_at_most() {
    if let Ok(at) = env::var(HOSTILE) {
        let (what, kind, parts) = hostile().swap_remove(at.parse().expect("a place in the list"));
        // The same once, short: what is counted below is of the document, and no page of the program.
        let short = parts.concat().replace(",]", "]").replace(",}", "}");
        let document = document(parts);
        assert!(document.len() > MANIFEST_MAX_BYTES - 1000 && document.len() <= MANIFEST_MAX_BYTES);
        let media_type: MediaType = kind.parse().expect("a media type");
        let read = |document: &str| match kind == media_type::OCI_CONFIG {
            true => (Ok(Manifest::Opaque), Platform::from_config(document.as_bytes())),
            false => (Manifest::parse(&media_type, document.as_bytes()), None),
        };
        drop(read(&short));
        let before = peak_resident_bytes();
        let read = read(&document);
        let grown = peak_resident_bytes() - before;
        drop(read);
        println!("{what}: grown by {grown} bytes");
        return;
    }
    let mut wrong = String::new();
    for (at, (what, ..)) in hostile().into_iter().enumerate() {
        let name = "documents::a_hostile_document_takes_three_times_its_length_at_most";
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", name, "--nocapture"])
            .env(HOSTILE, at.to_string())
            .output();
        let said = String::from_utf8(child.expect("it runs").stdout).expect("UTF-8");
        let grown = said.split("grown by ").nth(1).and_then(|said| said.split(' ').next());
        let grown: f64 =
            grown.and_then(|grown| grown.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        let lengths = grown / MANIFEST_MAX_BYTES as f64;
        eprintln!("{what}: {lengths:.1} times its length");
        if lengths > LENGTHS {
            let _ = writeln!(wrong, "{what}: {lengths:.1} times its length");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn document([before, part, after]: [String; 3]) -> String {
    let mut document = String::with_capacity(MANIFEST_MAX_BYTES);
    let room = MANIFEST_MAX_BYTES - before.len() - after.len() - part.len();
    document.push_str(&before);
    (0..room / part.len()).for_each(|_| document.push_str(&part));
    document.push_str(part.trim_end_matches(','));
    document.push_str(&after);
    document
}

/// The most memory that this process has had resident so far.
fn peak_resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("Linux tells");
    kib.parse::<u64>().expect("a number") * 1024
}

const REPO: &str = "library/busybox";

const MIB: f64 = 1048576.0;

/// Each holds a manifest of 4 MiB, of which it takes no more than its head.
const SLOW_READERS: usize = 40;
/// 32 MiB for documents, 8 for those that are asked for again and again, and what connections have in their buffers; all that
/// is asked for is 160 MiB.
const GROWN_MIB: f64 = 80.0;

/// An image manifest of nearly 4 MiB, different for each `n`.
fn long_manifest(n: usize) -> Bytes {
    let config = format!(
        r#"{{"mediaType":"{}","digest":"{}","size":1}}"#,
        media_type::OCI_CONFIG,
        Digest::sha256(b"x")
    );
    let padding = "x".repeat(MANIFEST_MAX_BYTES - 1000);
    format!(r#"{{"config":{config},"annotations":{{"n":"{n}","x":"{padding}"}}}}"#).into()
}

#[expect(clippy::print_stderr, reason = "the figures are worth having when all is well, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_hold_no_more_documents_than_there_is_room_for() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "small", ("linux", "arm64", None), &[10]);
    for n in 0..SLOW_READERS {
        hub.put_manifest(REPO, Some(&format!("v{n}")), media_type::OCI_MANIFEST, long_manifest(n));
    }
    let wharf = Program::start(&hub).await;
    let addr = wharf.addr;
    let path = |n: usize| format!("/v2/{REPO}/manifests/v{n}");
    let open = |n: usize| async move {
        let path = path(n);
        // Each is a client of its own.
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(n + 1).expect("few"));
        client::open_from(from, addr, &path, &[]).await.expect("an answer begins")
    };
    let idle = wharf.peak_resident_bytes();
    // The second time, what is kept is asked for: most of it is read from the disk.
    for round in ["cold", "kept"] {
        let (mut held, mut refused) = (Vec::new(), Vec::new());
        for (n, answer) in join_all((0..SLOW_READERS).map(open)).await.into_iter().enumerate() {
            match answer.status.as_u16() {
                200 => held.push((n, answer)),
                _ => refused.push((n, answer)),
            }
        }
        assert!(held.len() >= 4 && refused.len() >= 20, "{round}: {} are held", held.len());
        // Whoever needs little of it is answered meanwhile.
        let small = client::get(addr, &format!("/v2/{REPO}/manifests/small"), &[]).await;
        assert_eq!(small.status, 200, "{round}");
        let (again, answer) = refused.remove(0);
        let answer = answer.rest().await;
        assert_eq!(answer.refusal(), (503, "TOOMANYREQUESTS".to_owned()), "{round}");
        assert!(answer.header("retry-after").is_some(), "{round}");
        // Who reads late gets all of it, and makes room with that.
        for (n, answer) in held {
            assert!(*answer.rest().await.bytes() == long_manifest(n), "{round}: {n}");
        }
        assert!(*client::get(addr, &path(again), &[]).await.bytes() == long_manifest(again));
        for n in 0..SLOW_READERS {
            assert_eq!(client::head(addr, &path(n), &[]).await.status, 200, "{round}: {n}");
            assert!(*client::get(addr, &path(n), &[]).await.bytes() == long_manifest(n));
        }
    }
    assert!(wharf.metric("wharf_limit_reached_total{limit=\"document_room\"}").await >= 40.0);
    let [idle, peak] = [idle, wharf.peak_resident_bytes()].map(|bytes| bytes as f64 / MIB);
    eprintln!("resident: {idle:.1} MiB idle, {peak:.1} at most");
    assert!(peak - idle < GROWN_MIB, "{idle:.1} MiB resident, then {peak:.1}");
    wharf.end().await;
}

/// As many documents as there is room for, by one client that takes none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sits_on_documents_keeps_no_other_from_theirs() {
    const SITTER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "small", ("linux", "arm64", None), &[10]);
    for n in 0..8 {
        hub.put_manifest(REPO, Some(&format!("v{n}")), media_type::OCI_MANIFEST, long_manifest(n));
    }
    let wharf = Wharf::start(&hub).await;
    let addr = wharf.addr;
    let path = |n: usize| format!("/v2/{REPO}/manifests/v{n}");
    let sit = |n: usize| async move {
        client::open_from(SITTER, addr, &path(n), &[]).await.expect("an answer begins")
    };
    let (held, refused): (Vec<_>, Vec<_>) =
        join_all((0..8).map(sit)).await.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((held.len(), refused.len()), (2, 6), "its share is two of the longest");
    for answer in refused {
        let answer = answer.rest().await;
        assert_eq!(answer.refusal(), (429, "TOOMANYREQUESTS".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    let limit = |of: &str| wharf.metric(&format!("wharf_limit_reached_total{{limit=\"{of}\"}}"));
    assert_eq!((limit("document_room_per_client"), limit("document_room")), (6.0, 0.0));
    for n in 0..8 {
        let from = Ipv4Addr::new(127, 0, 2, u8::try_from(n + 1).expect("few"));
        assert!(*client::get_from(from, addr, &path(n), &[]).await.bytes() == long_manifest(n));
    }
    // What takes no room is its own to have, and a head is no document.
    let small = format!("/v2/{REPO}/manifests/small");
    assert_eq!(client::get_from(SITTER, addr, &small, &[]).await.status, 200);
    drop(held);
    // With the connections the share is free, too.
    assert!(*client::get_from(SITTER, addr, &path(7), &[]).await.bytes() == long_manifest(7));
    wharf.end().await;
}

/// Without a length, room is taken for as much as may come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_do_not_say_how_long_they_are_come_as_well() {
    let hub = FakeHub::start().await;
    for n in 0..12 {
        hub.put_manifest(REPO, Some(&format!("v{n}")), media_type::OCI_MANIFEST, long_manifest(n));
    }
    hub.fault(On::Manifests, Fault::NoLength);
    let wharf = Program::start(&hub).await;
    let get = |n: usize| {
        let addr = wharf.addr;
        async move { client::get(addr, &format!("/v2/{REPO}/manifests/v{n}"), &[]).await }
    };
    for n in 0..12 {
        assert!(*get(n).await.bytes() == long_manifest(n), "{n}");
    }
    wharf.end().await;
}
