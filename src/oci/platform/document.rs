//! A platform as documents write it: an entry of an index, or the config of an image.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use super::{FEATURES_MAX, Platform};

/// The fields of a platform; other fields are none of its business.
#[derive(Deserialize)]
pub(in crate::oci) struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Features>,
}

/// The first features of a list that may have a million: of what no host has, more are not read than are taken.
struct Features(Vec<String>);

impl RawPlatform {
    /// The platform, normalised.
    pub(in crate::oci) fn platform(&self) -> Platform {
        let [os, architecture, version] =
            [&self.os, &self.architecture, &self.os_version].map(|field| field.as_deref());
        let [os, architecture, version] =
            [os, architecture, version].map(Option::unwrap_or_default);
        let features = self.os_features.iter().flat_map(|Features(features)| features);
        Platform::new(os, architecture, self.variant.as_deref())
            .with_os_version(version)
            .with_os_features(features.map(AsRef::as_ref))
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of features")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Features, A::Error> {
                let mut features = Vec::new();
                while let Some(feature) = list.next_element::<String>()? {
                    if features.len() < FEATURES_MAX && !feature.is_empty() {
                        features.push(feature);
                    }
                }
                Ok(Features(features))
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}

impl Platform {
    /// What an image runs on by the word of its config
    /// ([image-spec, config.md](https://github.com/opencontainers/image-spec/blob/main/config.md#properties)); `None`
    /// where that says nothing.
    ///
    /// Some images for ARM say `amd64` there: the word of an index goes before.
    pub fn from_config(config: &[u8]) -> Option<Self> {
        let platform = serde_json::from_slice::<RawPlatform>(config).ok()?.platform();
        let is_said = !platform.os().is_empty() && !platform.architecture().is_empty();
        is_said.then_some(platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_says_what_its_image_runs_on() {
        for (config, platform) in [
            (r#"{"os":"linux","architecture":"arm","variant":"v6","config":{}}"#, "linux/arm/v6"),
            (r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#, "linux/arm64"),
            (
                r#"{"os":"windows","architecture":"amd64","os.version":"10.0.20348.1"}"#,
                "windows(10.0.20348.1)/amd64",
            ),
        ] {
            let read = Platform::from_config(config.as_bytes()).map(|read| read.to_string());
            assert_eq!(read.as_deref(), Some(platform));
        }
        for silent in ["", "{}", "null", "3", r#"{"os":"linux"}"#, r#"{"os":1,"architecture":"a"}"#]
        {
            assert_eq!(Platform::from_config(silent.as_bytes()), None, "{silent}");
        }
    }
}
