//! What the admin address and the control socket are asked: a path and its query in the first line, and behind it the body.
//! Whatever is taken is taken the same way when it is asked for as wharf's own client asks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::admin::fuzzing::{import, order, question};

/// What was asked makes no sense, or there is nothing at that path; nothing else can be wrong with it.
fn is_refusal(status: u16) {
    assert!(matches!(status, 400 | 404), "{status}");
}

fuzz_target!(|input: &[u8]| {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (asked, body) = (&input[..line], input.get(line + 1..).unwrap_or_default());
    let Ok(asked) = std::str::from_utf8(asked) else { return };
    let (path, query) =
        asked.split_once('?').map_or((asked, None), |(path, query)| (path, Some(query)));
    match question(path, query) {
        Ok(read) => assert_eq!(question(&read.0, Some(&read.1)), Ok(read)),
        Err(status) => is_refusal(status.as_u16()),
    }
    match import(query.unwrap_or_default()) {
        Ok(read) => assert_eq!(import(&read), Ok(read)),
        Err(status) => is_refusal(status.as_u16()),
    }
    match order(path, body) {
        Some(Ok(read)) => assert_eq!(order(path, &read), Some(Ok(read))),
        Some(Err(status)) => is_refusal(status.as_u16()),
        None => {}
    }
});
