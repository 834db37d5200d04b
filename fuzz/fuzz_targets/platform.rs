//! Platforms, from paths and headers, and from the configs of images.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::oci::{Platform, Rules};

fuzz_target!(|bytes: &[u8]| {
    let of_config = Platform::from_config(bytes);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let segment = Platform::from_path_segment(text).ok();
    for platform in [of_config, Platform::parse_any(text), text.parse().ok(), segment].into_iter().flatten() {
        let written = platform.to_string();
        assert_eq!(Platform::parse_any(&written).as_ref(), Some(&platform), "{written:?}");
        let _ = platform.runs(&platform, Rules::Containerd);
        let _ = platform.label();
    }
});
