//! What the API is asked, read once: from a path and query, or from the body of a request.

use std::net::IpAddr;

use serde::Deserialize;

use super::refusal::Refusal;
use crate::oci::{ImageName, Platform};

/// Most platforms of one pull: more than there are.
const PLATFORMS_MAX: usize = 64;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Images,
    Inspect(ImageName),
    Explain { image: ImageName, client: Option<IpAddr>, user_agent: String },
    Clients,
    Mismatches,
}

/// A pull that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) image: ImageName,
    pub(super) platforms: Vec<Platform>,
}

impl Question {
    pub(super) fn of(path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let takes: &[&str] = match path {
            "/api/v1/inspect" => &["image"],
            "/api/v1/explain" => &["image", "client", "user_agent"],
            "/api/v1/images" | "/api/v1/clients" | "/api/v1/mismatches" => &[],
            _ => return Err(Refusal::nothing_here()),
        };
        let mut query = Query::read(query.unwrap_or_default(), takes)?;
        Ok(match path {
            "/api/v1/images" => Self::Images,
            "/api/v1/clients" => Self::Clients,
            "/api/v1/mismatches" => Self::Mismatches,
            "/api/v1/inspect" => Self::Inspect(query.image()?),
            _ => Self::Explain {
                image: query.image()?,
                client: query.client()?,
                user_agent: query.take("user_agent").unwrap_or_default(),
            },
        })
    }
}

impl Order {
    /// Reads `{"image":"…","platforms":["…"]}`.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            image: String,
            #[serde(default)]
            platforms: Vec<String>,
        }
        let Written { image, platforms } = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad(format!("the body is not a pull to ask for: {error}")))?;
        if platforms.len() > PLATFORMS_MAX {
            return Err(Refusal::bad(format!("more than {PLATFORMS_MAX} platforms")));
        }
        let platforms = platforms.iter().map(|platform| {
            platform
                .parse()
                .map_err(|error| Refusal::bad(format!("platform \"{platform}\": {error}")))
        });
        Ok(Self { image: image_name(&image)?, platforms: platforms.collect::<Result<_, _>>()? })
    }
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
