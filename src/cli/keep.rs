//! `wharf pin`, `wharf unpin` and `wharf rm`: what stays, and what goes.

use clap::Args;
use serde::Serialize;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    complain, say, say_json, words,
};
use crate::{
    admin::{CallError, Client, PinnedImage, RemovedImage},
    oci::ImageName,
};

const PIN_EXAMPLES: &str = "\
Examples:
  wharf pin alpine:3.20
  wharf pin --json alpine ghcr.io/owner/app:1.2

A pinned image is never evicted, however little room there is, and `wharf rm` does not remove it. `wharf ls` says which
are pinned. An image that is to be there and to stay is better written into the configuration: [[prefetch.image]] with
pinned = true.
Exit codes: 0 done, 1 some are not kept, 2 wrong usage or configuration.";

const UNPIN_EXAMPLES: &str = "\
Examples:
  wharf unpin alpine:3.20

The image stays until room is needed. What the configuration pins is unpinned there.
Exit codes: 0 done, 1 some are not kept or pinned by the configuration, 2 wrong usage or configuration.";

const RM_EXAMPLES: &str = "\
Examples:
  wharf rm alpine:3.20
  wharf ls --json | jq -r '.[] | select(.pulled == null) | .name' | xargs -r wharf rm

What other images need of it stays. It is fetched again when a device pulls it.
Exit codes: 0 done, 1 some are not kept or are pinned, 2 wrong usage or configuration.";

/// Never evict these images
#[derive(Args, Debug)]
#[command(after_help = PIN_EXAMPLES)]
pub(super) struct Pin {
    #[command(flatten)]
    chosen: Chosen,
}

/// Let these images go when room is needed
#[derive(Args, Debug)]
#[command(after_help = UNPIN_EXAMPLES)]
pub(super) struct Unpin {
    #[command(flatten)]
    chosen: Chosen,
}

/// Remove images from the cache
#[derive(Args, Debug)]
#[command(after_help = RM_EXAMPLES)]
pub(super) struct Rm {
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Args, Debug)]
struct Chosen {
    #[command(flatten)]
    cache: CacheArgs,
    /// Names as in `docker pull`
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<ImageName>,
    /// Print a JSON object for each image, on a line of its own
    #[arg(long)]
    json: bool,
}

impl Pin {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.chosen.each("pinned", async |client, image| client.pin(image, true).await, pinned)
    }
}

impl Unpin {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.chosen.each("unpinned", async |client, image| client.pin(image, false).await, pinned)
    }
}

impl Rm {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.chosen.each("removed", async |client, image| client.remove(image).await, removed)
    }
}

impl Chosen {
    /// Does something to each image, in their order; one that fails does not keep the others from it.
    fn each<T: Serialize>(
        self,
        done: &str,
        work: impl AsyncFn(&Client, &ImageName) -> Result<T, CallError>,
        line: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        let Self { cache, images, json } = self;
        with_cache(cache.load_existing()?, async |client| {
            let mut failed = 0_usize;
            for image in &images {
                match work(client, image).await {
                    Ok(row) if json => say_json(&row),
                    Ok(row) => say(&line(&row)),
                    Err(error) if images.len() == 1 => {
                        return Err(Failure::Failed(error.to_string()));
                    }
                    Err(error) => {
                        complain(&error.to_string());
                        failed += 1;
                    }
                }
            }
            match failed {
                0 => Ok(()),
                _ => {
                    let all = images.len();
                    let sentence = format!("{failed} of {all} images could not be {done}");
                    Err(Failure::Failed(sentence))
                }
            }
        })
    }
}

fn pinned(row: &PinnedImage) -> String {
    let PinnedImage { name, pinned, changed } = row;
    let holds = match (pinned, changed) {
        (true, true) => "pinned",
        (true, false) => "was pinned already",
        (false, true) => "unpinned",
        (false, false) => "was not pinned",
    };
    format!("{name}: {holds}")
}

fn removed(row: &RemovedImage) -> String {
    let RemovedImage { name, freed, blobs } = row;
    match blobs {
        0 => format!("{name}: removed, other images need all of it"),
        _ => format!("{name}: removed, {} are free now", words::size(*freed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_a_line() {
        let name = || "docker.io/library/alpine:3".to_owned();
        for (now, changed, says) in [
            (true, true, "pinned"),
            (true, false, "was pinned already"),
            (false, true, "unpinned"),
            (false, false, "was not pinned"),
        ] {
            let row = PinnedImage { name: name(), pinned: now, changed };
            assert_eq!(pinned(&row), format!("docker.io/library/alpine:3: {says}"));
        }
        for (freed, blobs, says) in [
            (3_400_000, 4, "removed, 3.24 MiB are free now"),
            (0, 0, "removed, other images need all of it"),
        ] {
            let row = RemovedImage { name: name(), freed, blobs };
            assert_eq!(removed(&row), format!("docker.io/library/alpine:3: {says}"));
        }
    }
}
