//! One cold blob: from the request, its connection included, to the last byte.

use super::{
    Setting,
    support::{
        MIB, Result,
        line::Rate,
        now,
        report::{Report, Row},
        series::Series,
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
    let site = setting.site(rate)?;
    let mut fetched = 0;
    let (before, cpu) = (site.wharf.process.written()?, site.wharf.process.cpu()?);
    let offer = || {
        let blob = setting.noise.blob(size)?;
        let path = blob.blob_path();
        fetched += size;
        site.upstream.offer(vec![(path.clone(), blob)]);
        Ok(path)
    };
    let made = setting.take_turns(&site, offer, |addr, path| {
        let begun = now();
        Ok(setting.client.get(addr, path)?.ended - begun)
    })?;
    let after = site.wharf.process.written()?;
    let cpu = site.wharf.process.cpu()?.saturating_sub(cpu).as_secs_f64();
    let share = |before: u64, after: u64| vec![(after - before) as f64 / fetched as f64];
    let mut series = made.compared();
    series.push(Series::new(
        "wharf: written to files ÷ fetched",
        "",
        share(before.to_disk, after.to_disk),
    ));
    series.push(Series::new(
        "wharf: write(2), writev(2) ÷ fetched",
        "",
        share(before.by_call, after.by_call),
    ));
    series.push(Series::new("wharf", "CPU s/GB", vec![cpu / (fetched as f64 / 1e9)]));
    Ok(Row {
        title: format!("cold blob, {} MiB, {rate}", size / MIB),
        series,
        disturbed: made.disturbed,
        repeated: made.repeated,
    })
}
