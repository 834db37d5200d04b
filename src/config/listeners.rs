//! What is asked at each address: `tls`, `users` and `sign_in` of `[server]`, and `[[listener]]`.

use std::net::SocketAddr;

use toml::Spanned;

use super::{
    Config, ConfigError, DoorFiles, Listener, UsersFile, files,
    raw::{self, Document, anywhere},
    tls,
    values::{self, ClientAuth, Distinct, FilePath, Network},
};
use crate::server::Door;

/// What one table says of it, apart from `allow_clients`.
pub(super) struct RawDoor {
    pub(super) tls: Option<Spanned<raw::Tls>>,
    pub(super) users: Option<Spanned<FilePath>>,
    pub(super) sign_in: Option<Spanned<bool>>,
    pub(super) users_without_tls: Option<bool>,
}

/// What `raw` says, its files read. `by_claim`: there is a registry to which clients bring their own accounts.
pub(super) fn door(
    file: &Document<'_>,
    raw: RawDoor,
    by_claim: bool,
    warnings: &mut Vec<String>,
) -> Result<(Door, DoorFiles), ConfigError> {
    let RawDoor { tls, users, sign_in, users_without_tls } = raw;
    let (tls, tls_files) = match tls {
        Some(tls) => {
            let (tls, files) = tls::build(file, tls, warnings)?;
            (Some(tls), Some(files))
        }
        None => (None, None),
    };
    if let (None, Some(sign_in), false) = (&users, &sign_in, by_claim) {
        let problem = "nobody to sign in: write users = \"…\" with the path of an htpasswd file too, or auth = \"client\" \
                       for a registry to which clients bring their own accounts";
        return Err(ConfigError::at(file, sign_in.span(), problem.to_owned()));
    }
    let sign_in = sign_in.is_some_and(Spanned::into_inner);
    let mut door = Door { tls, sign_in, ..Door::default() };
    let mut files = DoorFiles { tls: tls_files, users: None };
    if let Some(users) = users {
        let path = file.beside(users.get_ref());
        let read = files::read_users(&path).map_err(|problem| {
            ConfigError::at(file, users.span(), format!("{} {problem}", users.get_ref()))
        })?;
        if read.world_readable {
            let path = users.get_ref();
            warnings
                .push(format!("every user of this machine can read {path}: run chmod 600 {path}"));
        }
        door.users = Some(read.users);
        files.users = Some(UsersFile { path, without_tls: users_without_tls.unwrap_or_default() });
    }
    Ok((door, files))
}

/// Refuses passwords that cross a network unprotected, unless that is said.
pub(super) fn check_passwords(
    file: &Document<'_>,
    users: &Spanned<FilePath>,
    (addresses, door, files): (&[SocketAddr], &Door, &DoorFiles),
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut far = addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback());
    let Some(address) = far.next().filter(|_| door.tls.is_none()) else { return Ok(()) };
    if files.users.as_ref().is_some_and(|users| users.without_tls) {
        warnings.push(format!(
            "passwords cross the network unprotected to {address}, unless what is in front of wharf speaks TLS"
        ));
        return Ok(());
    }
    let problem = format!(
        "passwords would cross the network unprotected to {address}: write tls = {{ cert = \"…\", key = \"…\" }} too, or \
         users_without_tls = true if what is in front of wharf speaks TLS"
    );
    Err(ConfigError::at(file, users.span(), problem))
}

/// The `[[listener]]` tables of `file` in its order; `listen` is what `[server]` listens on.
pub(super) fn build(
    file: &Document<'_>,
    raw: Vec<Spanned<raw::Listener>>,
    listen: &[SocketAddr],
    by_claim: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners = Vec::<Listener>::new();
    for raw in raw {
        let span = raw.span();
        let raw::Listener { address, allow_clients, tls, users, sign_in, users_without_tls } =
            raw.into_inner();
        let Some(address) = address else {
            let problem =
                "a listener without an address: write address = \"…\", such as \"0.0.0.0:5443\"";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        let at = address.get_ref().0;
        if listen.contains(&at) || listeners.iter().any(|known| known.address == at) {
            let problem = format!(
                "{at} is listened on already, by [server] listen or another [[listener]]: write each address once"
            );
            return Err(ConfigError::at(file, address.span(), problem));
        }
        let users_at = users.clone();
        let raw_door = RawDoor { tls, users, sign_in, users_without_tls };
        let (mut door, files) = door(file, raw_door, by_claim, warnings)?;
        door.allow_clients = allow_clients.map(Into::into).unwrap_or_default();
        if let Some(users) = &users_at {
            check_passwords(file, users, (&[at], &door, &files), warnings)?;
        }
        listeners.push(Listener { address: at, door, files });
    }
    Ok(listeners)
}

/// Refuses an address that is none of wharf's.
pub(super) fn check_known(
    file: &Document<'_>,
    listener: &Spanned<values::Listener>,
    config: &Config,
) -> Result<(), ConfigError> {
    let addresses: Vec<_> = config.addresses().collect();
    if addresses.contains(&listener.get_ref().0) {
        return Ok(());
    }
    let known = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let problem = format!(
        "wharf does not listen on {}: write one of server.listen, or of a [[listener]], which are {known}",
        listener.get_ref()
    );
    Err(ConfigError::at(file, listener.span(), problem))
}

/// One table in the file's form.
pub(super) fn shown(listener: &Listener) -> raw::Listener {
    let Listener { address, door, files } = listener;
    let RawDoor { tls, users, sign_in, users_without_tls } = shown_door(door, files);
    raw::Listener {
        address: Some(anywhere(values::Listener(*address))),
        allow_clients: Some(Distinct(door.allow_clients.iter().copied().map(Network).collect())),
        tls,
        users,
        sign_in,
        users_without_tls,
    }
}

/// What is asked at an address, in the file's form.
pub(super) fn shown_door(door: &Door, files: &DoorFiles) -> RawDoor {
    let path = |path: &std::path::PathBuf| anywhere(FilePath(path.clone()));
    let DoorFiles { tls, users } = files;
    let tls = tls.as_ref().map(|files| {
        anywhere(raw::Tls {
            cert: Some(path(&files.cert)),
            key: Some(path(&files.key)),
            client_ca: files.client_ca.as_ref().map(|(ca, _)| path(ca)),
            client_crl: files.client_crl.as_ref().map(path),
            client_auth: files.client_ca.as_ref().map(|(_, auth)| anywhere(ClientAuth(*auth))),
        })
    });
    RawDoor {
        tls,
        users: users.as_ref().map(|users| path(&users.path)),
        sign_in: (users.is_some() || door.sign_in).then(|| anywhere(door.sign_in)),
        users_without_tls: users.as_ref().map(|users| users.without_tls),
    }
}
