//! Platforms: what an image runs on, and which entry of an image index a host takes.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an image runs on ([image-spec, image-index.md, "platform"](https://github.com/opencontainers/image-spec/blob/main/image-index.md#image-index-property-descriptions)),
/// normalised: two spellings of one platform are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: Arc<str>,
    architecture: Arc<str>,
    variant: Option<Arc<str>>,
    os_version: Option<Arc<str>>,
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
    /// Not an operating system that images are built for.
    #[error("unknown operating system: write linux, windows, darwin or freebsd")]
    Os,
    /// Not an architecture that images are built for.
    #[error("unknown architecture: write amd64, arm64, arm, 386, ppc64le, s390x or riscv64")]
    Architecture,
    /// Not a variant of that architecture.
    #[error(
        "unknown variant of that architecture: arm has v5 to v8, arm64 has v8 and later, amd64 has v1 to v4"
    )]
    Variant,
}

impl Platform {
    /// The platform of these parts, as an index or a host names them, normalised; whether anything runs there or not.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let text = |text: &str| Arc::<str>::from(text.to_ascii_lowercase());
        Self {
            os: text(os),
            architecture: text(architecture),
            variant: variant.filter(|variant| !variant.is_empty()).map(text),
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// `linux`, `windows`, …
    pub fn os(&self) -> &str {
        &self.os
    }

    /// `amd64`, `arm`, … as Go writes it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v7` of `arm/v7`; `None` where the architecture alone says it.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether operating system, architecture and variant are among those that images are built for. There are a few
    /// hundred such platforms, so that a known one may be a metric's label.
    pub fn is_known(&self) -> bool {
        self.to_string().parse::<Self>().is_ok()
    }

    /// Whether a host of this platform runs what is built for `image`.
    pub fn runs(&self, image: &Self, _rules: Rules) -> bool {
        self == image
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `linux/arm/v7`; only platforms that images are built for.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let mut parts = text.split('/');
        let (Some(os), Some(architecture), variant, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PlatformError::Form);
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(PlatformError::Form);
        }
        Ok(Self::new(os, architecture, variant))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
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
