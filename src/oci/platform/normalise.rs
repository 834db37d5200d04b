//! One spelling for each platform: that of Go, with containerd's variants.

/// The operating system, from lower case.
pub(super) fn os(os: String) -> String {
    match os.as_str() {
        "macos" => "darwin".to_owned(),
        _ => os,
    }
}

/// Architecture and variant (empty: none), from lower case.
///
/// 32-bit ARM always has a variant: without one, `v7` is meant. 64-bit ARM of the first version and `amd64` of the
/// first level have none.
pub(super) fn architecture(architecture: String, variant: String) -> (String, String) {
    match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => same("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => same("amd64", ""),
        ("x86_64" | "x86-64", _) => same("amd64", &variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => same("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => same("arm64", "v9"),
        ("aarch64", _) => same("arm64", &variant),
        ("armhf", _) | ("arm", "" | "7") => same("arm", "v7"),
        ("armel", _) => same("arm", "v6"),
        ("arm", "5" | "6" | "8") => same("arm", &format!("v{variant}")),
        _ => (architecture, variant),
    }
}

fn same(architecture: &str, variant: &str) -> (String, String) {
    (architecture.to_owned(), variant.to_owned())
}
