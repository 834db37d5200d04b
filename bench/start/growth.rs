//! What a request, a download and a start cost, against how much is kept.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::{
    Options,
    cache::Cache,
    start,
    support::{
        MIB, Result,
        client::Client,
        content::Noise,
        line::Rate,
        process::Process,
        report::print,
        upstream::{Manner, Upstream},
    },
};

/// Connections that ask for manifests.
const ASKERS: usize = 8;

/// Manifests that are asked for in turn, of all that are kept.
const MANIFESTS: usize = 1000;

/// Bytes of a cold blob.
const COLD_BYTES: u64 = 4096;

/// Measures each of `counts` blobs, and prints a row of it.
pub(crate) fn measure(options: &Options, counts: &[u64]) -> Result<()> {
    print(&format!(
        "{:>10}{:>16}{:>16}{:>18}{:>18}{:>18}",
        "blobs", "first answer", "resident", "warm request", "one alone", "cold blob"
    ));
    print(&format!(
        "{:>10}{:>16}{:>16}{:>18}{:>18}{:>18}",
        "", "(ms)", "(MiB, idle)", "(CPU µs)", "(µs, median)", "(CPU µs)"
    ));
    for count in counts {
        row(options, *count)?;
    }
    Ok(())
}

fn row(options: &Options, count: u64) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("wharf-bench-").tempdir_in(&options.dir)?;
    let images = usize::try_from(count / options.blobs)?.max(1);
    let cache = Cache::make(&dir.path().join("cache"), images, options.blobs)?;
    let upstream = Upstream::start(Manner::plain(Rate::Unlimited))?;
    // The first start makes the tables; what is measured finds them.
    start::run(options, &cache, dir.path(), upstream.addr)?.stop()?;
    let wharf = start::run(options, &cache, dir.path(), upstream.addr)?;
    let (addr, process) = (wharf.addr, wharf.process);
    let client = Client::new()?;
    let step = (cache.paths.len() / MANIFESTS).max(1);
    let paths: Vec<&String> = cache.paths.iter().step_by(step).take(MANIFESTS).collect();
    let rounds = if options.quick { 1 } else { 60 };
    let ask = |rounds: usize| {
        client.run(async {
            let connections = try_join_all((0..ASKERS).map(|_| client.connect(addr))).await?;
            let asks = connections.into_iter().enumerate().map(|(n, mut connection)| {
                let paths = &paths;
                async move {
                    for _ in 0..rounds {
                        for path in paths.iter().skip(n).step_by(ASKERS) {
                            connection.get(path).await?.whole()?;
                        }
                    }
                    Result::Ok(())
                }
            });
            try_join_all(asks).await
        })
    };
    ask(1)?;
    let warm = spent(process, || ask(rounds).map(drop))? / u32::try_from(rounds * paths.len())?;
    let alone = client.run(async {
        let mut connection = client.connect(addr).await?;
        let mut waits = Vec::new();
        for path in &paths {
            let begun = super::support::now();
            connection.get(path).await?.whole()?;
            waits.push(begun.elapsed());
        }
        waits.sort_unstable();
        Ok(waits[waits.len() / 2])
    })?;
    let noise = Noise::new(COLD_BYTES)?;
    let colds = if options.quick { 20 } else { 500 };
    let blobs = (0..colds).map(|_| noise.blob(COLD_BYTES)).collect::<Result<Vec<_>>>()?;
    upstream.offer(blobs.iter().map(|blob| (blob.blob_path(), blob.clone())).collect());
    let cold = spent(process, || {
        client.run(async {
            let mut connection = client.connect(addr).await?;
            for blob in &blobs {
                connection.get(&blob.blob_path()).await?.whole()?;
            }
            Ok(())
        })
    })? / u32::try_from(colds)?;
    print(&format!(
        "{:>10}{:>16.1}{:>16.1}{:>18.1}{:>18.1}{:>18.1}",
        cache.blobs,
        wharf.start.answer.as_secs_f64() * 1e3,
        wharf.start.memory as f64 / MIB as f64,
        warm.as_secs_f64() * 1e6,
        alone.as_secs_f64() * 1e6,
        cold.as_secs_f64() * 1e6,
    ));
    wharf.stop()
}

/// CPU time that `process` takes while `work` is done.
fn spent(process: Process, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let before = process.cpu()?;
    work()?;
    Ok(process.cpu()? - before)
}
