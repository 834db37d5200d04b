//! Files with secrets, read with a bound.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::upstream::Secret;

/// A token is a few kilobytes at most, and so is a list of accounts.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// A password, and whether others on this machine can read it.
#[derive(Debug)]
pub struct Password {
    /// The text.
    pub text: Secret,
    /// Whether every user of this machine may read its file.
    pub world_readable: bool,
}

/// The password in the file at `path`: its one line.
///
/// # Errors
/// What is wrong with the file, to be said after its name.
pub fn read_password(path: &Path) -> Result<Password, String> {
    let (mut text, world_readable) = read(path)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() {
        return Err("is empty: write the password or access token into it".to_owned());
    }
    if text.contains(['\r', '\n']) {
        return Err("holds more than one line: write only the password into it".to_owned());
    }
    Ok(Password { text: Secret::new(text), world_readable })
}

/// The text of the file at `path`.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    read(path).map(|(text, _)| text)
}

fn read(path: &Path) -> Result<(String, bool), String> {
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    file.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > SECRET_MAX_BYTES {
        return Err(format!("is larger than {SECRET_MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok((text, metadata.permissions().mode() & 0o004 != 0))
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
