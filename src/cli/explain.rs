//! `wharf explain`: which platform of an image a client gets, and why.

use std::net::IpAddr;

use clap::Args;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    failed, say, say_json, words,
};
use crate::{admin::Explanation, oci::ImageName};

const EXAMPLES: &str = "\
Examples:
  wharf explain alpine                       for a client of which nothing is known
  wharf explain --client 10.0.7.12 alpine    for the device at that address
  wharf explain --user-agent 'docker/27.3.1 go/go1.22 os/linux arch/arm' alpine
  wharf explain alpine --json | jq -r .manifest

Exit codes: 0 done, 1 no such image or no answer, 2 wrong usage or configuration.";

/// Say which platform of an image a client gets, and why
#[derive(Args, Debug)]
#[command(name = "explain", after_help = EXAMPLES)]
pub(super) struct Explain {
    #[command(flatten)]
    cache: CacheArgs,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The `User-Agent` that the client sends
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<String>,
    /// A name as in `docker pull`
    image: ImageName,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, client, user_agent, image, json } = self;
        with_cache(cache.load()?, async |asked| {
            let explained = asked.explain(&image, client, user_agent.as_deref()).await;
            let explanation = explained.map_err(failed)?;
            if json {
                say_json(&explanation);
            } else {
                say(&text(&explanation));
            }
            Ok(())
        })
    }
}

fn text(explanation: &Explanation) -> String {
    let client = explanation.client.map_or_else(
        || "a client of which nothing is known".to_owned(),
        |client| client.to_string(),
    );
    let offered = if explanation.offered.is_empty() {
        "no list: one manifest for everyone".to_owned()
    } else {
        words::platforms(&explanation.offered)
    };
    let manifest = match (&explanation.manifest, &explanation.platform) {
        (None, _) => "none of them fits".to_owned(),
        (Some(digest), None) => digest.to_string(),
        (Some(digest), Some(platform)) => format!("{digest} for {platform}"),
    };
    let mut said = format!(
        "{name} for {client}\n  runs      {runs} ({signal})\n  because   {why}\n  offered   {offered}\n  gets      {manifest}",
        name = explanation.name,
        runs = words::platforms(&explanation.platforms),
        signal = explanation.signal,
        why = explanation.why,
    );
    if explanation.manifest.is_some() {
        said.push_str(if explanation.whole {
            "\n  in cache  whole"
        } else {
            "\n  in cache  not whole: the rest comes from the registry"
        });
        said.push_str(match explanation.policy.as_str() {
            "keep" => "\n  policy    kept",
            "relay" => "\n  policy    passed on, and not kept",
            "refuse" => "\n  policy    refused",
            _ => "",
        });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_said_in_words() {
        let platform = |text: &str| text.parse().expect("a platform");
        let mut explanation = Explanation {
            name: "docker.io/library/alpine:3.20".into(),
            client: Some([10, 0, 7, 12].into()),
            platforms: vec![platform("linux/arm/v6"), platform("linux/arm/v5")],
            signal: "rule".into(),
            why: "a rule says so".into(),
            offered: vec![platform("linux/amd64"), platform("linux/arm/v6")],
            manifest: format!("sha256:{}", "ab".repeat(32)).parse().ok(),
            platform: Some(platform("linux/arm/v6")),
            whole: true,
            policy: "keep".into(),
        };
        let digest = "ab".repeat(32);
        assert_eq!(
            text(&explanation),
            format!(
                "docker.io/library/alpine:3.20 for 10.0.7.12
  runs      linux/arm/v6, linux/arm/v5 (rule)
  because   a rule says so
  offered   linux/amd64, linux/arm/v6
  gets      sha256:{digest} for linux/arm/v6
  in cache  whole
  policy    kept"
            )
        );

        (explanation.client, explanation.whole, explanation.policy) = (None, false, "relay".into());
        let said = text(&explanation);
        assert!(said.contains("for a client of which nothing is known\n"), "{said}");
        assert!(said.contains("not whole"), "{said}");
        assert!(said.ends_with("passed on, and not kept"), "{said}");

        explanation.manifest = None;
        assert!(text(&explanation).ends_with("gets      none of them fits"));
    }
}
