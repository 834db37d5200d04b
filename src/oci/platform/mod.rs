//! Platforms: what an image runs on, and which of several images a host takes.

mod document;
mod host;
mod known;
mod normalise;
mod rank;
#[cfg(test)]
mod tests;
mod windows;

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(super) use document::RawPlatform;
pub use rank::Rank;

/// Longest part of a platform that is taken: what is behind it is cut off.
const PART_MAX_BYTES: usize = 64;

/// Features of an operating system that are taken; more are left out.
const FEATURES_MAX: usize = 16;

/// What an image runs on ([image-spec, image-index.md, "platform"](https://github.com/opencontainers/image-spec/blob/main/image-index.md#image-index-property-descriptions)),
/// normalised: two spellings of one platform are equal.
///
/// Each part is at most 64 of `A-Z a-z 0-9 . _ -`, whatever a document says: fit for a log line, a header and JSON.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: Arc<str>,
    architecture: Arc<str>,
    variant: Option<Arc<str>>,
    os_version: Option<Arc<str>>,
    /// Sorted, each once.
    os_features: Vec<Arc<str>>,
}

/// Whose way of choosing an entry of an index a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rules {
    /// containerd's `platforms`: Docker, containerd, k3s, BuildKit.
    #[default]
    Containerd,
    /// containers/image: podman, CRI-O, buildah, skopeo.
    ContainersImage,
}

/// Why a text names no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not `os/architecture[/variant]`.
    #[error(
        "write os/architecture or os/architecture/variant, such as linux/arm64 or linux/arm/v7"
    )]
    Form,
    /// Not `os-architecture[-variant]`.
    #[error(
        "write os-architecture or os-architecture-variant, such as linux-arm64 or linux-arm-v7"
    )]
    Segment,
    /// Not an operating system that images are built for.
    #[error("unknown operating system: write linux, windows, darwin or freebsd")]
    Os,
    /// Not an architecture that images are built for.
    #[error("unknown architecture: write amd64, arm64, arm, 386, ppc64le, s390x or riscv64")]
    Architecture,
    /// Not a variant of that architecture.
    #[error(
        "unknown variant of that architecture: arm has v5 to v8, arm64 has v8 to v9.9, amd64 has v1 to v4, \
         and most others have none"
    )]
    Variant,
}

impl Platform {
    /// The platform of these parts, as an index or a host names them, normalised; whether anything runs there or not.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let part = |text: &str| clean(text).to_ascii_lowercase();
        let os = normalise::os(part(os));
        let (architecture, variant) =
            normalise::architecture(part(architecture), part(variant.unwrap_or_default()));
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: Some(variant).filter(|variant| !variant.is_empty()).map(Into::into),
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// The same with this `os.version`, such as `10.0.20348.2113`; an empty one is none.
    #[must_use]
    pub fn with_os_version(self, version: &str) -> Self {
        let os_version = Some(version).filter(|version| !version.is_empty()).map(clean);
        Self { os_version: os_version.map(Into::into), ..self }
    }

    /// The same with these `os.features`, such as `win32k`.
    #[must_use]
    pub fn with_os_features<'a>(self, features: impl IntoIterator<Item = &'a str>) -> Self {
        let features = features.into_iter().filter(|feature| !feature.is_empty());
        let mut os_features: Vec<Arc<str>> =
            features.map(|feature| clean(feature).into()).collect();
        os_features.sort_unstable();
        os_features.dedup();
        os_features.truncate(FEATURES_MAX);
        Self { os_features, ..self }
    }

    /// The same without `os.version` and `os.features`.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self { os_version: None, os_features: Vec::new(), ..self.clone() }
    }

    /// `linux`, `windows`, …; empty where a document leaves it out.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// `amd64`, `arm`, … as Go writes it; empty where a document leaves it out.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v7` of `arm/v7`; `None` where the architecture alone says it.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// `10.0.20348.2113` of a Windows image.
    pub fn os_version(&self) -> Option<&str> {
        self.os_version.as_deref()
    }

    /// What the image needs of its operating system, or what a host's has: sorted, each once.
    pub fn os_features(&self) -> impl ExactSizeIterator<Item = &str> {
        self.os_features.iter().map(AsRef::as_ref)
    }

    /// Whether operating system, architecture and variant are among those that images are built for, and nothing else
    /// is said. There are a few hundred such platforms, so that a known one may be a metric's label.
    pub fn is_known(&self) -> bool {
        self.os_version.is_none() && self.os_features.is_empty() && known::check(self).is_ok()
    }

    /// What stands in for this platform as a metric's label: its plain form if that is known, else `other`.
    pub fn label(&self) -> String {
        if known::check(self).is_err() {
            return "other".to_owned();
        }
        let variant = self.variant().map_or_else(String::new, |variant| format!("/{variant}"));
        [self.os(), "/", self.architecture(), &variant].concat()
    }

    /// Whether this says that nothing is known, as indexes say of what is not for running.
    pub fn is_unknown(&self) -> bool {
        self.os() == "unknown" || self.architecture() == "unknown"
    }

    /// Reads what `Display` writes, whether anything runs there or not: for what wharf itself wrote of a document.
    pub fn parse_any(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (system, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
        let (os, details) = match system.split_once('(') {
            Some((os, details)) => (os, details.strip_suffix(')')?),
            None => (system, ""),
        };
        let mut details = details.split('+');
        let version = details.next().unwrap_or_default();
        let features: Vec<&str> = details.collect();
        let all = [os, architecture, version].into_iter().chain(variant).chain(features.clone());
        if parts.next().is_some() || variant == Some("") || !all.into_iter().all(is_clean) {
            return None;
        }
        let platform = Self::new(os, architecture, variant);
        Some(platform.with_os_version(version).with_os_features(features))
    }

    /// Reads `linux-arm-v7`, the spelling for a place where a slash would part: a path, a flag.
    ///
    /// # Errors
    /// When it is not of this form, or no platform that images are built for.
    pub fn from_path_segment(segment: &str) -> Result<Self, PlatformError> {
        if segment.contains(['/', '(']) {
            return Err(PlatformError::Segment);
        }
        segment.replace('-', "/").parse().map_err(|error| match error {
            PlatformError::Form => PlatformError::Segment,
            error => error,
        })
    }

    /// `linux-arm-v7`: what [`Platform::from_path_segment`] reads, without `os.version` and `os.features`.
    pub fn to_path_segment(&self) -> String {
        self.plain().to_string().replace('/', "-")
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `linux/arm/v7` and `windows(10.0.20348)/amd64`; only platforms that images are built for.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let platform = Self::parse_any(text).ok_or(PlatformError::Form)?;
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return Err(PlatformError::Form);
        }
        known::check(&platform)?;
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    /// `linux/arm/v7`, `windows(10.0.20348+win32k)/amd64`: as containerd writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if self.os_version.is_some() || !self.os_features.is_empty() {
            write!(f, "({}", self.os_version().unwrap_or_default())?;
            self.os_features().try_for_each(|feature| write!(f, "+{feature}"))?;
            f.write_str(")")?;
        }
        write!(f, "/{}", self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn is_clean(part: &str) -> bool {
    part.len() <= PART_MAX_BYTES && part.chars().all(is_clean_char)
}

const fn is_clean_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A part with `_` for what has no place in one: no platform that is built for has such a character.
fn clean(part: &str) -> String {
    let part = part.chars().take(PART_MAX_BYTES);
    part.map(|c| if is_clean_char(c) { c } else { '_' }).collect()
}
