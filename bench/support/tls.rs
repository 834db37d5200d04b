//! A certificate for every server, and how clients speak TLS with them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider},
    pki_types::ServerName,
    version::TLS13,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Result;

/// A certificate for 127.0.0.1 (ECDSA, P-256), and a client that trusts it.
pub(crate) struct Tls {
    /// PEM files.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    connector: TlsConnector,
    _dir: TempDir,
}

impl Tls {
    /// The client knows TLS 1.3 and one cipher suite, so that every server does the same arithmetic, and resumes no
    /// session: each connection pays for a whole handshake.
    pub(crate) fn make(parent: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tls-bench-").tempdir_in(parent)?;
        let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let mut provider = default_provider();
        provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { certificate, key, connector: Arc::new(config).into(), _dir: dir })
    }

    /// Shakes hands.
    pub(crate) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        Ok(self.connector.connect(name, stream).await?)
    }
}
