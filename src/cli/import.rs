//! `wharf import`: images out of archives that came by hand.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar};
use tokio::sync::mpsc;

use super::{
    Failure,
    bar::bar,
    cache::{CacheArgs, with_cache},
    complain, failed, key, say, say_json, words,
};
use crate::{
    admin::{Client, ImportTerms, Imported, ImportedVolume},
    oci::ImageName,
};

const EXAMPLES: &str = "\
Examples:
  wharf import /media/stick/site.tar
  wharf import site.tar.zst app.tar                several, one after the other
  wharf import /media/stick/site.tar.002           a volume: in any order, in one command or over days
  docker save alpine:3.20 | wharf import -
  wharf import --name registry.lan/team/app:1.2 layout/
  wharf import --require-signature site.pub /media/stick/site.tar

An archive is a bundle that `wharf export` wrote, an OCI image layout (a directory, or packed with tar), or what `docker save`,
podman, skopeo, buildah, crane, regctl or ctr write; tar as it is, or packed with gzip or zstd. Each image in it becomes
visible whole, or nothing is taken. What is here already is not written again, so that a command that was interrupted may be
run again. Volumes (`wharf export --volume-size`) wait for each other, as `wharf status` tells, and their images come with
the last; --drop gives up those that are here of a bundle. Images stay until `wharf unpin` or `wharf rm`, unless --no-pin is given.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.";

/// Pieces of an archive that wait to be sent.
const PIECES: usize = 16;

/// Bytes of one.
const PIECE_BYTES: usize = 256 * 1024;

/// Take in images from archives
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    #[command(flatten)]
    cache: CacheArgs,
    /// Archives, or directories of an OCI image layout; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "drop")]
    archives: Vec<PathBuf>,
    /// What an image is called that has no name in its archive; where it has a tag alone, the repository
    #[arg(long, value_name = "IMAGE")]
    name: Option<ImageName>,
    /// Let the images be evicted when room is needed
    #[arg(long)]
    no_pin: bool,
    /// Refuse what was not signed with this public key: a file, or the line that begins with RW; may be repeated
    #[arg(long, value_name = "KEY")]
    require_signature: Vec<String>,
    /// Give up the volumes that are here of this bundle, as `wharf status` calls it
    #[arg(long, value_name = "SET", conflicts_with_all = ["archives", "name", "no_pin", "require_signature"])]
    drop: Option<String>,
    /// Print what was taken in as JSON, one object for each archive
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, archives, name, no_pin, require_signature, drop, json } = self;
        if let Some(set) = drop {
            return give_up(&cache, &set, json);
        }
        let config = cache.load()?;
        let keys = require_signature.iter().map(|text| key::public(text));
        let terms =
            ImportTerms { name, unpinned: no_pin, trusted: keys.collect::<Result<_, _>>()? };
        with_cache(config, async |client| {
            let mut failed = 0;
            for path in &archives {
                match send(client, path, &terms).await {
                    Ok(imported) if json => say_json(&imported),
                    Ok(imported) => say(&text(path, &imported)),
                    Err(why) => {
                        complain(&format!("{}: {why}", path.display()));
                        failed += 1;
                    }
                }
            }
            match failed {
                0 => Ok(()),
                failed => Err(Failure::Failed(format!(
                    "{failed} of {} could not be taken in",
                    words::count(archives.len() as u64, "archive")
                ))),
            }
        })
    }
}

/// Drops the volumes of a bundle.
fn give_up(cache: &CacheArgs, set: &str, json: bool) -> Result<(), Failure> {
    with_cache(cache.load_existing()?, async |client| {
        let dropped = client.drop_volumes(set).await.map_err(failed)?;
        if json {
            say_json(&dropped);
        } else {
            say(&format!(
                "{}: dropped, {} of {} were here with {}",
                dropped.set,
                dropped.here,
                words::count(u64::from(dropped.of), "volume"),
                words::size(dropped.bytes)
            ));
        }
        Ok(())
    })
}

/// Sends one archive, and waits for what becomes of it.
async fn send(client: &Client, path: &Path, terms: &ImportTerms) -> Result<Imported, String> {
    let source = Source::open(path).map_err(|error| error.to_string())?;
    let progress = MultiProgress::new().add(bar(source.size(), "import".to_owned()));
    let (pieces, sent) = mpsc::channel(PIECES);
    let counted = progress.clone();
    // Ends when the archive does, or nobody takes its pieces any more.
    let reading = tokio::task::spawn_blocking(move || source.pour(&Pieces { pieces, counted }));
    let imported = client.import(terms, sent).await;
    progress.finish_and_clear();
    // An archive that cannot be read breaks the request off: why that was is known here.
    let unread = reading.await.map_err(|error| error.to_string())?;
    match (imported, unread) {
        (Ok(imported), _) => Ok(imported),
        (Err(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        (Err(error), _) => Err(error.to_string()),
    }
}

enum Source {
    Stdin,
    File(File, u64),
    Directory(PathBuf),
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdin);
        }
        let about = fs::metadata(path)?;
        if about.is_dir() {
            return Ok(Self::Directory(path.into()));
        }
        Ok(Self::File(File::open(path)?, about.len()))
    }

    /// How long it is, as far as that is known before it is read.
    const fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Stdin | Self::Directory(_) => 0,
        }
    }

    fn pour(self, pieces: &Pieces) -> io::Result<()> {
        let poured = match self {
            Self::Stdin => pieces.pour(io::stdin().lock()),
            Self::File(file, _) => pieces.pour(file),
            Self::Directory(path) => pack(&path, pieces),
        };
        if let Err(error) = &poured {
            let broken = io::Error::new(error.kind(), error.to_string());
            // Whoever takes no more needs not be told.
            let _ = pieces.pieces.blocking_send(Err(broken));
        }
        poured
    }
}

/// A directory, as the archive of it that tar would write: files alone, none of them followed out of it.
fn pack(path: &Path, pieces: &Pieces) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(PIECE_BYTES, pieces));
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all("", path)?;
    archive.into_inner()?.flush()
}

/// Where an archive is read to.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    counted: ProgressBar,
}

impl Pieces {
    fn pour(&self, mut archive: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.send(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.counted.inc(bytes.len() as u64);
        Ok(())
    }
}

impl Write for &Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text(path: &Path, imported: &Imported) -> String {
    let Imported { images, blobs, bytes, known, unserved, volume } = imported;
    let taken = volume.as_ref().map(|volume| {
        let ImportedVolume { number, of, .. } = volume;
        format!("{}: volume {number} of {of} taken in; {}", path.display(), volume.rest())
    });
    if let (Some(line), Some(false)) = (&taken, volume.as_ref().map(|v| v.missing.is_empty())) {
        return line.clone();
    }
    let mut lines: Vec<_> = taken.into_iter().collect();
    lines.extend(images.iter().map(|image| format!("{}: {}", image.name, image.digest)));
    lines.push(format!(
        "{}: {}, {} new in {}, {} here before",
        path.display(),
        words::count(images.len() as u64, "image"),
        words::size(*bytes),
        words::count(*blobs, "blob"),
        known
    ));
    lines.extend(unserved.iter().map(|registry| {
        format!(
            "{registry} is not served: write an [[upstream]] with registry = \"{registry}\" into wharf's configuration"
        )
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::ImportedImage, oci::Digest};

    #[test]
    fn of_a_volume_says_what_is_still_to_be_brought() {
        let volume = |number, missing: &[u32]| Imported {
            volume: Some(ImportedVolume {
                set: Digest::sha256(b""),
                number,
                of: 5,
                missing: missing.into(),
            }),
            ..Imported::default()
        };
        for (number, missing, said) in [
            (1, &[2, 3, 4, 5][..], "1: volume 1 of 5 taken in; 2, 3, 4 and 5 are not here yet"),
            (5, &[2], "1: volume 5 of 5 taken in; 2 is not here yet"),
        ] {
            assert_eq!(text(Path::new("1"), &volume(number, missing)), said);
        }
        let last = text(Path::new("1"), &volume(2, &[]));
        assert!(last.starts_with("1: volume 2 of 5 taken in; all are here\n1: 0 images"), "{last}");
    }

    #[test]
    fn says_what_came_and_what_is_not_served() {
        let image = ImportedImage {
            name: "ghcr.io/owner/app:1".into(),
            digest: "sha256:ab".into(),
            manifests: 1,
        };
        let imported = Imported {
            images: vec![image],
            blobs: 3,
            bytes: 5 << 20,
            known: 2,
            unserved: vec!["ghcr.io".into()],
            volume: None,
        };
        assert_eq!(
            text(Path::new("site.tar"), &imported),
            "\
ghcr.io/owner/app:1: sha256:ab
site.tar: 1 image, 5.00 MiB new in 3 blobs, 2 here before
ghcr.io is not served: write an [[upstream]] with registry = \"ghcr.io\" into wharf's configuration"
        );
    }
}
