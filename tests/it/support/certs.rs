//! A certificate authority that lives as long as one test.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_cert::{Certificate, der::Decode as _};

/// A certificate authority that nothing trusts until told to.
pub(crate) struct TestCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Identity {
    /// The same, as TLS libraries take it.
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("PEM");
        (vec![cert], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM"))
    }
}

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::named("test authority")
    }

    /// One that is told from others by more than its key.
    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("the key signs");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate, for whoever is to trust it.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What a server on 127.0.0.1 needs, signed by this authority.
    pub(super) fn server(&self) -> ServerConfig {
        let (chain, key) = self.server_identity().der();
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's")
    }

    /// A server's on 127.0.0.1.
    pub(crate) fn server_identity(&self) -> Identity {
        self.sign(&["127.0.0.1", "localhost"], |_| ())
    }

    /// A client's of this common name.
    pub(crate) fn client_identity(&self, name: &str) -> Identity {
        self.sign(&[], |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    /// One whose time is over.
    pub(crate) fn expired_identity(&self, name: &str) -> Identity {
        self.sign(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    /// The PEM list of these of its certificates, which it has taken back. It counts until that year.
    pub(crate) fn list(&self, revoked: &[&Identity], until: i32) -> String {
        let taken_back = |identity: &&Identity| {
            let (chain, _) = identity.der();
            let certificate = Certificate::from_der(&chain[0]).expect("a certificate");
            let serial = certificate.tbs_certificate().serial_number();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: date_time_ymd(2019, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2019, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(taken_back).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("the authority signs");
        list.pem().expect("it is written")
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Identity { cert: certificate.pem(), key: key.serialize_pem() }
    }
}
