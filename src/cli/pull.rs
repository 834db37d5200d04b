//! `wharf pull`: images into the cache before anyone asks for them.

mod progress;

use clap::Args;

pub(super) use self::progress::Progress;
use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    complain,
    images::{ImageArgs, Resolved},
    say,
};
use crate::{
    admin::{CallError, Client, PullEvent},
    oci::{ImageName, ImagePattern, Platform},
};

const EXAMPLES: &str = "\
Examples:
  wharf pull alpine:3.20
  wharf pull --platform linux/arm64 --platform linux/arm/v7 alpine ghcr.io/owner/app:1.2
  wharf pull --file images.txt                    one name a line; # begins a comment
  wharf pull 'nginx:1.2*' 'alpine:^3.20' --newest 3
  wharf pull --from compose.yaml --from k8s/      what is run there
  kubectl get pods -A -o yaml | wharf pull --from - --dry-run
  docker ps --format '{{.Image}}' | wharf pull --file -
  wharf pull --json alpine | jq .event

In the place of a tag may stand a pattern (1.2*) or a range of versions (^1.27, ~1.27, '>=1.25, <1.28'), which means the
newest of the tags that match, by the numbers in them. In a range a tag is up to three numbers, and what follows a hyphen
is a variant, which the range has to name: ^1.27-alpine.
--from reads Compose files, whose variables come from the environment and the file .env beside them, and Kubernetes
manifests of any kind; of a directory, all *.yaml and *.yml. What cannot be read is said with file and line, and nothing is
fetched then.

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
    #[command(flatten)]
    images: ImageArgs,
    /// Print the names of the images, and fetch nothing
    #[arg(long, visible_alias = "print")]
    dry_run: bool,
    /// Print each step as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, images: arguments, dry_run, json } = self;
        let config = cache.load()?;
        let wanted = arguments.read()?;
        let is_plain = |wanted: &ImagePattern| matches!(wanted, ImagePattern::One(_));
        if dry_run && wanted.all.iter().all(is_plain) {
            wanted.all.iter().for_each(|image| say(&image.to_string()));
            return Ok(());
        }
        with_cache(config, async |client| {
            let Resolved { images, unknown } = wanted.resolve(client).await;
            let mut progress = Progress::choose(json && !dry_run);
            for (pattern, why) in &unknown {
                let (name, why) = (pattern.to_string(), why.to_string());
                progress.tell(&PullEvent::Failed { name, why });
            }
            if dry_run {
                images.iter().for_each(|image| say(&image.to_string()));
            }
            let images = if dry_run { &[] } else { &images[..] };
            fetch(client, images, unknown, &arguments.platforms, &mut progress).await
        })
    }
}

/// Fetches all of `images`, one after the other; those that are `unknown` have failed.
async fn fetch(
    client: &Client,
    images: &[ImageName],
    unknown: Vec<(ImagePattern, CallError)>,
    platforms: &[Platform],
    progress: &mut Progress,
) -> Result<(), Failure> {
    let (mut failed, all) = (unknown.len(), unknown.len() + images.len());
    for (pattern, why) in unknown {
        let sentence = format!("{pattern}: {why}");
        if all == 1 {
            return Err(Failure::Failed(sentence));
        }
        complain(&sentence);
    }
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
        if all == 1 {
            return Err(Failure::Failed(sentence));
        }
        complain(&sentence);
        failed += 1;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{failed} of {all} images could not be fetched"))),
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
