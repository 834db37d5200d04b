//! An upstream that cuts every connection after 5 MiB of a body: wharf goes on, its client notices nothing.

use std::{net::SocketAddr, time::Duration};

use super::{
    Setting,
    support::{
        MIB, Result,
        line::Rate,
        now,
        report::Report,
        upstream::{Manner, Served},
    },
};

const EVERY: u64 = 5 * MIB;

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    let rate = Rate::Megabits(1000);
    let site = setting.site_with(Manner { cut_every: Some(EVERY), ..Manner::plain(rate) }, "")?;
    let offer = || {
        let blob = setting.noise.blob(size)?;
        let path = blob.blob_path();
        let served = site.upstream.offer(vec![(path.clone(), blob)]).remove(0);
        Ok((path, served))
    };
    let made = setting.take_turns(&site, offer, |addr, (path, served): &(String, _)| {
        let served: &std::sync::Arc<Served> = served;
        let took = match addr == site.upstream.addr {
            true => persistently(setting, addr, path, size)?,
            false => {
                let begun = now();
                setting.client.get(addr, path)?.ended - begun
            }
        };
        Ok((took, served.take()))
    })?;
    let mib = size / MIB;
    let row = made.compared(
        format!("cut every {} MiB, {mib} MiB, {rate}", EVERY / MIB),
        format!(
            "cut every {} MiB: cold blob, {mib} MiB, {rate}; direct: a client that goes on at once",
            EVERY / MIB
        ),
        size,
    );
    report.add(row);
    Ok(())
}

/// Pulls by itself, with a new connection from where the last one ended.
fn persistently(setting: &Setting, addr: SocketAddr, path: &str, size: u64) -> Result<Duration> {
    setting.client.run(async {
        let begun = now();
        let mut received = 0;
        while received < size {
            let fetched = setting.client.connect(addr).await?.get_from(path, received).await?;
            if fetched.bytes == 0 {
                return Err("the upstream sends no more".into());
            }
            received += fetched.bytes;
        }
        Ok(begun.elapsed())
    })
}
