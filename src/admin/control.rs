//! The control socket: where the commands of the machine's own operator reach the daemon.

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Longest path that the address of a socket takes, without the zero at its end (unix(7)).
const ADDRESS_MAX_BYTES: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// A bound control socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    pub(super) listener: UnixListener,
}

impl Control {
    /// Binds the socket at `path`, for the owner alone. Who calls this must hold the lock of the cache directory,
    /// and hold it for as long as this lives: a socket that is there already is a dead wharf's, and is replaced.
    ///
    /// # Errors
    /// When the directory takes no socket.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(Address::of(&new)?.as_path())?;
        // Nobody can connect before it listens; then it is its owner's alone already, and whole under its name.
        let listener = fs::set_permissions(&new, Permissions::from_mode(0o600))
            .and_then(|()| socket.listen(BACKLOG))
            .and_then(|listener| fs::rename(&new, path).map(|()| listener))
            .inspect_err(|_| drop(fs::remove_file(&new)))?;
        Ok(Self { path: path.into(), listener })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

/// Connects to the wharf whose control socket is at `path`.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = Address::of(path)?;
    UnixStream::connect(address.as_path()).await
}

/// A path short enough for the address of a socket.
struct Address {
    path: PathBuf,
    /// Held open while the path goes through it.
    _dir: Option<File>,
}

impl Address {
    /// `path` itself, or where that is too long, its name below its directory's descriptor in `/proc`.
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= ADDRESS_MAX_BYTES {
            return Ok(Self { path: path.into(), _dir: None });
        }
        let dir = File::open(path.parent().unwrap_or_else(|| Path::new("/")))?;
        let name = path.file_name().unwrap_or_else(|| OsStr::new(""));
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(dir) })
    }

    fn as_path(&self) -> &Path {
        &self.path
    }
}
