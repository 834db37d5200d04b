//! A client that speaks TLS, and sees how a handshake ends.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, pki_types::CertificateDer,
    pki_types::pem::PemObject,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Identity, TestCa, client, deadline};

/// A client that trusts one authority, and remembers its sessions.
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// One that shows `identity`, whatever authorities the server names.
    pub(crate) fn new(ca: &TestCa, identity: Option<&Identity>) -> Self {
        Self::speaking(rustls::ALL_VERSIONS, ca, identity)
    }

    /// One that speaks these versions and no other.
    pub(crate) fn speaking(
        versions: &[&'static SupportedProtocolVersion],
        ca: &TestCa,
        identity: Option<&Identity>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("PEM");
        roots.add(ca).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring speaks them")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.der();
                builder.with_client_auth_cert(chain, key).expect("the key is the certificate's")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// The same, that would speak HTTP/2 as well: so does Go, in which most clients are written.
    pub(crate) fn or_http2(self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Self(Arc::new(config))
    }

    /// A connection after its handshake. In TLS 1.3 the server may refuse the client's certificate later.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.secure(TcpStream::connect(addr).await?).await
    }

    /// The same, on a connection that is open.
    pub(crate) async fn secure(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let server = socket.peer_addr()?.ip().into();
        let connected = TlsConnector::from(Arc::clone(&self.0)).connect(server, socket);
        deadline("a TLS handshake", connected).await
    }

    /// `GET` of a path, and the whole answer.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) async fn get(&self, addr: SocketAddr, path: &str) -> client::Answer {
        self.request("GET", addr, path).await
    }

    /// A request without a body, and the whole answer.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) async fn request(
        &self,
        method: &str,
        addr: SocketAddr,
        path: &str,
    ) -> client::Answer {
        let stream = self.connect(addr).await.expect("a handshake");
        let opened = client::over(stream, method, addr, path, &[]);
        let opened = deadline(&format!("an answer to {path}"), opened).await;
        opened.expect("an answer").rest().await
    }

    /// Sends `bytes`, and all that comes back until the other side ends it.
    ///
    /// # Errors
    /// When it is not ended as TLS ends, or was refused.
    pub(crate) async fn send_raw(&self, addr: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect(addr).await?;
        let mut heard = Vec::new();
        let talk = async {
            // What is sent after the other side has heard enough is lost.
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            stream.read_to_end(&mut heard).await
        };
        deadline("the other side to end the connection", talk).await?;
        Ok(heard)
    }

    /// The first bytes that it says.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let name = "localhost".try_into().expect("a name");
        let mut client =
            rustls::ClientConnection::new(Arc::clone(&self.0), name).expect("a client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("a vector takes all");
        hello
    }
}
