//! What the head of a request shows of its client: a line each for `User-Agent`, `Host`, `Accept` and `Wharf-Platform`.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use wharf::{
    oci::Platform,
    pull::{Signal, fuzzing::resolve},
    server::fuzzing::asker,
};

const PLATFORM: HeaderName = HeaderName::from_static("wharf-platform");

fuzz_target!(|head: &[u8]| {
    let mut lines = head.splitn(4, |byte| *byte == b'\n');
    let agent = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for name in [header::HOST, header::ACCEPT, PLATFORM] {
        if let Some(value) = lines.next().and_then(|line| HeaderValue::from_bytes(line).ok()) {
            headers.append(name, value);
        }
    }
    let mut asker = asker(&headers, &agent);
    // The name of a host, and neither its port nor its case.
    if let Some(host) = &asker.host {
        assert!(!host.contains(|letter: char| letter.is_ascii_uppercase()));
        let name = host.rfind(']').map_or(&host[..], |bracket| &host[bracket..]);
        assert!(!name.contains(':'), "{host}");
    }
    let announced = headers
        .get(PLATFORM)
        .and_then(|value| value.to_str().ok()?.trim().parse::<Platform>().ok());
    assert_eq!(asker.in_header, announced);
    let resolved = resolve(&asker);
    match announced {
        Some(platform) => {
            assert_eq!((resolved.signal, &resolved.platforms), (Signal::Header, &vec![platform]))
        }
        None => assert!(matches!(resolved.signal, Signal::UserAgent | Signal::Default)),
    }
    // Who says nothing else is what its agent says, of a platform that is one; and it can run what it is.
    asker.in_header = None;
    let resolved = resolve(&asker);
    let [platform] = resolved.platforms.as_slice() else { panic!("one: {resolved:?}") };
    assert!(platform.is_known() && resolved.runs().is_some());
    if resolved.signal == Signal::UserAgent {
        assert!(agent.contains("os/") && agent.contains("arch/"));
    }
});
