//! Which cache a command works on, and the way there: the same for a daemon's and for one that nobody has open.

use std::path::PathBuf;

use clap::Args;
use tokio::runtime;

use super::{ConfigFile, Failure, complain, load, log::Log, serve::Signals};
use crate::{
    admin::Client,
    app::{Commands, StartError},
    config::{Config, Overrides},
};

/// Which cache.
#[derive(Args, Clone, Debug)]
pub(super) struct CacheArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Where images are kept [default: as configured, else $STATE_DIRECTORY, else ./wharf-data]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl CacheArgs {
    /// The configuration that names it.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let overrides = Overrides { dir: self.dir.clone(), ..Overrides::default() };
        let loaded = load(&self.config.sources(overrides))?;
        for warning in &loaded.warnings {
            complain(&format!("warning: {warning}"));
        }
        Ok(loaded.config)
    }

    /// The same, for a command that has no use for a cache that is not there, and must not make one.
    pub(super) fn load_existing(&self) -> Result<Config, Failure> {
        let config = self.load()?;
        let dir = &config.store.dir;
        if matches!(dir.try_exists(), Ok(false)) {
            let sentence =
                format!("there is no cache in {dir:?}: say where it is with --dir or --config");
            return Err(Failure::Failed(sentence));
        }
        Ok(config)
    }
}

/// Does `work` with whoever has the cache open, a daemon or this process. SIGINT and SIGTERM end it with exit code 1;
/// what was downloaded until then is kept.
pub(super) fn with_cache(
    mut config: Config,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // A command speaks for itself, and the same with a daemon, whose log is elsewhere.
    if config.log.level == "info" {
        "error".clone_into(&mut config.log.level);
    }
    let _log = Log::start(&config.log);
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(attended(config, work));
    // A file operation that hangs must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn attended(
    config: Config,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let interrupted = || Failure::Failed("interrupted; what is here so far is kept".to_owned());
    let commands = tokio::select! {
        opened = Commands::open(config) => opened.map_err(failure)?,
        () = signals.next() => return Err(interrupted()),
    };
    let outcome = tokio::select! {
        outcome = work(commands.client()) => outcome,
        () = signals.next() => Err(interrupted()),
    };
    tokio::select! {
        () = commands.finish() => outcome,
        () = signals.next() => Err(interrupted()),
    }
}

fn failure(error: StartError) -> Failure {
    match error {
        StartError::Foreign { .. } | StartError::Unreachable { .. } => {
            Failure::Failed(error.to_string())
        }
        _ => Failure::Usage(error.to_string()),
    }
}
