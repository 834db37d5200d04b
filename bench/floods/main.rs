//! What a pull costs beside floods: half heads, idle connections, unknown names, cold digests.
//!
//! `cargo bench --bench floods -- --help` tells the options.

mod flood;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "it is the other benches', too")]
mod support;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use futures_util::future::try_join_all;

use self::{
    flood::{Flood, Flooding},
    support::{
        MIB, Result,
        client::Client,
        content::{Content, Noise},
        line::Rate,
        now, pause,
        process::Process,
        report::print,
        series::Series,
        upstream::{Manner, Upstream},
        wharf::Wharf,
    },
};

/// Pulls beside floods
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Pulls for each figure
    #[arg(long, default_value_t = 20)]
    pulls: usize,
    /// How long to wait after a flood until memory is looked at, in seconds
    #[arg(long, default_value_t = 30)]
    rest: u64,
    /// Where the cache lies while measuring [default: cargo's target directory]
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    dir: PathBuf,
    /// Another build of wharf to measure [default: this one]
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_wharf"), hide_default_value = true)]
    wharf: PathBuf,
    /// Be a flood: what the bench starts itself as
    #[arg(long, hide = true, requires = "target")]
    flood: Option<Flood>,
    /// Where the flood goes
    #[arg(long, hide = true)]
    target: Option<SocketAddr>,
    /// Whether it comes from the address of those who pull
    #[arg(long, hide = true)]
    same: bool,
    /// What cargo adds when it benches, and leaves out when it tests
    #[arg(long, hide = true)]
    bench: bool,
}

/// Bytes of each of the image's three layers.
const LAYER_BYTES: u64 = 4 * MIB;

/// Between two pulls: devices do not come one right after the other.
const BETWEEN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match (options.flood, options.target) {
        (Some(flood), Some(target)) => flood::run(flood, target, options.same),
        _ if !options.bench => {
            print("a bench, not a test: run it with `cargo bench --bench floods`");
            Ok(())
        }
        _ => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("the bench failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let (client, noise) = (Client::new()?, Noise::new(LAYER_BYTES)?);
    print(&format!(
        "{:<36}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "pulls beside",
        "median",
        "slowest",
        "÷ quiet",
        "÷ quiet",
        "peak MiB",
        "then MiB",
        "its CPU"
    ));
    for same in [false, true] {
        for flood in Flood::ALL {
            // A wharf of its own for each: the most memory that one had is never less again.
            let upstream = Upstream::start(Manner::plain(Rate::Unlimited))?;
            let wharf = Wharf::start(&options.wharf, None, upstream.addr, &options.dir, "")?;
            let mut images = 0;
            let mut series = |name: &str| {
                let pulls = (0..options.pulls).map(|_| {
                    images += 1;
                    pause(BETWEEN);
                    pull(&client, &noise, &upstream, wharf.addr, images)
                });
                Result::Ok(Series::new(name, "ms", pulls.collect::<Result<Vec<_>>>()?))
            };
            // The first pull finds nothing ready.
            series("warm-up")?;
            let quiet = series("quiet")?;
            let idle = wharf.process.memory()?;
            let flooding = Flooding::begin(flood, wharf.addr, same)?;
            let begun = now();
            let beside = match series("beside") {
                Ok(beside) => beside,
                // A client that has all its places is told so, whatever it wants them for.
                Err(error) => {
                    print(&format!("{flood}, same address: {same}: not pulled: {error}"));
                    continue;
                }
            };
            let cpu = flooding.process().cpu()?.as_secs_f64() / begun.elapsed().as_secs_f64();
            drop(flooding);
            pause(Duration::from_secs(options.rest));
            let name =
                format!("{flood}, {}", if same { "same address" } else { "other addresses" });
            show(&name, &quiet, &beside, &wharf.process, cpu)?;
            print(&format!("{:<36}{:>70.0}", "  (resident before it)", mib(idle)));
        }
    }
    Ok(())
}

fn show(name: &str, quiet: &Series, beside: &Series, wharf: &Process, cpu: f64) -> Result<()> {
    let [usual, median, slowest] =
        [(quiet, 0.5), (beside, 0.5), (beside, 1.0)].map(|(series, q)| series.quantile(q));
    print(&format!(
        "{name:<36}{median:>7.0} ms{slowest:>7.0} ms{:>10.2}{:>10.2}{:>10.0}{:>10.0}{:>8.0} %",
        median / usual,
        slowest / usual,
        mib(wharf.peak_memory()?),
        mib(wharf.memory()?),
        cpu * 100.0,
    ));
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// The milliseconds that a cold image takes that nobody has seen before: tag, manifest, and three layers at a time.
fn pull(
    client: &Client,
    noise: &Noise,
    upstream: &Upstream,
    addr: SocketAddr,
    number: u64,
) -> Result<f64> {
    let parts = [8192, LAYER_BYTES, LAYER_BYTES, LAYER_BYTES].map(|bytes| noise.blob(bytes));
    let parts = parts.into_iter().collect::<Result<Vec<Content>>>()?;
    let manifest = noise.manifest(&parts)?;
    let (tag, by_digest) =
        (format!("/v2/bench/app/manifests/run-{number}"), manifest.manifest_path());
    let paths: Vec<String> = parts.iter().map(Content::blob_path).collect();
    let mut offers = vec![(tag.clone(), manifest.clone()), (by_digest.clone(), manifest)];
    offers.extend(parts.into_iter().map(|part| (part.blob_path(), part)));
    upstream.offer(offers);
    let begun = now();
    client.run(async {
        let mut first = client.connect(addr).await?;
        first.head(&tag).await?;
        first.get(&by_digest).await?.whole()?;
        let blobs =
            paths.iter().map(|path| async { client.connect(addr).await?.get(path).await?.whole() });
        try_join_all(blobs).await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    })
}
