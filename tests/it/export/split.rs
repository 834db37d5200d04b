//! Bundles over several media, and compressed ones.

use std::{collections::BTreeMap, fs};

use wharf::{
    bundle::{VOLUME, Volume},
    oci::Digest,
};

use super::{KIB, Opened, Pushed, digest};
use crate::{commands::Site, support::FakeHub};

const ARM64: [&str; 3] = ["--platform", "linux/arm64", "app:1"];

#[tokio::test]
async fn volumes_are_small_enough_right_by_themselves_and_whole_together() {
    let hub = FakeHub::start().await;
    let layers = [("a", 300 * KIB + 7), ("b", 10), ("c", 700 * KIB), ("d", 90 * KIB), ("e", 512)];
    let image = Pushed::to(&hub, "1", &layers);
    let site = Site::start(&hub, false).await;
    let split = [&ARM64[..], &["--volume-size", "200KiB", "-o", "b.tar"]].concat();
    let said = site.export(&split).await;
    let count = said["volumes"].as_u64().expect("a number");
    assert!(count > 5, "{said}");
    let receipt = site.bytes("b.tar.receipt");
    let (mut whole, mut parts) = (Vec::new(), BTreeMap::<_, Vec<u8>>::new());
    let mut before = Vec::new();
    for number in 1..=count {
        let bytes = site.bytes(&format!("b.tar.{number:03}"));
        assert!(bytes.len() <= 200 * KIB, "{number}: {}", bytes.len());
        let opened = Opened::archive(&bytes);
        assert_eq!(opened.names[..4], ["oci-layout", VOLUME, "wharf-bundle.json", "index.json"]);
        assert_eq!(opened.members["wharf-bundle.json"], receipt);
        let volume = Volume::parse(&opened.members[VOLUME]).expect("a volume");
        assert_eq!((u64::from(volume.number), u64::from(volume.of)), (number, count));
        assert_eq!(volume.set, Digest::sha256(&receipt));
        let listed: Vec<String> = volume
            .segments
            .iter()
            .map(|part| format!("segments/sha256/{}/{:020}", part.digest.encoded(), part.offset))
            .collect();
        let carried: Vec<_> =
            opened.names.iter().filter(|name| name.starts_with("segments/")).cloned().collect();
        assert_eq!(carried, listed);
        for (part, name) in volume.segments.iter().zip(&listed) {
            let bytes = &opened.members[name];
            assert_eq!((Digest::sha256(bytes), bytes.len() as u64), (part.sha256, part.size));
            let blob = parts.entry(part.digest).or_default();
            assert_eq!(blob.len() as u64, part.offset);
            blob.extend_from_slice(bytes);
        }
        let blobs = opened.names.iter().filter_map(|name| name.strip_prefix("blobs/sha256/"));
        whole.extend(blobs.map(|hex| format!("sha256:{hex}").parse::<Digest>().expect("a digest")));
        before.push(bytes);
    }
    assert_eq!(parts.len(), 2, "only what does not fit is cut");
    for (expected, bytes) in &parts {
        assert_eq!(Digest::sha256(bytes), *expected);
    }
    whole.extend(parts.keys());
    whole.sort_unstable();
    assert_eq!(whole, image.all());

    // A medium was taken away in the middle of the third.
    fs::remove_file(site.at("b.tar.002")).expect("deleted");
    fs::write(site.at("b.tar.003.part"), &before[2][..1000]).expect("written");
    fs::remove_file(site.at("b.tar.003")).expect("deleted");
    site.export(&split).await;
    for (number, bytes) in (1..).zip(&before) {
        assert!(site.bytes(&format!("b.tar.{number:03}")) == *bytes, "{number}");
    }
    let small = site
        .run(&[&["export"], &ARM64[..], &["--volume-size", "1KiB", "-o", "c.tar"]].concat())
        .await;
    assert!(small.code == Some(2) && small.err.contains("bytes at least"), "{small:?}");
    for output in ["-", "c.tar.zst"] {
        let said = site.run(&["export", "app:1", "--volume-size", "1GB", "-o", output]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    site.end().await;
}

#[tokio::test]
async fn what_fits_into_one_volume_is_one() {
    let hub = FakeHub::start().await;
    let image = Pushed::to(&hub, "1", &[("a", 1000)]);
    let site = Site::start(&hub, false).await;
    site.export(&[&ARM64[..], &["--volume-size", "1MiB", "-o", "b.tar"]].concat()).await;
    let opened = Opened::file(&site.at("b.tar.001"));
    assert_eq!(opened.blobs(), image.all());
    assert_eq!(Volume::parse(&opened.members[VOLUME]).expect("a volume").segments, []);
    assert!(!site.at("b.tar.002").exists());
    site.end().await;
}

#[tokio::test]
async fn a_compressed_bundle_is_the_same_bundle() {
    let hub = FakeHub::start().await;
    let image = Pushed::to(&hub, "1", &[("a", 200 * KIB)]);
    let site = Site::start(&hub, false).await;
    site.export(&[&ARM64[..], &["-o", "b.tar"]].concat()).await;
    let compressed = [&ARM64[..], &["-o", "b.tar.zst"]].concat();
    site.export(&compressed).await;
    let packed = site.bytes("b.tar.zst");
    let unpacked = zstd::decode_all(&packed[..]).expect("zstd");
    assert!(unpacked == site.bytes("b.tar"));
    assert_eq!(site.bytes("b.tar.zst.receipt"), site.bytes("b.tar.receipt"));
    fs::write(site.at("b.tar.zst.part"), &packed[..packed.len() / 2]).expect("written");
    fs::remove_file(site.at("b.tar.zst")).expect("deleted");
    site.export(&compressed).await;
    assert!(site.bytes("b.tar.zst") == packed);
    let layer = format!("blobs/sha256/{}", digest(&image.layers[0]).encoded());
    assert!(Opened::archive(&unpacked).members.contains_key(&layer));
    site.end().await;
}
