//! What is known of the registries, without asking them.

use super::{Inner, UpstreamStatus};

impl Inner {
    /// Every registry, by name.
    pub(super) fn registries(&self) -> Vec<UpstreamStatus> {
        let status = |registry| {
            let upstream = self.upstreams.select(registry)?;
            let (up, since) = upstream.seen().map_or((None, None), |(up, at)| (Some(up), Some(at)));
            let pulls_left = upstream.pulls_left();
            Some(UpstreamStatus { registry: registry.to_string(), up, since, pulls_left })
        };
        let mut all: Vec<_> = self.upstreams.registries().filter_map(status).collect();
        all.sort_by(|a, b| a.registry.cmp(&b.registry));
        all
    }
}
