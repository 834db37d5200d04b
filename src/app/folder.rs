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

/// Behind an archive's name, the file that says what came of it.
const TAKEN: &str = ".imported";
const REFUSED: &str = ".refused";

/// An archive as it was seen: its length in bytes, and when it was last written.
type Seen = (u64, Option<SystemTime>);

/// Takes in what appears in `folder` until `shutdown`.
pub(super) async fn watch(pull: Pull, folder: PathBuf, shutdown: CancellationToken) {
    let mut files = HashMap::new();
    loop {
        let next = look(&pull, &folder, &mut files);
        if shutdown.run_until_cancelled(next).await.is_none()
            || shutdown.run_until_cancelled(sleep(EVERY)).await.is_none()
        {
            return;
        }
    }
}

/// An archive in the folder, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    seen: Seen,
    is_done: bool,
}

/// One look at the folder. A folder that is not there, such as that of a stick that is not in, is empty.
pub(super) async fn look(pull: &Pull, folder: &Path, files: &mut HashMap<PathBuf, Known>) {
    let of = folder.to_owned();
    let found = spawn_blocking(move || found(&of)).await.unwrap_or_default();
    files.retain(|path, _| found.iter().any(|(there, _)| there == path));
    for (path, seen) in found {
        let known = files.insert(path.clone(), Known { seen, is_done: false });
        match known {
            // It may still be growing.
            None => continue,
            Some(known) if known.seen != seen => continue,
            Some(Known { is_done: false, .. }) => {}
            Some(known) => {
                files.insert(path, known);
                continue;
            }
        }
        let told = path.clone();
        if !spawn_blocking(move || is_told(&told, seen)).await.unwrap_or_default() {
            let opened = {
                let path = path.clone();
                spawn_blocking(move || File::open(path)).await
            };
            let imported = match opened {
                Ok(Ok(file)) => pull.import(file, ImportTerms::default()).await,
                Ok(Err(error)) => Err(Error::Archive(error.to_string())),
                Err(_) => return,
            };
            if let Err(Error::NotTaken(_) | Error::Store(_) | Error::Busy) = &imported {
                // Not the archive's fault: it is tried again.
                continue;
            }
            let beside = path.clone();
            let telling = spawn_blocking(move || tell(&beside, seen, &imported));
            if let Ok(Err(error)) = telling.await {
                tracing::debug!(archive = ?path, %error, "what came of it cannot be written beside it");
            }
        }
        files.insert(path, Known { seen, is_done: true });
    }
}

/// The archives in a folder, in order.
fn found(folder: &Path) -> Vec<(PathBuf, Seen)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let archives = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let is_archive = !name.starts_with('.') && ENDINGS.iter().any(|end| name.ends_with(end));
        // Links are not followed: a stick must not name a file of this machine.
        let about = is_archive.then(|| entry.metadata().ok()).flatten()?;
        about.is_file().then(|| (entry.path(), (about.len(), about.modified().ok())))
    });
    let mut archives: Vec<_> = archives.take(FILES_MAX).collect();
    archives.sort();
    archives
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
            let lines: Vec<_> = images.collect();
            (TAKEN, REFUSED, format!("taken in\n{}", lines.join("\n")))
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
