//! A kept blob beside the same file from nginx: a figure to start from, not a target of this bench.

use std::{net::SocketAddr, path::Path, time::Duration};

use futures_util::future::try_join_all;

use super::{
    Setting,
    support::{
        MIB, Result,
        line::Rate,
        nginx::{Manner, Nginx},
        now,
        process::Process,
        report::{Report, Row, print},
        series::Series,
    },
};

const CONNECTIONS: usize = 4;

/// What one server did in one repetition.
#[derive(Clone, Copy)]
struct Served {
    took: Duration,
    cpu: Duration,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    let site = setting.site(Rate::Unlimited)?;
    let blob = setting.noise.blob(size)?;
    let (path, kept) = (blob.blob_path(), site.wharf.kept(&blob.digest));
    site.upstream.offer(vec![(path.clone(), blob)]);
    setting.client.get(site.wharf.addr, &path)?;
    site.wharf.settle(&setting.client)?;
    let root = kept.parent().unwrap_or_else(|| Path::new("/"));
    let cpus = setting.options.wharf_cpus.as_deref();
    let start = |manner| Nginx::start(root, &setting.options.dir, manner, cpus);
    let (Some(stock), Some(tuned)) = (start(Manner::Stock)?, start(Manner::Tuned)?) else {
        print("warm blob: left out, nginx is not installed\n");
        return Ok(());
    };
    let name = kept.file_name().unwrap_or_default().to_string_lossy();
    let file = format!("/{name}");
    // At least 1 GB each time, so that a tick of the CPU's clock is little.
    let gets = (1_000_000_000 / (size * CONNECTIONS as u64) + 1).max(2);
    let serve = |addr, process, path: &str| -> Result<Served> {
        // Once for the page cache: idle pages may have gone.
        setting.client.get(addr, path)?;
        fetch(setting, addr, process, path, gets)
    };
    let servers = [
        (stock.addr, stock.process, &file),
        (tuned.addr, tuned.process, &file),
        (site.wharf.addr, site.wharf.process, &path),
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
        served
            .map(|served| served.ok_or_else(|| "it was not measured".into()))
            .into_iter()
            .collect::<Result<Vec<_>>>()
    })?;
    let gigabytes = (size * gets * CONNECTIONS as u64) as f64 / 1e9;
    let speed = |served: Served| gigabytes / served.took.as_secs_f64();
    let cost = |served: Served| served.cpu.as_secs_f64() / gigabytes;
    let each = |of: &dyn Fn(&[Served]) -> f64| made.values.iter().map(|all| of(all)).collect();
    report.add(Row {
        title: format!(
            "warm blob, {} MiB, {CONNECTIONS} connections, bare loopback; nginx: one worker, sendfile; stock: tcp_nopush; tuned: sndbuf=256k",
            size / MIB
        ),
        series: vec![
            Series::new("nginx, stock", "GB/s", each(&|all| speed(all[0]))),
            Series::new("nginx, tuned", "GB/s", each(&|all| speed(all[1]))),
            Series::new("wharf", "GB/s", each(&|all| speed(all[2]))),
            Series::new("wharf ÷ stock", "", each(&|all| speed(all[2]) / speed(all[0]))),
            Series::new("wharf ÷ tuned", "", each(&|all| speed(all[2]) / speed(all[1]))),
            Series::new("nginx, stock", "CPU s/GB", each(&|all| cost(all[0]))),
            Series::new("nginx, tuned", "CPU s/GB", each(&|all| cost(all[1]))),
            Series::new("wharf", "CPU s/GB", each(&|all| cost(all[2]))),
            Series::new("wharf ÷ tuned", "of CPU", each(&|all| cost(all[2]) / cost(all[1]))),
        ],
        disturbed: made.disturbed,
        repeated: made.repeated,
    });
    Ok(())
}

fn fetch(
    setting: &Setting,
    addr: SocketAddr,
    process: Process,
    path: &str,
    gets: u64,
) -> Result<Served> {
    setting.client.run(async {
        let connections = (0..CONNECTIONS).map(|_| setting.client.connect(addr));
        let mut connections = try_join_all(connections).await?;
        let (cpu, begun) = (process.cpu()?, now());
        let fetches = connections.iter_mut().map(|connection| async {
            for _ in 0..gets {
                connection.get(path).await?.whole()?;
            }
            Result::Ok(())
        });
        try_join_all(fetches).await?;
        Ok(Served { took: begun.elapsed(), cpu: process.cpu()?.saturating_sub(cpu) })
    })
}
