//! `wharf ls`: the images that are kept.

use std::{path::Path, str::FromStr};

use clap::Args;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    complain, failed, say, say_json, words,
};
use crate::{
    admin::{Client, KeptImage},
    oci::{ImageName, NameError, Reference},
};

const EXAMPLES: &str = "\
Examples:
  wharf ls                          everything
  wharf ls alpine                   every tag of docker.io/library/alpine
  wharf ls ghcr.io/owner/app:1.2    that tag alone
  wharf ls --json | jq '.[].name'
  wharf ls --digests > site.inv     which blobs are here: for wharf export --since site.inv

A platform of which not all layers are kept is marked (partial). An image that is pinned is never evicted.
Exit codes: 0 done, 1 nothing of that name is kept, 2 wrong usage or configuration.";

/// List the images that are kept
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Ls {
    #[command(flatten)]
    cache: CacheArgs,
    /// Only this one: a name as in `docker pull`; without a tag, all tags of it
    image: Option<Wanted>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Print the digest and size of each blob that is kept, for `wharf export --since`
    #[arg(long, conflicts_with_all = ["image", "json"])]
    digests: bool,
}

/// Which images are meant.
#[derive(Clone, Debug)]
struct Wanted {
    text: String,
    image: ImageName,
    /// Neither tag nor digest is given.
    every_tag: bool,
}

impl Ls {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.cache.load()?;
        let dir = config.store.dir.clone();
        if self.digests {
            return with_cache(self.cache.load_existing()?, async |client| digests(client).await);
        }
        // Looking for what is kept must not make the place where it would be.
        if matches!(dir.try_exists(), Ok(false)) {
            return self.show(Vec::new(), &dir);
        }
        with_cache(config, async |client| self.show(client.images().await.map_err(failed)?, &dir))
    }

    fn show(&self, mut images: Vec<KeptImage>, dir: &Path) -> Result<(), Failure> {
        images.retain(|kept| self.image.as_ref().is_none_or(|wanted| wanted.is(kept)));
        if self.json {
            say_json(&images);
        }
        match &self.image {
            Some(Wanted { text, .. }) if images.is_empty() => {
                Err(Failure::Failed(format!("nothing called {text} is kept in {dir:?}")))
            }
            _ if self.json => Ok(()),
            None if images.is_empty() => {
                complain(&format!("nothing is kept in {dir:?}"));
                Ok(())
            }
            _ => {
                say(&table(&images, words::now()));
                Ok(())
            }
        }
    }
}

/// Prints an inventory, in the order of the digests.
async fn digests(client: &Client) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let blobs = client.blobs(last.as_ref()).await.map_err(failed)?;
        let Some((end, _)) = blobs.last() else { return Ok(()) };
        last = Some(*end);
        // One that went meanwhile has no length.
        let kept = blobs.iter().filter(|(_, size)| *size > 0);
        let lines: Vec<String> = kept.map(|(digest, size)| format!("{digest} {size}")).collect();
        if !lines.is_empty() {
            say(&lines.join("\n"));
        }
    }
}

impl Wanted {
    fn is(&self, kept: &KeptImage) -> bool {
        let Ok(name) = kept.name.parse::<ImageName>() else { return false };
        name.repository == self.image.repository
            && (self.every_tag
                || name.reference == self.image.reference
                || self.image.reference == Reference::Digest(kept.digest))
    }
}

impl FromStr for Wanted {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let last = text.rsplit('/').next().unwrap_or(text);
        let every_tag = !last.contains(['@', ':']);
        Ok(Self { text: text.to_owned(), image: text.parse()?, every_tag })
    }
}

fn table(images: &[KeptImage], now: u64) -> String {
    // A column for what few caches have would be empty on most screens.
    let pinned = if images.iter().any(|kept| kept.pinned) { "PINNED" } else { "" };
    let heading =
        ["IMAGE", "PLATFORMS", "SIZE", "AGE", "LAST PULLED", pinned].map(ToOwned::to_owned);
    let rows = images.iter().map(|kept| {
        let platforms: Vec<_> = kept.platforms.iter().map(words::kept_platform).collect();
        [
            kept.name.clone(),
            if platforms.is_empty() { "none".to_owned() } else { platforms.join(", ") },
            words::size(kept.size),
            words::age(kept.since, now),
            kept.pulled.map_or_else(
                || "unknown".to_owned(),
                |pulled| format!("{} ago", words::age(pulled, now)),
            ),
            if kept.pinned { "yes".to_owned() } else { String::new() },
        ]
    });
    words::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::KeptPlatform;

    fn kept(name: &str) -> KeptImage {
        let digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
        let platform = |platform: &str, whole| KeptPlatform {
            platform: Some(platform.parse().expect("a platform")),
            digest,
            whole,
            kept: 10,
            size: Some(20),
        };
        KeptImage {
            name: name.to_owned(),
            digest,
            size: 3_400_000,
            since: 0,
            pulled: Some(3 * 86_400 - 600),
            pinned: false,
            platforms: vec![platform("linux/arm64", true), platform("linux/arm/v7", false)],
        }
    }

    #[test]
    fn the_table_says_what_is_kept_and_what_is_not_whole() {
        let mut bare = kept("ghcr.io/owner/app:1");
        (bare.platforms, bare.pulled, bare.size) = (Vec::new(), None, 0);
        let said = table(&[kept("docker.io/library/alpine:3.20"), bare], 3 * 86_400);
        assert_eq!(
            said,
            "\
IMAGE                          PLATFORMS                            SIZE      AGE     LAST PULLED
docker.io/library/alpine:3.20  linux/arm64, linux/arm/v7 (partial)  3.24 MiB  3 days  10 minutes ago
ghcr.io/owner/app:1            none                                 0 B       3 days  unknown"
        );
        let mut pinned = kept("docker.io/library/alpine:3.20");
        pinned.pinned = true;
        let said = table(&[pinned, kept("busybox:1")], 3 * 86_400);
        let ends: Vec<_> = said.lines().map(|line| &line[line.len() - 8..]).collect();
        assert_eq!(ends, ["  PINNED", "ago  yes", "utes ago"], "{said}");
    }

    #[test]
    fn an_image_is_found_by_every_way_of_writing_its_name() {
        let image = kept("docker.io/library/alpine:3.20");
        let by_digest = format!("alpine@{}", image.digest);
        let elsewhere = format!("busybox@{}", image.digest);
        for (text, found) in [
            ("alpine", true),
            ("library/alpine", true),
            ("docker.io/library/alpine", true),
            ("index.docker.io/library/alpine:3.20", true),
            ("alpine:3.20", true),
            (&by_digest, true),
            (&elsewhere, false),
            ("alpine:latest", false),
            ("alpine:3", false),
            ("busybox", false),
            ("ghcr.io/library/alpine", false),
            ("localhost:5000/library/alpine", false),
        ] {
            assert_eq!(text.parse::<Wanted>().expect("a name").is(&image), found, "{text}");
        }
    }
}
