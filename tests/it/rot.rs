//! Bytes that rot (bug class: what a disk has damaged is served, is never noticed, or fails a client while the registry
//! has it).

mod scrubbing;
mod serving;
mod verifying;
mod waiting;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use wharf::{
    config::Config,
    oci::Digest,
    store::{Disk, Touch, Watch},
};

use crate::support::{Challenge, FakeHub, Host, PushedManifest, Wharf, blob_path, upstream};

const REPO: &str = "library/busybox";
const KEPT: &str = r#"wharf_verify_failures_total{stage="kept"}"#;
/// Three parts, as they are sent.
const SIZE: usize = 5_000_000;
/// Reads of a file up to the middle of its second part: at its opening, and one for each 256 KiB.
const TO_SECOND: usize = 14;

/// A disk that does not give one file.
#[derive(Debug, Default)]
struct BadSector(Mutex<Option<Bad>>);

#[derive(Debug)]
struct Bad {
    path: PathBuf,
    /// Which file, while it lies there; `None`: whatever is read by that name.
    inode: Option<u64>,
    /// How many reads still go well.
    passes: usize,
}

impl BadSector {
    fn hit(&self, path: &Path, moves: bool, passes: usize) {
        let inode = fs::metadata(path).expect("there").ino();
        let bad = Bad { path: path.into(), inode: moves.then_some(inode), passes };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bad);
    }
}

impl Watch for BadSector {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        let mut bad = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Touch::Read(path), Some(bad)) = (touch, bad.as_mut()) else { return Ok(usize::MAX) };
        let is = |inode| fs::metadata(path).is_ok_and(|found| found.ino() == inode);
        if path != bad.path || !bad.inode.is_none_or(is) {
            return Ok(usize::MAX);
        }
        if bad.passes > 0 {
            bad.passes -= 1;
            return Ok(usize::MAX);
        }
        // EIO.
        Err(io::Error::from_raw_os_error(5))
    }
}

/// A wharf that keeps an image of one layer.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    disk: Arc<BadSector>,
    image: PushedManifest,
    digest: Digest,
    bytes: Bytes,
    /// Where the layer is asked for.
    path: String,
}

impl Site {
    async fn start(size: usize) -> Self {
        let hub = FakeHub::builder().challenge(Challenge::None).without_redirect().start().await;
        let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[size]);
        let disk = Arc::new(BadSector::default());
        let watched = Disk::watched(disk.clone());
        let wharf = Wharf::start_with(&hub, |config| {
            config.store.disk = watched;
            // It would have fetched again what is put aside before a client asks.
            config.pull.scrub = None;
        })
        .await;
        wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
        let layer = image.layers[0].clone();
        let path = blob_path(REPO, &layer.digest);
        wharf.open(&path, &[]).await.expect(&layer.bytes).await;
        wharf.quiet().await;
        hub.clear_log();
        Self { hub, wharf, disk, image, digest: layer.digest, bytes: layer.bytes, path }
    }

    /// The file that is to hold the layer.
    fn file(&self) -> PathBuf {
        self.wharf.blob_file(&self.digest)
    }

    /// The names of the files in quarantine, sorted.
    fn quarantine(&self) -> Vec<String> {
        let dir = fs::read_dir(self.wharf.cache().join("wharf/quarantine")).expect("there");
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.expect("readable").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = dir.map(name).collect();
        names.sort();
        names
    }

    /// The layer is missing, then fetched and kept; nothing is left in quarantine.
    async fn recovers(self) {
        for outcome in ["miss", "hit"] {
            let answer = self.wharf.get(&self.path).await;
            assert_eq!((answer.cache(), answer.bytes()), (outcome, &self.bytes));
            self.wharf.quiet().await;
        }
        assert_eq!(fs::read(self.file()).expect("kept"), self.bytes);
        assert_eq!(self.quarantine(), [""; 0]);
        self.wharf.end().await;
    }
}

/// The names in quarantine of a blob and of what is said of it.
fn put_aside(digest: &Digest) -> [String; 2] {
    let name = format!("sha256-{}", digest.encoded());
    [name.clone(), format!("{name}.json")]
}

/// A wharf that keeps an image of three layers of each of two registries.
struct Two {
    hub: FakeHub,
    lan: FakeHub,
    wharf: Wharf,
    of_hub: PushedManifest,
    of_lan: PushedManifest,
}

impl Two {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let open = || FakeHub::builder().challenge(Challenge::None).without_redirect().start();
        let (hub, lan) = (open().await, open().await);
        let wharf = Wharf::start_with(&hub, |config| {
            let registry = "registry.lan:5000".parse().expect("a registry");
            config.upstreams.push(upstream(registry, &[&lan.url(Host::Registry)]));
            change(config);
        })
        .await;
        let push = |hub: &FakeHub, tag| {
            hub.push_single(REPO, tag, ("linux", "arm64", None), &[4000, 5000, 6000])
        };
        let (of_hub, of_lan) = (push(&hub, "hub"), push(&lan, "lan"));
        for (image, tag, of) in [(&of_hub, "hub", ""), (&of_lan, "lan", "?ns=registry.lan:5000")] {
            wharf.get(&format!("/v2/{REPO}/manifests/{tag}{of}")).await.bytes();
            for blob in std::iter::once(&image.config).chain(&image.layers) {
                let answer = wharf.get(&format!("{}{of}", blob_path(REPO, &blob.digest))).await;
                assert_eq!(answer.bytes(), &blob.bytes);
            }
        }
        wharf.quiet().await;
        Self { hub, lan, wharf, of_hub, of_lan }
    }

    /// Damages all layers of both images.
    fn damage(&self) {
        for layer in self.of_hub.layers.iter().chain(&self.of_lan.layers) {
            flip(&self.wharf, &layer.digest, 4321);
        }
    }

    async fn end(self) {
        let Self { wharf, hub, lan, .. } = self;
        wharf.end().await;
        drop((hub, lan));
    }
}

/// Turns one bit of a kept blob over.
fn flip(wharf: &Wharf, digest: &Digest, bit: usize) {
    let file = wharf.blob_file(digest);
    let mut bytes = fs::read(&file).expect("kept");
    let at = bit / 8 % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    fs::write(file, bytes).expect("writable");
}

/// Whether a blob is kept and what its name says.
fn is_right(wharf: &Wharf, digest: &Digest) -> bool {
    fs::read(wharf.blob_file(digest)).is_ok_and(|bytes| Digest::sha256(&bytes) == *digest)
}
