//! What a start costs with much kept: until the first answer, until all that goes on behind is done, and in memory.
//!
//! `cargo bench --bench start -- --help` tells the options, `bench/README.md` what was seen.

mod cache;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "it is the other bench's, too")]
mod support;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use clap::Parser;

use self::{
    cache::Cache,
    support::{
        MIB, Result, client::Client, now, pause, process::Process, report::print, series::Series,
    },
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

/// How long a wharf that was started is watched at most until it is idle.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that takes no time for so long is idle.
const IDLE: Duration = Duration::from_secs(2);

/// What one start cost.
struct Start {
    /// Until a kept manifest was answered.
    answer: Duration,
    /// Until nothing was done any more.
    idle: Duration,
    cpu: Duration,
    /// Resident when idle, and at most, in bytes.
    memory: u64,
    peak: u64,
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
    let dir = tempfile::Builder::new().prefix("wharf-bench-").tempdir_in(&options.dir)?;
    let images = options.images.unwrap_or(if options.quick { 50 } else { 5000 });
    let runs = options.runs.unwrap_or(if options.quick { 2 } else { 5 });
    let cache = Cache::make(&dir.path().join("cache"), images, options.blobs)?;
    print(&format!("{} blobs of {images} images", cache.blobs));
    let sled = cache.dir.join("wharf/index.sled");
    let again = (0..runs).map(|_| {
        if sled.exists() {
            fs::remove_dir_all(&sled)?;
        }
        start(options, &cache, dir.path())
    });
    let again = again.collect::<Result<Vec<_>>>()?;
    show("with index.sled deleted", &again);
    let plain = (0..runs).map(|_| start(options, &cache, dir.path()));
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

/// Starts wharf on `cache`, has it answer, watches until it is idle, and stops it.
fn start(options: &Options, cache: &Cache, dir: &Path) -> Result<Start> {
    let config = dir.join("config.toml");
    // Nobody is there, and nobody is asked: a manifest that is kept is answered by its digest.
    fs::write(
        &config,
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n[[upstream]]\nregistry = \"docker.io\"\n\
         endpoints = [\"http://127.0.0.1:9\"]\n",
    )?;
    let begun = now();
    let mut command = Command::new(&options.wharf);
    command.arg("serve").arg("--config").arg(&config).arg("--dir").arg(&cache.dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(dir.join("log"))?);
    let mut wharf = Running(command.spawn()?);
    let process = Process(wharf.0.id());
    let output = BufReader::new(wharf.0.stdout.take().ok_or("no output")?);
    let mut lines = output.lines();
    let address = loop {
        let line = lines.next().ok_or("it ended")??;
        let told =
            line.split_once(" on ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        if let Some(address) = told {
            break address;
        }
    };
    let answered = Client::new()?.document(address, &cache.path)?;
    let answer = begun.elapsed();
    if answered.len() as u64 != cache.length {
        return Err("the answer is not what is kept".into());
    }
    let (mut cpu, mut since) = (process.cpu()?, now());
    while since.elapsed() < IDLE && begun.elapsed() < PATIENCE {
        pause(Duration::from_millis(20));
        let used = process.cpu()?;
        if used > cpu {
            (cpu, since) = (used, now());
        }
    }
    let idle = since.duration_since(begun);
    let (memory, peak) = (process.memory()?, process.peak_memory()?);
    wharf.stop()?;
    Ok(Start { answer, idle, cpu, memory, peak })
}

/// A wharf that runs; killed when dropped.
struct Running(Child);

impl Running {
    /// Ends it as a service manager does.
    fn stop(&mut self) -> Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
