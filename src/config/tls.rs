//! `[server] tls`: from the paths of PEM files to what the server needs, checked.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use toml::Spanned;

use super::{
    ConfigError, DoorFiles, TlsFiles,
    files::{self, Pem},
    raw::{self, Document},
    values::FilePath,
};
use crate::server::{ClientAuth, Clients, Tls, TlsError, Users};

/// What `raw` says, its files read.
pub(super) fn build(
    file: &Document<'_>,
    raw: Spanned<raw::Tls>,
    warnings: &mut Vec<String>,
) -> Result<(Tls, TlsFiles), ConfigError> {
    let span = raw.span();
    let raw::Tls { cert, key, client_ca, client_crl, client_auth } = raw.into_inner();
    let missing = |what: &str| ConfigError::at(file, span.clone(), what.to_owned());
    let Some(cert) = cert else {
        return Err(missing("TLS without a certificate: write cert = \"…\" too"));
    };
    let Some(key) = key else { return Err(missing("TLS without a key: write key = \"…\" too")) };
    if let (None, Some(auth)) = (&client_ca, &client_auth) {
        let problem = "nobody to believe about clients: write client_ca = \"…\" too";
        return Err(ConfigError::at(file, auth.span(), problem.to_owned()));
    }
    if let (None, Some(crl)) = (&client_ca, &client_crl) {
        let problem = "no authority whose list this could be: write client_ca = \"…\" too";
        return Err(ConfigError::at(file, crl.span(), problem.to_owned()));
    }
    let certificates = read(file, &cert)?;
    let secret = read(file, &key)?;
    let authorities = client_ca.as_ref().map(|path| read(file, path)).transpose()?;
    let revoked = client_crl.as_ref().map(|path| read(file, path)).transpose()?;
    let revoked = revoked.map(|pem| pem.bytes);
    let auth = client_auth.map(|auth| auth.get_ref().0).unwrap_or_default();
    let clients = authorities.map(|pem| Clients { authorities: pem.bytes, revoked, auth });
    let tls = Tls::new(&certificates.bytes, &secret.bytes, clients).map_err(|error| {
        let at = match error {
            TlsError::Certificate(_) => &cert,
            TlsError::Key(_) => &key,
            TlsError::ClientCa(_) => client_ca.as_ref().unwrap_or(&cert),
            TlsError::ClientCrl(_) => client_crl.as_ref().unwrap_or(&cert),
        };
        about(file, at, &error.to_string())
    })?;
    if secret.world_readable {
        let path = key.get_ref();
        warnings.push(format!("every user of this machine can read {path}: run chmod 600 {path}"));
    }
    for list in tls.ran_out(SystemTime::now()) {
        let path = client_crl.as_ref().unwrap_or(&cert).get_ref();
        warnings.push(format!(
            "{path} holds a list of revoked certificates {list}; it counts on, and knows of none that were revoked since: \
             have that authority issue another"
        ));
    }
    let files = TlsFiles {
        cert: file.beside(cert.get_ref()),
        key: file.beside(key.get_ref()),
        client_ca: client_ca.map(|path| (file.beside(path.get_ref()), auth)),
        client_crl: client_crl.map(|path| file.beside(path.get_ref())),
    };
    Ok((tls, files))
}

/// What a look at files tells of whether they were written since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps(Vec<Option<(u64, u64, SystemTime)>>);

impl TlsFiles {
    /// Whether clients are served only with a certificate.
    pub fn need_certificates(&self) -> bool {
        self.client_ca.as_ref().is_some_and(|(_, auth)| *auth == ClientAuth::Required)
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// One sentence that begins with a path.
    pub fn read(&self) -> Result<Tls, String> {
        let read = |path: &Path| {
            files::read_pem(path).map_err(|problem| format!("{} {problem}", path.display()))
        };
        let (certificates, secret) = (read(&self.cert)?, read(&self.key)?);
        let revoked = self.client_crl.as_ref().map(|path| read(path)).transpose()?;
        let revoked = revoked.map(|pem| pem.bytes);
        let clients = self.client_ca.as_ref().map(|(path, auth)| {
            let authorities = read(path)?.bytes;
            Ok::<_, String>(Clients { authorities, revoked, auth: *auth })
        });
        let clients = clients.transpose()?;
        Tls::new(&certificates.bytes, &secret.bytes, clients).map_err(|error| {
            let path = match error {
                TlsError::Certificate(_) => &self.cert,
                TlsError::Key(_) => &self.key,
                TlsError::ClientCa(_) => {
                    self.client_ca.as_ref().map_or(&self.cert, |(path, _)| path)
                }
                TlsError::ClientCrl(_) => self.client_crl.as_ref().unwrap_or(&self.cert),
            };
            format!("{} {error}", path.display())
        })
    }
}

impl DoorFiles {
    /// Reads the users again, if there is a file of them.
    pub fn read_users(&self) -> Option<Result<Users, String>> {
        let path = &self.users.as_ref()?.path;
        let read = files::read_users(path).map(|read| read.users);
        Some(read.map_err(|problem| format!("{} {problem}", path.display())))
    }

    /// What a look at the files tells now, those that links lead to.
    pub fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
        };
        let tls = self.tls.iter().flat_map(|files| {
            let client_ca = files.client_ca.as_ref().map(|(path, _)| path);
            [&files.cert, &files.key].into_iter().chain(client_ca).chain(&files.client_crl)
        });
        let users = self.users.as_ref().map(|users| &users.path);
        Stamps(tls.chain(users).map(stamp).collect())
    }
}

fn read(file: &Document<'_>, path: &Spanned<FilePath>) -> Result<Pem, ConfigError> {
    files::read_pem(&file.beside(path.get_ref())).map_err(|problem| about(file, path, &problem))
}

/// A sentence that begins with the path as it was written.
fn about(file: &Document<'_>, path: &Spanned<FilePath>, problem: &str) -> ConfigError {
    ConfigError::at(file, path.span(), format!("{} {problem}", path.get_ref()))
}
