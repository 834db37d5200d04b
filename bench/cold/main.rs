//! What a cold pull costs: through wharf and past it, side by side, on lines of a known rate.
//!
//! `cargo bench --bench cold -- --help` tells the options, `bench/README.md` what each row means.

mod ahead;
mod blob;
mod cuts;
mod first_byte;
mod image;
mod setting;
mod stampede;
#[path = "../support/mod.rs"]
mod support;
mod warm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use self::{
    setting::Setting,
    support::{
        MIB, Result,
        machine::Machine,
        nginx,
        report::{Report, print},
    },
};

/// Cold pulls through wharf beside direct ones
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Smaller blobs and three repetitions: about a minute, to show that it works
    #[arg(long)]
    quick: bool,
    /// Size of a blob in MiB; the large ones are four times as long
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(4..=1024))]
    size: u64,
    /// Repetitions of each row [default: 9, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// Rows to measure
    #[arg(long, value_delimiter = ',', default_values_t = Part::ALL)]
    rows: Vec<Part>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the caches lie while measuring [default: cargo's target directory]
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    dir: PathBuf,
    /// Another build of wharf to measure [default: this one]
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_wharf"), hide_default_value = true)]
    wharf: PathBuf,
    /// Cores that wharf, and nginx beside it, are pinned to, as taskset takes them [default: none, they run where they like]
    #[arg(long, value_name = "LIST")]
    wharf_cpus: Option<String>,
    /// Seconds to wait for a quiet machine before a repetition [default: 20, with --quick 0]
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
    /// What cargo adds when it benches, and leaves out when it tests
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Blob,
    FirstByte,
    Image,
    Ahead,
    Stampede,
    Cuts,
    Warm,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Blob,
        Self::FirstByte,
        Self::Image,
        Self::Ahead,
        Self::Stampede,
        Self::Cuts,
        Self::Warm,
    ];
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::FirstByte => "first-byte",
            Self::Image => "image",
            Self::Ahead => "ahead",
            Self::Stampede => "stampede",
            Self::Cuts => "cuts",
            Self::Warm => "warm",
        })
    }
}

impl Options {
    /// Size of a blob in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size * MIB
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.map_or(if self.quick { 3 } else { 9 }, usize::from)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        print("a bench, not a test: run it with `cargo bench --bench cold`");
        return ExitCode::SUCCESS;
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("the bench failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let (rows, json) = (options.rows.clone(), options.json.clone());
    let mut report = Report {
        bench: "cold",
        arguments: std::env::args().skip(1).filter(|argument| argument != "--bench").collect(),
        wharf: env!("CARGO_PKG_VERSION"),
        nginx: nginx::version(),
        machine: Machine::describe()?,
        rows: Vec::new(),
    };
    report.begin();
    let setting = Setting::new(options)?;
    for part in rows {
        match part {
            Part::Blob => blob::measure(&setting, &mut report)?,
            Part::FirstByte => first_byte::measure(&setting, &mut report)?,
            Part::Image => image::measure(&setting, &mut report)?,
            Part::Ahead => ahead::measure(&setting, &mut report)?,
            Part::Stampede => stampede::measure(&setting, &mut report)?,
            Part::Cuts => cuts::measure(&setting, &mut report)?,
            Part::Warm => warm::measure(&setting, &mut report)?,
        }
    }
    json.map_or(Ok(()), |path| report.write(&path))
}
