//! The vocabulary of the OCI distribution and image specifications: pure values, no I/O.
//!
//! Everything that comes from outside (a path, a header, a document) is parsed here once, into types
//! that cannot be wrong; the rest of wharf never sees the strings again.

mod digest;
mod error;
mod image_index;
mod image_name;
mod manifest;
mod name_glob;
mod nesting;
mod outline;
mod platform;
mod reference;
mod tag_pattern;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error::{ErrorBody, ErrorCode};
pub use image_index::{ImageIndex, IndexEntry};
pub use image_name::ImageName;
pub use manifest::{
    Descriptor, MANIFEST_MAX_BYTES, Manifest, ManifestError, MediaType, media_type,
};
pub use name_glob::Glob;
pub use nesting::{NESTED_MAX, nests_within};
pub use outline::DESCRIPTORS_MAX;
pub use platform::{Platform, PlatformError, Rank, Rules};
pub use reference::{
    DOCKER_HUB, NameError, Reference, RegistryName, Repository, RepositoryName, Tag,
};
pub use tag_pattern::{ImagePattern, Newest, PatternError, TagPattern};
