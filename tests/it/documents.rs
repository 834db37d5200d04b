//! Documents take the memory they are long, and not more than there is for all of them (bug classes: a document of 4 MiB
//! that is a hundred when it is read, and one for each of a thousand clients that do not read).

use std::{env, fmt::Write as _, fs, process::Command};

use wharf::oci::{Digest, MANIFEST_MAX_BYTES, Manifest, MediaType, Platform, media_type};

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
        let document = document(parts);
        assert!(document.len() > MANIFEST_MAX_BYTES - 1000 && document.len() <= MANIFEST_MAX_BYTES);
        let media_type: MediaType = kind.parse().expect("a media type");
        let before = peak_resident_bytes();
        let read = match kind == media_type::OCI_CONFIG {
            true => (Ok(Manifest::Opaque), Platform::from_config(document.as_bytes())),
            false => (Manifest::parse(&media_type, document.as_bytes()), None),
        };
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
