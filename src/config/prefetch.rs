//! `[prefetch]`: the images that are kept warm.

use std::time::Duration;

use toml::Spanned;

use super::{
    ConfigError, platforms,
    raw::{self, Document, anywhere},
    upstreams,
    values::{Count, Distinct, Every, Image, Rate, Window},
};
use crate::{
    oci::{Platform, Reference, Repository, Tag},
    pull::{Prefetch, WarmImage},
    upstream,
};

/// An image that stays.
type Pin = (Repository, Tag);

/// How often a registry is asked for an image of which nothing else is said.
const EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// The images of `file` in its order, each at one of the registries `served`; and those of them that are pinned.
pub(super) fn build(
    file: &Document<'_>,
    raw: Vec<Spanned<raw::WarmImage>>,
    served: &[upstream::Config],
) -> Result<(Vec<WarmImage>, Vec<Pin>), ConfigError> {
    let (mut images, mut all_pinned) = (Vec::<WarmImage>::new(), Vec::new());
    for raw in raw {
        let span = raw.span();
        let raw::WarmImage { name, platforms, every, window, pinned } = raw.into_inner();
        let Some(name) = name else {
            let problem = "an image without a name: write name = \"…\", such as \
                           \"docker.io/library/nginx:1.27\"";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        let wrong = |problem| ConfigError::at(file, name.span(), problem);
        let repository = name.get_ref().repository.clone();
        let tag = name.get_ref().tag().map_err(|digest| {
            wrong(format!(
                "{digest} never changes, so there is nothing to keep warm: write a tag, or run \
                 `wharf pull`"
            ))
        })?;
        let tag = tag.unwrap_or_else(latest);
        upstreams::check_served(file, &name, served)?;
        if images.iter().any(|known| known.repository == repository && known.tag == tag) {
            let problem =
                format!("{repository}:{tag} is listed twice: write one [[prefetch.image]] for it");
            return Err(wrong(problem));
        }
        if pinned == Some(true) {
            all_pinned.push((repository.clone(), tag.clone()));
        }
        images.push(WarmImage {
            repository,
            tag,
            platforms: platforms
                .map_or_else(Vec::new, |list| list.0.into_iter().map(Platform::from).collect()),
            every: every.map_or(EVERY, Duration::from),
            window: window.map(|window| window.0),
        });
    }
    Ok((images, all_pinned))
}

fn latest() -> Tag {
    "latest".parse().expect("letters make a tag")
}

/// `[prefetch]` with every key that has a value.
pub(super) fn shown(config: &Prefetch, pinned: &[Pin]) -> raw::Prefetch {
    let Prefetch { on_pull, concurrency, rate, follow, quota_floor, retry_after: _, images } =
        config;
    let image = |image: &WarmImage| {
        let WarmImage { repository, tag, platforms, every, window } = image;
        let reference = Some(Reference::Tag(tag.clone()));
        anywhere(raw::WarmImage {
            name: Some(anywhere(Image { repository: repository.clone(), reference })),
            platforms: Some(Distinct(platforms::names(platforms))),
            every: Some(Every(*every)),
            window: window.map(Window),
            pinned: Some(pinned.iter().any(|pin| (&pin.0, &pin.1) == (repository, tag))),
        })
    };
    raw::Prefetch {
        on_pull: Some(*on_pull),
        concurrency: Some(Count::of(*concurrency)),
        rate: rate.map(Rate),
        follow: Some(*follow),
        quota_floor: Some(Count::of(*quota_floor)),
        image: images.iter().map(image).collect(),
    }
}
