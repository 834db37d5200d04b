//! The drop folder (`[airgap] watch`): archives that appear there are taken in, and what came of it is written beside them, so
//! that nobody needs a shell.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::pull::{Error, ImportTerms, Imported, Pull};

/// Between two looks. What has not changed from one to the next has been copied whole.
const EVERY: Duration = Duration::from_secs(5);

/// Files in the folder that are looked at; others wait until some are gone.
const FILES_MAX: usize = 1000;

/// What an archive is called.
const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".oci"];

/// Behind `.tar.`, fewest digits of a volume's number.
const NUMBER_DIGITS: usize = 3;

/// Behind an archive's name, the file that says what came of it.
const TAKEN: &str = ".imported";
const REFUSED: &str = ".refused";

/// An archive as it was seen: its length in bytes, and when it was last written.
type Seen = (u64, Option<SystemTime>);

/// Takes in what appears in `folder` until `shutdown`.
pub(super) async fn watch(pull: Pull, folder: PathBuf, shutdown: CancellationToken) {
    let mut folder = Folder::at(folder);
    loop {
        let next = folder.look(&pull);
        if shutdown.run_until_cancelled(next).await.is_none()
            || shutdown.run_until_cancelled(sleep(EVERY)).await.is_none()
        {
            return;
        }
    }
}

/// A folder in which archives appear.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: HashMap<PathBuf, Known>,
}

/// An archive in the folder, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    seen: Seen,
    is_done: bool,
}

impl Folder {
    /// The folder of that name. One that is not there, such as that of a stick that is not in, is empty.
    pub fn at(path: PathBuf) -> Self {
        Self { path, files: HashMap::new() }
    }

    /// Takes in what has not changed since the last look, and was not told of already.
    pub async fn look(&mut self, pull: &Pull) {
        let of = self.path.clone();
        let found = spawn_blocking(move || found(&of)).await.unwrap_or_default();
        self.files.retain(|path, _| found.iter().any(|(there, _)| there == path));
        for (path, seen) in found {
            let is_ready = match self.files.get(&path) {
                Some(known) if known.seen == seen && known.is_done => continue,
                // One that came just now, or was written to since, may still be growing.
                known => known.is_some_and(|known| known.seen == seen),
            };
            let is_done = is_ready && take(pull, &path, seen).await;
            self.files.insert(path, Known { seen, is_done });
        }
    }
}

/// Takes in one archive, unless that was done: whether it is done now.
async fn take(pull: &Pull, path: &Path, seen: Seen) -> bool {
    let archive = path.to_owned();
    let opening = spawn_blocking(move || match is_told(&archive, seen) {
        true => Ok(None),
        false => File::open(&archive).map(Some),
    });
    let imported = match opening.await {
        Ok(Ok(None)) => return true,
        Ok(Ok(Some(file))) => pull.import(file, ImportTerms::default()).await,
        Ok(Err(error)) => Err(Error::Archive(error.to_string())),
        Err(_) => return false,
    };
    if let Err(Error::NotTaken(_) | Error::Store(_) | Error::Busy) = &imported {
        // Not the archive's fault: it is tried again.
        return false;
    }
    let archive = path.to_owned();
    let telling = spawn_blocking(move || tell(&archive, seen, &imported));
    if let Ok(Err(error)) = telling.await {
        tracing::debug!(archive = ?path, %error, "what came of it cannot be written beside it");
    }
    true
}

/// The archives in a folder, in order.
fn found(folder: &Path) -> Vec<(PathBuf, Seen)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let archives = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let is_archive = !name.starts_with('.')
            && (ENDINGS.iter().any(|end| name.ends_with(end)) || is_volume(name));
        // Links are not followed: a stick must not name a file of this machine.
        let about = is_archive.then(|| entry.metadata().ok()).flatten()?;
        about.is_file().then(|| (entry.path(), (about.len(), about.modified().ok())))
    });
    let mut archives: Vec<_> = archives.take(FILES_MAX).collect();
    archives.sort();
    archives
}

/// Whether a file is called as `wharf export` calls volumes.
fn is_volume(name: &str) -> bool {
    let Some((archive, number)) = name.rsplit_once('.') else { return false };
    archive.ends_with(".tar")
        && number.len() >= NUMBER_DIGITS
        && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether it stands beside the archive what came of it, as it is now.
fn is_told(archive: &Path, seen: Seen) -> bool {
    [TAKEN, REFUSED].iter().any(|end| {
        let read = fs::read_to_string(beside(archive, end));
        read.is_ok_and(|text| text.lines().last() == Some(&*signature(seen)))
    })
}

fn tell(archive: &Path, seen: Seen, imported: &Result<Imported, Error>) -> io::Result<()> {
    let (end, other, text) = match imported {
        Ok(imported) => {
            let images =
                imported.images.iter().map(|image| format!("{} {}", image.name, image.digest));
            let volume = imported.volume.as_ref().map(|volume| {
                format!(": volume {} of {}; {}", volume.number, volume.of, volume.rest())
            });
            let taken = format!("taken in{}", volume.unwrap_or_default());
            let lines: Vec<_> = std::iter::once(taken).chain(images).collect();
            (TAKEN, REFUSED, lines.join("\n"))
        }
        Err(error) => (REFUSED, TAKEN, format!("refused: {error}")),
    };
    let _ = fs::remove_file(beside(archive, other));
    fs::write(beside(archive, end), format!("{text}\n{}\n", signature(seen)))
}

/// By which an archive is known again.
fn signature((size, modified): Seen) -> String {
    let since_1970 = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!(
        "{size} bytes, last written {} ns after 1970",
        since_1970.unwrap_or_default().as_nanos()
    )
}

fn beside(archive: &Path, end: &str) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push(end);
    path.into()
}
