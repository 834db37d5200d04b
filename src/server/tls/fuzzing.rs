//! What [`crate::server::fuzzing`] calls of what is read here.

use rustls::pki_types::CertificateDer;

use super::revoked;

/// Why lists of revoked certificates will not do for `authority`; `None` where they do.
pub(in crate::server) fn revoked(pem: &[u8], authority: &[u8]) -> Option<String> {
    let authorities = [CertificateDer::from(authority)];
    let provider = rustls::crypto::ring::default_provider();
    let lists = revoked::lists(pem, &authorities, &provider);
    lists.err().map(|error| error.to_string())
}
