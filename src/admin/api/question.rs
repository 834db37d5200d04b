//! What the API is asked, read once: from a path and query, or from the body of a request.

use std::net::IpAddr;

use serde::Deserialize;

use super::{BODY_MAX_BYTES, refusal::Refusal};
use crate::{
    oci::{Digest, ImageName, ImagePattern, Platform, Repository, TagPattern},
    pull::{ImportTerms, Verify},
};

/// Most platforms of one pull: more than there are.
const PLATFORMS_MAX: usize = 64;

/// Tags that a pattern stands for, where nothing is said, and at most.
const NEWEST: usize = 10;
const NEWEST_MAX: usize = 1000;
/// Keys of which one must have signed an archive.
const KEYS_MAX: usize = 64;

/// Longest body that asks for an export.
const EXPORT_MAX_BYTES: usize = 1024 * 1024;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Images,
    Inspect(ImageName),
    Explain {
        image: ImageName,
        client: Option<IpAddr>,
        user_agent: String,
    },
    Matching {
        repository: Repository,
        tags: TagPattern,
        newest: usize,
    },
    Clients,
    Mismatches,
    Status,
    /// The kept blobs that come after this one.
    Blobs(Option<Digest>),
    /// The bytes of a kept blob.
    Blob {
        digest: Digest,
        from: u64,
    },
}

/// What an order is about: one to each path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pull,
    Pin,
    Unpin,
    Remove,
    Collect,
    Verify,
    Export,
    Drop,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Pull {
        image: ImageName,
        platforms: Vec<Platform>,
    },
    Pin {
        image: ImageName,
        pinned: bool,
    },
    Remove(ImageName),
    Collect,
    Verify(Verify),
    Export {
        images: Vec<ImageName>,
        platforms: Vec<Platform>,
    },
    /// The volumes of a bundle that this is the name of, or its beginning.
    Drop(String),
}

impl Question {
    pub(super) fn of(path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let takes: &[&str] = match path {
            "/api/v1/inspect" => &["image"],
            "/api/v1/explain" => &["image", "client", "user_agent"],
            "/api/v1/matching" => &["image", "newest"],
            "/api/v1/blobs" => &["after"],
            "/api/v1/blob" => &["digest", "from"],
            "/api/v1/images" | "/api/v1/clients" | "/api/v1/mismatches" | "/api/v1/status" => &[],
            _ => return Err(Refusal::nothing_here()),
        };
        let mut query = Query::read(query.unwrap_or_default(), takes)?;
        Ok(match path {
            "/api/v1/images" => Self::Images,
            "/api/v1/clients" => Self::Clients,
            "/api/v1/mismatches" => Self::Mismatches,
            "/api/v1/status" => Self::Status,
            "/api/v1/inspect" => Self::Inspect(query.image()?),
            "/api/v1/matching" => query.matching()?,
            "/api/v1/blobs" => Self::Blobs(query.digest("after")?),
            "/api/v1/blob" => {
                let missing = || Refusal::bad("no blob is named: write ?digest=DIGEST".to_owned());
                let digest = query.digest("digest")?.ok_or_else(missing)?;
                Self::Blob { digest, from: query.number("from")?.unwrap_or(0) }
            }
            _ => Self::Explain {
                image: query.image()?,
                client: query.client()?,
                user_agent: query.take("user_agent").unwrap_or_default(),
            },
        })
    }
}

/// How an archive is to be taken in, by the query it is sent with: `name`, `unpinned`, and `key` as often as there are keys.
pub(super) fn import_terms(query: Option<&str>) -> Result<ImportTerms, Refusal> {
    let mut terms = ImportTerms::default();
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "name" => terms.name = Some(image_name(&value)?),
            "unpinned" => terms.unpinned = true,
            "key" if terms.trusted.len() < KEYS_MAX => {
                let key = value.parse().map_err(|error| Refusal::bad(format!("key: {error}")))?;
                terms.trusted.push(key);
            }
            key => {
                return Err(Refusal::bad(format!(
                    "\"{key}\" in the query: write name, unpinned, or up to {KEYS_MAX} keys"
                )));
            }
        }
    }
    Ok(terms)
}

impl Kind {
    /// What is asked for at this path, if that is something to be done.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/api/v1/pull" => Self::Pull,
            "/api/v1/pin" => Self::Pin,
            "/api/v1/unpin" => Self::Unpin,
            "/api/v1/rm" => Self::Remove,
            "/api/v1/gc" => Self::Collect,
            "/api/v1/verify" => Self::Verify,
            "/api/v1/export" => Self::Export,
            "/api/v1/drop" => Self::Drop,
            _ => return None,
        })
    }

    /// How long the body of a request may be, in bytes: some thousand names for an export.
    pub(super) const fn longest_body(self) -> usize {
        match self {
            Self::Export => EXPORT_MAX_BYTES,
            _ => BODY_MAX_BYTES,
        }
    }

    /// In a sentence.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "a pull",
            Self::Pin => "a pin",
            Self::Unpin => "an unpin",
            Self::Remove => "a removal",
            Self::Collect => "a collection",
            Self::Verify => "a check",
            Self::Export => "an export",
            Self::Drop => "a drop of volumes",
        }
    }
}

impl Order {
    /// Reads `{"image":"…","platforms":["…"]}`, or what else this kind of order takes; of `{}`, also nothing.
    pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Self, Refusal> {
        Ok(match kind {
            Kind::Pull => {
                let Pull { image, platforms } = parse(kind, body)?;
                Self::Pull { image: image_name(&image)?, platforms: several(&platforms)? }
            }
            Kind::Pin | Kind::Unpin => {
                let Named { image } = parse(kind, body)?;
                Self::Pin { image: image_name(&image)?, pinned: kind == Kind::Pin }
            }
            Kind::Remove => {
                let Named { image } = parse(kind, body)?;
                Self::Remove(image_name(&image)?)
            }
            Kind::Collect => {
                let Nothing {} = parse(kind, or_nothing(body))?;
                Self::Collect
            }
            Kind::Export => {
                let Export { images, platforms } = parse(kind, body)?;
                if images.is_empty() {
                    return Err(Refusal::bad("no image is named".to_owned()));
                }
                let images = images.iter().map(|image| image_name(image));
                let images = images.collect::<Result<_, _>>()?;
                Self::Export { images, platforms: several(&platforms)? }
            }
            Kind::Drop => {
                let Volumes { set } = parse(kind, body)?;
                Self::Drop(set)
            }
            Kind::Verify => {
                let Check { repair, rate } = parse(kind, or_nothing(body))?;
                if rate == Some(0) {
                    return Err(Refusal::bad(
                        "a rate of 0 bytes per second ends never: leave it out for no limit"
                            .to_owned(),
                    ));
                }
                Self::Verify(Verify { repair, rate })
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    image: String,
    #[serde(default)]
    platforms: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    images: Vec<String>,
    #[serde(default)]
    platforms: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    image: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Volumes {
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    #[serde(default)]
    repair: bool,
    /// Bytes per second.
    #[serde(default)]
    rate: Option<u64>,
}

fn parse<'b, T: Deserialize<'b>>(kind: Kind, body: &'b [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(format!("the body is not {} to ask for: {error}", kind.as_str()))
    })
}

fn or_nothing(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

fn several(platforms: &[String]) -> Result<Vec<Platform>, Refusal> {
    if platforms.len() > PLATFORMS_MAX {
        return Err(Refusal::bad(format!("more than {PLATFORMS_MAX} platforms")));
    }
    let platforms = platforms.iter().map(|platform| {
        platform.parse().map_err(|error| Refusal::bad(format!("platform \"{platform}\": {error}")))
    });
    platforms.collect()
}

/// The keys and values of a query, each key once.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: &str, takes: &[&str]) -> Result<Self, Refusal> {
        let mut read: Vec<(String, String)> = Vec::with_capacity(takes.len());
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !takes.contains(&&*key) {
                let known = match takes {
                    [] => "nothing is asked by query here".to_owned(),
                    takes => format!("write {}", takes.join(", ")),
                };
                return Err(Refusal::bad(format!("\"{key}\" in the query: {known}")));
            }
            if read.iter().any(|(known, _)| *known == key) {
                return Err(Refusal::bad(format!("\"{key}\" is given twice")));
            }
            read.push((key.into_owned(), value.into_owned()));
        }
        Ok(Self(read))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(place).1)
    }

    fn image(&mut self) -> Result<ImageName, Refusal> {
        let missing = || Refusal::bad("no image is named: write ?image=NAME".to_owned());
        image_name(&self.take("image").ok_or_else(missing)?)
    }

    fn matching(&mut self) -> Result<Question, Refusal> {
        let text = self.take("image").unwrap_or_default();
        let wrong = |why: &dyn std::fmt::Display| Refusal::bad(format!("image \"{text}\": {why}"));
        let newest = match self.take("newest") {
            None => NEWEST,
            Some(newest) => {
                newest.parse().ok().filter(|most| (1..=NEWEST_MAX).contains(most)).ok_or_else(
                    || {
                        Refusal::bad(format!(
                            "newest \"{newest}\": not a number from 1 to {NEWEST_MAX}"
                        ))
                    },
                )?
            }
        };
        match text.parse() {
            Ok(ImagePattern::Tags(repository, tags)) => {
                Ok(Question::Matching { repository, tags, newest })
            }
            Ok(ImagePattern::One(_)) => Err(wrong(&"one image, and no pattern of tags")),
            Err(error) => Err(wrong(&error)),
        }
    }

    fn digest(&mut self, key: &str) -> Result<Option<Digest>, Refusal> {
        let parsed = |text: String| {
            text.parse().map_err(|error| Refusal::bad(format!("{key} \"{text}\": {error}")))
        };
        self.take(key).map(parsed).transpose()
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>, Refusal> {
        let parsed = |text: String| {
            text.parse().map_err(|_| Refusal::bad(format!("{key} \"{text}\": not a number")))
        };
        self.take(key).map(parsed).transpose()
    }

    fn client(&mut self) -> Result<Option<IpAddr>, Refusal> {
        let parsed = |text: String| {
            text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| {
                Refusal::bad(format!("client \"{text}\": not an address such as 10.0.7.12"))
            })
        };
        self.take("client").map(parsed).transpose()
    }
}

fn image_name(text: &str) -> Result<ImageName, Refusal> {
    text.parse().map_err(|error| Refusal::bad(format!("image \"{text}\": {error}")))
}
