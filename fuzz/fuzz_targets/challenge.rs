//! `WWW-Authenticate`: whatever a registry asks for, the token is for pulling from the repository that is wanted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    for url in wharf::upstream::fuzzing::challenge(header) {
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        let scopes: Vec<_> = url.query_pairs().filter(|(key, _)| key.eq_ignore_ascii_case("scope")).collect();
        assert!(matches!(&scopes[..], [(_, one)] if one == "repository:team/app:pull"), "{scopes:?}");
    }
});
