//! Other people's servers, as processes of their own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{Result, now, pause, process::Process};

/// How long one may take to listen.
const START: Duration = Duration::from_secs(10);

/// A server that listens. It ends when this is dropped, and its directory goes with it.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    child: Child,
    dir: TempDir,
}

/// An address on loopback for a server that cannot be asked where it listens: free now, and nobody else is likely to
/// take it.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Running {
    /// Starts `command`, which listens on `addr` and keeps everything in `dir`.
    pub(crate) fn start(mut command: Command, addr: SocketAddr, dir: TempDir) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut running = Self { addr, process: Process(child.id()), child, dir };
        let until = now() + START;
        while TcpStream::connect(addr).is_err() {
            if running.child.try_wait()?.is_some() || now() >= until {
                return Err(format!("{name} did not start").into());
            }
            pause(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Where it keeps everything.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
