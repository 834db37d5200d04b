//! One cold blob: from the request, its connection included, to the last byte.

use super::{
    Setting,
    peers::{Peers, row},
    setting::milliseconds,
    support::{
        MIB, Result,
        line::Rate,
        now,
        report::{Figure, Ratio, Report, Row},
        series::Series,
        upstream::Manner,
    },
};

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    let (gigabit, slow) = (Rate::Megabits(1000), Rate::Megabits(100));
    report.add(pull(setting, size, gigabit)?);
    if !setting.options.quick {
        report.add(pull(setting, size * 4, gigabit)?);
    }
    report.add(pull(setting, size / 4, slow)?);
    report.add(pull(setting, size, Rate::Unlimited)?);
    if !setting.options.quick {
        report.add(pull(setting, size * 4, Rate::Unlimited)?);
    }
    Ok(())
}

fn pull(setting: &Setting, size: u64, rate: Rate) -> Result<Row> {
    let peers = Peers::start(setting, Manner::plain(rate), "")?;
    let ways = peers.ways();
    let wharf = peers.site.wharf.process;
    let cpu = || -> Result<Vec<f64>> {
        let cpu = ways.iter().filter_map(|way| way.process).map(|process| process.cpu());
        cpu.map(|cpu| cpu.map(|cpu| cpu.as_secs_f64())).collect()
    };
    let (written, before) = (wharf.written()?, cpu()?);
    let blobs = std::cell::Cell::new(0_u64);
    let made = peers.take_turns(setting, size, 1, |way, path, _| {
        blobs.set(blobs.get() + u64::from(way.name == "wharf"));
        let begun = now();
        Ok(milliseconds(setting.client.get(way.addr, path)?.ended - begun))
    })?;
    let (fetched, after) = ((blobs.get() * size) as f64, wharf.written()?);
    let mib = size / MIB;
    let mut row = row(
        &ways,
        &made,
        format!("cold blob, {mib} MiB, {rate}"),
        format!("cold blob, {mib} MiB, {rate}"),
    );
    let share = |before: u64, after: u64| vec![(after - before) as f64 / fetched];
    let (files, calls) =
        (share(written.to_disk, after.to_disk), share(written.by_call, after.by_call));
    row.series.push(Series::new("wharf: written to files ÷ fetched", "", files));
    row.series.push(Series::new("wharf: write(2), writev(2) ÷ fetched", "", calls));
    let cost: Vec<_> =
        before.into_iter().zip(cpu()?).map(|(a, b)| (b - a) / fetched * 1e9).collect();
    for (n, way) in ways.iter().enumerate().skip(1) {
        let sent = made.values.iter().flat_map(|all| &all[n]);
        let sent = sent.map(|pulled| pulled.traffic.sent as f64 / size as f64).collect();
        row.series.push(Series::new(format!("{}: upstream bytes ÷ blob", way.name), "", sent));
        row.series.push(Series::new(way.name, "CPU s/GB", vec![cost[n - 1]]));
        if n > 1 {
            row.ratios.push(Ratio {
                peer: way.name.to_owned(),
                of: Figure::Cpu,
                series: Series::new(
                    format!("wharf ÷ {}", way.name),
                    Figure::Cpu.word(),
                    vec![cost[0] / cost[n - 1]],
                ),
            });
        }
    }
    Ok(row)
}
