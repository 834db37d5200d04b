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
    complain, key, say, say_json, words,
};
use crate::{
    admin::{Client, ImportTerms, Imported},
    oci::ImageName,
};

const EXAMPLES: &str = "\
Examples:
  wharf import /media/stick/site.tar
  wharf import site.tar.zst app.tar                several, one after the other
  docker save alpine:3.20 | wharf import -
  wharf import --name registry.lan/team/app:1.2 layout/
  wharf import --require-signature site.pub /media/stick/site.tar

An archive is a bundle that `wharf export` wrote, an OCI image layout (a directory, or packed with tar), or what `docker save`,
podman, skopeo, buildah, crane, regctl or ctr write; tar as it is, or packed with gzip or zstd. Each image in it becomes
visible whole, or nothing is taken. What is here already is not written again, so that a command that was interrupted may be
run again. Images stay until `wharf unpin` or `wharf rm`, unless --no-pin is given.
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
    #[arg(value_name = "FILE", required = true)]
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
    /// Print what was taken in as JSON, one object for each archive
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, archives, name, no_pin, require_signature, json } = self;
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
    let Imported { images, blobs, bytes, known, unserved } = imported;
    let mut lines: Vec<_> =
        images.iter().map(|image| format!("{}: {}", image.name, image.digest)).collect();
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
    use crate::admin::ImportedImage;

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
