//! `wharf config check` and `wharf config show`.

use clap::Subcommand;

use super::{ConfigFile, Failure, complain, load, say};
use crate::config::Overrides;

/// Check or print the configuration
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration can be used, and if not, where it is wrong
    Check(ConfigFile),
    /// Print the effective configuration as TOML; passwords appear as the path of their file
    Show(ConfigFile),
}

impl ConfigCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (Self::Check(file) | Self::Show(file)) = self;
        let sources = file.sources(Overrides::default());
        let loaded = load(&sources)?;
        for warning in &loaded.warnings {
            complain(&format!("warning: {warning}"));
        }
        match (self, &sources.file) {
            (Self::Show(_), _) => say(loaded.config.show().trim_end()),
            (Self::Check(_), Some(path)) => say(&format!("ok: {}", path.display())),
            (Self::Check(_), None) => say("ok: defaults and environment (no file)"),
        }
        Ok(())
    }
}
