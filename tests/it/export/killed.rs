//! `kill -9` at any point: nothing wrong, nothing half, and the same command again completes it; while clients pull, too.

use std::{fs, path::Path, sync::Arc};

use serde_json::json;

use super::{
    KIB, Pushed,
    arrival::{EXPORT, assert_served, assert_whole, bundle, put},
    clients::{Clients, Wanted},
    digest,
};
use crate::{
    commands::{Running, Site},
    support::{FakeHub, deadline},
};

/// Points at which something is killed while clients pull: by turns the command, and the daemon that does what it says.
const POINTS: u64 = 30;

/// Points at which a command is killed that has opened the cache itself: 50 with the others.
const ALONE: u64 = 20;

const IMPORT: [&str; 2] = ["import", "b.tar"];

#[tokio::test]
async fn a_killed_import_shows_nothing_half_to_those_who_pull() {
    let home = FakeHub::start().await;
    let (image, bytes) = layered(&home).await;
    // Nobody but the bundle has the image.
    let hub = FakeHub::start().await;
    let wanted = Arc::new(Wanted::at(&hub).and(&image));
    for point in 0..POINTS {
        let mut site = Site::start(&hub, true).await;
        put(&site, "b.tar", &bytes);
        let mut clients = Clients::of(site.serve().await.addr, &wanted);
        let running = site.begin(&IMPORT);
        import_until(&site, &image, bytes.len() as u64 * point / POINTS).await;
        if point % 2 == 0 {
            kill(running).await;
        } else {
            clients.expect_death();
            site.kill().await;
            running.ended().await;
            clients.end().await;
            clients = Clients::of(site.serve().await.addr, &wanted);
        }
        let said = site.json(&IMPORT).await;
        let (new, known) = (said["blobs"].as_u64(), said["known"].as_u64());
        assert_eq!(
            new.zip(known).map(|(new, known)| new + known),
            Some(image.all().len() as u64),
            "{point}: {said}"
        );
        // By its tag, too, though the registry says that there is none.
        assert_whole(&mut site, &image, &["1"]).await;
        clients.end().await;
        assert_verified(&site, &image, point).await;
        site.end().await;
    }
}

#[tokio::test]
async fn of_a_killed_import_what_was_verified_is_not_written_again() {
    let hub = FakeHub::start().await;
    let (image, bytes) = layered(&hub).await;
    for point in 0..ALONE {
        let mut site = Site::start(&hub, false).await;
        put(&site, "b.tar", &bytes);
        let running = site.begin(&IMPORT);
        import_until(&site, &image, bytes.len() as u64 * point / ALONE).await;
        kill(running).await;
        let before = fs::read_dir(site.cache().join("blobs/sha256")).map_or(0, Iterator::count);
        let said = site.json(&IMPORT).await;
        assert_eq!(said["known"].as_u64(), Some(before as u64), "{point}: {said}");
        assert_served(&mut site, &image, "1").await;
        assert_verified(&site, &image, point).await;
        site.end().await;
    }
}

#[tokio::test]
async fn a_killed_export_goes_on_while_clients_pull() {
    let hub = FakeHub::start().await;
    let wanted = Arc::new(Wanted::at(&hub));
    Pushed::to(&hub, "1", &[("a", 3000 * KIB), ("b", 1000 * KIB)]);
    let mut site = Site::start(&hub, true).await;
    site.export(&EXPORT).await;
    let whole = site.bytes("b.tar");
    for point in 0..POINTS {
        let mut clients = Clients::of(site.serve().await.addr, &wanted);
        let running = begin_export(&site, whole.len() as u64 * point / POINTS).await;
        if point % 2 == 0 {
            kill(running).await;
        } else {
            clients.expect_death();
            site.kill().await;
            running.ended().await;
            clients.end().await;
            clients = Clients::of(site.serve().await.addr, &wanted);
        }
        assert_completes(&site, &whole, point).await;
        clients.end().await;
    }
    site.end().await;
}

#[tokio::test]
async fn a_killed_export_leaves_nothing_or_a_part_or_all_of_it() {
    let hub = FakeHub::start().await;
    Pushed::to(&hub, "1", &[("a", 3000 * KIB), ("b", 1000 * KIB)]);
    let site = Site::start(&hub, false).await;
    site.export(&EXPORT).await;
    let whole = site.bytes("b.tar");
    for point in 0..ALONE {
        kill(begin_export(&site, whole.len() as u64 * point / ALONE).await).await;
        assert_completes(&site, &whole, point).await;
    }
    site.end().await;
}

/// An image of some layers, and a bundle of it.
async fn layered(hub: &FakeHub) -> (Pushed, Vec<u8>) {
    let layers = ["0", "1", "2", "3", "4", "5"].map(|seed| (seed, 300 * KIB));
    bundle(hub, "1", &layers, &[]).await
}

/// Waits until so many bytes of an archive were written into the cache, verified or not, or as many as there are.
async fn import_until(site: &Site, image: &Pushed, bytes: u64) {
    let (blobs, partial) = (site.cache().join("blobs/sha256"), site.cache().join("wharf/partial"));
    let blobs: Vec<_> = image.all().iter().map(|digest| blobs.join(digest.encoded())).collect();
    let most: u64 = image.layers.iter().map(|layer| layer.len() as u64).sum();
    let far = async {
        while blobs.iter().map(|path| len(path)).sum::<u64>() + coming(&partial) < bytes.min(most) {
            tokio::task::yield_now().await;
        }
    };
    deadline("the import to be so far", far).await;
}

/// Bytes of what is on its way in, and is nobody's download.
fn coming(partial: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(partial) else { return 0 };
    let is_new = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".new-");
    entries.flatten().filter(is_new).map(|entry| len(&entry.path())).sum()
}

/// All that is kept is right and whole. Looked at now and then: what is served was looked at.
async fn assert_verified(site: &Site, image: &Pushed, point: u64) {
    if point % 5 > 1 {
        return;
    }
    let checked = site.run(&["verify"]).await;
    assert_eq!(checked.code, Some(0), "{point}: {checked:?}");
    let kept = site.json(&["ls", "app:1"]).await;
    assert_eq!(kept[0]["digest"], json!(digest(&image.index)), "{point}: {kept}");
}

/// Begins an export anew, and waits until it has written so many bytes, or all.
async fn begin_export(site: &Site, bytes: u64) -> Running {
    for name in ["b.tar", "b.tar.part", "b.tar.receipt"] {
        let _ = fs::remove_file(site.at(name));
    }
    let running = site.begin(&[&["export"], &EXPORT[..]].concat());
    let far = async {
        while len(&site.at("b.tar.part")) < bytes && !site.at("b.tar").exists() {
            tokio::task::yield_now().await;
        }
    };
    deadline("the export to be so far", far).await;
    running
}

/// What is there of a killed export under its name is right, and the command completes it.
async fn assert_completes(site: &Site, whole: &[u8], point: u64) {
    if site.at("b.tar").exists() {
        assert!(site.bytes("b.tar") == whole, "{point}");
    }
    site.export(&EXPORT).await;
    assert!(site.bytes("b.tar") == whole, "{point}");
    assert!(!site.at("b.tar.part").exists() && site.at("b.tar.receipt").exists());
}

async fn kill(running: Running) {
    running.signal("KILL");
    running.ended().await;
}

/// Of a file that may not be there.
fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
