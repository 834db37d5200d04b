//! Certificates of clients that their authorities have taken back, as lists tell
//! ([RFC 5280 §5](https://www.rfc-editor.org/rfc/rfc5280#section-5)).
//!
//! What TLS does with lists is found out by clients, one by one: a list that is not of the authority, or is missing, turns
//! everybody away; a second one of the same authority is not looked at. So that is found out here, where somebody is told.

use std::time::SystemTime;

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
};
use x509_cert::{
    Certificate,
    crl::CertificateList,
    der::{Decode as _, Header, Reader as _, SliceReader},
    name::Name,
};

use super::{BAD_CERTIFICATE, TlsError};

const NO_LIST: &str = "holds no PEM list of revoked certificates: write one that begins with \
                       -----BEGIN X509 CRL----- into it, such as openssl crl writes";
const BAD_LIST: &str = "holds a list of revoked certificates that cannot be used: write it anew, as its \
                        authority gave it, whole and in PEM form";

/// Whose a list is, and the time that it is for.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) issuer: String,
    /// When it was issued.
    pub(super) since: SystemTime,
    /// When it runs out.
    pub(super) until: SystemTime,
}

/// What was taken back, by lists that are good.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) der: Vec<CertificateRevocationListDer<'static>>,
    /// Of each of them.
    pub(super) spans: Vec<Span>,
}

/// The lists in `pem`: one of each of `authorities`, and no others. One that has run out counts on: without an uplink there
/// may be no other, and what it names stays out.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn lists(
    pem: &[u8],
    authorities: &[CertificateDer<'_>],
    provider: &CryptoProvider,
) -> Result<Lists, TlsError> {
    let authorities = authorities.iter().map(|one| Authority::read(one));
    let authorities = authorities.collect::<Option<Vec<_>>>();
    let authorities = authorities.ok_or(TlsError::ClientCa(BAD_CERTIFICATE))?;
    checked(pem, &authorities, provider).map_err(TlsError::ClientCrl)
}

/// Says that rustls does not take what looked right.
pub(super) fn unusable() -> TlsError {
    TlsError::ClientCrl(BAD_LIST.to_owned())
}

fn checked(
    pem: &[u8],
    authorities: &[Authority],
    provider: &CryptoProvider,
) -> Result<Lists, String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|_| BAD_LIST)?;
    if lists.is_empty() {
        return Err(NO_LIST.to_owned());
    }
    let (mut listed, mut spans) = (Vec::<Name>::new(), Vec::new());
    for list in &lists {
        let list = List::read(list).ok_or(BAD_LIST)?;
        let issuer = list.content.tbs_cert_list.issuer.clone();
        let mut named = authorities.iter().filter(|one| one.name == issuer).peekable();
        if named.peek().is_none() {
            return Err(format!(
                "holds a list of {issuer}, whose certificate is not in client_ca: leave that list out, or write the \
                 certificate there"
            ));
        }
        if !named.any(|one| list.is_signed_by(one, provider)) {
            return Err(format!(
                "holds a list that says it is of {issuer}, and is not signed with the key of that certificate in \
                 client_ca: write the list that this authority gave"
            ));
        }
        if listed.contains(&issuer) {
            return Err(format!("holds two lists of {issuer}: leave only the newest in it"));
        }
        let since = list.content.tbs_cert_list.this_update.to_system_time();
        let until = list.content.tbs_cert_list.next_update.ok_or(BAD_LIST)?.to_system_time();
        spans.push(Span { issuer: issuer.to_string(), since, until });
        listed.push(issuer);
    }
    if let Some(without) = authorities.iter().find(|one| !listed.contains(&one.name)) {
        return Err(format!(
            "holds no list of {}, which is in client_ca: nobody could tell whether its certificates count, add its \
             list, which may be empty",
            without.name
        ));
    }
    Ok(Lists { der: lists, spans })
}

/// A time as people write it.
pub(super) fn shown(at: SystemTime) -> String {
    format!("{}", humantime::format_rfc3339_seconds(at))
}

struct Authority {
    name: Name,
    key: Vec<u8>,
}

impl Authority {
    fn read(certificate: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let certificate = certificate.tbs_certificate();
        let key = certificate.subject_public_key_info().subject_public_key.as_bytes()?.to_vec();
        Some(Self { name: certificate.subject().clone(), key })
    }
}

struct List<'a> {
    content: CertificateList,
    /// What is signed, as it is written.
    signed: &'a [u8],
}

impl<'a> List<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let content = CertificateList::from_der(der).ok()?;
        let mut reader = SliceReader::new(der).ok()?;
        Header::decode(&mut reader).ok()?;
        Some(Self { content, signed: reader.tlv_bytes().ok()? })
    }

    fn is_signed_by(&self, authority: &Authority, provider: &CryptoProvider) -> bool {
        let Some(signature) = self.content.signature.as_bytes() else { return false };
        // Which of them is meant does not matter: one for another kind of key does not verify.
        let mut known = provider.signature_verification_algorithms.all.iter();
        known.any(|kind| kind.verify_signature(&authority.key, self.signed, signature).is_ok())
    }
}
