//! Exports that end before they are done, and what is read that is not what it was.

use std::fs;

use super::{KIB, Opened, Pushed, digest};
use crate::{
    commands::{BOTH, Site},
    support::FakeHub,
};

const EXPORT: [&str; 5] = ["--platform", "linux/arm64", "-o", "b.tar", "app:1"];

#[tokio::test]
async fn an_export_goes_on_where_it_was() {
    let hub = FakeHub::start().await;
    Pushed::to(&hub, "1", &[("a", 300 * KIB), ("b", 100 * KIB)]);
    let site = Site::start(&hub, false).await;
    let said = site.export(&EXPORT).await;
    assert_eq!(said["kept"], 0);
    let whole = site.bytes("b.tar");
    for begun in [0, 1, 700, 5000, 200 * KIB, whole.len() - 1, whole.len()] {
        // What is on the disk of a file that was not synced may be anything.
        for wrong in [None, Some(begun / 2)] {
            let mut part = whole[..begun].to_vec();
            if let Some(byte) = wrong.and_then(|at| part.get_mut(at)) {
                *byte ^= 1;
            }
            let right = part.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            part.extend_from_slice(if begun == whole.len() { b"and more" } else { b"" });
            fs::remove_file(site.at("b.tar")).expect("deleted");
            fs::write(site.at("b.tar.part"), part).expect("written");
            let said = site.export(&EXPORT).await;
            assert_eq!(said["kept"], right, "{begun}");
            assert!(site.bytes("b.tar") == whole, "{begun}");
            assert!(!site.at("b.tar.part").exists());
        }
    }
    site.end().await;
}

#[tokio::test]
async fn another_bundle_is_not_replaced_unless_that_is_said() {
    let hub = FakeHub::start().await;
    Pushed::to(&hub, "1", &[("a", 3000)]);
    let site = Site::start(&hub, false).await;
    for other in ["something else", ""] {
        site.write("b.tar", other);
        let said = site.run(&[&["export"], &EXPORT[..]].concat()).await;
        assert!(said.code == Some(1) && said.err.contains("--force"), "{said:?}");
        assert_eq!(site.bytes("b.tar"), other.as_bytes());
    }
    site.export(&[&["--force"], &EXPORT[..]].concat()).await;
    Opened::file(&site.at("b.tar")).blobs();
    for (output, why) in [("cache", "directory"), ("nowhere/b.tar", "nowhere/b.tar.part")] {
        let said = site.run(&["export", "-o", output, "app:1"]).await;
        assert!(said.code != Some(0) && said.err.contains(why), "{said:?}");
    }
    site.end().await;
}

#[tokio::test]
async fn what_has_rotted_makes_no_bundle() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = Pushed::to(&hub, "1", &[("a", 300 * KIB), ("b", 3000)]);
        let site = Site::start(&hub, daemon).await;
        site.pull(&["--platform", "linux/arm64", "app:1"]).await;
        let layer = digest(&image.layers[0]);
        let path = site.cache().join("blobs/sha256").join(layer.encoded());
        let mut bytes = image.layers[0].to_vec();
        bytes[100_000] ^= 1;
        fs::write(&path, bytes).expect("written");
        for more in [&[][..], &["--volume-size", "200KiB"]] {
            let said = site.run(&[&["export"], &EXPORT[..], more].concat()).await;
            let last = said.err.lines().last().expect("a sentence");
            assert!(
                last.contains(&layer.to_string()) && last.contains("wharf verify --repair"),
                "{last}"
            );
            assert_eq!(said.code, Some(1));
            for name in ["b.tar", "b.tar.receipt", "b.tar.001"] {
                assert!(!site.at(name).exists(), "{name}");
            }
        }
        let repaired = site.run(&["verify", "--repair"]).await;
        assert_eq!(repaired.code, Some(0), "{repaired:?}");
        site.export(&EXPORT).await;
        assert_eq!(Opened::file(&site.at("b.tar")).blobs(), image.all());
        site.end().await;
    }
}
