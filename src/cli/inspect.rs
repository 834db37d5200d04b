//! `wharf inspect`: what an image name means, and what of it is kept.

use clap::Args;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    failed, say, say_json, words,
};
use crate::{
    admin::{InspectedManifest, Inspection},
    oci::ImageName,
};

const EXAMPLES: &str = "\
Examples:
  wharf inspect alpine:3.20
  wharf inspect ghcr.io/owner/app@sha256:…
  wharf inspect alpine --json | jq '.manifests[] | select(.whole).platform'

SIZE is that of manifest, config and layers together, unknown until the manifest is kept.
Exit codes: 0 done, 1 no such image or no answer, 2 wrong usage or configuration.";

/// Show what an image name means, and what of it is kept
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    #[command(flatten)]
    cache: CacheArgs,
    /// A name as in `docker pull`
    image: ImageName,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<(), Failure> {
        with_cache(self.cache.load()?, async |client| {
            let inspection = client.inspect(&self.image).await.map_err(failed)?;
            if self.json {
                say_json(&inspection);
            } else {
                say(&text(&inspection));
            }
            Ok(())
        })
    }
}

fn text(inspection: &Inspection) -> String {
    let Inspection { name, digest, media_type, size, outcome, manifests } = inspection;
    let heading = ["PLATFORM", "DIGEST", "SIZE", "KEPT"].map(ToOwned::to_owned);
    let rows = manifests.iter().map(row);
    format!(
        "Name:    {name}\nDigest:  {digest}\nType:    {media_type}, {size}\nAnswer:  {outcome}\n\n{manifests}",
        size = words::size(*size),
        manifests = words::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()),
    )
}

fn row(manifest: &InspectedManifest) -> [String; 4] {
    let platform = match (&manifest.attests, &manifest.platform) {
        (Some(_), _) => "attestation".to_owned(),
        (None, Some(platform)) => platform.to_string(),
        (None, None) => "unknown".to_owned(),
    };
    let size = match manifest.content_size {
        Some(content) => words::size(content.saturating_add(manifest.size)),
        None => "unknown".to_owned(),
    };
    let kept = match (manifest.whole, manifest.kept) {
        (true, _) => "whole".to_owned(),
        (false, 0) => "nothing".to_owned(),
        (false, kept) => words::size(kept),
    };
    [platform, manifest.digest.to_string(), size, kept]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type;

    #[test]
    fn says_of_each_manifest_what_it_is_and_what_is_kept() {
        let digest = |hex: &str| format!("sha256:{}", hex.repeat(32)).parse().expect("a digest");
        let manifest = |platform: &str, hex, content_size, kept, whole| InspectedManifest {
            digest: digest(hex),
            media_type: media_type::OCI_MANIFEST.parse().expect("a type"),
            size: 1024,
            platform: platform.parse().ok(),
            attests: None,
            content_size,
            kept,
            whole,
        };
        let attestation =
            InspectedManifest { attests: Some(digest("aa")), ..manifest("", "dd", None, 0, false) };
        let inspection = Inspection {
            name: "docker.io/library/alpine:3.20".into(),
            digest: digest("ee"),
            media_type: media_type::OCI_INDEX.parse().expect("a type"),
            size: 9216,
            outcome: "hit".into(),
            manifests: vec![
                manifest("linux/arm64", "aa", Some(3072), 4096, true),
                manifest("linux/arm/v7", "bb", Some(3072), 2048, false),
                manifest("linux/amd64", "cc", None, 0, false),
                attestation,
            ],
        };
        let said = text(&inspection);
        let lines: Vec<_> = said.lines().map(|line| line.replace(&"ee".repeat(32), "ee")).collect();
        let cells = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(lines[0], "Name:    docker.io/library/alpine:3.20");
        assert_eq!(lines[1], "Digest:  sha256:ee");
        assert_eq!(lines[2], "Type:    application/vnd.oci.image.index.v1+json, 9.00 KiB");
        assert_eq!(lines[3], "Answer:  hit");
        assert_eq!(cells(&lines[5]), ["PLATFORM", "DIGEST", "SIZE", "KEPT"]);
        for (line, first, last) in [
            (6, "linux/arm64", "4.00 KiB whole"),
            (7, "linux/arm/v7", "4.00 KiB 2.00 KiB"),
            (8, "linux/amd64", "unknown nothing"),
            (9, "attestation", "unknown nothing"),
        ] {
            let cells = cells(&lines[line]);
            assert_eq!((&*cells[0], cells[2..].join(" ")), (first, last.to_owned()), "{said}");
        }
    }
}
