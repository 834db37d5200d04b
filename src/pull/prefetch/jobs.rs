//! The jobs that are not done: each once, bounded in number, and in a form that can be written down.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::sync::Notify;

use super::Target;
use crate::{
    oci::{Descriptor, Platform, Repository, Rules},
    pull::config::Window,
};

/// Jobs that may wait; what comes beyond them is fetched when a client asks for it.
const JOBS_MAX: usize = 1024;

/// One image to fetch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) repository: Repository,
    /// An index, of which the platform's manifest is fetched, or a manifest.
    pub(super) manifest: Descriptor,
    #[serde(default, deserialize_with = "any_platform")]
    pub(super) platform: Option<Platform>,
    /// Chosen as containers/image chooses.
    #[serde(default)]
    pub(super) containers_image: bool,
    /// The part of the day in which it may be fetched: the first and the last minute, the last not included.
    #[serde(default)]
    pub(super) window: Option<(u16, u16)>,
}

/// All jobs that are not done.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    waiting: Mutex<HashMap<Target, Arc<Waiting>>>,
    /// Jobs that are asleep until their next try.
    asleep: AtomicUsize,
    /// Something changed since it was last looked at.
    changed: AtomicBool,
    /// What was written down last.
    written: Mutex<Bytes>,
}

/// A job and the way to wake it.
#[derive(Debug)]
pub(super) struct Waiting {
    job: Job,
    /// Told when somebody asks for the image again: its next try is now.
    pub(super) again: Notify,
    /// Somebody asked for it who does not wait for its time of the day.
    at_any_time: AtomicBool,
}

/// What became of a job that was to be taken up.
#[derive(Debug)]
pub(super) enum Added {
    /// It is for the caller to run.
    Anew(Arc<Waiting>),
    /// It was there already, and is tried again now.
    There,
    /// Too many wait.
    NoRoom,
}

impl Job {
    pub(super) const fn rules(&self) -> Rules {
        if self.containers_image { Rules::ContainersImage } else { Rules::Containerd }
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.window.map(|(from, to)| Window { from, to })
    }

    pub(super) fn target(&self) -> Target {
        let (platform, rules) = (self.platform.as_ref(), self.rules());
        super::Prefetcher::target(&self.repository, &self.manifest, platform, rules)
    }
}

impl Waiting {
    /// The job as it is to be done now.
    pub(super) fn job(&self) -> Job {
        let window = self.job.window.filter(|_| !self.at_any_time.load(Ordering::Relaxed));
        Job { window, ..self.job.clone() }
    }
}

impl Jobs {
    /// Takes up a job.
    pub(super) fn add(&self, job: Job) -> Added {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let target = job.target();
        if let Some(there) = waiting.get(&target) {
            if job.window.is_none() && !there.at_any_time.swap(true, Ordering::Relaxed) {
                self.changed.store(true, Ordering::Relaxed);
            }
            there.again.notify_waiters();
            return Added::There;
        }
        if waiting.len() >= JOBS_MAX {
            return Added::NoRoom;
        }
        let at_any_time = AtomicBool::new(job.window.is_none());
        let added = Arc::new(Waiting { job, again: Notify::new(), at_any_time });
        waiting.insert(target, Arc::clone(&added));
        self.changed.store(true, Ordering::Relaxed);
        Added::Anew(added)
    }

    /// The job is done, or given up.
    pub(super) fn remove(&self, target: &Target) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Counts a job as asleep until the value is dropped.
    pub(super) fn sleep(&self) -> Asleep<'_> {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        Asleep(&self.asleep)
    }

    pub(super) fn asleep(&self) -> usize {
        self.asleep.load(Ordering::Relaxed)
    }

    /// What is to be written down; `None` when it was.
    pub(super) fn unwritten(&self) -> Option<Bytes> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs: Vec<Job> = waiting.values().map(|waiting| waiting.job()).collect();
        drop(waiting);
        let jobs = serde_json::to_vec(&jobs).map(Bytes::from).ok()?;
        // A job that came and went meanwhile leaves nothing to write: cards wear out.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == jobs || (written.is_empty() && jobs == b"[]".as_slice()) {
            return None;
        }
        written.clone_from(&jobs);
        Some(jobs)
    }

    /// It was not written down after all.
    pub(super) fn not_written(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::from_static(b"?");
        self.changed.store(true, Ordering::Relaxed);
    }

    /// The jobs that an earlier run wrote down. What cannot be read is forgotten.
    pub(super) fn read(&self, bytes: &[u8]) -> Vec<Job> {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) =
            Bytes::copy_from_slice(bytes);
        let written: Vec<serde_json::Value> =
            serde_json::from_slice(bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was being fetched ahead cannot be read, and is forgotten");
                Vec::new()
            });
        let jobs = written.into_iter().filter_map(|job| {
            let job: Job = serde_json::from_value(job)
                .inspect_err(|error| tracing::warn!(%error, "an image to be fetched ahead cannot be read, and is forgotten"))
                .ok()?;
            let window = job.window.filter(|(from, to)| from.max(to) < &(24 * 60));
            Some(Job { window, ..job })
        });
        jobs.take(JOBS_MAX).collect()
    }
}

/// A platform as [`Platform`] is shown: an index may name one that wharf knows nothing of.
fn any_platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Platform>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let platform = Platform::parse_any(&text);
    platform.map(Some).ok_or_else(|| de::Error::custom("no platform"))
}

/// A job that waits for its next try.
pub(super) struct Asleep<'a>(&'a AtomicUsize);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, media_type};

    fn job(name: &str) -> Job {
        Job {
            repository: "docker.io/library/busybox".parse().expect("a name"),
            manifest: Descriptor {
                media_type: media_type::OCI_INDEX.parse().expect("a media type"),
                digest: Digest::sha256(name.as_bytes()),
                size: 1,
            },
            platform: Some(Platform::new("linux", "arm64", None)),
            containers_image: false,
            window: None,
        }
    }

    fn anew(added: Added) -> Arc<Waiting> {
        match added {
            Added::Anew(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    /// As text, in an order of their own.
    fn shown(jobs: &[Job]) -> Vec<String> {
        let shown = jobs.iter().map(|job| serde_json::to_string(job).expect("it serialises"));
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        shown
    }

    #[tokio::test]
    async fn a_job_is_there_once_and_whoever_asks_again_wakes_it() {
        let jobs = Jobs::default();
        let waiting = anew(jobs.add(job("a")));
        let again = waiting.again.notified();
        assert!(matches!(jobs.add(job("a")), Added::There));
        again.await;
        // Whose rules the client chooses by is part of what is to be fetched, and so is the platform, but of an index only.
        anew(jobs.add(Job { containers_image: true, ..job("a") }));
        anew(jobs.add(Job { platform: Some(Platform::new("linux", "arm", None)), ..job("a") }));
        let manifest = |platform: Option<Platform>, containers_image| {
            let media_type = media_type::OCI_MANIFEST.parse().expect("a media type");
            let manifest = Descriptor { media_type, ..job("m").manifest };
            Job { manifest, platform, containers_image, ..job("m") }
        };
        anew(jobs.add(manifest(None, false)));
        let other = manifest(Some(Platform::new("linux", "arm64", None)), true);
        assert!(matches!(jobs.add(other), Added::There));
        jobs.remove(&job("a").target());
        anew(jobs.add(job("a")));
    }

    #[test]
    fn jobs_beyond_the_bound_are_not_taken() {
        let jobs = Jobs::default();
        (0..JOBS_MAX).for_each(|n| drop(anew(jobs.add(job(&n.to_string())))));
        assert!(matches!(jobs.add(job("more")), Added::NoRoom));
        assert!(matches!(jobs.add(job("7")), Added::There));
        let written = jobs.unwritten().expect("they are new");
        assert!(written.len() as u64 <= crate::store::STATE_MAX_BYTES, "{}", written.len());
        assert_eq!(Jobs::default().read(&written).len(), JOBS_MAX);
        jobs.remove(&job("7").target());
        anew(jobs.add(job("more")));
    }

    #[test]
    fn a_client_does_not_wait_for_an_images_time_of_the_day() {
        let jobs = Jobs::default();
        let window = Some((60, 300));
        let waiting = anew(jobs.add(Job { window, ..job("a") }));
        jobs.add(Job { window: Some((0, 10)), ..job("a") });
        assert_eq!(waiting.job().window, window);
        jobs.unwritten().expect("it is new");
        jobs.add(job("a"));
        assert_eq!(waiting.job().window, None);
        let written = jobs.unwritten().expect("it changed");
        assert_eq!(Jobs::default().read(&written)[0].window, None);
        // Nor does what is kept warm have to wait for one because a client's pull came first.
        let waiting = anew(jobs.add(job("b")));
        jobs.add(Job { window, ..job("b") });
        assert_eq!(waiting.job().window, None);
    }

    #[test]
    fn what_is_written_is_read_again_also_platforms_that_nothing_is_known_of() {
        let jobs = Jobs::default();
        let windows = Platform::new("windows", "amd64", None).with_os_version("10.0.17763.1");
        let all = [
            job("a"),
            Job { platform: None, containers_image: true, window: Some((1380, 30)), ..job("b") },
            Job { platform: Some(Platform::new("plan10", "z80", Some("v3"))), ..job("c") },
            Job { platform: Some(windows), ..job("d") },
        ];
        all.iter().for_each(|job| drop(anew(jobs.add(job.clone()))));
        let written = jobs.unwritten().expect("they are new");
        assert_eq!(shown(&Jobs::default().read(&written)), shown(&all));
    }

    #[test]
    fn nothing_is_written_when_nothing_is_different() {
        let jobs = Jobs::default();
        assert_eq!(jobs.unwritten(), None);
        jobs.add(job("a"));
        assert!(jobs.unwritten().is_some());
        assert_eq!(jobs.unwritten(), None);
        jobs.not_written();
        assert!(jobs.unwritten().is_some());
        jobs.add(job("b"));
        jobs.remove(&job("b").target());
        assert_eq!(jobs.unwritten(), None, "it came and went");
        jobs.remove(&job("a").target());
        assert_eq!(jobs.unwritten().as_deref(), Some(&b"[]"[..]));
    }

    #[test]
    fn a_damaged_file_costs_what_is_damaged() {
        for damaged in ["", "{}", "[", "\u{0}", "[[[[", "null", "3"] {
            assert!(Jobs::default().read(damaged.as_bytes()).is_empty(), "{damaged}");
        }
        let mut written =
            serde_json::to_value([job("a"), job("b"), job("c"), job("d")]).expect("JSON");
        written[0]["platform"] = "toaster".into();
        written[1]["manifest"]["digest"] = "sha256:short".into();
        written[2]["window"] = serde_json::json!([2000, 3000]);
        let read = Jobs::default().read(written.to_string().as_bytes());
        assert_eq!(shown(&read), shown(&[job("c"), job("d")]), "a window that never comes is none");
        let many: Vec<Job> = (0..2 * JOBS_MAX).map(|n| job(&n.to_string())).collect();
        let many = serde_json::to_vec(&many).expect("JSON");
        assert_eq!(Jobs::default().read(&many).len(), JOBS_MAX);
    }

    /// Otherwise what an earlier run left would be taken up at every start.
    #[test]
    fn what_an_earlier_run_wrote_is_written_over_when_it_is_done() {
        let jobs = Jobs::default();
        let written = serde_json::to_vec(&[job("earlier")]).expect("serialises");
        for job in jobs.read(&written) {
            let target = job.target();
            anew(jobs.add(job));
            assert_eq!(jobs.unwritten(), None, "it says so already");
            jobs.remove(&target);
        }
        assert_eq!(jobs.unwritten().as_deref(), Some(b"[]".as_slice()));
        assert_eq!(jobs.unwritten(), None);
    }
}
