//! `[platforms]`: which client is which, and what of it cannot be meant.

use toml::Spanned;

use super::{
    ConfigError, listeners,
    raw::{self, Document, anywhere},
    values::{
        AnswerWord, Distinct, HostName, Listener, Network, OthersWord, PlatformName, Preference,
        Subject,
    },
};
use crate::{
    oci::Platform,
    pull::{ClientRule, Config, Others, Platforms},
};

/// The rules of `file` in its order; `whole` knows where wharf listens once every layer has spoken.
pub(super) fn build(
    file: &Document<'_>,
    raw: Vec<Spanned<raw::Client>>,
    whole: &super::Config,
) -> Result<Vec<ClientRule>, ConfigError> {
    raw.into_iter().map(|raw| rule(file, raw, whole)).collect()
}

fn rule(
    file: &Document<'_>,
    raw: Spanned<raw::Client>,
    whole: &super::Config,
) -> Result<ClientRule, ConfigError> {
    let span = raw.span();
    let raw::Client { net, subject, listener, host, platform } = raw.into_inner();
    if net.is_none() && subject.is_none() && listener.is_none() && host.is_none() {
        let problem = "a client that nothing is known by: write match = \"…\" with its network, \
                       subject, listener or host";
        return Err(ConfigError::at(file, span, problem.to_owned()));
    }
    let Some(platform) = platform else {
        let problem =
            "a client without a platform: write platform = \"…\", such as \"linux/arm64\"";
        return Err(ConfigError::at(file, span, problem.to_owned()));
    };
    if let Some(listener) = &listener {
        listeners::check_known(file, listener, whole)?;
    }
    Ok(ClientRule {
        net: net.map(|net| net.0),
        subject: subject.map(|subject| subject.0),
        listener: listener.map(|listener| listener.into_inner().0),
        host: host.map(|host| host.0),
        platforms: platform.0.into_iter().map(Platform::from).collect(),
    })
}

/// What can be meant, and seldom is.
pub(super) fn warn(config: &Config, warnings: &mut Vec<String>) {
    let Platforms { host, keep, default, others, clients, .. } = &config.platforms;
    if keep.is_empty() {
        return;
    }
    let outside = |platforms: &[Platform]| -> Vec<Platform> {
        platforms.iter().filter(|platform| !keep.contains(platform)).cloned().collect()
    };
    let (platform, why) = match default {
        Some(default) => (default.clone(), "platforms.default"),
        None => (host.clone(), "the platform that wharf runs on"),
    };
    if !keep.contains(&platform) {
        warnings.push(format!(
            "clients that give no sign are taken for {platform}, {why}, which is not in \
             platforms.keep: write a platform of platforms.keep into platforms.default"
        ));
    }
    for rule in clients.iter().filter(|_| *others == Others::Refuse) {
        if outside(&rule.platforms).len() == rule.platforms.len() {
            warnings.push(format!(
                "a [[platforms.client]] is refused all it asks for: platforms.keep has none of \
                 {}, and platforms.others is \"refuse\"",
                listed(&rule.platforms)
            ));
        }
    }
    for image in config.prefetch.images.iter().filter(|_| *others != Others::Keep) {
        let outside = outside(&image.platforms);
        if !outside.is_empty() {
            warnings.push(format!(
                "{}:{} is not kept warm for {}: platforms.keep does not say so, and \
                 platforms.others is \"{}\"",
                image.repository,
                image.tags,
                listed(&outside),
                OthersWord(*others)
            ));
        }
    }
}

fn listed(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `[platforms]` with every key that has a value.
pub(super) fn shown(config: &Platforms) -> raw::Platforms {
    let Platforms { host: _, keep, default, others, answer, header_from, clients } = config;
    let client = |rule: &ClientRule| {
        let ClientRule { net, subject, listener, host, platforms } = rule;
        anywhere(raw::Client {
            net: net.map(Network),
            subject: subject.clone().map(Subject),
            listener: listener.map(|address| anywhere(Listener(address))),
            host: host.clone().map(HostName),
            platform: Some(Preference(names(platforms))),
        })
    };
    raw::Platforms {
        keep: Some(Distinct(names(keep))),
        default: default.clone().map(PlatformName),
        others: Some(OthersWord(*others)),
        answer: Some(AnswerWord(*answer)),
        header_from: Some(Distinct(header_from.iter().copied().map(Network).collect())),
        client: clients.iter().map(client).collect(),
    }
}

/// Platforms in the file's form.
pub(super) fn names(platforms: &[Platform]) -> Vec<PlatformName> {
    platforms.iter().cloned().map(PlatformName).collect()
}
