//! Whichever comes first, how often, and with what between.

use serde_json::json;
use wharf::oci::Digest;

use super::{KIB, Made, dirs, import, missing, sets};
use crate::{
    commands::{BOTH, Site},
    support::{FakeHub, Wharf},
};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

const LAYERS: [usize; 5] = [300 * KIB + 7, 10, 500 * KIB, 90 * KIB, 512];

#[tokio::test]
async fn three_volumes_are_taken_in_every_order_and_the_image_comes_with_the_last() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    for order in ORDERS {
        let wharf = Wharf::start(&hub).await;
        let mut left: Vec<u32> = vec![1, 2, 3];
        for n in order {
            left.retain(|number| *number as usize != n + 1);
            made.assert_unseen(&wharf).await;
            assert_eq!(missing(&wharf, &volumes[n]).await, left, "{order:?}");
            if !left.is_empty() {
                // The same once more: nothing is written, and nothing changes.
                let before = sets(&wharf).await;
                let again = import(&wharf, &volumes[n]).await.expect("taken in");
                assert_eq!((again.blobs, again.bytes), (0, 0), "{order:?}");
                let after = sets(&wharf).await;
                assert_eq!((after[0].bytes, &after[0].missing), (before[0].bytes, &left));
                assert_eq!(wharf.metric("wharf_volume_sets"), 1.0);
            }
        }
        made.assert_served(&wharf).await;
        assert_eq!((sets(&wharf).await, dirs(&wharf)), (vec![], vec![]), "{order:?}");
        assert_eq!(wharf.metric("wharf_volume_sets"), 0.0);
        assert_eq!(wharf.metric("wharf_imports_total{outcome=\"volume\"}"), 4.0);
        // And when all is here: the volume brings the images once more.
        let again = import(&wharf, &volumes[0]).await.expect("taken in");
        assert_eq!((again.blobs, again.images.len()), (0, 1));
        assert_eq!(again.volume.expect("a volume").missing, [0; 0]);
        assert_eq!(dirs(&wharf), [""; 0]);
        assert_eq!(wharf.pull.status().await.cache.partial, 0);
        wharf.end().await;
    }
}

#[tokio::test]
async fn a_stick_of_another_bundle_begins_another_bundle() {
    let hub = FakeHub::start().await;
    let (made, other) = (Made::of("1", &LAYERS), Made::of("2", &LAYERS));
    let (volumes, others) = (made.three(), other.three());
    let wharf = Wharf::start(&hub).await;
    assert_eq!(missing(&wharf, &volumes[2]).await, [1, 2]);
    assert_eq!(missing(&wharf, &others[1]).await, [1, 3]);
    assert_eq!(missing(&wharf, &volumes[0]).await, [2]);
    let told = sets(&wharf).await;
    assert_eq!(told.len(), 2);
    let first = told.iter().find(|set| set.missing == [2]).expect("the first");
    assert_eq!(first.images, ["docker.io/library/app:1"]);
    assert_eq!((first.here, first.of, first.more_images), (2, 3, 0));
    assert_eq!(first.size, made.bundle.contents().carried_bytes());
    assert!(first.parts > 0 && first.parts < first.bytes && first.bytes < first.size, "{first:?}");
    assert_eq!(missing(&wharf, &volumes[1]).await, [0; 0]);
    made.assert_served(&wharf).await;
    other.assert_unseen(&wharf).await;
    assert_eq!(missing(&wharf, &others[0]).await, [3]);
    assert_eq!(missing(&wharf, &others[2]).await, [0; 0]);
    other.assert_served(&wharf).await;
    assert_eq!(wharf.pull.status().await.cache.partial, 0);
    wharf.end().await;
}

#[tokio::test]
async fn volumes_that_were_made_anew_in_another_size_go_on_with_what_is_here() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let (large, small) = (made.three(), made.volumes(made.least() + 40 * KIB as u64));
    assert!(small.len() > 5);
    let wharf = Wharf::start(&hub).await;
    missing(&wharf, &large[0]).await;
    missing(&wharf, &large[2]).await;
    for volume in small.iter().rev() {
        missing(&wharf, volume).await;
    }
    made.assert_served(&wharf).await;
    assert_eq!((dirs(&wharf), wharf.pull.status().await.cache.partial), (vec![], 0));
    wharf.end().await;
}

#[tokio::test]
async fn what_a_person_is_told_says_what_is_still_to_be_brought() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let set = Digest::sha256(made.bundle.document()).encoded();
    for daemon in BOTH {
        let mut site = Site::start(&hub, daemon).await;
        for (name, bytes) in ["v1", "v2", "v3"].iter().zip(&volumes) {
            std::fs::write(site.dir.path().join(name), bytes).expect("written");
        }
        assert_eq!(
            site.ok(&["import", "v1", "v3"]).await,
            "v1: volume 1 of 3 taken in; 2 and 3 are not here yet\nv3: volume 3 of 3 taken in; 2 is not here yet\n"
        );
        let status = site.ok(&["status"]).await;
        let line = status.lines().find(|line| line.starts_with("Volumes:")).expect("told");
        let said = format!("{}  docker.io/library/app:1: 2 of 3 here, 2 awaited; ", &set[..12]);
        assert!(line.contains(&said), "{line}");
        let drop = format!("wharf import --drop {}", &set[..12]);
        assert!(line.contains(&drop), "{line}");
        let told = site.json(&["status"]).await;
        assert_eq!(told["volume_sets"][0]["missing"], json!([2]));
        site.restart().await;

        for (name, why) in [("0000", "no one bundle that waits for volumes"), ("", "no one bundle")]
        {
            let said = site.run(&["import", "--drop", name]).await;
            assert!(said.code == Some(1) && said.err.contains(why), "{said:?}");
        }
        let said = site.ok(&["import", "--drop", &set[..12]]).await;
        assert!(said.starts_with(&format!("sha256:{set}: dropped, 2 of 3 volumes")), "{said}");
        assert_eq!(site.json(&["status"]).await["volume_sets"], json!([]));
        assert_eq!(site.json(&["status"]).await["cache"]["bytes"], json!(0));

        let said = site.json(&["import", "v2"]).await;
        let waits =
            json!({ "set": format!("sha256:{set}"), "number": 2, "of": 3, "missing": [1, 3] });
        assert_eq!((&said["volume"], &said["images"]), (&waits, &json!([])));
        site.json(&["import", "v3"]).await;
        // That of the last command counts.
        let said = site.json(&["import", "--no-pin", "v1"]).await;
        assert_eq!(said["images"][0]["name"], "docker.io/library/app:1");
        assert_eq!(said["volume"]["missing"], json!([]));
        assert_eq!(site.json(&["ls"]).await[0]["pinned"], json!(false));
        let wrong = site.run(&["import", "--drop", "abcdef", "v1"]).await;
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        site.end().await;
    }
}
