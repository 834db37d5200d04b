//! The names of a bundle's files, and what may be written under them.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::{
    since,
    sink::{Begun, Output, Target},
};
use crate::{
    bundle::{Bundle, KEY_MAX_BYTES, SIGNATURE, SecretKey},
    cli::Failure,
};

/// Volumes whose signature is looked at: the first that are here have the one that all have.
const SIGNED_MAX: u32 = 1000;

/// Where a bundle goes.
pub(super) struct Place {
    /// `None`: standard output.
    path: Option<PathBuf>,
    volume_size: Option<u64>,
    is_compressed: bool,
    force: bool,
}

impl Place {
    /// The place that `output` names.
    ///
    /// # Errors
    /// When what is asked for does not go together.
    pub(super) fn of(
        output: &Path,
        volume_size: Option<u64>,
        force: bool,
    ) -> Result<Self, Failure> {
        let is_stdout = output == Path::new("-");
        let is_compressed = output.extension().is_some_and(|extension| extension == "zst");
        let usage = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        if volume_size.is_some() && is_stdout {
            return usage("standard output cannot be split: name a file with -o");
        }
        if volume_size.is_some() && is_compressed {
            return usage(
                "how large a compressed volume becomes is not known before it is written: name a file that ends in .tar",
            );
        }
        if output.is_dir() || output.file_name().is_none() {
            return usage("-o names a directory: write the name of the bundle, too");
        }
        let path = (!is_stdout).then(|| output.to_owned());
        Ok(Self { path, volume_size, is_compressed, force })
    }

    pub(super) const fn volume_size(&self) -> Option<u64> {
        self.volume_size
    }

    /// The bundle's own name, `-` for standard output.
    pub(super) fn whole(&self) -> &Path {
        self.path.as_deref().unwrap_or_else(|| Path::new("-"))
    }

    pub(super) const fn is_stdout(&self) -> bool {
        self.path.is_none()
    }

    pub(super) fn volume(&self, number: u32) -> PathBuf {
        with_suffix(self.whole(), &format!(".{number:03}"))
    }

    /// What is written for the file `path`: as `path.part`, unless it is there already.
    pub(super) fn target(&self, path: &Path) -> Result<Target, Failure> {
        let (name, is_compressed) = (path.to_owned(), self.is_compressed);
        if self.is_stdout() {
            let output = Output::Stdout(io::stdout());
            return Ok(Target { output, is_compressed, name, rename_from: None });
        }
        let failed =
            |path: &Path, error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
        if !self.force {
            match File::open(path) {
                Ok(file) => {
                    let output = Output::File(Begun::new(file, false));
                    return Ok(Target { output, is_compressed, name, rename_from: None });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(path, error)),
            }
        }
        let part = with_suffix(path, ".part");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&part);
        let file = file.map_err(|error| failed(&part, error))?;
        // Two that write the same file would undo each other's work.
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let sentence = format!("{}: another export writes it just now", part.display());
            return Err(Failure::Failed(sentence));
        }
        let output = Output::File(Begun::new(file, true));
        Ok(Target { output, is_compressed, name, rename_from: Some(part) })
    }

    /// Signs the bundle, with the signature of what is here already if that is one: so that what is written is the same.
    pub(super) fn sign(&self, bundle: &mut Bundle, key: &SecretKey) -> Result<(), Failure> {
        let failed = |error| Failure::Failed(format!("it could not be signed: {error}"));
        bundle.sign(key).map_err(failed)?;
        if self.is_stdout() {
            return Ok(());
        }
        let public = key.public().map_err(failed)?;
        let files: Vec<PathBuf> = match self.volume_size {
            None => vec![self.whole().to_owned()],
            Some(_) => (1..=SIGNED_MAX).map(|number| self.volume(number)).collect(),
        };
        let begun = files.iter().flat_map(|file| [file.clone(), with_suffix(file, ".part")]);
        for path in begun.filter(|path| path.exists()) {
            // What cannot be read is written anew.
            if let Ok(Some(signature)) = since::member(&path, SIGNATURE, KEY_MAX_BYTES) {
                if bundle.take_signature(&public, &signature) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes the receipt beside the bundle: whole, or not at all.
    pub(super) fn receipt(&self, document: &[u8]) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let receipt = with_suffix(path, ".receipt");
        let part = with_suffix(&receipt, ".part");
        let written = fs::write(&part, document)
            .and_then(|()| File::open(&part)?.sync_all())
            .and_then(|()| fs::rename(&part, &receipt));
        written.map_err(|error| Failure::Failed(format!("{}: {error}", receipt.display())))
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
