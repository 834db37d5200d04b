//! Names in the certificates of clients, in whole certificates and in such as are made here around a common name and
//! alternative names; and lists of revoked certificates.
#![no_main]

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use libfuzzer_sys::fuzz_target;
use wharf::server::fuzzing;

/// An authority that has taken nothing back. Its key is gone.
const AUTHORITY: &[u8] = include_bytes!("../seeds/certificate/authority");

fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut der = vec![tag];
    match u16::try_from(content.len()).expect("inputs are short").to_be_bytes() {
        [0, length @ ..0x80] => der.push(length),
        [0, length] => der.extend([0x81, length]),
        [high, low] => der.extend([0x82, high, low]),
    }
    [der, content].concat()
}

/// A certificate with this value for a common name, and these alternative names.
fn certificate(common: &[u8], alternative: &[u8]) -> Vec<u8> {
    let ed25519 = der(0x30, &[&[6, 3, 0x2b, 0x65, 0x70]]);
    let time = der(0x17, &[b"260101000000Z"]);
    let name = der(0x30, &[&[6, 3, 0x55, 4, 3], common]);
    let alternative =
        der(0x30, &[&[6, 3, 0x55, 0x1d, 0x11], &der(4, &[&der(0x30, &[alternative])])]);
    let signed = der(
        0x30,
        &[
            &[0xa0, 3, 2, 1, 2, 2, 1, 1],
            &ed25519,
            &der(0x30, &[]),
            &der(0x30, &[&time, &time]),
            &der(0x30, &[&der(0x31, &[&name])]),
            &der(0x30, &[&ed25519, &der(3, &[&[0; 33]])]),
            &der(0xa3, &[&der(0x30, &[&alternative])]),
        ],
    );
    der(0x30, &[&signed, &ed25519, &der(3, &[&[0; 65]])])
}

/// Names are few, short and each once; and nobody has one that does not stand in the certificate.
fn names(certificate: &[u8]) -> Vec<String> {
    let names = fuzzing::subjects(certificate);
    assert!(names.len() <= 16);
    for (at, name) in names.iter().enumerate() {
        assert!((1..=256).contains(&name.len()) && !names[..at].contains(name), "{names:?}");
        let stands = |bytes: Vec<u8>| certificate.windows(bytes.len()).any(|there| there == bytes);
        let latin =
            || name.chars().map(|letter| u8::try_from(letter).ok()).collect::<Option<Vec<u8>>>();
        let is_there = name.parse::<IpAddr>().is_ok()
            || stands(name.as_bytes().to_vec())
            || stands(name.encode_utf16().flat_map(u16::to_be_bytes).collect())
            || latin().is_some_and(stands);
        assert!(is_there, "{name:?}");
    }
    names
}

fuzz_target!(|input: &[u8]| {
    names(input);
    if let Some((length, rest)) = input.split_first() {
        let (common, alternative) = rest.split_at(usize::from(*length).min(rest.len()));
        let names = names(&certificate(common, alternative));
        // The common name comes first, as it is written.
        if let [0x0c, length @ 1..0x80, text @ ..] = common {
            if let Some(text) =
                std::str::from_utf8(text).ok().filter(|_| text.len() == usize::from(*length))
            {
                assert_eq!(names.first().map(String::as_str), Some(text));
            }
        }
    }
    // Nobody but the authority makes a list of it.
    let list = BASE64_STANDARD.encode(input);
    let list = format!("-----BEGIN X509 CRL-----\n{list}\n-----END X509 CRL-----\n");
    for pem in [list.as_bytes(), input] {
        let refused = fuzzing::revoked(pem, AUTHORITY).expect("not one of that authority's");
        assert!(!refused.contains('\n'), "one line: {refused:?}");
    }
});
