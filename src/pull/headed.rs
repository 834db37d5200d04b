//! Tags that clients resolved by `HEAD`, for the clients that need no more than that: an engine that removed an image may have
//! kept its manifests (Docker 20.10 with its content store, containerd), and goes on with the blobs that they name.
//!
//! wharf would have blobs without an image then: no name for them, nothing that leads to them, and the first to be swept. So a
//! blob that no manifest here names, and that its registry has, is a sign that its client pulls the image which it resolved
//! last: what it did not ask for is fetched ahead. Who asks by `HEAD` alone costs no pull, as ever.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{Inner, Resolution, whose::Whose};
use crate::oci::{Descriptor, Platform, Repository, Rules};

/// Clients and repositories that are remembered.
const HEADED_MAX: u64 = 10_000;

/// For how long: a pull goes on with its blobs at once, and the last of a slow one's may come much later.
const HEADED_TTL: Duration = Duration::from_secs(15 * 60);

/// What clients resolved last, by whose and in which repository.
#[derive(Debug)]
pub(super) struct Headed(Cache<(Whose, Repository), Resolved>);

#[derive(Clone, Debug)]
struct Resolved {
    manifest: Descriptor,
    platform: Option<Platform>,
    rules: Rules,
}

impl Default for Headed {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(HEADED_MAX).time_to_live(HEADED_TTL).build())
    }
}

impl Inner {
    /// A client was told what a tag means, and not sent it.
    pub(super) fn headed(&self, repository: &Repository, manifest: &Descriptor, who: &Resolution) {
        let has_default = self.clients.default().is_some();
        let platform = who.fetched_ahead(has_default);
        if self.prefetch.config.on_pull {
            let (manifest, platform) = (manifest.clone(), platform.cloned());
            let resolved = Resolved { manifest, platform, rules: who.rules };
            self.headed.0.insert((Whose::now(), repository.clone()), resolved);
        }
    }

    /// A client gets a blob that no manifest of the repository names here.
    pub(super) fn took_unnamed(self: &Arc<Self>, repository: &Repository) {
        let resolved = self.headed.0.remove(&(Whose::now(), repository.clone()));
        if let Some(Resolved { manifest, platform, rules }) = resolved {
            self.fetch_ahead(repository, &manifest, platform.as_ref(), rules);
        }
    }
}
