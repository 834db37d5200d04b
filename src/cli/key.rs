//! `wharf key`: the keys that bundles are signed with.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{Failure, say, say_json};
use crate::bundle::{KEY_MAX_BYTES, KeyError, PublicKey, SecretKey};

const EXAMPLES: &str = "\
Examples:
  wharf key new site.key                          site.key signs, site.key.pub checks
  wharf export --sign site.key --file images.txt -o site.tar
  minisign -Vm wharf-bundle.json -p site.key.pub  the same keys as minisign's

The secret key stays where bundles are made: who has it can send a site anything. Without --password it is not encrypted,
so that a nightly export needs nobody; only the file's owner can read it.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Make keys to sign bundles with
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    New(New),
}

/// Make a pair of keys
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct New {
    /// The secret key; the public one goes beside it, with .pub behind its name
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Encrypt the secret key with a password that is asked for
    #[arg(long, conflicts_with = "password_file")]
    password: bool,
    /// Encrypt it with the password in the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl KeyCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::New(new) = self;
        new.run()
    }
}

impl New {
    fn run(self) -> Result<(), Failure> {
        let Self { path, password, password_file, json } = self;
        let mut public_path = path.clone().into_os_string();
        public_path.push(".pub");
        let public_path = PathBuf::from(public_path);
        for path in [&path, &public_path] {
            if path.symlink_metadata().is_ok() {
                return Err(Failure::Failed(format!(
                    "{} is there already: choose another name, for who replaces a key can check nothing that it signed",
                    path.display()
                )));
            }
        }
        let password = match password_file {
            Some(path) => Some(first_line(&path)?),
            None if password => Some(new_password()?),
            None => None,
        };
        let made = SecretKey::generate(password.as_deref());
        let (secret, public) = made.map_err(|error| Failure::Failed(error.to_string()))?;
        write(&path, 0o600, &secret)?;
        write(&public_path, 0o644, &public.to_file())?;
        let (id, public) = (public.id(), public.to_string());
        if json {
            let (secret, file) = (path.display().to_string(), public_path.display().to_string());
            say_json(&serde_json::json!({
                "id": id, "public": public, "secret_file": secret, "public_file": file,
            }));
        } else {
            say(&format!(
                "{}: signs; keep it where bundles are made, and a copy where it is safe\n{}: checks, as key {id}; at \
                 the site: trusted_keys = [\"{public}\"]",
                path.display(),
                public_path.display()
            ));
        }
        Ok(())
    }
}

/// The secret key in the file `path`. Its password, if it has one, is in `password_file`, or asked for.
pub(super) fn secret(path: &Path, password_file: Option<&Path>) -> Result<SecretKey, Failure> {
    let wrong = |error: KeyError| Failure::Usage(format!("--sign {}: {error}", path.display()));
    let text = read(path)?;
    match SecretKey::parse(&text, None) {
        Err(KeyError::Encrypted) => {}
        read => return read.map_err(wrong),
    }
    let password = match password_file {
        Some(path) => first_line(path)?,
        None if io::stdin().is_terminal() => ask(&format!("Password of {}: ", path.display()))?,
        None => {
            let more = "write it into a file, and say --password-file";
            return Err(Failure::Usage(format!(
                "--sign {}: {}: {more}",
                path.display(),
                KeyError::Encrypted
            )));
        }
    };
    SecretKey::parse(&text, Some(&password)).map_err(wrong)
}

/// The public key that `text` is, or that the file of this name holds.
pub(super) fn public(text: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let wrong = |error: KeyError| Failure::Usage(format!("{text}: {error}"));
    read(Path::new(text))?.parse().map_err(wrong)
}

fn new_password() -> Result<String, Failure> {
    let password = ask("Password for the new secret key: ")?;
    if password.is_empty() {
        return Err(Failure::Usage("an empty password protects nothing".to_owned()));
    }
    if ask("The same again: ")? != password {
        return Err(Failure::Usage("these are two different passwords".to_owned()));
    }
    Ok(password)
}

/// Asks at the terminal, whatever standard input and output are.
fn ask(prompt: &str) -> Result<String, Failure> {
    let answer = rpassword::prompt_password(prompt);
    answer.map_err(|error| Failure::Failed(format!("no password could be asked for: {error}")))
}

fn first_line(path: &Path) -> Result<String, Failure> {
    Ok(read(path)?.lines().next().unwrap_or_default().to_owned())
}

/// A small file of text.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let most = KEY_MAX_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    read.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok(text)
}

/// Writes a file that is not there yet.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}
