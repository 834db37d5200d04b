//! TLS on the registry address: the handshake, and the names in the certificate that a client has shown.
//!
//! Long by its tests.

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod revoked;

use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_cert::{
    Certificate,
    der::{Decode as _, oid::db::rfc4519},
    ext::pkix::{
        SubjectAltName,
        name::{DirectoryString, GeneralName},
    },
};

use self::revoked::Lists;
use super::http2;

/// What the registry address needs to speak TLS, checked. Clones are the same one, and change together.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Current>>);

/// What counts for connections that are opened now.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    identity: Arc<CertifiedKey>,
    clients: Option<Clients>,
    /// Of the lists that count.
    lists: Vec<revoked::Span>,
    /// Of those of which nobody was told yet that they have run out.
    lasting: Vec<revoked::Span>,
}

/// Which certificates of clients are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM certificates of their authorities.
    pub authorities: Vec<u8>,
    /// PEM lists of what these have taken back, one of each.
    pub revoked: Option<Vec<u8>>,
    /// Whether one must be shown.
    pub auth: ClientAuth,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It may; what it shows must be good.
    #[default]
    Optional,
    /// It must.
    Required,
}

/// Why files do not make a [`Tls`]: which one, and how a sentence that begins with its name goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The server's certificates.
    #[error("{0}")]
    Certificate(&'static str),
    /// The key of the first of them.
    #[error("{0}")]
    Key(&'static str),
    /// The authorities of clients.
    #[error("{0}")]
    ClientCa(&'static str),
    /// The lists of what these have taken back.
    #[error("{0}")]
    ClientCrl(String),
}

/// The first byte of a connection that begins with TLS: a handshake record
/// ([RFC 8446 §5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
const FIRST_BYTE: u8 = 22;

/// HTTP/1.1, as handshakes call it ([RFC 7301 §6](https://www.rfc-editor.org/rfc/rfc7301#section-6)).
const HTTP1: &[u8] = b"http/1.1";

/// Most names that are taken from one certificate.
const SUBJECTS_MAX: usize = 16;

/// Longest name that is taken. A longer one is left out: cut short, it could be somebody else's.
const SUBJECT_MAX_BYTES: usize = 256;

const NO_CERTIFICATE: &str = "holds no PEM certificate: write one that begins with \
                              -----BEGIN CERTIFICATE----- into it";
const BAD_CERTIFICATE: &str = "holds a certificate that cannot be read: write it anew, as its \
                               authority gave it, in PEM form";
const NO_KEY: &str = "holds no PEM private key: write one that begins with \
                      -----BEGIN PRIVATE KEY----- into it";
const ENCRYPTED_KEY: &str = "holds an encrypted key, and nobody is there to type its password: \
                             decrypt it with openssl pkey, and run chmod 600 on what comes out";
const UNKNOWN_KEY: &str = "holds a key that cannot be used: write an ECDSA key (P-256 or P-384), \
                           an Ed25519 key, or an RSA key of 2048 to 8192 bits";
const OTHER_KEY: &str = "does not belong to the certificate: write the key that the certificate \
                         was issued for";

impl Tls {
    /// Answers as the first of `certificates`, whose key is `key`; the others lead from it to an authority.
    /// Clients may show certificates that `clients` believes, or must.
    ///
    /// # Errors
    /// Which of the files is wrong, and what to write into it.
    pub fn new(
        certificates: &[u8],
        key: &[u8],
        clients: Option<Clients>,
    ) -> Result<Self, TlsError> {
        // The provider is passed by hand: a process-wide one would be set behind the back of other edges.
        let provider = Arc::new(ring::default_provider());
        let chain = pem_certificates(certificates).map_err(TlsError::Certificate)?;
        let identity = Arc::new(identity(chain, private_key(key)?, &provider)?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let mut lasting = Vec::new();
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let verifier;
                (verifier, lasting) = self::verifier(clients, provider)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity))));
        // In the order in which wharf likes them.
        config.alpn_protocols = vec![http2::ALPN.to_vec(), HTTP1.to_vec()];
        // Old Docker Engines open a connection for each request. What is resumed is not verified again: a
        // client's certificate counts for up to twelve hours, the life of a ticket, beyond its end.
        if let Ok(ticketer) = ring::Ticketer::new() {
            config.ticketer = ticketer;
        }
        let lists = lasting.clone();
        let current = Current { config: Arc::new(config), identity, clients, lists, lasting };
        Ok(Self(Arc::new(RwLock::new(current))))
    }

    /// From the next connection on, does as `new`; those that are open go on. Whether that is anything else.
    ///
    /// Sessions can be taken up again behind that, unless it is about clients that something has changed: whom one of their
    /// old authorities has vouched for must show a certificate anew.
    pub fn adopt(&self, new: &Self) -> bool {
        let mut new = new.current();
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let same_clients = current.clients == new.clients;
        if same_clients && current.identity.cert == new.identity.cert {
            return false;
        }
        if same_clients {
            let mut config = ServerConfig::clone(&new.config);
            config.ticketer = Arc::clone(&current.config.ticketer);
            config.session_storage = Arc::clone(&current.config.session_storage);
            new.config = Arc::new(config);
            new.lasting.clone_from(&current.lasting);
        }
        *current = new;
        true
    }

    /// A list of revoked certificates in `new` that has run out by `now`, and is older than that of the same authority which
    /// counts here: not to be adopted, since it knows less.
    pub fn has_better_list(&self, new: &Self, now: SystemTime) -> Option<String> {
        let (current, new) = (self.current(), new.current());
        let is_older = |new: &revoked::Span| {
            let mut own = current.lists.iter().filter(|own| own.issuer == new.issuer);
            own.any(|own| (own.since, own.until) > (new.since, new.until))
        };
        new.lists.iter().find(|list| list.until <= now && is_older(list)).map(told_of)
    }

    /// Whether clients may show a certificate.
    pub fn takes_certificates(&self) -> bool {
        self.current().clients.is_some()
    }

    /// Whether a client that shows no certificate is turned away.
    pub fn wants_certificate(&self) -> bool {
        self.current().clients.is_some_and(|clients| clients.auth == ClientAuth::Required)
    }

    /// The lists of revoked certificates that have run out by `now`, each told once, by whose it is and when
    /// it ran out. They count on.
    pub fn ran_out(&self, now: SystemTime) -> Vec<String> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let lists = std::mem::take(&mut current.lasting).into_iter();
        let (lasting, ended): (Vec<_>, Vec<_>) = lists.partition(|list| list.until > now);
        current.lasting = lasting;
        ended.iter().map(told_of).collect()
    }

    /// Whether both answer with the same certificate, and believe the same clients.
    #[cfg(test)]
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let (own, other) = (self.current(), other.current());
        own.identity.cert == other.identity.cert && own.clients == other.clients
    }

    fn current(&self) -> Current {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The handshake, and the names in the client's certificate.
    ///
    /// # Errors
    /// Why there is none, and the stream, on which the client has been told.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<(TlsStream<S>, Arc<[String]>), (io::Error, S)> {
        let acceptor = TlsAcceptor::from(self.current().config);
        let stream = acceptor.accept(stream).into_fallible().await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let subjects = shown.map(|certificate| subjects(certificate)).unwrap_or_default();
        Ok((stream, subjects.into()))
    }

    /// The handshake with a client that is only to be told why it is not served: in HTTP/1.1, whatever it would rather speak.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn accept_to_refuse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let mut config = ServerConfig::clone(&self.current().config);
        config.alpn_protocols = vec![HTTP1.to_vec()];
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    }
}

fn told_of(list: &revoked::Span) -> String {
    format!("of {}, which ran out at {}", list.issuer, revoked::shown(list.until))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Key(OTHER_KEY),
        rustls::Error::InvalidCertificate(_) => TlsError::Certificate(BAD_CERTIFICATE),
        _ => TlsError::Key(UNKNOWN_KEY),
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let says = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    // PKCS #8, and what OpenSSL wrote before.
    if says(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || says(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::Key(ENCRYPTED_KEY));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Key(NO_KEY))
}

fn verifier(
    clients: &Clients,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<revoked::Span>), TlsError> {
    let authorities = pem_certificates(&clients.authorities).map_err(TlsError::ClientCa)?;
    let mut roots = RootCertStore::empty();
    for certificate in &authorities {
        roots.add(certificate.clone()).map_err(|_| TlsError::ClientCa(BAD_CERTIFICATE))?;
    }
    let lists = match &clients.revoked {
        Some(pem) => revoked::lists(pem, &authorities, &provider)?,
        None => Lists::default(),
    };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match clients.auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    let verifier = builder.with_crls(lists.der).build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(_) => revoked::unusable(),
        _ => TlsError::ClientCa(NO_CERTIFICATE),
    })?;
    Ok((verifier, lists.spans))
}

/// At least one.
fn pem_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(NO_CERTIFICATE),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(BAD_CERTIFICATE),
    }
}

/// Whether what comes first on a connection is TLS, once there is something; what says nothing at all counts as such.
pub(super) async fn begins(stream: &TcpStream) -> bool {
    let mut first = [0];
    let peeked = stream.peek(&mut first).await;
    !peeked.is_ok_and(|count| count > 0) || first == [FIRST_BYTE]
}

/// Common names, then subject alternative names (DNS, email, URI, IP address), as they are written.
pub(super) fn subjects(certificate: &[u8]) -> Vec<String> {
    let certificate = match Certificate::from_der(certificate) {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::debug!(%error, "the names in a client's certificate cannot be read");
            return Vec::new();
        }
    };
    let certificate = certificate.tbs_certificate();
    let common = certificate.subject().iter().filter(|name| name.oid == rfc4519::COMMON_NAME);
    let common = common
        .filter_map(|name| DirectoryString::try_from(&name.value).ok())
        .map(|name| name.value().into_owned());
    let alternative = certificate.get_extension::<SubjectAltName>().unwrap_or_else(|error| {
        tracing::debug!(%error, "the alternative names in a client's certificate cannot be read");
        None
    });
    let alternative = alternative.iter().flat_map(|(_, names)| &names.0).filter_map(written);
    let mut subjects: Vec<String> = Vec::new();
    for name in common.chain(alternative) {
        let is_taken = (1..=SUBJECT_MAX_BYTES).contains(&name.len()) && !subjects.contains(&name);
        if is_taken && subjects.len() < SUBJECTS_MAX {
            subjects.push(name);
        }
    }
    subjects
}

/// A name as people write it; `None` for kinds that they do not.
fn written(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(address) => match *address.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, SanType,
    };
    use rustls::{
        ClientConfig, HandshakeKind,
        version::{TLS12, TLS13},
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;

    fn key() -> KeyPair {
        KeyPair::generate().expect("ring makes P-256 keys")
    }

    fn named(change: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        subjects(params.self_signed(&key()).expect("the key signs").der())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }

    #[test]
    fn names_are_taken_as_they_are_written() {
        let names = named(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, "Site");
            name.push(DnType::CommonName, "Gerät 1");
            params.subject_alt_names = vec![
                dns("Device-1.example"),
                dns("*.example"),
                SanType::Rfc822Name("device@example".try_into().expect("ASCII")),
                SanType::URI("spiffe://site/device/1".try_into().expect("ASCII")),
                SanType::IpAddress([10, 0, 0, 7].into()),
                SanType::IpAddress("fd00::7".parse().expect("an address")),
            ];
        });
        assert_eq!(
            names,
            [
                "Gerät 1",
                "Device-1.example",
                "*.example",
                "device@example",
                "spiffe://site/device/1",
                "10.0.0.7",
                "fd00::7",
            ]
        );
        let printable = DnValue::PrintableString("device-1".try_into().expect("printable"));
        let name = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, printable);
            params.subject_alt_names = vec![dns("device-1")];
        };
        assert_eq!(named(name), ["device-1"], "once");
        assert_eq!(named(|_| ()), [""; 0]);
    }

    #[test]
    fn names_are_bounded() {
        let names = named(|params| {
            params.distinguished_name.push(DnType::CommonName, "x".repeat(SUBJECT_MAX_BYTES + 1));
            params.subject_alt_names = (0..100).map(|n| dns(&format!("device-{n}"))).collect();
            params.subject_alt_names.insert(0, dns(&"x".repeat(SUBJECT_MAX_BYTES)));
        });
        assert_eq!(names.len(), SUBJECTS_MAX);
        assert_eq!(names[0].len(), SUBJECT_MAX_BYTES);
        assert_eq!(names[1], "device-0");
    }

    #[test]
    fn a_certificate_that_cannot_be_read_names_nobody() {
        let certificate = rcgen::generate_simple_self_signed(["device-1".to_owned()]);
        let mut der = certificate.expect("one name").cert.der().to_vec();
        assert!(subjects(&der).contains(&"device-1".to_owned()));
        assert_eq!(subjects(&der[..der.len() - 1]), [""; 0]);
        for at in 0..der.len() {
            der[at] ^= 0x55;
            assert!(subjects(&der).len() <= SUBJECTS_MAX, "byte {at}");
            der[at] ^= 0x55;
        }
    }

    /// What is resumed names the same client as what was agreed on.
    #[tokio::test]
    async fn a_session_that_is_taken_up_again_is_the_same_clients() {
        let authority = key();
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&authority).expect("the key signs");
        let issuer = Issuer::new(params, authority);
        let (server, client) = (key(), key());
        let sign = |names: Vec<String>, key: &KeyPair| {
            let params = CertificateParams::new(names).expect("names");
            params.signed_by(key, &issuer).expect("the authority signs")
        };
        let wharf = sign(vec!["wharf".to_owned()], &server).pem();
        let device = sign(vec!["device-1".to_owned()], &client).der().clone();
        let authorities = ca.pem().into_bytes();
        let clients = Some(Clients { authorities, revoked: None, auth: ClientAuth::Required });
        let tls = Tls::new(wharf.as_bytes(), server.serialize_pem().as_bytes(), clients);
        let tls = tls.expect("good files");
        for version in [&TLS12, &TLS13] {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(client.serialize_pem().as_bytes());
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[version])
                .expect("ring speaks it")
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![device.clone()], key.expect("PEM"))
                .expect("the key is the certificate's");
            let connector = TlsConnector::from(Arc::new(config));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (near, far) = duplex(16 * 1024);
                let name = "wharf".try_into().expect("a name");
                let (accepted, connected) =
                    tokio::join!(tls.accept(near), connector.connect(name, far));
                let (mut accepted, subjects) =
                    accepted.map_err(|(error, _)| error).expect("agreed");
                let mut connected = connected.expect("agreed");
                // Tickets of TLS 1.3 are read with what follows them.
                accepted.write_all(b"!").await.expect("taken");
                accepted.flush().await.expect("taken");
                connected.read_exact(&mut [0]).await.expect("sent");
                assert_eq!(connected.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
                assert_eq!(*subjects, ["rcgen self signed cert", "device-1"], "{version:?}");
            }
        }
    }
}
