//! What a token service answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    if let Some((_, seconds)) = wharf::upstream::fuzzing::token(document) {
        assert!(seconds <= 24 * 60 * 60, "a token for {seconds} s");
    }
});
