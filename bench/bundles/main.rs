//! Images across an air gap: `wharf export` and `wharf import` beside `skopeo copy`, which reads and writes the same archives.
//!
//! `cargo bench --bench bundles -- --help` tells the options, `bench/README.md` what was seen.

mod image;
mod run;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "it is the other benches', too")]
mod support;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use self::{
    image::Image,
    run::{Cost, Tools},
    support::{MIB, Result, machine::await_quiet, report::print, series::Series},
};

/// How long a repetition waits for a quiet machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Export and import of images, beside skopeo
#[derive(Clone, Debug, Parser)]
struct Options {
    /// A small image and two repetitions, to show that it works
    #[arg(long)]
    quick: bool,
    /// The images' sizes, in MiB, one after the other [default: 64, 512 and 2048, with --quick 16]
    #[arg(long, value_name = "MIB", value_delimiter = ',')]
    sizes: Vec<u64>,
    /// Repetitions of each [default: 5, with --quick 2]
    #[arg(long)]
    runs: Option<usize>,
    /// Where everything lies while measuring [default: cargo's target directory]
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
        print("a bench, not a test: run it with `cargo bench --bench bundles`");
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
    let sizes = match (&*options.sizes, options.quick) {
        ([], true) => &[16][..],
        ([], false) => &[64, 512, 2048],
        (sizes, _) => sizes,
    };
    let runs = options.runs.unwrap_or(if options.quick { 2 } else { 5 });
    for size in sizes {
        measure(options, *size, runs)?;
    }
    Ok(())
}

/// Exports and imports one image of `size` MiB with each tool, in turns.
fn measure(options: &Options, size: u64, runs: usize) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("wharf-bench-").tempdir_in(&options.dir)?;
    let image = Image::make(&dir.path().join("kept"), size * MIB)?;
    let tools = Tools::new(&options.wharf, dir.path(), &image)?;
    let (mut exports, mut imports) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..runs {
        await_quiet(&[], if options.quick { Duration::ZERO } else { PATIENCE })?;
        // Each is first in turn.
        for place in 0..2 {
            let who = (turn + place) % 2;
            let (archive, into) = (dir.path().join("out.tar"), dir.path().join("into"));
            let exported = tools.export(who, &archive)?;
            let imported = tools.import(who, &archive, &into)?;
            image.must_be_in(&into)?;
            exports[who].push(exported);
            imports[who].push(imported);
            fs::remove_file(&archive)?;
            fs::remove_dir_all(&into)?;
        }
    }
    print(&format!("\n{size} MiB in {} layers, {runs} repetitions", image::LAYERS));
    show("export", image.bytes, &exports);
    show("import", image.bytes, &imports);
    Ok(())
}

fn show(title: &str, bytes: u64, costs: &[Vec<Cost>; 2]) {
    let median = |who: usize, unit: &'static str, value: &dyn Fn(&Cost) -> f64| {
        Series::new(title, unit, costs[who].iter().map(value).collect()).median()
    };
    let row = |name: &str, unit: &'static str, value: &dyn Fn(&Cost) -> f64| {
        let pairs = costs[0].iter().zip(&costs[1]);
        let ratios = pairs.map(|(wharf, skopeo)| value(wharf) / value(skopeo)).collect();
        let ratio = Series::new(title, unit, ratios).median();
        let [wharf, skopeo] = [0, 1].map(|who| median(who, unit, value));
        print(&format!("  {title:<8}{name:<18}{unit:<7}{wharf:>10.1}{skopeo:>10.1}{ratio:>10.2}"));
    };
    print(&format!("  {:<8}{:<18}{:<7}{:>10}{:>10}{:>10}", "", "", "", "wharf", "skopeo", "ratio"));
    let megabytes = bytes as f64 / 1e6;
    row("speed", "MB/s", &|cost| megabytes / cost.time.as_secs_f64());
    row("with the disk", "MB/s", &|cost| megabytes / (cost.time + cost.sync).as_secs_f64());
    row("CPU", "ms", &|cost| cost.cpu.as_secs_f64() * 1e3);
    row("resident at most", "MiB", &|cost| cost.peak as f64 / MIB as f64);
}
