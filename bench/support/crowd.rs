//! Many readers of one thing at the same time, none of whom takes it all.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{
    MIB, Result,
    client::Client,
    wire::{Wire, connect},
};

/// How long everybody waits with an answer begun: enough for the server to fill what it fills.
const HOLD: Duration = Duration::from_millis(500);

/// What each reads, at most.
const EACH_BYTES: u64 = MIB;

/// Has `readers` connections ask for `path`, wait with its first bytes read, and read on for a while before they hang up.
pub(crate) fn read(client: &Client, addr: SocketAddr, path: &str, readers: usize) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept: */*\r\n\r\n");
    let (request, buffer) = (request.as_bytes(), client.buffer());
    client.run(async {
        let begin = (0..readers).map(|_| async {
            let mut wire = Wire::Plain(connect(addr).await?);
            wire.send(request).await?;
            wire.skip(0, buffer).await?.ok_or("no answer")?;
            Result::Ok(wire)
        });
        let mut wires = try_join_all(begin).await?;
        sleep(HOLD).await;
        let go_on = wires.iter_mut().map(|wire| async {
            let mut came = 0;
            while came < EACH_BYTES {
                came += wire.skip(EACH_BYTES, buffer).await?.ok_or("an answer broke off")?;
            }
            Result::Ok(())
        });
        try_join_all(go_on).await?;
        Ok(())
    })
}
