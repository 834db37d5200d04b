//! What is known of the registries, without asking them.

use super::{AccountStatus, Inner, UpstreamStatus};
use crate::upstream::AccountLeft;

impl Inner {
    /// Every registry, by name.
    pub(super) fn registries(&self) -> Vec<UpstreamStatus> {
        let status = |registry| {
            let upstream = self.upstreams.select(registry)?;
            let (up, since) = upstream.seen().map_or((None, None), |(up, at)| (Some(up), Some(at)));
            let pulls_left = upstream.pulls_left();
            let accounts = upstream.accounts_left().into_iter();
            let accounts = accounts.map(|AccountLeft { name, left, is_refused }| AccountStatus {
                name,
                pulls_left: left,
                refused: is_refused,
            });
            Some(UpstreamStatus {
                registry: registry.to_string(),
                up,
                since,
                pulls_left,
                accounts: accounts.collect(),
            })
        };
        let mut all: Vec<_> = self.upstreams.registries().filter_map(status).collect();
        all.sort_by(|a, b| a.registry.cmp(&b.registry));
        all
    }
}
