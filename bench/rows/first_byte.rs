//! How long the first byte of a cold blob is on its way: from just before the upstream gives it to its socket to
//! just after the client's read that brings it.

use super::{
    Setting,
    peers::{Peers, row},
    setting::milliseconds,
    support::{
        MIB, Result,
        line::Rate,
        report::{Report, Row},
        upstream::Manner,
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
    let (size, blobs) = (MIB / 2, if setting.options.quick { 3 } else { 11 });
    let peers = Peers::start(setting, Manner::plain(rate), "")?;
    let made = peers.take_turns(setting, size, blobs, |way, path, served| {
        let received = setting.client.get(way.addr, path)?.first_byte;
        let sent = served.first_byte().ok_or("the upstream sent nothing")?;
        Ok(milliseconds(received - sent))
    })?;
    let mut row = row(
        &peers.ways(),
        &made,
        format!("first byte, {rate}"),
        format!("first byte of a cold blob, {rate}: from the upstream's to the client's"),
    );
    // A few tenths of a millisecond beside a few hundredths: the difference is what counts.
    row.ratios.retain(|ratio| ratio.peer != "direct");
    Ok(row)
}
