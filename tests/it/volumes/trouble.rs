//! Volumes that are damaged, that lie, or that nobody trusts.

use std::collections::HashSet;

use bytes::Bytes;
use wharf::{bundle::SecretKey, oci::Digest};

use super::{KIB, Made, damaged, dirs, import, lied, missing, refused, sets};
use crate::support::{FakeHub, Wharf, noise};

const LAYERS: [usize; 4] = [300 * KIB + 7, 500 * KIB, 90 * KIB, 512];

#[tokio::test]
async fn a_damaged_volume_is_refused_by_its_member_and_what_came_before_stays() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    for (kind, volume) in [("blobs/", 0), ("segments/", 0), ("segments/", 1), ("segments/", 2)] {
        let wharf = Wharf::start(&hub).await;
        let first = (volume + 1) % 3;
        missing(&wharf, &volumes[first]).await;
        let before = sets(&wharf).await;
        let why = refused(&wharf, &damaged(&volumes[volume], kind)).await;
        assert!(why.starts_with(kind), "{why}");
        let after = sets(&wharf).await;
        assert_eq!(after[0].missing, before[0].missing, "{kind} {volume}");
        assert!(after[0].bytes >= before[0].bytes, "{kind} {volume}");
        let cut = &volumes[volume][..volumes[volume].len() - 1024];
        let why = refused(&wharf, cut).await;
        assert!(why.contains("it has no end"), "{why}");
        for again in [volume, (volume + 2) % 3] {
            missing(&wharf, &volumes[again]).await;
        }
        made.assert_served(&wharf).await;
        assert_eq!((dirs(&wharf), wharf.pull.status().await.cache.partial), (vec![], 0));
        wharf.end().await;
    }
}

#[tokio::test]
async fn of_a_volume_of_which_nothing_was_right_nothing_is_left() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &[400 * KIB, 10 * KIB]);
    let volumes = made.volumes(made.least() + 100 * KIB as u64);
    let wharf = Wharf::start(&hub).await;
    // One that holds a part, and nothing else.
    let why = refused(&wharf, &damaged(&volumes[1], "segments/")).await;
    assert!(why.starts_with("segments/") && why.contains("its SHA-256 is"), "{why}");
    assert_eq!((sets(&wharf).await, dirs(&wharf)), (vec![], vec![]));
    let status = wharf.pull.status().await.cache;
    assert_eq!((status.bytes, status.partial), (0, 0));
    wharf.end().await;
}

#[tokio::test]
async fn parts_that_are_right_and_no_blob_together_are_dropped_and_brought_again() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    for (liar, order) in [(0, [0, 2, 1]), (1, [0, 1, 2]), (2, [2, 1, 0])] {
        let wharf = Wharf::start(&hub).await;
        let mut told = None;
        for n in order {
            let volume = if n == liar { lied(&volumes[n]) } else { volumes[n].clone() };
            if let Err(error) = import(&wharf, &volume).await {
                assert_eq!(told, None, "{error}");
                told = Some(error.to_string());
            }
        }
        let why = told.expect("it is found out");
        assert!(why.contains("joined from its parts, has the digest sha256:"), "{why}");
        let again = why.split("bring volumes ").nth(1).expect("volumes").to_owned();
        assert!(again.contains(&(liar + 1).to_string()) && again.ends_with(" again"), "{why}");
        made.assert_unseen(&wharf).await;
        let asked = sets(&wharf).await[0].missing.clone();
        assert!(asked.contains(&(liar as u32 + 1)), "{asked:?}");
        for number in asked {
            missing(&wharf, &volumes[number as usize - 1]).await;
        }
        made.assert_served(&wharf).await;
        assert_eq!((dirs(&wharf), wharf.pull.status().await.cache.partial), (vec![], 0));
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_blob_that_rots_while_it_waits_is_asked_for_again() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let wharf = Wharf::start(&hub).await;
    missing(&wharf, &volumes[0]).await;
    missing(&wharf, &volumes[1]).await;
    let config = wharf.cache().join("blobs/sha256").join(Digest::sha256(&made.manifest).encoded());
    std::fs::remove_file(config).expect("it waits there");
    let why = refused(&wharf, &volumes[2]).await;
    assert!(why.contains("was in none of them, or is lost since"), "{why}");
    assert_eq!(sets(&wharf).await[0].missing, [1, 2, 3]);
    for volume in &volumes {
        missing(&wharf, volume).await;
    }
    made.assert_served(&wharf).await;
    wharf.end().await;
}

#[tokio::test]
async fn where_signatures_are_demanded_each_volume_has_one() {
    let hub = FakeHub::start().await;
    let (text, public) = SecretKey::generate(None).expect("a key");
    let key = SecretKey::parse(&text, None).expect("a key");
    let made = Made::of("1", &LAYERS);
    let unsigned = made.three();
    let mut made = Made::of("1", &LAYERS);
    made.bundle.sign(&key).expect("signed");
    let signed = made.three();
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.airgap.trusted = vec![public];
    })
    .await;
    for volume in &unsigned {
        let why = refused(&wharf, volume).await;
        assert!(why.contains("is not signed"), "{why}");
    }
    assert_eq!((sets(&wharf).await, dirs(&wharf)), (vec![], vec![]));
    missing(&wharf, &signed[1]).await;
    let why = refused(&wharf, &unsigned[0]).await;
    assert!(why.contains("is not signed"), "{why}");
    assert_eq!(sets(&wharf).await[0].missing, [1, 3]);
    missing(&wharf, &signed[0]).await;
    missing(&wharf, &signed[2]).await;
    made.assert_served(&wharf).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_delta_is_refused_at_its_first_volume_and_keeps_its_base_while_it_waits() {
    let hub = FakeHub::start().await;
    let old = noise("old", 200 * KIB);
    let base = Made::with("1", std::slice::from_ref(&old), &HashSet::new());
    let layers: Vec<Bytes> = (0..4).map(|n| noise(&format!("new {n}"), 200 * KIB)).collect();
    let layers = [std::slice::from_ref(&old), &layers].concat();
    let delta = Made::with("2", &layers, &HashSet::from([Digest::sha256(&old)]));
    let volumes = delta.three();
    let wharf = Wharf::start(&hub).await;
    for volume in &volumes {
        let why = refused(&wharf, volume).await;
        assert!(why.contains("here is missing: sha256:"), "{why}");
    }
    assert_eq!((sets(&wharf).await, dirs(&wharf)), (vec![], vec![]));
    for volume in base.volumes(1 << 30) {
        missing(&wharf, &volume).await;
    }
    missing(&wharf, &volumes[2]).await;
    // Its base goes as an image, and stays for the bundle that waits.
    let name = "app:1".parse().expect("a name");
    wharf.pull.pin(&name, false).await.expect("unpinned");
    wharf.pull.remove(&name).await.expect("removed");
    wharf.pull.collect().await.expect("collected");
    missing(&wharf, &volumes[1]).await;
    missing(&wharf, &volumes[0]).await;
    delta.assert_served(&wharf).await;
    wharf.end().await;
}
