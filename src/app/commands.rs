//! What a command works on: the cache of the daemon that has it open, else the cache opened here.

use tokio_util::sync::CancellationToken;

use super::{Cache, DOWNLOADS_DRAIN, StartError};
use crate::{
    admin::{Admin, Client},
    config::Config,
    store,
};

/// A cache to command.
pub struct Commands {
    client: Client,
    /// `None` when a daemon has it.
    here: Option<Here>,
}

/// A cache that this process has opened, and that nobody else reaches.
struct Here {
    cache: Cache,
    admin: Admin,
    shutdown: CancellationToken,
}

impl Commands {
    /// Opens the cache; if its lock says that another process has, reaches that one by its control socket.
    ///
    /// # Errors
    /// When the directory cannot be used or is another user's, a registry's configuration is no good, or the other
    /// process takes no commands.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let socket = config.store.control_socket();
        // Files that root makes in the directory of wharf's own user would keep that one's wharf from writing.
        if let Some(owner) = config.store.other_owner() {
            let dir = config.store.dir;
            let reached = Client::at(&socket).await;
            let client = reached.map_err(|_| StartError::Foreign { dir, owner })?;
            return Ok(Self { client, here: None });
        }
        let (mode, documents) = (config.mode, config.documents);
        match Cache::open(config.store, config.pull, config.upstreams, mode, documents).await {
            Ok(cache) => {
                let (admin, shutdown) = (cache.admin(), CancellationToken::new());
                let client = Client::here(admin.clone(), shutdown.clone());
                Ok(Self { client, here: Some(Here { cache, admin, shutdown }) })
            }
            Err(StartError::Store(store::Error::InUse { dir })) => {
                let reached = Client::at(&socket).await;
                let client = reached.map_err(|source| StartError::Unreachable { dir, source })?;
                Ok(Self { client, here: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks whoever has the cache open.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Ends what was asked for here, and closes the cache if it was opened here: what is downloaded so far waits for
    /// the next time. What was asked of a daemon is the daemon's.
    pub async fn finish(self) {
        let Some(Here { cache, admin, shutdown }) = self.here else { return };
        shutdown.cancel();
        admin.finish().await;
        cache.pull.finish(DOWNLOADS_DRAIN).await;
    }
}
