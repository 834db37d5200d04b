//! `[[compose]]`: one image made of images of one platform each.

use std::{collections::BTreeMap, ops::Range};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use toml::Spanned;

use super::{
    ConfigError,
    raw::{self, Document, anywhere},
    upstreams,
    values::{Image, PlatformName},
};
use crate::{
    oci::{Platform, Reference, Repository, Tag},
    pull::{Composed, Part},
    upstream,
};

/// `platforms` of a composed image, as it stands in the file: keys are not yet known to be platforms.
#[derive(Clone, Debug)]
pub(super) struct Parts(Vec<(Spanned<String>, Spanned<Image>)>);

/// A composed image, and where in the file its parts stand.
struct Placed {
    image: Composed,
    parts: BTreeMap<Platform, Range<usize>>,
}

/// The composed images of `file` in its order, every part at one of the registries `served`.
pub(super) fn build(
    file: &Document<'_>,
    raw: Vec<Spanned<raw::Composed>>,
    served: &[upstream::Config],
) -> Result<Vec<Composed>, ConfigError> {
    let mut all: Vec<Placed> = Vec::new();
    for raw in raw {
        let span = raw.span();
        let raw::Composed { name, platforms } = raw.into_inner();
        let Some(name) = name else {
            let problem = "a composed image without a name: write name = \"…\", such as \
                           \"docker.io/user/app\"";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        let (repository, tag) = without_digest(file, &name)?;
        upstreams::check_not_clients(file, &name, served)?;
        if let Some(known) =
            all.iter().find(|known| overlap(&known.image, &repository, tag.as_ref()))
        {
            let problem = format!(
                "{} is composed twice, as {} before: write one [[compose]] for it",
                name.get_ref(),
                full_name(&known.image)
            );
            return Err(ConfigError::at(file, name.span(), problem));
        }
        let Some(platforms) = platforms.filter(|parts| !parts.get_ref().0.is_empty()) else {
            let problem = "a composed image of nothing: write platforms = { \"linux/arm64\" = \
                           \"docker.io/user/arm64v8-app\" }";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        let mut image = Composed { repository, tag, parts: BTreeMap::new() };
        let mut places = BTreeMap::new();
        for (key, part) in platforms.into_inner().0 {
            let platform = key
                .get_ref()
                .parse::<PlatformName>()
                .map_err(|problem| ConfigError::at(file, key.span(), problem))?;
            let platform = Platform::from(platform);
            let (repository, tag) = without_digest(file, &part)?;
            upstreams::check_served(file, &part, served)?;
            places.insert(platform.clone(), part.span());
            if image.parts.insert(platform.clone(), Part { repository, tag }).is_some() {
                let problem = format!("{platform} is given twice: write it once");
                return Err(ConfigError::at(file, key.span(), problem));
            }
        }
        all.push(Placed { image, parts: places });
    }
    check_depth(file, &all)?;
    Ok(all.into_iter().map(|placed| placed.image).collect())
}

fn without_digest(
    file: &Document<'_>,
    name: &Spanned<Image>,
) -> Result<(Repository, Option<Tag>), ConfigError> {
    let tag = name.get_ref().tag().map_err(|digest| {
        let problem =
            format!("{digest} never changes, and what is composed does: write a tag or nothing");
        ConfigError::at(file, name.span(), problem)
    })?;
    Ok((name.get_ref().repository.clone(), tag))
}

/// A part that is composed itself would have an index where a manifest belongs. The composed name may be its own part:
/// what it is made of comes from the registry.
fn check_depth(file: &Document<'_>, all: &[Placed]) -> Result<(), ConfigError> {
    for Placed { image, parts } in all {
        for (platform, part) in &image.parts {
            let tag = part.tag.as_ref().or(image.tag.as_ref());
            let composed = all
                .iter()
                .map(|other| &other.image)
                .find(|other| *other != image && overlap(other, &part.repository, tag));
            let Some(composed) = composed else { continue };
            let problem = format!(
                "{} is composed itself: write the image of {platform} that it is made of",
                full_name(composed)
            );
            let span = parts.get(platform).cloned().unwrap_or_default();
            return Err(ConfigError::at(file, span, problem));
        }
    }
    Ok(())
}

/// Whether some tag of `repository`, or `tag` alone, is among what `composed` answers for.
fn overlap(composed: &Composed, repository: &Repository, tag: Option<&Tag>) -> bool {
    let tags = composed.tag.as_ref().zip(tag);
    composed.repository == *repository && tags.is_none_or(|(a, b)| a == b)
}

fn full_name(composed: &Composed) -> String {
    named(&composed.repository, composed.tag.as_ref()).to_string()
}

fn named(repository: &Repository, tag: Option<&Tag>) -> Image {
    Image { repository: repository.clone(), reference: tag.cloned().map(Reference::Tag) }
}

/// One `[[compose]]` in the file's form.
pub(super) fn shown(config: &Composed) -> raw::Composed {
    let Composed { repository, tag, parts } = config;
    let part = |(platform, part): (&Platform, &Part)| {
        (anywhere(platform.to_string()), anywhere(named(&part.repository, part.tag.as_ref())))
    };
    raw::Composed {
        name: Some(anywhere(named(repository, tag.as_ref()))),
        platforms: Some(anywhere(Parts(parts.iter().map(part).collect()))),
    }
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, part)| (key.get_ref(), part.get_ref())))
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Parts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table, such as { \"linux/arm64\" = \"docker.io/user/arm64v8-app\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Parts, A::Error> {
                let mut parts: Vec<(Spanned<String>, Spanned<Image>)> = Vec::new();
                while let Some(part) = table.next_entry()? {
                    parts.push(part);
                }
                // Of two keys that mean one platform, the later one is wrong.
                parts.sort_by_key(|(key, _)| key.span().start);
                Ok(Parts(parts))
            }
        }
        deserializer.deserialize_map(Table)
    }
}
