//! How long the first byte of a cold blob is in wharf: from just before the upstream gives it to its socket to
//! just after the client's read that brings it.

use super::{
    Setting,
    setting::{Pair, milliseconds},
    support::{
        MIB, Result,
        line::Rate,
        report::{Report, Row},
        series::Series,
    },
};

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    for rate in [Rate::Megabits(1000), Rate::Megabits(100)] {
        report.add(wait(setting, rate)?);
    }
    Ok(())
}

fn wait(setting: &Setting, rate: Rate) -> Result<Row> {
    // Enough for several pieces on any of the lines; one repetition is many blobs, so that there is a 95th percentile.
    let (size, blobs) = (MIB / 2, if setting.options.quick { 7 } else { 11 });
    let site = setting.site(rate)?;
    let made = setting.repeat(&[site.wharf.process], setting.options.runs(), || {
        let mut waits = Vec::new();
        for _ in 0..blobs {
            let blob = setting.noise.blob(size)?;
            let path = blob.blob_path();
            let served = site.upstream.offer(vec![(path.clone(), blob)]).remove(0);
            let wait = |addr| {
                let received = setting.client.get(addr, &path)?.first_byte;
                let sent = served.take().first_byte.ok_or("the upstream sent nothing")?;
                Result::Ok(milliseconds(received - sent))
            };
            waits.push(Pair { direct: wait(site.upstream.addr)?, through: wait(site.wharf.addr)? });
            site.wharf.settle(&setting.client)?;
        }
        Ok(waits)
    })?;
    let each = |of: fn(&Pair<f64>) -> f64| made.values.iter().flatten().map(of).collect();
    Ok(Row {
        title: format!("first byte of a cold blob, {rate}: from the upstream's to the client's"),
        series: vec![
            Series::new("direct", "ms", each(|pair| pair.direct)),
            Series::new("through wharf", "ms", each(|pair| pair.through)),
        ],
        disturbed: made.disturbed,
        repeated: made.repeated,
    })
}
