//! A site wakes up: two hundred clients want one cold blob at the same moment.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::{
    Setting,
    setting::{Site, milliseconds},
    support::{
        MIB, Result,
        line::Rate,
        now,
        report::{Figure, Ratio, Report, Row},
        series::Series,
        upstream::Traffic,
    },
};

const CLIENTS: usize = 200;

/// One stampede, and one client by itself for comparison.
struct Stampede {
    alone: Duration,
    /// Until the last client had its last byte.
    all: Duration,
    traffic: Traffic,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    if setting.options.quick {
        report.add(stampede(setting, size / 4, Rate::Megabits(100))?);
        return Ok(());
    }
    report.add(stampede(setting, size, Rate::Megabits(100))?);
    report.add(stampede(setting, size, Rate::Megabits(1000))?);
    Ok(())
}

fn stampede(setting: &Setting, size: u64, rate: Rate) -> Result<Row> {
    let site = setting.site(rate)?;
    let idle = site.wharf.process.memory()?;
    let made = setting.repeat(&[site.wharf.process], setting.options.runs(), || {
        let (alone, _) = pull(setting, &site, size, 1)?;
        let (all, traffic) = pull(setting, &site, size, CLIENTS)?;
        Ok(Stampede { alone, all, traffic })
    })?;
    let peak = site.wharf.process.peak_memory()?;
    let each = |of: &dyn Fn(&Stampede) -> f64| made.values.iter().map(of).collect();
    let mib = |bytes: u64| vec![bytes as f64 / MIB as f64];
    let handed_out = (size * CLIENTS as u64) as f64;
    let mut row = made.row(
        format!("stampede of {CLIENTS}, {rate}"),
        format!("stampede: {CLIENTS} clients, one cold blob of {} MiB, {rate}", size / MIB),
    );
    row.series = vec![
        Series::new("upstream bytes ÷ blob", "", each(&|s| s.traffic.sent as f64 / size as f64)),
        Series::new("upstream GETs", "", each(&|s| s.traffic.gets as f64)),
        Series::new("one client alone", "ms", each(&|s| milliseconds(s.alone))),
        Series::new("all of them", "ms", each(&|s| milliseconds(s.all))),
        Series::new(
            "handed out by wharf",
            "GB/s",
            each(&|s| handed_out / s.all.as_secs_f64() / 1e9),
        ),
        Series::new("wharf: resident before", "MiB", mib(idle)),
        Series::new("wharf: most resident", "MiB", mib(peak)),
    ];
    let all = each(&|s| s.all.as_secs_f64() / s.alone.as_secs_f64());
    row.ratios.push(Ratio {
        peer: "one client alone".to_owned(),
        of: Figure::Time,
        series: Series::new("all ÷ one", "", all),
    });
    Ok(row)
}

/// The time until the last of `clients` has a new blob, and what of it the upstream sent.
fn pull(setting: &Setting, site: &Site, size: u64, clients: usize) -> Result<(Duration, Traffic)> {
    let blob = setting.noise.blob(size)?;
    let path = blob.blob_path();
    let served = site.upstream.offer(vec![(path.clone(), blob)]).remove(0);
    let took = setting.client.run(async {
        let connections = (0..clients).map(|_| setting.client.connect(site.wharf.addr));
        let mut connections = try_join_all(connections).await?;
        let begun = now();
        let pulls =
            connections.iter_mut().map(|connection| async { connection.get(&path).await?.whole() });
        try_join_all(pulls).await?;
        Ok(begun.elapsed())
    })?;
    site.wharf.settle(&setting.client)?;
    Ok((took, served.take()))
}
