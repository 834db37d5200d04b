//! What a start costs with much kept: until the first answer, until all that goes on behind is done, and in memory.
//!
//! `cargo bench --bench start -- --help` tells the options, `bench/README.md` what was seen.

mod cache;
mod growth;
mod start;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "it is the other bench's, too")]
mod support;

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;

use self::{
    cache::Cache,
    start::Start,
    support::{MIB, Result, report::print, series::Series},
};

/// Starts of wharf on a large cache
#[derive(Clone, Debug, Parser)]
struct Options {
    /// A small cache and two repetitions, to show that it works
    #[arg(long)]
    quick: bool,
    /// Images kept [default: 5000, with --quick 50]
    #[arg(long)]
    images: Option<usize>,
    /// Blobs of each, its index and manifest included
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=1000))]
    blobs: u64,
    /// Measure what a request costs with so many blobs kept, in place of starts
    #[arg(long, value_name = "BLOBS", value_delimiter = ',')]
    growth: Vec<u64>,
    /// Repetitions [default: 5, with --quick 2]
    #[arg(long)]
    runs: Option<usize>,
    /// Where the cache lies while measuring [default: cargo's target directory]
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    dir: PathBuf,
    /// Another build of wharf to measure [default: this one]
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_wharf"), hide_default_value = true)]
    wharf: PathBuf,
    /// What cargo adds when it benches, and leaves out when it tests
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        print("a bench, not a test: run it with `cargo bench --bench start`");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("the bench failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !options.growth.is_empty() {
        return growth::measure(options, &options.growth);
    }
    let dir = tempfile::Builder::new().prefix("wharf-bench-").tempdir_in(&options.dir)?;
    let images = options.images.unwrap_or(if options.quick { 50 } else { 5000 });
    let runs = options.runs.unwrap_or(if options.quick { 2 } else { 5 });
    let cache = Cache::make(&dir.path().join("cache"), images, options.blobs)?;
    print(&format!("{} blobs of {images} images", cache.blobs));
    // Nobody is there, and nobody is asked: a manifest that is kept is answered by its digest.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let started = || -> Result<Start> {
        let wharf = start::run(options, &cache, dir.path(), nobody)?;
        let start = wharf.start;
        wharf.stop()?;
        Ok(start)
    };
    let sled = cache.dir.join("wharf/index.sled");
    let again = (0..runs).map(|_| {
        if sled.exists() {
            fs::remove_dir_all(&sled)?;
        }
        started()
    });
    let again = again.collect::<Result<Vec<_>>>()?;
    show("with index.sled deleted", &again);
    let plain = (0..runs).map(|_| started());
    let plain = plain.collect::<Result<Vec<_>>>()?;
    show("as it was stopped", &plain);
    Ok(())
}

fn show(title: &str, starts: &[Start]) {
    print(&format!("\n{title}\n  {:<28}{:>10}{:>10}{:>10}", "", "min", "median", "max"));
    let row = |name: &str, unit: &'static str, value: &dyn Fn(&Start) -> f64| {
        let series = Series::new(name, unit, starts.iter().map(value).collect());
        let [min, median, max] = [0.0, 0.5, 1.0].map(|q| series.quantile(q));
        print(&format!("  {name:<22}{unit:<6}{min:>10.1}{median:>10.1}{max:>10.1}"));
    };
    row("first answer", "ms", &|start| start.answer.as_secs_f64() * 1e3);
    row("idle after", "ms", &|start| start.idle.as_secs_f64() * 1e3);
    row("CPU until then", "ms", &|start| start.cpu.as_secs_f64() * 1e3);
    row("resident when idle", "MiB", &|start| start.memory as f64 / MIB as f64);
    row("resident at most", "MiB", &|start| start.peak as f64 / MIB as f64);
}
