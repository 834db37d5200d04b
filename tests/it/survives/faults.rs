//! A disk of which any one operation fails, or all from one on, in the middle of a pull.
//!
//! Every operation of a whole image's pull, of the same pull once more, and of a start is tried. `WHARF_FAULTS=all` tries
//! each with every error; without, the errors take turns.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::yield_now;
use wharf::{
    clock::Clock,
    oci::Digest,
    store::{self, Disk, Store, Touch, Watch},
};

use crate::support::{FakeHub, PushedImage, Wharf, blob_path, client, names};

const REPO: &str = "library/busybox";
const LISTS: client::Headers<'_> = &[(
    "accept",
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json",
)];
/// `EIO`, `ENOSPC`, `EDQUOT`, `EROFS`, as Linux numbers them.
const ERRORS: [i32; 4] = [5, 28, 122, 30];

/// What goes wrong with the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It fails, and those after it do not.
    Once(i32),
    /// It fails, and all after it, until the disk is well.
    FromThenOn(i32),
    /// It writes half, and the next write fails.
    Short,
    /// The process is as good as dead: nothing works any more, and another starts on what is there.
    Stop,
}

/// A disk that fails by plan.
#[derive(Debug, Default)]
struct Faulty(Mutex<Plan>);

#[derive(Debug, Default)]
struct Plan {
    /// What goes wrong, with which of the operations from now on.
    fault: Option<(usize, Kind)>,
    seen: usize,
    /// The first operation that went wrong.
    hit: Option<String>,
    /// Whether a read did.
    lost_reads: bool,
    was_short: bool,
    /// What each operation was, as long as nothing is to go wrong.
    sorts: Vec<Sort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Read,
    Write,
    Other,
}

impl Sort {
    const fn of(touch: Touch<'_>) -> Self {
        match touch {
            Touch::Read(_) | Touch::List(_) => Self::Read,
            Touch::Write { .. } => Self::Write,
            _ => Self::Other,
        }
    }
}

impl Kind {
    /// Whether the fault shows first at an operation of this sort: tried at others, it is the fault of a later one.
    const fn begins_at(self, sort: Sort) -> bool {
        match self {
            Self::Short => matches!(sort, Sort::Write),
            Self::FromThenOn(error) => error == ERRORS[0] || !matches!(sort, Sort::Read),
            Self::Once(_) | Self::Stop => true,
        }
    }
}

impl Watch for Faulty {
    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        let mut plan = self.plan();
        let Some((n, kind)) = plan.fault else {
            plan.sorts.push(Sort::of(touch));
            return Ok(usize::MAX);
        };
        let at = plan.seen;
        // Of short writes, the writes are counted: reads come between them as they like.
        plan.seen += usize::from(kind != Kind::Short || Sort::of(touch) == Sort::Write);
        let written = match touch {
            Touch::Write { bytes, .. } => Some(bytes.len()),
            _ => None,
        };
        let is_read = matches!(touch, Touch::Read(_) | Touch::List(_));
        let error = match kind {
            Kind::Once(error) if at == n => error,
            // What is full or read-only can still be read.
            Kind::FromThenOn(error) if at >= n && (error == ERRORS[0] || !is_read) => error,
            Kind::Stop if at >= n => ERRORS[0],
            Kind::Short if plan.was_short && written.is_some() => {
                plan.was_short = false;
                ERRORS[1]
            }
            Kind::Short if at == n && written.is_some() => {
                plan.hit = Some(said(touch));
                plan.was_short = true;
                return Ok(written.unwrap_or(0) / 2);
            }
            _ => return Ok(usize::MAX),
        };
        plan.lost_reads |= is_read;
        plan.hit.get_or_insert_with(|| said(touch));
        Err(io::Error::from_raw_os_error(error))
    }
}

impl Faulty {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this goes wrong; what went wrong before.
    fn now(&self, fault: Option<(usize, Kind)>) -> Plan {
        std::mem::replace(&mut self.plan(), Plan { fault, ..Plan::default() })
    }
}

fn said(touch: Touch<'_>) -> String {
    let mut said = match touch {
        Touch::Write { path, at, bytes } => format!("write {path:?} at {at}: {}", bytes.len()),
        other => format!("{other:?}"),
    };
    if let Some(at) = said.find("cache/") {
        said.replace_range(..at, "");
    }
    said
}

/// How often what happened to a client's request.
#[derive(Debug, Default)]
struct Outcomes {
    cases: usize,
    requests: usize,
    whole: usize,
    cut: usize,
    refused: usize,
}

/// The paths of an image with what must come, the tag first.
fn parts(image: &PushedImage, tag: &str) -> Vec<(String, bytes::Bytes)> {
    let child = &image.children[0];
    let manifest = |reference: &str| format!("/v2/{REPO}/manifests/{reference}");
    let documents = [
        (manifest(tag), image.index.bytes.clone()),
        (manifest(&child.manifest.digest.to_string()), child.manifest.bytes.clone()),
    ];
    let blobs = std::iter::once(&child.config).chain(&child.layers);
    let blobs = blobs.map(|blob| (blob_path(REPO, &blob.digest), blob.bytes.clone()));
    documents.into_iter().chain(blobs).collect()
}

struct Site {
    hub: FakeHub,
    parts: Vec<(String, bytes::Bytes)>,
    others: Vec<(String, bytes::Bytes)>,
}

impl Site {
    async fn new() -> Self {
        let hub = FakeHub::start().await;
        let platform = [("linux", "arm64", None)];
        let image = hub.push_image(REPO, "latest", &platform, &[600_000, 70_000]);
        let other = hub.push_image(REPO, "other", &platform, &[1000]);
        Self { hub, parts: parts(&image, "latest"), others: parts(&other, "other") }
    }

    async fn start(&self, disk: &Arc<Faulty>) -> Wharf {
        let disk = Disk::watched(Arc::clone(disk) as Arc<dyn Watch>);
        Wharf::start_with(&self.hub, |config| config.store.disk = disk).await
    }

    /// A pull, cold and warm, during which something goes wrong; and afterwards the disk is well.
    async fn case(&self, n: usize, kind: Kind, outcomes: &mut Outcomes) -> bool {
        let disk = Arc::new(Faulty::default());
        let wharf = self.start(&disk).await;
        disk.now(Some((n, kind)));
        for (path, bytes) in self.parts.iter().chain(&self.parts) {
            let answer = match client::open("GET", wharf.addr, path, LISTS).await {
                Ok(stream) => Some(stream.rest().await),
                // A body that breaks off at once takes its head with it.
                Err(_) => None,
            };
            wharf.quiet().await;
            outcomes.requests += 1;
            match answer.as_ref().map(|answer| (answer.status.as_u16(), &answer.body)) {
                None => outcomes.cut += 1,
                Some((_, Err(cut))) => {
                    let got = &cut.received;
                    assert!(bytes.starts_with(got), "{n} {kind:?}: other bytes of {path}");
                    outcomes.cut += 1;
                }
                Some((status, Ok(_))) if status != 200 => outcomes.refused += 1,
                Some((_, Ok(body))) => {
                    assert!(body == bytes, "{n} {kind:?}: {} other bytes of {path}", body.len());
                    outcomes.whole += 1;
                    continue;
                }
            }
            let plan = disk.plan();
            assert!(plan.lost_reads, "{n} {kind:?}: {:?} cost the client {path}", plan.hit);
        }
        let hit = disk.now(None).hit;
        let when = format!("{n} {kind:?}: {hit:?}");
        let wharf = if kind == Kind::Stop {
            // The dead one does nothing more that counts.
            disk.now(Some((0, Kind::Stop)));
            wharf.restart_with(|config| config.store.disk = Disk::default()).await
        } else {
            wharf
        };
        self.assert_well(wharf, &when).await;
        outcomes.cases += usize::from(hit.is_some());
        hit.is_some()
    }

    async fn assert_well(&self, wharf: Wharf, when: &str) {
        assert_blobs_right(wharf.cache(), when);
        // The first pull after it may have to begin anew; what it brings is kept.
        for outcome in ["", "hit"] {
            for (path, bytes) in self.parts.iter().chain(&self.others) {
                let answer = client::get(wharf.addr, path, LISTS).await;
                assert_eq!(answer.status, 200, "{when}, afterwards {path}");
                assert!(answer.bytes() == bytes, "{when}, afterwards {path}");
                let cache = answer.header("wharf-cache").unwrap_or_default();
                assert!(
                    outcome.is_empty() || cache == outcome,
                    "{when}, afterwards {path}: {cache}"
                );
                wharf.quiet().await;
            }
        }
        // A name that could not be deleted lies there until the next start; no download does.
        let mut left = wharf.partials();
        left.retain(|name| !name.ends_with(".json"));
        assert_eq!(left, [""; 0], "{when}");
        assert_eq!(wharf.pull.status().await.cache.reserved, 0, "{when}");
        let closed = async {
            while !open_below(wharf.cache()).is_empty() {
                yield_now().await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.is_err() {
            panic!("{when}: left open: {:?}", open_below(wharf.cache()));
        }
        assert_blobs_right(wharf.cache(), when);
        if names(&wharf.cache().join("wharf/partial")).is_empty() {
            return wharf.end().await;
        }
        let swept = wharf.restart().await;
        assert_eq!(swept.partials(), [""; 0], "{when}");
        swept.end().await;
    }

    /// The operations of a pull, cold and warm.
    async fn operations(&self) -> Vec<Sort> {
        let disk = Arc::new(Faulty::default());
        let wharf = self.start(&disk).await;
        disk.now(None);
        for (path, bytes) in self.parts.iter().chain(&self.parts) {
            client::get(wharf.addr, path, LISTS).await.expect(bytes);
            wharf.quiet().await;
        }
        let sorts = disk.now(None).sorts;
        wharf.end().await;
        sorts
    }

    #[expect(clippy::print_stderr, reason = "how much was tried is worth knowing")]
    async fn every(name: &str, kinds: &[Kind]) {
        let site = Self::new().await;
        let (operations, mut outcomes) = (site.operations().await, Outcomes::default());
        let all = std::env::var("WHARF_FAULTS").is_ok_and(|which| which == "all");
        for (n, sort) in operations.iter().enumerate() {
            let begin: Vec<_> = kinds.iter().filter(|kind| kind.begins_at(*sort)).collect();
            let some = if all || begin.is_empty() {
                0..begin.len()
            } else {
                n % begin.len()..n % begin.len() + 1
            };
            for kind in &begin[some] {
                let writes = || operations[..n].iter().filter(|sort| **sort == Sort::Write);
                let at = if **kind == Kind::Short { writes().count() } else { n };
                site.case(at, **kind, &mut outcomes).await;
            }
        }
        eprintln!("{name}: {} operations, {outcomes:?}", operations.len());
        assert!(outcomes.cases > 0);
    }
}

fn assert_blobs_right(cache: &Path, when: &str) {
    for blob in fs::read_dir(cache.join("blobs/sha256")).expect("there") {
        let path = blob.expect("readable").path();
        let digest = Digest::sha256(&fs::read(&path).expect("readable"));
        assert!(path.ends_with(digest.encoded()), "{when}: {path:?} is not what its name says");
    }
}

/// The blobs and downloads that this process has open in that cache.
fn open_below(cache: &Path) -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").expect("Linux").filter_map(Result::ok);
    let names = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    let ours = |name: &std::path::PathBuf| {
        name.starts_with(cache.join("blobs")) || name.starts_with(cache.join("wharf/partial"))
    };
    names.filter(ours).map(|name| name.display().to_string()).collect()
}

#[tokio::test]
async fn one_operation_fails() {
    Site::every("once", &ERRORS.map(Kind::Once)).await;
}

#[tokio::test]
async fn every_operation_fails_from_one_on() {
    Site::every("from one on", &ERRORS.map(Kind::FromThenOn)).await;
}

#[tokio::test]
async fn a_write_takes_half() {
    Site::every("short", &[Kind::Short]).await;
}

#[tokio::test]
async fn nothing_works_from_one_operation_on_and_another_wharf_goes_on() {
    Site::every("stop", &[Kind::Stop]).await;
}

/// A start on a disk that fails: a wharf, or a sentence; and the next, on a disk that is well, knows everything.
#[expect(clippy::print_stderr, reason = "how much was tried is worth knowing")]
#[tokio::test]
async fn a_start_fails_at_any_operation_and_the_next_does_not() {
    let site = Site::new().await;
    let wharf = Wharf::start(&site.hub).await;
    for (path, bytes) in &site.parts {
        client::get(wharf.addr, path, LISTS).await.expect(bytes);
    }
    wharf.quiet().await;
    let repository = "docker.io/library/busybox".parse().expect("a name");
    let tag = "latest".parse().expect("a tag");
    let kept = tempfile::tempdir().expect("a temporary directory");
    let copy = kept.path().join("cache");
    let cut = wharf.after_power_cut(|dir| crate::support::copy(dir, &copy)).await;
    cut.stop().await;
    wharf.stop().await;
    let (mut refused, mut started) = (0, 0);
    for n in 0.. {
        for kind in [Kind::Once(ERRORS[n % 4]), Kind::FromThenOn(ERRORS[n % 4]), Kind::Short] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut config = store::Config::at(&dir.path().join("cache"));
            // Every other one without tables, and some of those without a directory.
            if n % 3 > 0 {
                crate::support::copy(&copy, &config.dir);
            }
            if n % 3 == 1 {
                fs::remove_dir_all(config.dir.join("wharf/index.sled")).expect("removed");
            }
            let disk = Arc::new(Faulty::default());
            disk.now(Some((n / 3, kind)));
            config.disk = Disk::watched(Arc::clone(&disk) as Arc<dyn Watch>);
            match Store::open(&config, &Clock::system()) {
                Ok(store) => {
                    store.close().await;
                    started += 1;
                }
                Err(error) => {
                    assert!(error.to_string().len() > 20, "{error}");
                    refused += 1;
                }
            }
            config.disk = Disk::default();
            let store = Store::open(&config, &Clock::system()).expect("the disk is well");
            if n % 3 > 0 {
                assert!(
                    store.tag(&repository, &tag).is_some(),
                    "{n} {kind:?}: {:?}",
                    disk.plan().hit
                );
            }
            store.close().await;
        }
        if n > 3 * 40 {
            break;
        }
    }
    eprintln!("starts: {refused} refused, {started} not");
    assert!(refused > 0 && started > 0);
}
