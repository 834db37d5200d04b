//! `[prefetch]`: the images that are kept warm.

use std::time::Duration;

use toml::Spanned;

use super::{
    ConfigError, platforms,
    raw::{self, Document, anywhere},
    upstreams,
    values::{Count, Distinct, Every, Image, Images, Rate, Window},
};
use crate::{
    oci::{Platform, Reference, Repository, Tag},
    pull::{Prefetch, WarmImage, WarmTags},
    upstream,
};

/// An image that stays.
type Pin = (Repository, Tag);

/// How often a registry is asked for an image of which nothing else is said.
const EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// How many tags a pattern stands for where nothing else is said.
const NEWEST: usize = 10;

/// The images of `file` in its order, each at one of the registries `served`; and those of them that are pinned.
pub(super) fn build(
    file: &Document<'_>,
    raw: Vec<Spanned<raw::WarmImage>>,
    served: &[upstream::Config],
) -> Result<(Vec<WarmImage>, Vec<Pin>), ConfigError> {
    let (mut images, mut all_pinned) = (Vec::<WarmImage>::new(), Vec::new());
    for raw in raw {
        let span = raw.span();
        let raw::WarmImage { name, newest, platforms, every, window, pinned } = raw.into_inner();
        let Some(name) = name else {
            let problem = "an image without a name: write name = \"…\", such as \
                           \"docker.io/library/nginx:1.27\"";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        let wrong = |problem| ConfigError::at(file, name.span(), problem);
        let (image, tags) = match name.get_ref() {
            Images::One(image) => {
                let tag = image.tag().map_err(|digest| {
                    wrong(format!(
                        "{digest} never changes, so there is nothing to keep warm: write a tag, or run \
                         `wharf pull`"
                    ))
                })?;
                if let Some(newest) = &newest {
                    let problem = "this is for several tags: write a pattern in name, such as \
                                   \"nginx:1.2*\" or \"nginx:^1.27\", or leave it out";
                    return Err(ConfigError::at(file, newest.span(), problem.to_owned()));
                }
                (image.clone(), WarmTags::One(tag.unwrap_or_else(latest)))
            }
            Images::Tags(repository, pattern) => {
                let newest = newest.map_or(NEWEST, |newest| newest.into_inner().into());
                let image = Image { repository: repository.clone(), reference: None };
                (image, WarmTags::Newest(newest, pattern.clone()))
            }
        };
        let repository = image.repository.clone();
        upstreams::check_served(file, &Spanned::new(name.span(), image), served)?;
        if images.iter().any(|known| known.repository == repository && known.tags == tags) {
            let name = name.get_ref();
            let problem = format!("{name} is listed twice: write one [[prefetch.image]] for it");
            return Err(wrong(problem));
        }
        match &tags {
            WarmTags::One(tag) if pinned == Some(true) => {
                all_pinned.push((repository.clone(), tag.clone()));
            }
            WarmTags::Newest(..) if pinned == Some(true) => {
                let problem = "what a pattern means changes, and a pin does not: write pinned for single tags, or \
                               `wharf pin` them";
                return Err(wrong(problem.to_owned()));
            }
            _ => {}
        }
        images.push(WarmImage {
            repository,
            tags,
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
        let WarmImage { repository, tags, platforms, every, window } = image;
        let repository = repository.clone();
        let (name, newest, is_pinned) = match tags {
            WarmTags::One(tag) => {
                let is_pinned = pinned.iter().any(|pin| (&pin.0, &pin.1) == (&repository, tag));
                let reference = Some(Reference::Tag(tag.clone()));
                (Images::One(Image { repository, reference }), None, is_pinned)
            }
            WarmTags::Newest(newest, pattern) => {
                (Images::Tags(repository, pattern.clone()), Some(*newest), false)
            }
        };
        anywhere(raw::WarmImage {
            name: Some(anywhere(name)),
            newest: newest.map(|newest| anywhere(Count::of(newest))),
            platforms: Some(Distinct(platforms::names(platforms))),
            every: Some(Every(*every)),
            window: window.map(Window),
            pinned: Some(is_pinned),
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
