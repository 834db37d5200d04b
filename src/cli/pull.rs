//! `wharf pull`: images into the cache before anyone asks for them.

pub(super) mod list;
mod progress;

use std::path::PathBuf;

use clap::Args;

pub(super) use self::progress::Progress;
use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    complain,
};
use crate::{
    admin::{CallError, Client, PullEvent},
    oci::{ImageName, Platform},
};

const EXAMPLES: &str = "\
Examples:
  wharf pull alpine:3.20
  wharf pull --platform linux/arm64 --platform linux/arm/v7 alpine ghcr.io/owner/app:1.2
  wharf pull --file images.txt                    one name a line; # begins a comment
  docker ps --format '{{.Image}}' | wharf pull --file -
  wharf pull --json alpine | jq .event

Images are fetched one after the other; one that fails does not keep the others from being fetched. A running wharf
goes on with the image at hand when this command is interrupted; what is downloaded so far is always kept, and the
next pull goes on from it.
Exit codes: 0 done, 1 some could not be fetched, or interrupted; 2 wrong usage or configuration.";

/// Fetch images into the cache
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Pull {
    #[command(flatten)]
    cache: CacheArgs,
    /// Names as in `docker pull`
    #[arg(value_name = "IMAGE", required_unless_present = "file")]
    images: Vec<ImageName>,
    /// For this platform, such as linux/arm64; may be repeated [default: platforms.keep, else the site's own]
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<Platform>,
    /// A file with one name a line; - for standard input
    #[arg(long, value_name = "LIST")]
    file: Option<PathBuf>,
    /// Print each step as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, mut images, platforms, file, json } = self;
        let config = cache.load()?;
        if let Some(path) = &file {
            images.extend(list::read(path)?);
        }
        let images = once_each(images);
        if images.is_empty() {
            return Err(Failure::Usage("the list names no image".to_owned()));
        }
        with_cache(config, async |client| {
            let mut progress = Progress::choose(json);
            fetch(client, &images, &platforms, &mut progress).await
        })
    }
}

/// Fetches all of `images`, one after the other.
async fn fetch(
    client: &Client,
    images: &[ImageName],
    platforms: &[Platform],
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut failed = 0_usize;
    for image in images {
        let why = match follow(client, image, platforms, progress).await {
            Ok(None) => continue,
            Ok(Some(why)) => why,
            Err(error) => {
                let (name, why) = (image.to_string(), error.to_string());
                progress.tell(&PullEvent::Failed { name, why: why.clone() });
                why
            }
        };
        let sentence = format!("{image}: {why}");
        if images.len() == 1 {
            return Err(Failure::Failed(sentence));
        }
        complain(&sentence);
        failed += 1;
    }
    match failed {
        0 => Ok(()),
        _ => {
            let all = images.len();
            Err(Failure::Failed(format!("{failed} of {all} images could not be fetched")))
        }
    }
}

/// Fetches one image; why not, if it could not be.
async fn follow(
    client: &Client,
    image: &ImageName,
    platforms: &[Platform],
    progress: &mut Progress,
) -> Result<Option<String>, CallError> {
    let mut events = client.pull(image, platforms).await?;
    while let Some(event) = events.next().await? {
        progress.tell(&event);
        if let PullEvent::Failed { why, .. } = event {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Each image once, where it came first.
pub(super) fn once_each(images: Vec<ImageName>) -> Vec<ImageName> {
    let mut seen = std::collections::HashSet::new();
    images.into_iter().filter(|image| seen.insert(image.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_named_twice_is_fetched_once() {
        let names = ["alpine", "busybox", "docker.io/library/alpine:latest", "alpine:3"];
        let images = names.map(|name| name.parse().expect("a name")).into();
        let once: Vec<_> = once_each(images).iter().map(ToString::to_string).collect();
        assert_eq!(
            once,
            ["alpine:latest", "busybox:latest", "alpine:3"]
                .map(|name| format!("docker.io/library/{name}"))
        );
    }
}
