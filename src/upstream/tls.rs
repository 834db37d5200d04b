//! Whom to believe: Mozilla's roots, and the certificates that the configuration adds for one registry.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Connects by `tcp`, and speaks TLS over it to `https` addresses.
pub(super) fn over<T>(tcp: T, trust: Trust) -> HttpsConnector<T> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(trust);
    builder.https_or_http().enable_http1().wrap_connector(tcp)
}

/// Whom one registry's connections believe. Clones share their memory.
pub(super) type Trust = ClientConfig;

/// Trusts the public roots and the certificates in `ca_pem`.
///
/// # Errors
/// What is wrong with `ca_pem`, in a few words.
pub(super) fn trust(ca_pem: &[u8]) -> Result<Trust, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let public = roots.len();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == public && !ca_pem.is_empty() {
        return Err("no CERTIFICATE section in PEM form".to_owned());
    }
    // The provider is passed by hand: a process-wide one would be set behind the back of other edges.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_certificates_and_nothing_else() {
        let ca = rcgen::generate_simple_self_signed(["registry.example".to_owned()])
            .expect("a certificate")
            .cert
            .pem();
        assert!(trust(b"").is_ok());
        assert!(trust(ca.as_bytes()).is_ok());
        assert!(trust(b"not a certificate").is_err());
        let garbled = ca.replacen("MII", "AAA", 1);
        assert!(trust(garbled.as_bytes()).is_err());
    }
}
