//! Certificates of a private authority, and handshakes that do not end.

use std::io;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A certificate for 127.0.0.1 of an authority of its own, ready to shake hands, and that authority's certificate.
pub(super) fn authority() -> (TlsAcceptor, Vec<u8>) {
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has all of them")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a key that fits");
    (TlsAcceptor::from(Arc::new(config)), authority.pem().into_bytes())
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Plain HTTP and https on one port, by what the client begins with.
pub(super) async fn either(stream: TcpStream, tls: TlsAcceptor) -> io::Result<Box<dyn Stream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    Ok(match first {
        [HANDSHAKE] => Box::new(tls.accept(stream).await?),
        _ => Box::new(stream),
    })
}

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;

/// A server for 127.0.0.1 with a certificate of its own authority, and that authority's certificate.
async fn private_registry() -> (Fake, String) {
    let (acceptor, authority) = authority();
    let fake = Fake::start_over(|_| image(), move |stream| acceptor.accept(stream)).await;
    (fake, String::from_utf8(authority).expect("PEM"))
}

fn over_tls(fake: &Fake, ca_pem: &str) -> Config {
    let endpoint = fake.url().replace("http:", "https:").parse().expect("an address");
    Config { endpoints: vec![endpoint], ca_pem: ca_pem.into(), ..config(&[]) }
}

#[tokio::test]
async fn a_private_authority_is_believed_where_it_is_configured() {
    let (fake, authority) = private_registry().await;
    let trusting = bench(over_tls(&fake, &authority));
    for _ in 0..2 {
        assert_eq!(trusting.manifest(Urgency::Must).await.expect("the image"), IMAGE);
    }
    let wary = bench(over_tls(&fake, ""));
    let told = wary.manifest(Urgency::Must).await.expect_err("an unknown authority").to_string();
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(fake.count(""), 2);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_no_connection() {
    let fake =
        Fake::start_over(|_| image(), |_| std::future::pending::<io::Result<TcpStream>>()).await;
    let patience = Patience { connect: MOMENT, ..config(&[]).patience };
    let bench = bench(Config { patience, ..over_tls(&fake, "") });
    let told = bench.manifest(Urgency::Must).await;
    assert!(is_unavailable(&told), "{told:?}");
    assert_eq!(fake.count(""), 0);
}
