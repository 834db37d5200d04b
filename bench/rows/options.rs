//! What can be asked of the bench.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::{Parser, ValueEnum};

use super::support::{MIB, Result, cores};

/// wharf beside a direct pull, nginx and docker-registry
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Small blobs and two repetitions: under a minute, to show that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Size of a cold blob in MiB; the large ones are four times as long [default: 64, with --quick 8]
    #[arg(long, value_parser = clap::value_parser!(u64).range(4..=1024))]
    size: Option<u64>,
    /// Repetitions of each row [default: 9, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// Rows to measure
    #[arg(long, value_delimiter = ',', default_values_t = Part::ALL)]
    pub(crate) rows: Vec<Part>,
    /// Where compare.json and compare.svg are written [default: bench/results, with --quick below cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the caches lie while measuring [default: cargo's target directory]
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    pub(crate) dir: PathBuf,
    /// Another build of wharf to measure [default: this one]
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_wharf"), hide_default_value = true)]
    pub(crate) wharf: PathBuf,
    /// Cores that wharf, and each server beside it, are pinned to, as taskset takes them [default: the first]
    #[arg(long, value_name = "LIST", requires = "client_cpus")]
    pub(crate) wharf_cpus: Option<String>,
    /// Cores that the client and the scripted upstream are pinned to [default: the second]
    #[arg(long, value_name = "LIST", requires = "wharf_cpus")]
    pub(crate) client_cpus: Option<String>,
    /// Pin nothing
    #[arg(long, conflicts_with_all = ["wharf_cpus", "client_cpus"])]
    unpinned: bool,
    /// Seconds to wait for a quiet machine before a repetition [default: 20, with --quick 0]
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
    /// What cargo adds when it benches, and leaves out when it tests
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Warm,
    Close,
    Manifests,
    Tls,
    Blob,
    FirstByte,
    Limited,
    Image,
    Ahead,
    Stampede,
    Cuts,
    Memory,
}

impl Part {
    const ALL: [Self; 12] = [
        Self::Warm,
        Self::Close,
        Self::Manifests,
        Self::Tls,
        Self::Blob,
        Self::FirstByte,
        Self::Limited,
        Self::Image,
        Self::Ahead,
        Self::Stampede,
        Self::Cuts,
        Self::Memory,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

impl Options {
    /// Size of a cold blob in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size.unwrap_or(if self.quick { 8 } else { 64 }) * MIB
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.map_or(if self.quick { 2 } else { 9 }, usize::from)
    }

    /// How long a quiet machine is waited for, in seconds.
    pub(crate) fn patience(&self) -> u64 {
        self.patience.unwrap_or(if self.quick { 0 } else { 20 })
    }

    pub(crate) fn out(&self) -> PathBuf {
        let usual = || match self.quick {
            true => Path::new(env!("CARGO_TARGET_TMPDIR")).join("results"),
            false => Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results"),
        };
        self.out.clone().unwrap_or_else(usual)
    }

    /// Puts the bench on its cores, and fills in which are the servers'.
    pub(crate) fn pin(&mut self) -> Result<()> {
        if !self.unpinned && self.wharf_cpus.is_none() {
            (self.wharf_cpus, self.client_cpus) = cores::apart()?.unzip();
        }
        self.client_cpus.as_deref().map_or(Ok(()), cores::stay_on)
    }
}
