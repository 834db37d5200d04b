//! What is said of something that is not kept while no registry is to be asked: what would bring it.

use std::fmt;

use super::{Error, Inner, client::Resolution};
use crate::oci::{Digest, ImageName, Platform, Reference, Repository};

/// Something that is not kept, and may not be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Of which kind it is.
    pub kind: Lacking,
    /// What is missing, in a few words; `None`: nobody has said yet.
    pub what: Option<String>,
    /// What to export where there is an uplink: an image's name, and the platforms that are wanted of it.
    pub image: Option<(String, Vec<Platform>)>,
}

/// What is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// A blob.
    Blob,
    /// A manifest.
    Manifest,
    /// Anything of a repository.
    Repository,
}

impl Lacking {
    /// That this is why there is no answer; what exactly it is, the caller's caller may know.
    pub(super) fn offline(self) -> Error {
        Error::Offline(Box::new(Absent { kind: self, what: None, image: None }))
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not kept here", self.what.as_deref().unwrap_or("it"))?;
        let Some((image, platforms)) = &self.image else {
            return f.write_str(", and wharf is offline ([server] mode)");
        };
        let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            write!(f, " for {}", names.join(", "))?;
        }
        write!(
            f,
            ", and wharf is offline ([server] mode): where there is an uplink, `wharf export {image}"
        )?;
        for name in names {
            write!(f, " --platform {name}")?;
        }
        f.write_str(" -o bundle.tar`, and here `wharf import bundle.tar`")
    }
}

impl Error {
    /// The same, saying what is missing and what would bring it, if this is why there is no answer.
    pub(super) fn naming(self, named: impl FnOnce() -> Absent) -> Self {
        match self {
            Self::Offline(absent) if absent.what.is_none() => Self::Offline(Box::new(named())),
            error => error,
        }
    }
}

impl Inner {
    /// That a manifest is not kept, which a client asked for.
    pub(super) fn absent_for(
        &self,
        repository: &Repository,
        reference: &Reference,
        who: &Resolution,
    ) -> Absent {
        let runs = who.runs().cloned();
        self.absent(repository, reference, &runs.map_or_else(Vec::new, |runs| vec![runs]))
    }

    /// That a manifest is not kept, which is wanted for `platforms`; without any, for those of the site.
    pub(super) fn absent(
        &self,
        repository: &Repository,
        reference: &Reference,
        platforms: &[Platform],
    ) -> Absent {
        let image = ImageName { repository: repository.clone(), reference: reference.clone() };
        let what = image.to_string();
        let platforms =
            if platforms.is_empty() { self.site_platforms() } else { platforms.to_vec() };
        // A list that leads to it is what devices pull, and says for which platform it is.
        let listed = match reference {
            Reference::Digest(digest) => self.listed_platform(repository, digest),
            Reference::Tag(_) => None,
        };
        let image = match listed {
            Some((list, platform)) => (list, platform.map_or(platforms, |platform| vec![platform])),
            None => (what.clone(), platforms),
        };
        Absent { kind: Lacking::Manifest, what: Some(what), image: Some(image) }
    }

    /// That a blob is not kept. Which image it is of, its client knows.
    pub(super) fn absent_blob(&self, repository: &Repository, digest: &Digest) -> Absent {
        let what = Some(format!("the blob {digest} of {repository}"));
        let image = Some((format!("{repository}:TAG"), self.site_platforms()));
        Absent { kind: Lacking::Blob, what, image }
    }

    /// That nothing of a repository is kept.
    pub(super) fn absent_repository(&self, repository: &Repository) -> Absent {
        let what = Some(format!("anything of {repository}"));
        let image = Some((format!("{repository}:TAG"), self.site_platforms()));
        Absent { kind: Lacking::Repository, what, image }
    }

    /// The image that lists a manifest, and for which platform.
    fn listed_platform(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<(String, Option<Platform>)> {
        let (repository, listed) = self.listing(repository, digest)?;
        Some((format!("{repository}@{}", listed.index), listed.platform))
    }
}
