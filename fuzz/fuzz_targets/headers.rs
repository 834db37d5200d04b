//! What is read of the heads of registries' answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| wharf::upstream::fuzzing::answer_header(value));
