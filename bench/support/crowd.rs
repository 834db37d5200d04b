//! Many readers of one thing at the same time, none of whom takes it all.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::{
    MIB, Result,
    client::Client,
    wire::{Wire, connect},
};

/// How long everybody waits with an answer begun: enough for the server to fill what it fills.
const HOLD: Duration = Duration::from_millis(500);

/// What each reads, at most.
const EACH_BYTES: u64 = MIB;

/// How long each waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has `readers` connections ask for `path`, wait with its first bytes read, and read on for a while before they hang up. How
/// many of them waited for bytes in vain.
pub(crate) fn read(client: &Client, addr: SocketAddr, path: &str, readers: usize) -> Result<usize> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept: */*\r\n\r\n");
    let (request, buffer) = (request.as_bytes(), client.buffer());
    client.run(async {
        let begin = (0..readers).map(|_| async {
            let mut wire = Wire::Plain(connect(addr).await?);
            wire.send(request).await?;
            let came = timeout(PATIENCE, wire.skip(0, buffer)).await;
            let Ok(came) = came else { return Ok(None) };
            came?.ok_or("no answer")?;
            Result::Ok(Some(wire))
        });
        let mut wires: Vec<_> = try_join_all(begin).await?.into_iter().flatten().collect();
        sleep(HOLD).await;
        let go_on = wires.iter_mut().map(|wire| async {
            let mut came = 0;
            while came < EACH_BYTES {
                let next = timeout(PATIENCE, wire.skip(EACH_BYTES, buffer)).await;
                let Ok(next) = next else { return Ok(false) };
                came += next?.ok_or("an answer broke off")?;
            }
            Result::Ok(true)
        });
        let ended = try_join_all(go_on).await?;
        Ok(readers - ended.into_iter().filter(|ended| *ended).count())
    })
}
