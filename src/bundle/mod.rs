//! Bundles: archives that carry images across an air gap. Their format alone, over bytes: knows no cache, no registry.
//!
//! A bundle is a tar archive of an OCI image layout, with a [`Contents`] document that says what it is to bring, what of
//! that it carries, and what it takes for granted. Who signs it ([`SecretKey`]) signs that document.

mod contents;
mod read;
mod split;
#[cfg(test)]
mod tests;
mod trust;
mod write;

pub use contents::{
    Base, Blob, CONTENTS_MAX_BYTES, Contents, ContentsError, Image, Named, Segment, Volume,
    listed_numbers,
};
pub use read::{Brought, BroughtImage, Joined, ReadError, Sink, TakenVolume, Terms, Why, read};
pub use split::{Share, SplitError};
pub use trust::{KEY_MAX_BYTES, KeyError, PublicKey, SecretKey, SignatureError, verify};
pub use write::{
    Archive, Bundle, CONTENTS, DOCKER, INDEX, OCI_LAYOUT, Piece, SIGNATURE, VOLUME, Wanted,
};
