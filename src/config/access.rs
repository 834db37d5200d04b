//! `[[access]]`: from a table's keys to a rule, and what of it cannot be meant.

use std::net::SocketAddr;

use toml::Spanned;

use super::{
    Config, ConfigError,
    listeners::check_known,
    raw::{self, Document, anywhere},
    values::{Distinct, ImageGlob, Listener, NameGlob, Network},
};
use crate::{
    oci::Glob,
    server::{AccessRule, Door},
    upstream,
};

/// The rules of `file` in its order, for the addresses of `config`.
pub(super) fn build(
    file: &Document<'_>,
    raw: &[Spanned<raw::Access>],
    config: &Config,
) -> Result<Vec<AccessRule>, ConfigError> {
    raw.iter().map(|raw| rule(file, raw, config)).collect()
}

fn rule(
    file: &Document<'_>,
    raw: &Spanned<raw::Access>,
    config: &Config,
) -> Result<AccessRule, ConfigError> {
    let raw::Access { subject, user, clients, listener, allow } = raw.get_ref().clone();
    let Some(allow) = allow.filter(|allow| !allow.get_ref().0.is_empty()) else {
        let problem =
            "a rule that allows nothing: write allow = [\"…\"], such as [\"docker.io/library/*\"]";
        return Err(ConfigError::at(file, raw.span(), problem.to_owned()));
    };
    if let Some(clients) = clients.as_ref().filter(|clients| clients.get_ref().0.is_empty()) {
        let problem = "no client: write at least one network, or leave the key out";
        return Err(ConfigError::at(file, clients.span(), problem.to_owned()));
    }
    if let Some(listener) = &listener {
        check_known(file, listener, config)?;
    }
    let at = listener.as_ref().map(|listener| listener.get_ref().0);
    if let Some(subject) = subject.as_ref().filter(|_| !any_door(config, at, shows_certificates)) {
        let problem = "nobody shows a certificate there: write client_ca into [server] tls, or into the tls of the \
                       [[listener]]";
        return Err(ConfigError::at(file, subject.span(), problem.to_owned()));
    }
    if let Some(user) = user.as_ref().filter(|_| !any_door(config, at, |door| door.users.is_some()))
    {
        let problem = "nobody can sign in there: write users = \"htpasswd\" into [server], or into the [[listener]]";
        return Err(ConfigError::at(file, user.span(), problem.to_owned()));
    }
    let pattern = |name: Option<Spanned<NameGlob>>| name.map(|name| Glob::from(name.into_inner()));
    Ok(AccessRule {
        subject: pattern(subject),
        user: pattern(user),
        clients: clients.map(|clients| clients.into_inner().into()).unwrap_or_default(),
        listener: at,
        allow: allow.into_inner().into(),
    })
}

/// Refuses patterns that match nothing that is served: one without its registry would lock everybody out.
pub(super) fn check_served(
    file: &Document<'_>,
    raw: &[Spanned<raw::Access>],
    served: &[upstream::Config],
) -> Result<(), ConfigError> {
    for allow in raw.iter().filter_map(|raw| raw.get_ref().allow.as_ref()) {
        for pattern in &allow.get_ref().0 {
            let first = pattern.0.as_str().split('/').next().unwrap_or_default();
            let is_meant = |first: &Glob| {
                served.iter().any(|upstream| first.matches(upstream.registry.as_str()))
            };
            if first == "**" || first.parse().is_ok_and(|first| is_meant(&first)) {
                continue;
            }
            let known: Vec<_> = served.iter().map(|upstream| upstream.registry.as_str()).collect();
            let problem = format!(
                "\"{pattern}\" matches nothing: {first} is none of the registries, which are {}; write one of them in \
                 front, or an [[upstream]] with registry = \"{first}\" too",
                known.join(", ")
            );
            return Err(ConfigError::at(file, allow.span(), problem));
        }
    }
    Ok(())
}

fn shows_certificates(door: &Door) -> bool {
    door.tls.as_ref().is_some_and(crate::server::Tls::takes_certificates)
}

/// Whether `holds` at the address `at`, or at any.
fn any_door(config: &Config, at: Option<SocketAddr>, holds: impl Fn(&Door) -> bool) -> bool {
    let is_there = |addresses: &[SocketAddr]| at.is_none_or(|at| addresses.contains(&at));
    config.doors().any(|(addresses, door, _)| is_there(addresses) && holds(door))
}

/// A rule in the file's form.
pub(super) fn shown(rule: &AccessRule) -> raw::Access {
    let AccessRule { subject, user, clients, listener, allow } = rule;
    let name = |pattern: &Option<Glob>| pattern.clone().map(NameGlob).map(anywhere);
    let nets: Vec<_> = clients.iter().copied().map(Network).collect();
    raw::Access {
        subject: name(subject),
        user: name(user),
        clients: (!nets.is_empty()).then(|| anywhere(Distinct(nets))),
        listener: listener.map(|address| anywhere(Listener(address))),
        allow: Some(anywhere(Distinct(allow.iter().cloned().map(ImageGlob).collect()))),
    }
}
