//! The program under real pulls, killed at random moments, and started again on what it left.
//!
//! By hand: `WHARF_KILLS=200 cargo test --test it survives::killed -- --nocapture`, with `WHARF_SEED` of an earlier run to
//! have its moments again, as far as two processes can have the same moment twice.
//!
//! Long, because the site, its clients and what is looked at after each kill are one story.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
};
use wharf::oci::Digest;

use super::random::Random;
use crate::support::{
    FakeHub, Fault, Gate, On, Program, PushedImage, PushedManifest, Seen, blob_path,
    client::{self, Answer},
    deadline, partials,
};

const REPO: &str = "library/busybox";
const LISTS: client::Headers<'_> = &[(
    "accept",
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json",
)];
const LAYERS: [usize; 2] = [1_600_000, 700_000];
/// Images of a round that are little more than a tag: so many that the journal is folded now and then.
const SMALL: usize = 12;
/// Kills after which hub and directory are new ones, so that neither grows without end.
const A_SITE: usize = 25;
/// What the issue allows to be fetched twice after a kill.
const TWICE_MAX: u64 = 1 << 20;
const DOWNLOADS: &str = "wharf_downloads_in_flight";

/// When the program is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When the hub has sent so many bytes of blobs.
    Sent(u64),
    /// When the first so many bytes of a layer are on disk, and no more comes.
    Halted(u64),
    /// When clients have had so many whole answers.
    Answered(usize),
    /// When a client has the last byte of the large layer: while that is being committed.
    LastByte,
    /// When a new journal appears, which is while the old one is folded.
    Fold,
    /// When nothing happens any more.
    Idle,
    /// During the next start, after so many looks at it, and the next, and the next.
    Start(u64),
}

/// An image to be pulled by its tag: documents and blobs with their paths.
struct Image {
    tag: String,
    manifest: Digest,
    /// Where all of it lies, the manifest by its tag first.
    parts: Vec<(String, Bytes)>,
    blobs: Vec<(Digest, u64)>,
}

/// What clients had, of all rounds at one site.
#[derive(Default)]
struct Had {
    tags: BTreeMap<String, Digest>,
    answers: usize,
    large: usize,
}

struct Pulls {
    had: Mutex<Had>,
    changed: watch::Sender<()>,
}

/// How far the downloads of a round had come when it was killed.
struct Begun {
    moment: Moment,
    /// Bytes on disk.
    arrived: BTreeMap<Digest, u64>,
    /// Bytes that the hub's sockets took.
    sent: BTreeMap<Digest, u64>,
}

/// What was found over all kills.
#[derive(Default, Debug)]
struct Found {
    kills: usize,
    starts: usize,
    with_partials: usize,
    in_start: usize,
    in_replacement: usize,
    in_fold: usize,
    resumed: usize,
    tags: usize,
    blobs: usize,
    most_twice: u64,
    most_sent_twice: u64,
}

impl Image {
    fn large(tag: String, image: &PushedImage) -> Self {
        let child = &image.children[0];
        let mut large = Self::of(tag, child);
        let index = (large.parts[0].0.clone(), image.index.bytes.clone());
        large.parts[0].0 = format!("/v2/{REPO}/manifests/{}", child.manifest.digest);
        large.parts.insert(0, index);
        large.manifest = image.index.digest;
        large
    }

    fn of(tag: String, image: &PushedManifest) -> Self {
        let manifest = (format!("/v2/{REPO}/manifests/{tag}"), image.manifest.bytes.clone());
        let blobs = || image.layers.iter().chain([&image.config]);
        let paths = blobs().map(|blob| (blob_path(REPO, &blob.digest), blob.bytes.clone()));
        Self {
            tag,
            manifest: image.manifest.digest,
            parts: std::iter::once(manifest).chain(paths).collect(),
            blobs: blobs().map(|blob| (blob.digest, blob.bytes.len() as u64)).collect(),
        }
    }
}

impl Pulls {
    fn had<T>(&self, look: impl FnOnce(&mut Had) -> T) -> T {
        let seen = look(&mut self.had.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        seen
    }

    async fn until(&self, holds: impl Fn(&Had) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.had.lock().unwrap_or_else(PoisonError::into_inner)) {
            changed.changed().await.expect("the sender is here");
        }
    }

    /// Pulls as far as there is somebody to pull from.
    async fn pull(&self, addr: std::net::SocketAddr, image: &Image) -> Option<()> {
        for (at, (path, bytes)) in image.parts.iter().enumerate() {
            let answer = client::open("GET", addr, path, LISTS).await.ok()?.rest().await;
            let whole = answer.body.as_ref().ok()?;
            assert_eq!(answer.status, 200, "{path}");
            assert!(whole == bytes, "{path}: {} other bytes", whole.len());
            self.had(|had| {
                had.answers += 1;
                had.large += usize::from(bytes.len() == LAYERS[0]);
                if at == 0 {
                    had.tags.insert(image.tag.clone(), image.manifest);
                }
            });
        }
        Some(())
    }
}

/// A hub, and the directory of the wharf in front of it.
struct Site {
    hub: FakeHub,
    dir: Arc<TempDir>,
    pulls: Arc<Pulls>,
    /// All that can be pulled without the hub.
    settled: Vec<Arc<Image>>,
}

impl Site {
    async fn new() -> Self {
        let hub = FakeHub::start().await;
        let dir = Program::site(&hub, "");
        let pulls = Pulls { had: Mutex::default(), changed: watch::Sender::new(()) };
        Self { hub, dir, pulls: Arc::new(pulls), settled: Vec::new() }
    }

    fn push(&self, round: usize) -> Vec<Arc<Image>> {
        let platform = ("linux", "arm64", None);
        let tag = format!("r{round}");
        let large = self.hub.push_image(REPO, &tag, &[platform], &LAYERS);
        let small = (0..SMALL).map(|n| {
            let tag = format!("r{round}-{n}");
            let image = self.hub.push_single(REPO, &tag, platform, &[2000]);
            Arc::new(Image::of(tag, &image))
        });
        std::iter::once(Arc::new(Image::large(tag, &large))).chain(small).collect()
    }

    /// One kill, and what must hold after it.
    async fn round(&mut self, round: usize, random: &mut Random, found: &mut Found) {
        let images = self.push(round);
        let moment = moment(random);
        let wharf = self.start(found).await;
        let gate = match moment {
            Moment::Halted(bytes) => Gate::after(bytes),
            _ => Gate::after(u64::MAX),
        };
        self.hub.clear_log();
        self.hub.fault(On::Blob(images[0].blobs[0].0), Fault::Gate(gate.clone()));
        self.pulls.had(|had| (had.answers, had.large) = (0, 0));
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let (pulls, images, addr) = (Arc::clone(&self.pulls), images.clone(), wharf.addr);
            clients.spawn(async move {
                let mut order: Vec<_> =
                    images.iter().skip(1).skip(client % 2).step_by(2).cloned().collect();
                order.insert(if client < 2 { 0 } else { client * 2 }, Arc::clone(&images[0]));
                for image in order {
                    if pulls.pull(addr, &image).await.is_none() {
                        return false;
                    }
                }
                true
            });
        }
        let ended = async {
            while let Some(whole) = clients.join_next().await {
                assert!(whole.expect("no client panics"), "a pull was cut, and nobody killed it");
            }
            wharf.until_zero(DOWNLOADS).await;
        };
        tokio::select! {
            () = ended => {}
            () = self.comes(moment, &images[0], &gate) => {}
        }
        wharf.kill().await;
        found.kills += 1;
        self.hub.clear_faults();
        gate.open();
        while let Some(client) = clients.join_next().await {
            client.expect("no client panics");
        }
        let arrived = self.left(found);
        let sent: BTreeMap<Digest, u64> = images[0]
            .blobs
            .iter()
            .map(|(blob, _)| (*blob, self.hub.blob_bytes_sent(blob)))
            .collect();
        if let Moment::Start(looks) = moment {
            for _ in 0..3 {
                Program::killed_at_start(&self.dir, looks).await;
                (found.kills, found.in_start) = (found.kills + 1, found.in_start + 1);
                self.left(found);
            }
        }
        let begun = Begun { moment, arrived, sent };
        self.assert_survived(round, &images, &begun, found).await;
        self.settled.extend(images);
    }

    async fn start(&self, found: &mut Found) -> Program {
        found.starts += 1;
        Program::start_in(Arc::clone(&self.dir)).await
    }

    /// Waits for the moment.
    async fn comes(&self, moment: Moment, large: &Image, gate: &Gate) {
        let sent = |log: &[Seen]| -> u64 {
            let bodies = log.iter().filter(|seen| seen.path.contains("/registry-v2/blobs/"));
            bodies.map(|seen| seen.body_bytes_sent).sum()
        };
        match moment {
            Moment::Sent(bytes) => {
                self.hub.until("bytes to be sent", |log| sent(log) >= bytes).await;
            }
            Moment::Halted(bytes) => {
                gate.halted(1).await;
                let name = large.blobs[0].0.to_string().replace(':', "-");
                let path = self.dir.path().join("cache/wharf/partial").join(name);
                let here = async {
                    while fs::metadata(&path).map_or(0, |file| file.len()) < bytes {
                        yield_now().await;
                    }
                };
                deadline("the bytes to be on disk", here).await;
            }
            Moment::Answered(count) => self.pulls.until(|had| had.answers >= count).await,
            Moment::LastByte => self.pulls.until(|had| had.large >= 1).await,
            Moment::Fold => {
                let before = journals(&self.cache());
                while journals(&self.cache()) == before {
                    yield_now().await;
                }
            }
            Moment::Idle | Moment::Start(_) => std::future::pending().await,
        }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.dir.path().join("cache")
    }

    /// What the killed one left: nothing under a digest but the blob, by a program that knows nothing of wharf. How much
    /// there is of downloads.
    fn left(&self, found: &mut Found) -> BTreeMap<Digest, u64> {
        let cache = self.cache();
        for algorithm in ["sha256", "sha512"] {
            let blobs = cache.join("blobs").join(algorithm);
            let Ok(names) = fs::read_dir(&blobs) else { continue };
            let names: Vec<_> = names.map(|name| name.expect("readable").file_name()).collect();
            if names.is_empty() {
                continue;
            }
            let sums = Command::new(format!("{algorithm}sum"))
                .args(&names)
                .current_dir(&blobs)
                .output()
                .expect("it runs");
            let sums = String::from_utf8(sums.stdout).expect("text");
            assert_eq!(sums.lines().count(), names.len());
            found.blobs += names.len();
            for line in sums.lines() {
                let (sum, name) = line.split_once("  ").expect("a sum and a name");
                assert_eq!(sum, name, "a blob that is not what its name says");
            }
        }
        let all = crate::support::names(&cache.join("wharf/partial"));
        found.in_replacement += usize::from(all.iter().any(|name| name.starts_with(".new-")));
        found.in_fold += usize::from(journals(&cache).len() > 1);
        let mut arrived = BTreeMap::new();
        for name in partials(&cache).iter().filter(|name| !name.ends_with(".json")) {
            let len = fs::metadata(cache.join("wharf/partial").join(name)).expect("there").len();
            arrived.insert(name.replacen('-', ":", 1).parse().expect("a digest"), len);
        }
        found.with_partials += usize::from(!arrived.is_empty());
        arrived
    }

    /// What was on disk when it was killed was not asked for again, but for what nothing vouched for.
    fn assert_fetched_once(&self, image: &Image, begun: &Begun, found: &mut Found) {
        for (blob, size) in &image.blobs {
            let gets = self.hub.blob_gets(blob);
            assert!(gets.len() <= 1, "{blob} was fetched {} times at once", gets.len());
            let Some(get) = gets.first() else { continue };
            let from = resumed_from(get);
            let had = begun.arrived.get(blob).copied().unwrap_or(0);
            assert!(
                from <= had && had - from <= TWICE_MAX,
                "{:?}: {had} bytes, asked {from}",
                begun.moment
            );
            found.resumed += usize::from(from > 0);
            found.most_twice = found.most_twice.max(had - from);
            let twice = (begun.sent[blob] + get.body_bytes_sent).saturating_sub(*size);
            found.most_sent_twice = found.most_sent_twice.max(twice);
        }
    }

    async fn assert_survived(
        &mut self,
        round: usize,
        images: &[Arc<Image>],
        begun: &Begun,
        found: &mut Found,
    ) {
        let wharf = self.start(found).await;
        // The uplink is gone: what was answered is known, and what was whole is.
        self.hub.stop().await;
        let tags = self.pulls.had(|had| had.tags.clone());
        let some =
            |tag: &str| tag.starts_with(&format!("r{round}")) || round % A_SITE == A_SITE - 1;
        for (tag, digest) in tags.iter().filter(|(tag, _)| some(tag)) {
            let path = format!("/v2/{REPO}/manifests/{tag}");
            let answer = client::get(wharf.addr, &path, LISTS).await;
            assert_known(tag, digest, &answer);
            found.tags += 1;
        }
        let every = if round % A_SITE == A_SITE - 1 { 1 } else { 17 };
        for image in self.settled.iter().rev().step_by(every) {
            assert!(self.pulls.pull(wharf.addr, image).await.is_some(), "{} is lost", image.tag);
        }
        self.hub.resume();
        // Nothing hangs, and all is right.
        self.hub.clear_log();
        let pulls = images.iter().chain(&images[..1]).map(|image| async {
            let pulled = self.pulls.pull(wharf.addr, image).await;
            assert!(pulled.is_some(), "{} was cut", image.tag);
        });
        futures_util::future::join_all(pulls).await;
        wharf.until_zero(DOWNLOADS).await;
        assert_eq!(partials(&self.cache()), [""; 0], "left behind");
        self.assert_fetched_once(&images[0], begun, found);
        self.hub.clear_log();
        for image in images {
            assert!(self.pulls.pull(wharf.addr, image).await.is_some(), "{}", image.tag);
        }
        // A tag may be asked after, should the uplink be back for longer than wharf leaves it alone.
        let fetched = self
            .hub
            .log()
            .into_iter()
            .filter(|seen| seen.method == "GET" && seen.status == Some(200));
        let fetched: Vec<_> =
            fetched.map(|seen| seen.path).filter(|path| path != "/token").collect();
        assert_eq!(fetched, [""; 0], "all is kept now");
        wharf.kill().await;
        self.left(found);
    }
}

fn assert_known(tag: &str, digest: &Digest, answer: &Answer) {
    assert_eq!(answer.status, 200, "{tag} was answered, and is not known");
    assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()), "{tag}");
    assert_eq!(Digest::sha256(answer.bytes()), *digest, "{tag}");
}

fn moment(random: &mut Random) -> Moment {
    match random.below(9) {
        0 | 1 => Moment::Sent(random.below(2_200_000)),
        2 | 3 => Moment::Halted(1 + random.below(LAYERS[0] as u64 - 1)),
        4 | 5 => Moment::Answered(1 + usize::try_from(random.below(90)).expect("few")),
        6 => [Moment::LastByte, Moment::Idle][usize::from(random.below(4) == 0)],
        7 => Moment::Fold,
        _ => Moment::Start(random.below(40_000)),
    }
}

fn journals(cache: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(cache.join("wharf")) else { return BTreeSet::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("journal-")).collect()
}

/// The first byte that was asked for.
fn resumed_from(get: &Seen) -> u64 {
    let Some(range) = &get.range else { return 0 };
    let from = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    from.and_then(|from| from.parse().ok()).expect("from a byte to the end")
}

#[expect(clippy::print_stderr, reason = "what was tried is worth knowing when all is well, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wharf_that_is_killed_starts_again_and_knows_all_that_it_said() {
    let kills = std::env::var("WHARF_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let (mut random, mut found) = (Random::seeded(), Found::default());
    let mut site = Site::new().await;
    let mut round = 0;
    while found.kills < kills {
        site.round(round, &mut random, &mut found).await;
        round += 1;
        if round % A_SITE == 0 {
            site = Site::new().await;
        }
    }
    eprintln!("{found:?}");
}
