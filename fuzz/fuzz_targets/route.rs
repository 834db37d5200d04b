//! Paths and queries of requests: whatever they are, there is an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    wharf::server::fuzzing::route(path, query);
});
