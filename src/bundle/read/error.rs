//! Why an archive is refused: sentences.

use std::{fmt::Write as _, io};

use crate::{
    bundle::{Base, ContentsError, SignatureError, listed_numbers},
    oci::{Digest, ManifestError, MediaType},
};

/// Blobs that a sentence names of those that are missing.
const TOLD_MAX: usize = 20;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It broke off, is damaged, or cannot be read.
    #[error("the archive is cut off or damaged: {0}")]
    Cut(#[source] io::Error),
    /// Not a tar archive.
    #[error("this is no tar archive, nor one that gzip or zstd packed")]
    NoArchive,
    /// One member is wrong.
    #[error("{}: {why}", told(name))]
    Member {
        /// Its name, as it stands in the archive.
        name: String,
        /// What is wrong.
        why: Box<Why>,
    },
    /// It is wrong as a whole.
    #[error("the archive {0}")]
    Whole(Box<Why>),
}

/// What is wrong with a member, behind its name and a colon.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// Not a file or directory.
    #[error("it is a {0}, and files alone are taken")]
    Kind(&'static str),
    /// Leads out of the archive.
    #[error("its path is absolute or leads upwards")]
    Path,
    /// Not text, or longer than any path of an image.
    #[error("its path cannot be one of an image")]
    Name,
    /// A header of tar is damaged.
    #[error("its header is damaged")]
    Header,
    /// A header of pax or GNU tar is longer than is read, or does not end.
    #[error("its extended header is longer than is taken")]
    Extended,
    /// Comes twice.
    #[error("it is in the archive twice")]
    Again,
    /// More members than any archive of images has.
    #[error("it is one member too many: {0} are taken")]
    Members(usize),
    /// Longer than a document of its kind.
    #[error("it is longer than {0} bytes")]
    Long(usize),
    /// More than there may be.
    #[error("with it the archive holds more than the {0} bytes that there is room for")]
    Bytes(u64),
    /// It ends before its end.
    #[error("the archive is cut off within it, or damaged: {0}")]
    Cut(#[source] io::Error),
    /// Not what it is called.
    #[error("its digest is {0}, so it is not what it is called")]
    Digest(Digest),
    /// Below `blobs/`, and not a digest.
    #[error("its path names no digest that can be verified")]
    BlobName,
    /// Of another length than is said elsewhere.
    #[error("it has {size} bytes, where {listed} are said")]
    Size {
        /// What is said.
        listed: u64,
        /// What it has.
        size: u64,
    },
    /// Not in the contents document.
    #[error("the contents of the bundle do not list it")]
    Unlisted,
    /// Not a contents document.
    #[error("{0}")]
    Contents(#[source] ContentsError),
    /// A contents document behind what it is to speak of.
    #[error("it comes behind blobs, and must come before them, as `wharf export` writes it")]
    Late,
    /// Stands where it means nothing.
    #[error("it comes before what it signs")]
    Misplaced,
    /// Not text.
    #[error("it is not text")]
    Text,
    /// Not by a trusted key.
    #[error("{0}")]
    Signature(#[source] SignatureError),
    /// Without a signature, where one is demanded.
    #[error("is not signed, or not before its first blob, and only signed bundles are taken here")]
    Unsigned,
    /// A volume without the contents that all of its set have.
    #[error(
        "it is a volume's, and wharf-bundle.json does not stand beside it before the first blob"
    )]
    Alone,
    /// A volume beside other contents than those it was made for.
    #[error("it belongs to other contents than the wharf-bundle.json beside it")]
    OtherSet,
    /// A part that lies in no blob of the contents.
    #[error("it speaks of a part of {0} that the contents do not list, or that reaches beyond it")]
    Outside(Digest),
    /// A part that the volume does not speak of.
    #[error("wharf-volume.json does not list it")]
    Stray,
    /// A part that is not what the volume says.
    #[error("its SHA-256 is {0}, and wharf-volume.json says another")]
    Part(Digest),
    /// Parts that came each as it was said to be, and are not the blob together.
    #[error("{0}")]
    Joined(String),
    /// A set that lacks something, though all of its volumes came.
    #[error(
        "this volume and all others of its set came, and {0} was in none of them, or is lost since: bring all of them \
         again; what is here is not written again"
    )]
    Short(Digest),
    /// What a delta was made without is not here.
    #[error("this bundle brings only what changed, and here is missing: {0}; nothing was taken")]
    Base(String),
    /// Not JSON of the form.
    #[error("it is not of the form that it should have: {}", line(.0))]
    Form(String),
    /// A layout of a later form.
    #[error("it says version {}, and 1.0.0 is known", line(.0))]
    Version(String),
    /// An image without a name.
    #[error("the image {0} has no full name: say what it is called with --name")]
    Nameless(String),
    /// Not a name.
    #[error("{0:?} is no name of an image")]
    ImageName(String),
    /// Two images of one name.
    #[error("{0} is in it twice")]
    Twice(String),
    /// More than any archive has.
    #[error("it lists more than {0}")]
    Many(usize),
    /// A document or blob that is named and not there.
    #[error("{digest}, which {image} needs, is not in the archive")]
    Lacking {
        /// Which.
        digest: Digest,
        /// Whose.
        image: String,
    },
    /// A member that is named and not there.
    #[error("{0:?}, which it names, is not in the archive")]
    Nowhere(String),
    /// Not a manifest.
    #[error("{digest}: {why}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        why: ManifestError,
    },
    /// Nested as no document of an image is.
    #[error("{digest} is nested more than {levels} levels deep")]
    Deep {
        /// Which.
        digest: Digest,
        /// How deep it may be.
        levels: u32,
    },
    /// Of a type that nobody pulls under `manifests/`.
    #[error("{digest} is of the type {media_type}, which is none of a manifest")]
    Type {
        /// Which.
        digest: Digest,
        /// What it is called.
        media_type: MediaType,
    },
    /// More documents than are read, one that several images share counted for each.
    #[error("its images have more than {0} bytes of manifests")]
    Documents(usize),
    /// Indexes within indexes.
    #[error("{0} lists lists of lists: nobody could pull that")]
    Nested(Digest),
    /// A config that speaks of other layers.
    #[error("the config {0} does not speak of the layers that are listed beside it")]
    Layers(Digest),
    /// No list of images.
    #[error("holds neither index.json nor manifest.json, so there is no image in it")]
    NoImages,
    /// The sink's sentence.
    #[error("{0}")]
    Sink(String),
}

impl Why {
    /// Parts that came in these volumes are not the blob together.
    pub(super) fn joined(digest: &Digest, found: &Digest, volumes: &[u32]) -> Self {
        let many = if volumes.len() == 1 { "" } else { "s" };
        Self::Joined(format!(
            "{digest}, joined from its parts, has the digest {found}, so that one of them is not what it should be: they \
             were deleted; bring volume{many} {} again",
            listed_numbers(volumes)
        ))
    }

    /// What a delta was made without, by image.
    pub(super) fn base(missing: &[Base]) -> Self {
        let mut text = String::new();
        for (i, Base { digest, size, image }) in missing.iter().take(TOLD_MAX).enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let _ = write!(text, "{comma}{digest} ({size} bytes) of {image}");
        }
        if missing.len() > TOLD_MAX {
            let _ = write!(text, ", and {} more", missing.len() - TOLD_MAX);
        }
        Self::Base(text)
    }
}

/// The name of a member, fit for a line.
fn told(name: &str) -> String {
    const MOST: usize = 200;
    let mut told: String = name.escape_debug().take(MOST).collect();
    if name.chars().count() > MOST {
        told.push('…');
    }
    told
}

/// What an archive says, without what would end a line or steer a terminal.
pub(in crate::bundle) fn line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) const fn cut(error: io::Error) -> ReadError {
    ReadError::Cut(error)
}

/// Of an archive that does not say where it ends: what is missing was cut off.
pub(super) fn unended(error: ReadError) -> ReadError {
    let (ReadError::Member { why, .. } | ReadError::Whole(why)) = &error else { return error };
    let is_missing =
        matches!(**why, Why::Lacking { .. } | Why::Nowhere(_) | Why::NoImages | Why::Unsigned);
    if !is_missing {
        return error;
    }
    let text = format!("it has no end; {error}");
    cut(io::Error::new(io::ErrorKind::UnexpectedEof, text))
}
