//! Hostile and broken archives: each refused in one sentence that names the member, with no image in the end.

use std::io::Read;

use serde_json::{Value, json};
use tar::EntryType;
use wharf::{
    bundle::{Contents, SecretKey, Terms, read},
    oci::Digest,
};

use super::{
    INDEX, LAYER, MANIFEST, Taken, Tar, blob_path, descriptor, gzip, index_of, manifest, take,
    terms, zstd,
};

const CONFIG: &[u8] = b"{}";
const LAYERED: &[u8] = b"layer";

/// A layout of one image, whose index comes last.
fn good() -> Tar {
    let document = manifest(CONFIG, LAYERED);
    let layout = Tar::default().layout().blob(CONFIG).blob(LAYERED).blob(&document);
    layout.json("index.json", &index_of(MANIFEST, &document, "site/app:1"))
}

/// Of a list whose manifest is `document`.
fn named(document: &[u8]) -> Tar {
    let layout = Tar::default().layout().blob(CONFIG).blob(LAYERED).blob(document);
    layout.json("index.json", &index_of(MANIFEST, document, "site/app:1"))
}

/// A record of pax with its length before it.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

fn extended(tar: Tar, key: &str, value: &str) -> Tar {
    tar.member("pax", EntryType::XHeader, &pax(key, value), |_| {})
}

/// Name of the case, the archive, and what its sentence says.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (hex, layer) = (Digest::sha256(CONFIG).encoded(), blob_path(LAYERED));
    let whole = good().end();
    let document = manifest(CONFIG, LAYERED);
    let size = |size: u64| move |header: &mut tar::Header| header.set_size(size);
    let nested = {
        let mut list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &document)] })
            .to_string()
            .into_bytes();
        let mut tar = Tar::default().layout().blob(CONFIG).blob(LAYERED).blob(&document);
        for _ in 0..4 {
            tar = tar.blob(&list);
            list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(INDEX, &list)] })
                .to_string()
                .into_bytes();
        }
        tar.blob(&list).json("index.json", &index_of(INDEX, &list, "site/app:1")).end()
    };
    let deep = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[],"annotations":{}{}}}"#,
        descriptor(super::CONFIG, CONFIG),
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let bomb = good().file("zeros", &vec![0; 17 * 1024 * 1024]).end();
    let ambiguous = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "manifests": [],
        "config": descriptor(super::CONFIG, CONFIG), "layers": [] });
    let mut wrong_size = descriptor(LAYER, LAYERED);
    wrong_size["size"] = json!(6);
    let lied = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(super::CONFIG, CONFIG),
        "layers": [wrong_size] });
    let sparse_index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, b"far")] });
    let sparse_index = sparse_index.to_string().into_bytes();
    let mut twice = index_of(MANIFEST, &document, "site/app:1");
    let again = twice["manifests"][0].clone();
    twice["manifests"].as_array_mut().expect("a list").push(again);
    let listed = |config: &str, layers: &[&str]| json!([{ "Config": config, "RepoTags": ["site/app:1"], "Layers": layers }]);
    let (config_json, layer_tar) = (format!("{hex}.json"), format!("{}/layer.tar", "a".repeat(64)));
    let other = json!({ "rootfs": { "diff_ids": [Digest::sha256(b"other")] } }).to_string();
    let other_json = format!("{}.json", Digest::sha256(other.as_bytes()).encoded());
    let volume = json!({ "wharfVolume": 1, "set": Digest::sha256(b""), "number": 2, "of": 5, "segments": [] });
    let delta = json!({ "wharfBundle": 1, "images": [], "blobs": [],
        "base": [{ "digest": Digest::sha256(LAYERED), "size": 5, "image": "site/app:1" }] });
    let short = json!({ "wharfBundle": 1, "images": [], "blobs": [{ "digest": Digest::sha256(LAYERED), "size": 5 }],
        "base": [] });
    // The volumes of a bundle of one blob, one of one.
    let of_short = |segments: &Value| {
        let set = Digest::sha256(short.to_string().as_bytes());
        let volume =
            json!({ "wharfVolume": 1, "set": set, "number": 1, "of": 1, "segments": segments });
        Tar::default().json("wharf-volume.json", &volume).json("wharf-bundle.json", &short)
    };
    let abc = Digest::sha256(b"abc").encoded();
    let part = |offset: u64, size: u64, of: &[u8]| {
        of_short(
            &json!([{ "digest": Digest::sha256(of), "offset": offset, "size": size, "sha256": abc }]),
        )
    };
    let liar = of_short(&json!([{ "digest": Digest::sha256(LAYERED), "offset": 0, "size": 5,
        "sha256": Digest::sha256(b"wrong").encoded() }]));
    // Their names are longer than one of ustar may be.
    let with = |volume: Tar, offset: u64, bytes: &[u8]| {
        let path = format!("segments/sha256/{}/{offset:020}", Digest::sha256(LAYERED).encoded());
        extended(volume, "path", &path).file("part", bytes)
    };
    let mut rotten = whole.clone();
    let header_of_blob = 1024;
    rotten[header_of_blob] ^= 1;
    let mut wrong_sum = gzip(&whole);
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    let mut name_not_text = Tar::default();
    name_not_text = name_not_text.member("x", EntryType::Regular, b"", |header| {
        header.as_old_mut().name[0] = 0xff;
    });
    let mut endless = Tar::default();
    for _ in 0..9 {
        endless = extended(endless, "comment", "x");
    }
    vec![
        (
            "symbolic link",
            good().link("oci", EntryType::Symlink, "/etc/passwd").end(),
            "oci: it is a symbolic link",
        ),
        (
            "a link in place of a blob",
            Tar::default().link(&layer, EntryType::Symlink, "../../../x").end(),
            "is a symbolic link",
        ),
        (
            "a link out of the archive in docker's form",
            Tar::default().link(&layer_tar, EntryType::Symlink, "../../etc/layer.tar").end(),
            "layer.tar: it is a symbolic link",
        ),
        (
            "hard link",
            good().link("hard", EntryType::Link, "index.json").end(),
            "hard: it is a hard link",
        ),
        (
            "absolute path",
            good().file("/etc/cron.d/x", b"x").end(),
            "/etc/cron.d/x: its path is absolute",
        ),
        (
            "upwards",
            good().file("blobs/../../x", b"x").end(),
            "blobs/../../x: its path is absolute or leads upwards",
        ),
        (
            "upwards by pax",
            extended(good(), "path", "../x").file("x", b"x").end(),
            "../x: its path",
        ),
        (
            "block device",
            good().member("sda", EntryType::Block, b"", |_| {}).end(),
            "sda: it is a device",
        ),
        (
            "character device",
            good().member("null", EntryType::Char, b"", |_| {}).end(),
            "null: it is a device",
        ),
        ("pipe", good().member("pipe", EntryType::Fifo, b"", |_| {}).end(), "pipe: it is a pipe"),
        (
            "unknown type",
            good().member("odd", EntryType::new(b'Z'), b"", |_| {}).end(),
            "odd: it is a member of an unknown type",
        ),
        (
            "sparse member",
            good().member("holes", EntryType::GNUSparse, b"", |_| {}).end(),
            "holes: it is a sparse file",
        ),
        (
            "sparse by pax",
            extended(good(), "GNU.sparse.realsize", "99").file("holes", b"").end(),
            "pax: it is a sparse file",
        ),
        ("duplicate blob", good().blob(LAYERED).end(), "it is in the archive twice"),
        (
            "duplicate index",
            good().file("./index.json", b"{}").end(),
            "index.json: it is in the archive twice",
        ),
        (
            "oversized index",
            good().member("manifest.json", EntryType::Regular, b"", size(1 << 30)).end(),
            "manifest.json: with it the archive holds more than the 16777216 bytes",
        ),
        (
            "a document beyond its bound",
            Tar::default().file("wharf-bundle.json.minisig", &[b'x'; 20_000]).end(),
            "minisig: it is longer than 16384 bytes",
        ),
        (
            "a blob beyond all room",
            good()
                .member("blobs/sha256/x", EntryType::Regular, b"", size(u64::from(u32::MAX)))
                .end(),
            "with it the archive holds more than the 16777216 bytes",
        ),
        (
            "a size that overflows",
            extended(good(), "size", "18446744073709551615").file("big", b"").end(),
            "big: with it the archive holds more",
        ),
        (
            "a size that is no number",
            extended(good(), "size", "18446744073709551616").file("big", b"").end(),
            "pax: its header is damaged",
        ),
        (
            "a negative size",
            good()
                .member("minus", EntryType::Regular, b"", |header| {
                    header.as_old_mut().size.fill(0xff)
                })
                .end(),
            "minus: its header is damaged",
        ),
        (
            "a size of twelve bytes",
            good()
                .member("huge", EntryType::Regular, b"", |header| {
                    header.as_old_mut().size = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
                })
                .end(),
            "huge: its header is damaged",
        ),
        ("gzip bomb", gzip(&bomb), "zeros: with it the archive holds more"),
        ("zstd bomb", zstd(&bomb), "zeros: with it the archive holds more"),
        (
            "a digest that lies",
            Tar::default().layout().file(&layer, b"other").end(),
            "so it is not what it is called",
        ),
        (
            "a blob without a digest",
            good().file("blobs/sha256/etc", b"x").end(),
            "blobs/sha256/etc: its path names no digest",
        ),
        (
            "an unknown algorithm",
            good().file("blobs/md5/00", b"x").end(),
            "blobs/md5/00: its path names no digest",
        ),
        (
            "an index that points nowhere",
            Tar::default()
                .layout()
                .json("index.json", &index_of(MANIFEST, b"none", "site/app:1"))
                .end(),
            "index.json: sha256:",
        ),
        (
            "a manifest without its layer",
            Tar::default()
                .layout()
                .blob(CONFIG)
                .blob(&document)
                .json("index.json", &index_of(MANIFEST, &document, "site/app:1"))
                .end(),
            "is not in the archive",
        ),
        (
            "a list of which nothing is there",
            Tar::default()
                .layout()
                .blob(&sparse_index)
                .json("index.json", &index_of(INDEX, &sparse_index, "site/app:1"))
                .end(),
            "is not in the archive",
        ),
        ("lists of lists of lists", nested, "lists lists of lists"),
        (
            "a manifest whose parser could run out of stack",
            named(deep.as_bytes()).end(),
            "is nested more than 64 levels deep",
        ),
        (
            "a manifest of two minds",
            named(ambiguous.to_string().as_bytes()).end(),
            "clients would disagree",
        ),
        (
            "a length that lies",
            named(lied.to_string().as_bytes()).end(),
            "has 5 bytes, where 6 are said",
        ),
        (
            "an index that is no JSON",
            Tar::default().file("index.json", b"{\"manifests\":").end(),
            "index.json: it is not of the form",
        ),
        (
            "an index of brackets",
            Tar::default().file("index.json", &vec![b'['; 100_000]).end(),
            "index.json: it is not of the form",
        ),
        (
            "one name twice",
            Tar::default()
                .layout()
                .blob(CONFIG)
                .blob(LAYERED)
                .blob(&document)
                .json("index.json", &twice)
                .end(),
            "index.json: docker.io/site/app:1 is in it twice",
        ),
        (
            "no name",
            Tar::default()
                .layout()
                .json("index.json", &index_of(MANIFEST, &document, "latest"))
                .end(),
            "say what it is called with --name",
        ),
        (
            "a name that is none",
            Tar::default()
                .layout()
                .json("index.json", &index_of(MANIFEST, &document, "Site/../app:1"))
                .end(),
            "is no name of an image",
        ),
        (
            "a later layout",
            Tar::default().file("oci-layout", br#"{"imageLayoutVersion":"9"}"#).end(),
            "oci-layout: it says version 9",
        ),
        (
            "a version that steers a terminal",
            Tar::default().file("oci-layout", br#"{"imageLayoutVersion":"9\n\u001b[2J"}"#).end(),
            "oci-layout: it says version 9\u{fffd}\u{fffd}[2J",
        ),
        (
            "an image of a type that nobody pulls",
            Tar::default()
                .layout()
                .blob(&document)
                .json("index.json", &index_of("text/html", &document, "site/app:1"))
                .end(),
            "is of the type text/html, which is none of a manifest",
        ),
        ("truncated between members", whole[..1024].to_vec(), "cut off or damaged: it has no end"),
        (
            "truncated before the sum of gzip",
            gzip(&whole)[..gzip(&whole).len() - 8].to_vec(),
            "cut off",
        ),
        ("a sum of gzip that is wrong", wrong_sum, "cut off or damaged"),
        ("truncated in a member", whole[..1024 + 512 + 1].to_vec(), "cut off"),
        ("truncated in a header", whole[..1024 + 100].to_vec(), "cut off"),
        ("truncated gzip", gzip(&whole)[..200].to_vec(), "cut off"),
        ("truncated zstd", zstd(&whole)[..200].to_vec(), "cut off"),
        ("a header that rotted", rotten, "its header is damaged"),
        ("a name that is not text", name_not_text.end(), "its path cannot be one of an image"),
        (
            "pax headers without end",
            endless.file("x", b"").end(),
            "pax: its extended header is longer",
        ),
        (
            "a pax header of megabytes",
            Tar::default().member("pax", EntryType::XHeader, &vec![b'0'; 1 << 20], |_| {}).end(),
            "pax: its extended header is longer",
        ),
        (
            "a long name of megabytes",
            Tar::default()
                .member("././@LongLink", EntryType::GNULongName, &vec![b'a'; 1 << 20], |_| {})
                .end(),
            "@LongLink: its extended header is longer",
        ),
        (
            "a path for all members",
            Tar::default()
                .member("pax", EntryType::XGlobalHeader, &pax("path", "x"), |_| {})
                .file("y", b"")
                .end(),
            "pax: its header is damaged",
        ),
        ("an extended header of nothing", extended(good(), "path", "x").end(), "cut off"),
        (
            "docker's list that is no JSON",
            Tar::default().file("manifest.json", b"{").end(),
            "manifest.json: it is not of the form",
        ),
        (
            "docker's list that points nowhere",
            Tar::default()
                .file(&config_json, CONFIG)
                .json("manifest.json", &listed(&config_json, &["../../etc/shadow"]))
                .end(),
            "manifest.json: \"../../etc/shadow\", which it names",
        ),
        (
            "docker's names in a ring",
            Tar::default()
                .file(&config_json, CONFIG)
                .link(&layer_tar, EntryType::Symlink, &format!("../{layer_tar}"))
                .json("manifest.json", &listed(&config_json, &[&layer_tar]))
                .end(),
            "which it names, is not in the archive",
        ),
        (
            "a config that lies about its layers",
            Tar::default()
                .file(&other_json, other.as_bytes())
                .file(&layer_tar, LAYERED)
                .json("manifest.json", &listed(&other_json, &[&layer_tar]))
                .end(),
            "does not speak of the layers",
        ),
        (
            "a config that is not what it is called",
            Tar::default().file(&config_json, b"[]").end(),
            "so it is not what it is called",
        ),
        (
            "a delta without its base",
            Tar::default().layout().json("wharf-bundle.json", &delta).blob(b"new").end(),
            "wharf-bundle.json: this bundle brings only what changed",
        ),
        (
            "a blob that the contents do not list",
            Tar::default().json("wharf-bundle.json", &short).blob(b"new").end(),
            "the contents of the bundle do not list it",
        ),
        (
            "a bundle without a blob that it lists",
            Tar::default().json("wharf-bundle.json", &short).end(),
            "wharf-bundle.json: sha256:",
        ),
        (
            "contents behind a blob",
            Tar::default().blob(LAYERED).json("wharf-bundle.json", &short).end(),
            "wharf-bundle.json: it comes behind blobs",
        ),
        (
            "a signature of nothing",
            Tar::default().file("wharf-bundle.json.minisig", b"x").end(),
            "minisig: it comes before what it signs",
        ),
        (
            "a volume without contents",
            Tar::default().layout().json("wharf-volume.json", &volume).end(),
            "wharf-volume.json: it is a volume's, and wharf-bundle.json does not stand beside it",
        ),
        (
            "a volume of other contents",
            Tar::default()
                .json("wharf-volume.json", &volume)
                .json("wharf-bundle.json", &short)
                .end(),
            "wharf-volume.json: it belongs to other contents",
        ),
        (
            "a volume that says so behind a blob",
            Tar::default().blob(LAYERED).json("wharf-volume.json", &volume).end(),
            "wharf-volume.json: it comes behind blobs",
        ),
        (
            "a part beyond its blob",
            part(0, 6, LAYERED).end(),
            "wharf-volume.json: it speaks of a part of sha256:",
        ),
        (
            "a part of another blob than there are",
            of_short(
                &json!([{ "digest": Digest::sha256(b"x"), "offset": 0, "size": 1, "sha256": abc }]),
            )
            .end(),
            "wharf-volume.json: it speaks of a part of sha256:",
        ),
        (
            "a part without a byte",
            part(2, 0, b"").end(),
            "wharf-volume.json: it has a part of sha256:",
        ),
        (
            "a part that is not what the volume says",
            with(part(0, 3, LAYERED), 0, b"xyz").end(),
            "its SHA-256 is sha256:",
        ),
        (
            "a part of another length",
            with(part(0, 3, LAYERED), 0, b"xyzu").end(),
            "it has 4 bytes, where 3 are said",
        ),
        (
            "a part that the volume does not list",
            with(part(0, 3, LAYERED), 1, b"xyz").end(),
            "wharf-volume.json does not list it",
        ),
        (
            "a volume without a part that it lists",
            part(0, 3, LAYERED).end(),
            "wharf-volume.json: \"segments/sha256/",
        ),
        (
            "a volume that is cut off behind a member",
            of_short(&json!([])).unended(),
            "the archive is cut off or damaged: it has no end",
        ),
        (
            "a blob whose parts are not it",
            with(liar, 0, b"wrong").end(),
            ", joined from its parts, has the digest sha256:",
        ),
        (
            "all volumes, and not all blobs",
            of_short(&json!([])).end(),
            "wharf-volume.json: this volume and all others of its set came, and sha256:",
        ),
        ("no archive", b"#!/bin/sh\nexit 1\n".repeat(100), "this is no tar archive"),
        ("nothing", Vec::new(), "this is no tar archive"),
        ("zeros", vec![0; 4096], "this is no tar archive"),
        (
            "no images",
            Tar::default().file("readme", b"x").end(),
            "holds neither index.json nor manifest.json",
        ),
    ]
}

#[test]
fn each_is_refused_in_one_sentence_that_names_the_member() {
    for (case, archive, sentence) in cases() {
        let (brought, taken) = take(&archive, &terms());
        let error = brought.expect_err(case).to_string();
        assert!(error.contains(sentence), "{case}: {error}");
        assert!(!error.contains('\n') && error.len() < 1024, "{case}: {error}");
        assert!(taken.most <= 64 * 1024, "{case}: {} bytes", taken.most);
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_or_has_a_wrong_bit_brings_no_other_image() {
    let whole = good().end();
    let (right, _) = take(&whole, &terms());
    let right = right.expect("whole");
    // A multiple of neither a block nor a byte's bits; and all ends of members.
    for cut in (0..whole.len()).step_by(97).chain((0..whole.len()).step_by(512)) {
        if let (Ok(brought), _) = take(&whole[..cut], &terms()) {
            assert_eq!(brought, right, "cut at {cut}");
        }
    }
    for at in (0..whole.len()).step_by(31) {
        let mut wrong = whole.clone();
        wrong[at] ^= 1 << (at % 8);
        if let (Ok(brought), _) = take(&wrong, &terms()) {
            // A name is nobody's to verify; what it leads to is.
            assert_eq!(brought.images[0].documents, right.images[0].documents, "bit at {at}");
        }
    }
}

/// The same bytes over and over, and where it is in them.
struct Endless(Vec<u8>, usize);

impl Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let from = &self.0[self.1..];
        let count = from.len().min(to.len());
        to[..count].copy_from_slice(&from[..count]);
        self.1 = (self.1 + count) % self.0.len();
        Ok(count)
    }
}

#[test]
fn an_archive_that_never_ends_is_read_no_further_than_its_bounds() {
    let mut taken = Taken::default();
    let brought = read(good().end().as_slice().chain(std::io::repeat(0)), &terms(), &mut taken);
    assert_eq!(brought.expect("whole").images.len(), 1, "what a device holds behind an archive");

    let passed_over = good().member("zeros", EntryType::Regular, b"", |h| h.set_size(1 << 32));
    let error = read(passed_over.end().as_slice().chain(std::io::repeat(0)), &terms(), &mut taken);
    assert!(error.expect_err("endless").to_string().starts_with("zeros: with it the archive"));

    let directory = Tar::default().member("./", EntryType::Directory, b"", |_| {}).unended();
    let error = read(Endless(directory.repeat(64), 0), &terms(), &mut taken);
    let error = error.expect_err("endless").to_string();
    assert!(error.contains("it is one member too many"), "{error}");
}

#[test]
fn many_names_of_one_list_are_not_many_times_its_work() {
    let document = manifest(CONFIG, LAYERED);
    let padding = "x".repeat(3 * 1024 * 1024);
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "annotations": { "x": padding },
        "manifests": [descriptor(MANIFEST, &document)] });
    let list = list.to_string().into_bytes();
    let names = (0..50).map(|i| index_of(INDEX, &list, &format!("site/app:{i}")));
    let names: Vec<_> = names.map(|index| index["manifests"][0].clone()).collect();
    let archive = Tar::default().layout().blob(CONFIG).blob(LAYERED).blob(&document).blob(&list);
    let archive = archive.json("index.json", &json!({ "schemaVersion": 2, "manifests": names }));
    let error = take(&archive.end(), &terms()).0.expect_err("too much").to_string();
    assert!(error.contains("index.json: its images have more than 134217728 bytes"), "{error}");
}

#[test]
fn where_signatures_are_demanded_nothing_else_is_taken() {
    let (text, public) = SecretKey::generate(None).expect("a key");
    let key = SecretKey::parse(&text, None).expect("a key");
    let (other, _) = SecretKey::generate(None).expect("a key");
    let other = SecretKey::parse(&other, None).expect("a key");
    let document = manifest(CONFIG, LAYERED);
    let blob = |bytes: &[u8]| json!({ "digest": Digest::sha256(bytes), "size": bytes.len() });
    let contents = json!({
        "wharfBundle": 1,
        "images": [{ "name": "docker.io/site/app:1", "digest": Digest::sha256(&document), "mediaType": MANIFEST,
            "size": document.len(), "platforms": [] }],
        "blobs": [blob(&document), blob(CONFIG), blob(LAYERED)],
        "base": [],
    });
    let contents = Contents::parse(contents.to_string().as_bytes()).expect("contents");
    let contents = contents.to_bytes().expect("contents");
    let bundle = |signature: Option<String>| {
        let mut tar = Tar::default().layout().file("wharf-bundle.json", &contents);
        if let Some(signature) = signature {
            tar = tar.file("wharf-bundle.json.minisig", signature.as_bytes());
        }
        tar.blob(&document).blob(CONFIG).blob(LAYERED).end()
    };
    let demanding = Terms { trusted: vec![public], ..terms() };
    let signed = bundle(Some(key.sign(&contents).expect("signed")));
    let (brought, _) = take(&signed, &demanding);
    assert_eq!(brought.expect("trusted").images[0].named.to_string(), "docker.io/site/app:1");
    assert!(take(&signed, &terms()).0.is_ok(), "nobody demands one here");
    for (archive, sentence) in [
        (bundle(None), "is not signed"),
        (good().end(), "is not signed"),
        (bundle(Some(other.sign(&contents).expect("signed"))), "none of those trusted here"),
        (bundle(Some(key.sign(b"others").expect("signed"))), "is not of these contents"),
    ] {
        let (brought, taken) = take(&archive, &demanding);
        let error = brought.expect_err(sentence).to_string();
        assert!(error.contains(sentence), "{error}");
        assert!(taken.blobs.is_empty(), "nothing is taken of a stranger's: {error}");
    }
}
