//! Which images a command is about, by name, by pattern, and by what runs them: one form for all commands that take many.

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure,
    lists::{self, once_each},
};
use crate::{
    admin::{CallError, Client},
    oci::{ImageName, ImagePattern, Platform},
};

/// Which images, and for which platforms.
#[derive(Args, Debug)]
pub(super) struct ImageArgs {
    /// Names as in `docker pull`
    #[arg(value_name = "IMAGE", required_unless_present_any = ["file", "from"])]
    images: Vec<ImagePattern>,
    /// For this platform, such as linux/arm64; may be repeated [default: platforms.keep, else the site's own]
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub(super) platforms: Vec<Platform>,
    /// A file with one name or pattern a line; - for standard input; may be repeated
    #[arg(long, value_name = "LIST")]
    file: Vec<PathBuf>,
    /// A Compose file, Kubernetes manifests, or a directory of these; - for standard input; may be repeated
    #[arg(long, value_name = "PATH")]
    from: Vec<PathBuf>,
    /// For how many tags a pattern stands, the newest
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    newest: u16,
}

/// What is wanted, each once and at least one.
#[derive(Debug)]
pub(super) struct Patterns {
    pub(super) all: Vec<ImagePattern>,
    newest: usize,
}

/// What patterns stand for.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Each once.
    pub(super) images: Vec<ImageName>,
    /// The patterns whose images are not known, and why.
    pub(super) unknown: Vec<(ImagePattern, CallError)>,
}

impl ImageArgs {
    /// Reads what is named on the command line, in lists and in the files of what runs.
    ///
    /// # Errors
    /// With file and line, when anything cannot be read; and when no image is named.
    pub(super) fn read(&self) -> Result<Patterns, Failure> {
        let mut patterns = self.images.clone();
        patterns.extend(lists::read(&self.file, &self.from)?);
        let patterns = once_each(patterns);
        if patterns.is_empty() {
            return Err(Failure::Usage("the list names no image".to_owned()));
        }
        Ok(Patterns { all: patterns, newest: self.newest.into() })
    }
}

impl Patterns {
    /// Asks for the tags that patterns stand for.
    pub(super) async fn resolve(self, client: &Client) -> Resolved {
        let (mut images, mut unknown) = (Vec::new(), Vec::new());
        for pattern in self.all {
            match &pattern {
                ImagePattern::One(image) => images.push(image.clone()),
                ImagePattern::Tags(repository, tags) => {
                    match client.matching(repository, tags, self.newest).await {
                        Ok(found) => images.extend(found),
                        Err(error) => unknown.push((pattern, error)),
                    }
                }
            }
        }
        Resolved { images: once_each(images), unknown }
    }
}
