//! The command line: one file per family of commands.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong
//! usage or configuration.

mod bar;
mod cache;
mod config;
mod explain;
mod export;
mod gc;
mod healthcheck;
mod images;
mod import;
mod inspect;
mod keep;
mod key;
mod lists;
mod log;
mod ls;
mod pull;
mod renewal;
mod serve;
mod setup;
mod status;
mod verify;
mod words;

#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
pub use self::lists::fuzzing;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::{
    admin::CallError,
    config::{Config, Environment, Loaded, Overrides, Sources},
};

const EXAMPLES: &str = "\
Examples:
  wharf serve                                 Docker Hub on port 5000, data in ./wharf-data
  wharf serve --listen 10.0.0.2:5000 --dir /srv/wharf
  wharf serve --config /etc/wharf/config.toml
  wharf config check --config config.toml     say what is wrong with a file before it is used
  wharf setup containerd                      the files that point a client here
  wharf healthcheck                           exit 0 when a running wharf is ready
  wharf pull --platform linux/arm64 alpine    fetch before a device asks
  wharf ls                                    what is kept
  wharf explain --client 10.0.7.12 alpine     which platform that device gets, and why
  wharf pin alpine:3.20                       never evict it
  wharf verify --repair                       look for what the disk has damaged, and fetch it again
  wharf export --platform linux/arm64 -o site.tar alpine      for a site without an uplink
  wharf status                                how this wharf is, on one screen

The commands that look at the cache or change it work the same with wharf running and stopped.
Every key of the file can be given as WHARF_<SECTION>__<KEY>: WHARF_CACHE__TAG_TTL=5m wharf serve
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

/// Pull-through caching proxy for container images: every byte crosses the uplink once.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Pull(pull::Pull),
    Ls(ls::Ls),
    Inspect(inspect::Inspect),
    Explain(explain::Explain),
    Export(export::Export),
    Import(import::Import),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Pin(keep::Pin),
    Unpin(keep::Unpin),
    Rm(keep::Rm),
    Gc(gc::Gc),
    Verify(verify::Verify),
    Status(status::Status),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Setup(setup::Setup),
    Healthcheck(healthcheck::Healthcheck),
}

/// Where the configuration is.
#[derive(Args, Clone, Debug)]
struct ConfigFile {
    /// The configuration file [default: $WHARF_CONFIG, else no file]
    #[arg(long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

/// How a command ends when it does not end well: what to say, and the exit code.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// 1: what was asked for could not be done.
    Failed(String),
    /// 2: what was asked for makes no sense here.
    Usage(String),
}

/// Runs the command that `arguments` (the program's name first) give, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with code 0. Nobody is left to tell if printing fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Pull(pull) => pull.run(),
        Command::Ls(ls) => ls.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Explain(explain) => explain.run(),
        Command::Export(export) => export.run(),
        Command::Import(import) => import.run(),
        Command::Key(key) => key.run(),
        Command::Pin(pin) => pin.run(),
        Command::Unpin(unpin) => unpin.run(),
        Command::Rm(rm) => rm.run(),
        Command::Gc(gc) => gc.run(),
        Command::Verify(verify) => verify.run(),
        Command::Status(status) => status.run(),
        Command::Config(config) => config.run(),
        Command::Setup(setup) => setup.run(),
        Command::Healthcheck(healthcheck) => healthcheck.run(),
    };
    let (code, sentence) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(sentence)) => (1, sentence),
        Err(Failure::Usage(sentence)) => (2, sentence),
    };
    complain(&sentence);
    ExitCode::from(code)
}

impl ConfigFile {
    /// The file, the environment over it, and `overrides` over both.
    fn sources(&self, overrides: Overrides) -> Sources {
        let environment = Environment::of_process();
        let file = self.path.clone().or_else(|| environment.config_file());
        Sources { file, environment, overrides }
    }
}

/// Loads what `sources` name.
fn load(sources: &Sources) -> Result<Loaded, Failure> {
    Config::load(sources).map_err(|error| Failure::Usage(error.to_string()))
}

/// Writes a result. A closed pipe is the reader's choice, not a failure.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes a result in its stable form, on one line.
fn say_json(value: &impl Serialize) {
    say(&serde_json::to_string(value).expect("strings and numbers always serialise"));
}

/// Writes what is worth knowing, where it does not mix with a result.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The same in its stable form, on one line.
fn note_json(value: &impl Serialize) {
    note(&serde_json::to_string(value).expect("strings and numbers always serialise"));
}

/// What was asked for could not be done.
fn failed(error: CallError) -> Failure {
    Failure::Failed(error.to_string())
}

/// Writes what went wrong.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr().lock(), "wharf: {sentence}");
}
