//! What is here of a bundle stays until the rest comes: through stops, kills, collections and evictions; but not for ever.

use std::{fs, io::Read, time::Duration};

use wharf::{
    app::Folder,
    oci::Digest,
    pull::{Error, ImportTerms},
    store::{Limits, Share},
};

use super::{KIB, Made, dirs, import, missing, refused, sets};
use crate::{
    commands::Site,
    support::{FakeHub, Wharf, deadline},
};

const LAYERS: [usize; 4] = [300 * KIB + 7, 500 * KIB, 90 * KIB, 512];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn a_stop_and_a_power_cut_between_volumes_lose_nothing() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let mut wharf = Wharf::start(&hub).await;
    missing(&wharf, &volumes[1]).await;
    let (before, used) = (sets(&wharf).await, wharf.pull.status().await.cache);
    wharf = wharf.restart().await;
    assert_eq!(sets(&wharf).await, before);
    let after = wharf.pull.status().await.cache;
    assert_eq!((after.bytes, after.partial), (used.bytes, used.partial), "counted alike");
    missing(&wharf, &volumes[0]).await;
    let cut = wharf.after_power_cut(|_| ()).await;
    assert_eq!(sets(&cut).await, sets(&wharf).await);
    for wharf in [wharf, cut] {
        let last = import(&wharf, &volumes[2]).await.expect("taken in");
        assert_eq!(last.images.len(), 1);
        made.assert_served(&wharf).await;
        assert_eq!((dirs(&wharf), wharf.pull.status().await.cache.partial), (vec![], 0));
        wharf.end().await;
    }
}

#[tokio::test]
async fn kill_minus_nine_within_a_volume_loses_nothing_that_was_verified() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &[200 * KIB; 12]);
    let volumes = made.three();
    for point in 0..8 {
        let site = Site::start(&hub, false).await;
        for (name, bytes) in ["v1", "v2", "v3"].iter().zip(&volumes) {
            fs::write(site.dir.path().join(name), bytes).expect("written");
        }
        site.json(&["import", "v1"]).await;
        let blobs = || fs::read_dir(site.cache().join("blobs/sha256")).map_or(0, Iterator::count);
        let (first, until) = (blobs(), blobs() + point / 2);
        let running = site.begin(&["import", "v2"]);
        let far = async {
            while blobs() < until {
                tokio::task::yield_now().await;
            }
        };
        deadline("the import to be so far", far).await;
        running.signal("KILL");
        running.ended().await;
        let here = blobs();
        assert!(here >= first, "{point}");
        let said = site.json(&["import", "v2"]).await;
        let images = said["images"].as_array().expect("a list").len();
        let known = said["known"].as_u64().expect("a number") as usize;
        assert!(known + 1 >= here - first && images == 0, "{point}: {said}, {here} after {first}");
        let last = site.json(&["import", "v3"]).await;
        assert_eq!(last["images"][0]["digest"], Digest::sha256(&made.manifest).to_string());
        let checked = site.run(&["verify"]).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        site.end().await;
    }
}

#[tokio::test]
async fn neither_a_collection_nor_an_eviction_takes_what_waits() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let limits = Limits {
        max_size: Share::Bytes(made.bundle.contents().carried_bytes() + 400 * KIB as u64),
        min_free: Share::Bytes(0),
    };
    let wharf = Wharf::start_with(&hub, |config| config.store.limits = limits).await;
    missing(&wharf, &volumes[0]).await;
    missing(&wharf, &volumes[1]).await;
    let waits = sets(&wharf).await;
    for n in 0..6 {
        // More than there is room for: what was pulled before goes for it.
        let tag = format!("t{n}");
        let image =
            hub.push_single("library/busybox", &tag, ("linux", "arm64", None), &[300 * KIB]);
        let answer = wharf.get(&format!("/v2/library/busybox/manifests/{tag}")).await;
        assert_eq!(answer.bytes(), &image.manifest.bytes);
        for part in image.layers.iter().chain([&image.config]) {
            wharf.get(&crate::support::blob_path("library/busybox", &part.digest)).await;
        }
        wharf.quiet().await;
        wharf.pull.collect().await.expect("collected");
        wharf.pull.keep_to_budget().await;
    }
    assert_eq!(sets(&wharf).await, waits);
    let status = wharf.pull.status().await.cache;
    assert!(status.bytes <= status.limit, "{status:?}");
    let last = import(&wharf, &volumes[2]).await.expect("taken in");
    assert_eq!(last.images.len(), 1, "what waited was not brought again");
    made.assert_served(&wharf).await;
    wharf.end().await;
}

#[tokio::test]
async fn without_room_what_was_verified_stays_until_there_is_some() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let limited = |bytes: u64| Limits { max_size: Share::Bytes(bytes), min_free: Share::Bytes(0) };
    let size = made.bundle.contents().carried_bytes();
    let wharf = Wharf::start_with(&hub, |config| config.store.limits = limited(size * 2 / 3)).await;
    missing(&wharf, &volumes[0]).await;
    let waits = sets(&wharf).await;
    let mut failed = 0;
    for volume in &volumes[1..] {
        match import(&wharf, volume).await {
            Ok(imported) => assert_eq!(imported.images, []),
            Err(Error::NotTaken(why)) => {
                assert!(why.contains("no room"), "{why}");
                failed += 1;
            }
            Err(error) => panic!("it is not the archive's fault: {error}"),
        }
    }
    assert!(failed > 0);
    assert!(sets(&wharf).await[0].bytes >= waits[0].bytes);
    let wharf = wharf.restart_with(|config| config.store.limits = limited(size * 2)).await;
    for volume in &volumes[1..] {
        import(&wharf, volume).await.expect("there is room now");
    }
    made.assert_served(&wharf).await;
    wharf.end().await;
}

#[tokio::test]
async fn a_bundle_that_nobody_completes_goes_after_thirty_days() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let wharf = Wharf::start(&hub).await;
    missing(&wharf, &volumes[0]).await;
    wharf.clock.advance(29 * DAY);
    missing(&wharf, &volumes[2]).await;
    wharf.clock.advance(29 * DAY);
    wharf.pull.expire_volumes().await;
    assert_eq!(sets(&wharf).await.len(), 1, "somebody brought one since");
    wharf.clock.advance(DAY);
    wharf.pull.expire_volumes().await;
    assert_eq!((sets(&wharf).await, dirs(&wharf)), (vec![], vec![]));
    let status = wharf.pull.status().await.cache;
    assert_eq!((status.bytes, status.blobs), (0, 0), "what only it needed went with it");
    assert_eq!(missing(&wharf, &volumes[1]).await, [1, 3], "it begins anew");
    wharf.end().await;
}

#[tokio::test]
async fn no_more_bundles_wait_than_may() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start(&hub).await;
    let made: Vec<Made> =
        (0..17).map(|n| Made::of(&n.to_string(), &[100 * KIB, 200 * KIB, 100 * KIB])).collect();
    for made in &made[..16] {
        missing(&wharf, &made.three()[0]).await;
    }
    let why = refused(&wharf, &made[16].three()[0]).await;
    assert!(why.contains("16 other bundles wait") && why.contains("import --drop"), "{why}");
    let set = sets(&wharf).await[3].set;
    assert_eq!(wharf.pull.drop_volumes(&set.to_string()).await.expect("dropped").set, set);
    missing(&wharf, &made[16].three()[0]).await;
    assert_eq!(sets(&wharf).await.len(), 16);
    wharf.end().await;
}

#[tokio::test]
async fn volumes_in_the_folder_are_taken_in_and_told_beside_them() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let wharf = Wharf::start(&hub).await;
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    let mut drops = Folder::at(folder.path().to_owned());
    for (number, volume) in (1..).zip(&made.three()) {
        if number != 2 {
            fs::write(at(&format!("b.tar.{number:03}")), volume).expect("written");
        }
    }
    fs::write(at("b.tar.receipt"), "{}").expect("written");
    drops.look(&wharf.pull).await;
    drops.look(&wharf.pull).await;
    let told =
        |number: u32| fs::read_to_string(at(&format!("b.tar.{number:03}.imported"))).expect("told");
    assert!(
        told(1).starts_with("taken in: volume 1 of 3; 2 and 3 are not here yet\n"),
        "{}",
        told(1)
    );
    assert!(told(3).starts_with("taken in: volume 3 of 3; 2 is not here yet\n"), "{}", told(3));
    assert!(!at("b.tar.receipt.refused").exists());
    fs::write(at("b.tar.002"), &made.three()[1]).expect("written");
    drops.look(&wharf.pull).await;
    drops.look(&wharf.pull).await;
    let last = told(2);
    assert!(
        last.starts_with("taken in: volume 2 of 3; all are here\ndocker.io/library/app:1 "),
        "{last}"
    );
    made.assert_served(&wharf).await;
    wharf.end().await;
}

/// Gives some bytes, then none until it is asked to end.
struct Slow {
    bytes: std::io::Cursor<Vec<u8>>,
    reached: std::sync::mpsc::Sender<()>,
    goes_on: std::sync::mpsc::Receiver<()>,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.bytes.read(buffer)? {
            0 => {
                let _ = self.reached.send(());
                // Whoever gave up hangs up; what comes then is read by nobody.
                let _ = self.goes_on.recv_timeout(Duration::from_secs(10));
                buffer[0] = 0;
                Ok(1)
            }
            read => Ok(read),
        }
    }
}

#[tokio::test]
async fn an_import_that_is_given_up_ends_at_its_next_read_and_keeps_what_was_verified() {
    let hub = FakeHub::start().await;
    let made = Made::of("1", &LAYERS);
    let volumes = made.three();
    let wharf = Wharf::start(&hub).await;
    missing(&wharf, &volumes[0]).await;
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel();
    let half = volumes[1][..volumes[1].len() - 20 * KIB].to_vec();
    let slow = Slow { bytes: std::io::Cursor::new(half), reached, goes_on };
    let pull = wharf.pull.clone();
    let running =
        tokio::spawn(async move { pull.import(slow, ImportTerms::default()).await.map(drop) });
    tokio::task::spawn_blocking(move || is_reached.recv_timeout(Duration::from_secs(10)))
        .await
        .expect("it waits")
        .expect("it reads");
    let busy = refused(&wharf, &volumes[2]).await;
    assert!(busy.contains("another volume of its set is being taken in"), "{busy}");
    let set = sets(&wharf).await[0].set;
    let busy = wharf.pull.drop_volumes(&set.to_string()).await.expect_err("busy").to_string();
    assert!(busy.contains("is being taken in"), "{busy}");
    running.abort();
    assert!(running.await.expect_err("aborted").is_cancelled());
    drop(go_on);
    deadline("the set to be free again", async {
        while import(&wharf, &volumes[2]).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(missing(&wharf, &volumes[1]).await, [0; 0]);
    made.assert_served(&wharf).await;
    wharf.end().await;
}
