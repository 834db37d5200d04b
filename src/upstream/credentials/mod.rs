//! Where the credentials of wharf's own accounts come from, asked when they are needed.
//!
//! What a source said is kept until the registry refuses it, a while passes, or wharf is told to read its configuration
//! again. However many requests are refused, a source is asked once at a time, and not again at once.

mod docker_config;
mod file;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod helper;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, task::spawn_blocking, time::Instant};
use tokio_util::task::AbortOnDropHandle;

pub use self::{
    file::{Password, read_password},
    helper::{Helper, HelperName},
};
use super::{Account, Claim, Secret};
use crate::{clock::Clock, oci::RegistryName};

/// Between two questions to a source that have the same cause: files are cheap to read, and helpers are not.
const FILE_PAUSE: Duration = Duration::from_secs(5);
const HELPER_PAUSE: Duration = Duration::from_secs(30);
/// How long what a helper said is used: tokens of cloud registries live for an hour and longer, those of ECR for twelve.
const HELPER_ANSWER: Duration = Duration::from_secs(45 * 60);

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// There are none.
    Anonymous,
    /// A user name, and a password from a variable of the environment; `variable` is its name.
    Given {
        /// The account.
        username: String,
        /// Where the password was read from, if from a variable.
        variable: Option<String>,
        /// The password or access token.
        password: Secret,
    },
    /// A user name, and a file with the password.
    PasswordFile {
        /// The account.
        username: String,
        /// Holds the password and nothing else.
        path: PathBuf,
    },
    /// A `config.json` as `docker login` writes it.
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// How helpers that it names are run.
        timeout: Duration,
        /// The variables that they are given besides.
        variables: Vec<String>,
    },
    /// A program that tells them (`docker-credential-…`).
    Helper(Helper),
}

/// An account's source, and what it last said.
pub(super) struct Keeper {
    registry: RegistryName,
    account: String,
    source: Source,
    clock: Clock,
    state: Mutex<State>,
    /// Whether what is kept is not to be used any more.
    is_stale: AtomicBool,
}

#[derive(Default)]
struct State {
    last: Option<Last>,
    /// The question that is being asked. Whoever waits for its answer may leave: the next takes it up.
    asking: Option<AbortOnDropHandle<Result<Told, String>>>,
}

struct Last {
    said: Result<Told, String>,
    at: Instant,
}

/// What a source said.
#[derive(Clone)]
struct Told {
    claim: Claim,
    /// Whether a helper said so.
    by_helper: bool,
}

impl Source {
    /// A user name and password that never change.
    pub fn password(username: &str, password: Secret) -> Self {
        Self::Given { username: username.to_owned(), variable: None, password }
    }

    /// Looks whether the source can be asked for `registry`, without running a program.
    ///
    /// # Errors
    /// What is wrong with its file, to be said after the file's name.
    pub fn check(&self, registry: &RegistryName) -> Result<(), String> {
        match self {
            Self::Anonymous | Self::Given { .. } | Self::Helper(_) => Ok(()),
            Self::PasswordFile { path, .. } => read_password(path).map(drop),
            Self::DockerConfig { path, .. } => {
                docker_config::look_up(&file::read_secret(path)?, registry).map(drop)
            }
        }
    }

    /// Asks it for the account at `registry`.
    async fn ask(self, registry: RegistryName) -> Result<Told, String> {
        let by_helper = |claim| Told { claim, by_helper: true };
        let read = match self {
            Self::Helper(helper) => return helper.ask(&registry).await.map(by_helper),
            Self::DockerConfig { path, timeout, variables } => {
                let registry_too = registry.clone();
                let read = move || {
                    let shown = path.display().to_string();
                    file::read_secret(&path)
                        .and_then(|text| docker_config::look_up(&text, &registry_too))
                        .map_err(|problem| format!("{shown} {problem}"))
                };
                match in_background(read).await? {
                    docker_config::Entry::Claim(claim) => claim,
                    docker_config::Entry::Helper(name) => {
                        let helper = Helper { program: name, timeout, variables };
                        return helper.ask(&registry).await.map(by_helper);
                    }
                }
            }
            Self::PasswordFile { username, path } => {
                let read = move || {
                    let shown = path.display().to_string();
                    read_password(&path).map_err(|problem| format!("{shown} {problem}"))
                };
                Claim::password(&username, in_background(read).await?.text.expose())
            }
            Self::Given { username, password, .. } => Claim::password(&username, password.expose()),
            Self::Anonymous => Claim::default(),
        };
        Ok(Told { claim: read, by_helper: false })
    }
}

async fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(read).await.unwrap_or_else(|_| Err("the reading of it broke off".to_owned()))
}

impl Keeper {
    pub(super) fn new(registry: &RegistryName, account: &Account, clock: &Clock) -> Self {
        Self {
            registry: registry.clone(),
            account: account.name.clone(),
            source: account.source.clone(),
            clock: clock.clone(),
            state: Mutex::default(),
            is_stale: AtomicBool::new(false),
        }
    }

    /// What to show to the registry.
    ///
    /// # Errors
    /// Why there is nothing, without a word of what a file or program said.
    pub(super) async fn claim(&self) -> Result<Claim, String> {
        match &self.source {
            Source::Anonymous => return Ok(Claim::default()),
            Source::Given { username, password, .. } => {
                return Ok(Claim::password(username, password.expose()));
            }
            _ => {}
        }
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if state.asking.is_none() {
            let good = |last: &&Last| match &last.said {
                Ok(told) => !told.by_helper || now.duration_since(last.at) < HELPER_ANSWER,
                Err(_) => now.duration_since(last.at) < FILE_PAUSE,
            };
            if let (Some(last), false) =
                (state.last.as_ref().filter(good), self.is_stale.load(Ordering::Relaxed))
            {
                return last.said.clone().map(|told| told.claim);
            }
        }
        self.ask(&mut state).await
    }

    /// Another claim than `refused`, if the source has one by now.
    pub(super) async fn renewed(&self, refused: &Claim) -> Option<Claim> {
        if matches!(self.source, Source::Anonymous | Source::Given { .. }) {
            return None;
        }
        let mut state = self.state.lock().await;
        let last = state.last.as_ref();
        let pause = match last.and_then(|last| last.said.as_ref().ok()) {
            // Another request has found out.
            Some(told) if told.claim != *refused => return Some(told.claim.clone()),
            Some(Told { by_helper: true, .. }) => HELPER_PAUSE,
            _ => FILE_PAUSE,
        };
        let just_asked = last.is_some_and(|last| self.clock.now().duration_since(last.at) < pause);
        if just_asked && state.asking.is_none() {
            return None;
        }
        self.ask(&mut state).await.ok().filter(|claim| claim != refused)
    }

    /// Has the source asked before the account is used again.
    pub(super) fn forget(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    async fn ask(&self, state: &mut State) -> Result<Claim, String> {
        let asking = state.asking.get_or_insert_with(|| {
            self.is_stale.store(false, Ordering::Relaxed);
            let question = self.source.clone().ask(self.registry.clone());
            AbortOnDropHandle::new(tokio::spawn(question))
        });
        let said = asking.await.unwrap_or_else(|_| Err("the question broke off".to_owned()));
        state.asking = None;
        if let Err(problem) = &said {
            tracing::warn!(registry = %self.registry, account = self.account, "no credentials: {problem}");
        }
        // What worked may still: a file that is being written, or a helper without its network.
        let said = match (said, state.last.take()) {
            (Err(_), Some(Last { said: Ok(before), .. })) => Ok(before),
            (said, _) => said,
        };
        state.last = Some(Last { said: said.clone(), at: self.clock.now() });
        said.map(|told| told.claim)
    }
}
