//! The files that a configuration points to, read with a bound and said to be wrong in a sentence.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::{oci::Platform, server::Users};

/// A configuration file is a page of text.
pub(super) const CONFIG_MAX_BYTES: u64 = 1024 * 1024;
/// A bundle of every public certificate authority takes a quarter of this.
const PEM_MAX_BYTES: u64 = 1024 * 1024;
/// Ten thousand users' lines.
const USERS_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A few hundred processors' worth.
const CPUINFO_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A file of certificates or keys, and whether others on this machine can read it.
pub(super) struct Pem {
    pub(super) bytes: Vec<u8>,
    pub(super) world_readable: bool,
}

/// An htpasswd file, and whether others on this machine can read it.
pub(super) struct UsersRead {
    pub(super) users: Users,
    pub(super) world_readable: bool,
}

/// What this machine runs: of a 32-bit ARM processor the kernel tells the variant.
pub(super) fn host() -> Platform {
    let cpuinfo = read_text(Path::new("/proc/cpuinfo"), CPUINFO_MAX_BYTES).unwrap_or_default();
    Platform::host().with_cpuinfo(&cpuinfo)
}

/// The text of the file at `path`.
pub(super) fn read_text(path: &Path, max_bytes: u64) -> Result<String, String> {
    let file = open(path)?;
    text_of(file, max_bytes)
}

/// The certificates in the file at `path`. Only their PEM frame is looked at here: what is inside is
/// read when connections are set up.
pub(super) fn read_ca(path: &Path) -> Result<Vec<u8>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = text_of(open(path)?, PEM_MAX_BYTES)?;
    let begun = text.matches(BEGIN).count();
    if begun == 0 || begun != text.matches(END).count() {
        return Err(format!("holds no whole PEM certificate ({BEGIN} … {END})"));
    }
    Ok(text.into_bytes())
}

/// The users in the htpasswd file at `path`.
pub(super) fn read_users(path: &Path) -> Result<UsersRead, String> {
    let file = open(path)?;
    let world_readable = is_world_readable(&file)?;
    let text = text_of(file, USERS_MAX_BYTES)?;
    let users = Users::parse(&text).map_err(|(line, problem)| format!("line {line} {problem}"))?;
    Ok(UsersRead { users, world_readable })
}

/// The file at `path`, whatever is in it.
pub(super) fn read_pem(path: &Path) -> Result<Pem, String> {
    let file = open(path)?;
    let world_readable = is_world_readable(&file)?;
    Ok(Pem { bytes: bytes_of(file, PEM_MAX_BYTES)?, world_readable })
}

fn is_world_readable(file: &File) -> Result<bool, String> {
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    Ok(metadata.permissions().mode() & 0o004 != 0)
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| unreadable(&error))
}

fn text_of(file: File, max_bytes: u64) -> Result<String, String> {
    String::from_utf8(bytes_of(file, max_bytes)?).map_err(|_| "is not UTF-8 text".to_owned())
}

fn bytes_of(file: File, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("is larger than {max_bytes} bytes"));
    }
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
