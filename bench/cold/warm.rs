//! What is kept, beside the same files from nginx: large blobs, and documents.

use std::{net::SocketAddr, path::Path, time::Duration};

use futures_util::future::try_join_all;

use super::{
    Setting,
    setting::Repetitions,
    support::{
        MIB, Result,
        line::Rate,
        nginx::{Manner, Nginx},
        now,
        process::Process,
        report::{Report, Row, print},
        series::Series,
        wharf::Wharf,
    },
};

const CONNECTIONS: usize = 4;

/// Connections that ask for documents, and how often each does.
const ASKERS: usize = 32;
const ASKS: u64 = 500;

/// What one server did in one repetition.
#[derive(Clone, Copy)]
struct Served {
    took: Duration,
    cpu: Duration,
}

/// What is asked for.
struct Work<'a> {
    /// Of wharf.
    path: &'a str,
    /// The file that it lies in.
    kept: &'a Path,
    connections: usize,
    /// By each connection.
    gets: u64,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    let site = setting.site(Rate::Unlimited)?;
    let blob = setting.noise.blob(size)?;
    let (path, kept) = (blob.blob_path(), site.wharf.kept(&blob.digest));
    site.upstream.offer(vec![(path.clone(), blob)]);
    setting.client.get(site.wharf.addr, &path)?;
    site.wharf.settle(&setting.client)?;
    // At least 1 GB each time, so that a tick of the CPU's clock is little.
    let gets = (1_000_000_000 / (size * CONNECTIONS as u64) + 1).max(2);
    let work = Work { path: &path, kept: &kept, connections: CONNECTIONS, gets };
    let Some(made) = beside_nginx(setting, &site.wharf, &work)? else { return Ok(()) };
    let gigabytes = (size * gets * CONNECTIONS as u64) as f64 / 1e9;
    let speed = |served: Served| gigabytes / served.took.as_secs_f64();
    let cost = |served: Served| served.cpu.as_secs_f64() / gigabytes;
    report.add(row(
        format!("warm blob, {} MiB, {CONNECTIONS} connections", size / MIB),
        &made,
        ("GB/s", &speed),
        ("CPU s/GB", &cost),
    ));
    documents(setting, report)
}

/// Manifests of 2 KB by tag and by digest; wharf writes its log, as it does by default.
fn documents(setting: &Setting, report: &mut Report) -> Result<()> {
    let site = setting.site(Rate::Unlimited)?;
    let parts = (0..14).map(|_| setting.noise.blob(1000)).collect::<Result<Vec<_>>>()?;
    let manifest = setting.noise.manifest(&parts)?;
    let kept = site.wharf.kept(&manifest.digest);
    let by_digest = manifest.manifest_path();
    let by_tag = by_digest.replace(&manifest.digest.to_string(), "warm");
    let mut offers = vec![(by_tag.clone(), manifest.clone()), (by_digest.clone(), manifest)];
    offers.extend(parts.into_iter().map(|part| (part.blob_path(), part)));
    site.upstream.offer(offers);
    for (what, path) in [("by tag", by_tag), ("by digest", by_digest)] {
        setting.client.get(site.wharf.addr, &path)?;
        site.wharf.settle(&setting.client)?;
        let work = Work { path: &path, kept: &kept, connections: ASKERS, gets: ASKS };
        let Some(made) = beside_nginx(setting, &site.wharf, &work)? else { return Ok(()) };
        let asks = (ASKERS as u64 * ASKS) as f64;
        report.add(row(
            format!("warm manifest {what}, {ASKERS} connections"),
            &made,
            ("requests/s", &|served| asks / served.took.as_secs_f64()),
            ("CPU µs/request", &|served| served.cpu.as_secs_f64() * 1e6 / asks),
        ));
    }
    Ok(())
}

/// What stock nginx, tuned nginx and wharf did with the same work; `None` without nginx.
fn beside_nginx(
    setting: &Setting,
    wharf: &Wharf,
    work: &Work<'_>,
) -> Result<Option<Repetitions<Vec<Served>>>> {
    let root = work.kept.parent().unwrap_or_else(|| Path::new("/"));
    let cpus = setting.options.wharf_cpus.as_deref();
    let start = |manner| Nginx::start(root, &setting.options.dir, manner, cpus);
    let (Some(stock), Some(tuned)) = (start(Manner::Stock)?, start(Manner::Tuned)?) else {
        print("what is kept: left out, nginx is not installed\n");
        return Ok(None);
    };
    let file = format!("/{}", work.kept.file_name().unwrap_or_default().to_string_lossy());
    let serve = |addr, process, path: &str| -> Result<Served> {
        // Once for the page cache: idle pages may have gone.
        setting.client.get(addr, path)?;
        fetch(setting, addr, process, path, work)
    };
    let servers = [
        (stock.addr, stock.process, &*file),
        (tuned.addr, tuned.process, &*file),
        (wharf.addr, wharf.process, work.path),
    ];
    // Each is first, second and last in turn.
    let mut first = 0;
    let ours = servers.map(|(_, process, _)| process);
    let made = setting.repeat(&ours, setting.options.runs(), || {
        first += 1;
        let mut served = [None; 3];
        for n in 0..3 {
            let n = (first + n) % 3;
            let (addr, process, path) = servers[n];
            served[n] = Some(serve(addr, process, path)?);
        }
        Ok(served.into_iter().flatten().collect())
    });
    made.map(Some)
}

/// A figure of one server, and its unit.
type Figure<'a> = (&'static str, &'a dyn Fn(Served) -> f64);

fn row(
    what: String,
    made: &Repetitions<Vec<Served>>,
    (speed_unit, speed): Figure<'_>,
    (cost_unit, cost): Figure<'_>,
) -> Row {
    let each = |of: &dyn Fn(&[Served]) -> f64| made.values.iter().map(|all| of(all)).collect();
    Row {
        title: format!(
            "{what}, bare loopback; nginx: one worker, sendfile, open_file_cache; stock: tcp_nopush; tuned: sndbuf=256k"
        ),
        series: vec![
            Series::new("nginx, stock", speed_unit, each(&|all| speed(all[0]))),
            Series::new("nginx, tuned", speed_unit, each(&|all| speed(all[1]))),
            Series::new("wharf", speed_unit, each(&|all| speed(all[2]))),
            Series::new("wharf ÷ stock", "", each(&|all| speed(all[2]) / speed(all[0]))),
            Series::new("wharf ÷ tuned", "", each(&|all| speed(all[2]) / speed(all[1]))),
            Series::new("nginx, stock", cost_unit, each(&|all| cost(all[0]))),
            Series::new("nginx, tuned", cost_unit, each(&|all| cost(all[1]))),
            Series::new("wharf", cost_unit, each(&|all| cost(all[2]))),
            Series::new("wharf ÷ tuned", "of CPU", each(&|all| cost(all[2]) / cost(all[1]))),
        ],
        disturbed: made.disturbed,
        repeated: made.repeated,
    }
}

fn fetch(
    setting: &Setting,
    addr: SocketAddr,
    process: Process,
    path: &str,
    work: &Work<'_>,
) -> Result<Served> {
    setting.client.run(async {
        let connections = (0..work.connections).map(|_| setting.client.connect(addr));
        let mut connections = try_join_all(connections).await?;
        let (cpu, begun) = (process.cpu()?, now());
        let fetches = connections.iter_mut().map(|connection| async {
            for _ in 0..work.gets {
                connection.get(path).await?.whole()?;
            }
            Result::Ok(())
        });
        try_join_all(fetches).await?;
        Ok(Served { took: begun.elapsed(), cpu: process.cpu()?.saturating_sub(cpu) })
    })
}
