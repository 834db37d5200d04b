//! A cold blob over a line on which each connection gets but a part: one connection beside wharf, which may open several.

use std::time::Duration;

use super::{
    Setting,
    support::{
        MIB, Result,
        line::Rate,
        now,
        report::{Report, Row},
        upstream::Manner,
    },
};

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size() / if setting.options.quick { 4 } else { 1 };
    report.add(pull(setting, size)?);
    Ok(())
}

fn pull(setting: &Setting, size: u64) -> Result<Row> {
    let (rate, each) = (Rate::Megabits(1000), Rate::Megabits(100));
    let round_trip = Duration::from_millis(50);
    let site = setting.site_with(Manner { each, round_trip, ..Manner::plain(rate) }, "")?;
    let offer = || {
        // Of a blob that no manifest names, nobody knows how long it is.
        let (config, blob) = (setting.noise.blob(4096)?, setting.noise.blob(size)?);
        let manifest = setting.noise.manifest(&[config.clone(), blob.clone()])?;
        let paths = [manifest.manifest_path(), blob.blob_path()];
        let offers = vec![
            (paths[1].clone(), blob),
            (paths[0].clone(), manifest),
            (config.blob_path(), config),
        ];
        Ok((paths, site.upstream.offer(offers).remove(0)))
    };
    let made = setting.take_turns(&site, offer, |addr, (paths, served)| {
        // Everyone begins without a connection.
        site.upstream.hang_up();
        let begun = now();
        let ended = setting.client.run(async {
            let mut connection = setting.client.connect(addr).await?;
            connection.get(&paths[0]).await?.whole()?;
            connection.get(&paths[1]).await?.whole()
        })?;
        let took = ended.ended - begun;
        if addr != site.upstream.addr {
            site.wharf.settle(&setting.client)?;
        }
        Ok((took, served.take()))
    })?;
    let (mib, away) = (size / MIB, round_trip.as_millis());
    let row = made.compared(
        format!("cold blob, {mib} MiB, {each} a connection"),
        format!(
            "cold blob, {mib} MiB, {rate} of which each connection gets {each}, {away} ms away"
        ),
        size,
    );
    Ok(row)
}
