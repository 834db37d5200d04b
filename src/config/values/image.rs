//! Images, as people name them.

use std::{fmt, str::FromStr};

use super::in_quotes;
use crate::oci::{ImageName, ImagePattern, PatternError, Reference, Repository, Tag, TagPattern};

/// An image, with or without a tag.
#[derive(Clone, Debug)]
pub(in crate::config) struct Image {
    pub(in crate::config) repository: Repository,
    /// What stands behind the name; `None`: nothing.
    pub(in crate::config) reference: Option<Reference>,
}

/// An image, or those of a repository whose tags match.
#[derive(Clone, Debug)]
pub(in crate::config) enum Images {
    One(Image),
    Tags(Repository, TagPattern),
}

impl Image {
    /// The tag that is given; a digest is handed back, for the caller to say why it will not do.
    pub(in crate::config) fn tag(&self) -> Result<Option<Tag>, String> {
        match &self.reference {
            None => Ok(None),
            Some(Reference::Tag(tag)) => Ok(Some(tag.clone())),
            Some(Reference::Digest(digest)) => Err(digest.to_string()),
        }
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ImageName { repository, reference } =
            text.parse().map_err(|problem| format!("\"{text}\" is not an image: {problem}"))?;
        // `ImageName` takes `latest` where nothing is given.
        let last = text.rsplit('/').next().unwrap_or(text);
        let given = text.contains('@') || last.contains(':');
        Ok(Self { repository, reference: given.then_some(reference) })
    }
}

impl FromStr for Images {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(ImagePattern::Tags(repository, tags)) => Ok(Self::Tags(repository, tags)),
            Err(error @ PatternError::Pattern(_)) => Err(error.to_string()),
            Ok(ImagePattern::One(_)) | Err(PatternError::Name(_)) => text.parse().map(Self::One),
        }
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(image) => image.fmt(f),
            Self::Tags(repository, tags) => write!(f, "{repository}:{tags}"),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, reference } = self;
        match reference {
            None => repository.fmt(f),
            Some(Reference::Tag(tag)) => write!(f, "{repository}:{tag}"),
            Some(Reference::Digest(digest)) => write!(f, "{repository}@{digest}"),
        }
    }
}

in_quotes! {
    Image: "an image in quotes, such as \"docker.io/library/nginx:1.27\"";
    Images: "an image in quotes, such as \"docker.io/library/nginx:1.27\"";
}
