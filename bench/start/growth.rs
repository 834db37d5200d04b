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

/// Manifests that are asked for in turn, of all that are kept: the same number however many these are, and as many as the caches
/// of answers hold of a large one.
const MANIFESTS: [usize; 2] = [50, 1000];

/// Requests of each measurement.
const REQUESTS: usize = 60_000;

/// Bytes of a cold blob.
const COLD_BYTES: u64 = 4096;

/// Measures each of `counts` blobs, and prints a row of it.
pub(crate) fn measure(options: &Options, counts: &[u64]) -> Result<()> {
    let [few, many] = MANIFESTS.map(|count| format!("warm, of {count}"));
    print(&format!(
        "{:>10}{:>16}{:>16}{few:>18}{many:>18}{:>18}{:>18}",
        "blobs", "first answer", "resident", "one alone", "cold blob"
    ));
    print(&format!(
        "{:>10}{:>16}{:>16}{:>18}{:>18}{:>18}{:>18}",
        "", "(ms)", "(MiB, idle)", "(CPU µs)", "(CPU µs)", "(µs, median)", "(CPU µs)"
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
    let some = |count: usize| -> Vec<&String> {
        let step = (cache.paths.len() / count).max(1);
        cache.paths.iter().step_by(step).take(count).collect()
    };
    let ask = |paths: &[&String], rounds: usize| {
        client.run(async {
            let connections = try_join_all((0..ASKERS).map(|_| client.connect(addr))).await?;
            let asks = connections.into_iter().enumerate().map(|(n, mut connection)| async move {
                for _ in 0..rounds {
                    for path in paths.iter().skip(n).step_by(ASKERS) {
                        connection.get(path).await?.whole()?;
                    }
                }
                Result::Ok(())
            });
            try_join_all(asks).await
        })
    };
    let paths = some(MANIFESTS[1]);
    let requests = if options.quick { 1000 } else { REQUESTS };
    let warm = MANIFESTS.into_iter().map(|count| {
        let paths = some(count);
        if paths.len() < count {
            return Ok("-".to_owned());
        }
        ask(&paths, 1)?;
        let rounds = requests / count;
        let took = spent(process, || ask(&paths, rounds).map(drop))?;
        Result::Ok(format!("{:.1}", took.as_secs_f64() * 1e6 / (rounds * count) as f64))
    });
    let warm = warm.collect::<Result<Vec<_>>>()?;
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
        "{:>10}{:>16.1}{:>16.1}{:>18}{:>18}{:>18.1}{:>18.1}",
        cache.blobs,
        wharf.start.answer.as_secs_f64() * 1e3,
        wharf.start.memory as f64 / MIB as f64,
        warm[0],
        warm[1],
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
