//! `Range` headers: what is sent lies within what there is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|asked: (u64, &str)| {
    let (size, header) = asked;
    if let Some(range) = wharf::server::fuzzing::range(header, size) {
        assert!(range.start < range.end && range.end <= size, "{header:?} of {size}: {range:?}");
    }
});
