//! The platforms that images are built for: Go's, since that is whose names images use.

use super::{Platform, PlatformError};

const SYSTEMS: &[&str] = &[
    "aix", "android", "darwin", "freebsd", "illumos", "linux", "netbsd", "openbsd", "solaris",
    "wasi", "wasip1", "windows",
];

/// Each with its variants; all but `arm` are found without one, too.
const ARCHITECTURES: &[(&str, &[&str])] = &[
    ("386", &[]),
    ("amd64", &["v2", "v3", "v4"]),
    ("arm", &["v5", "v6", "v7", "v8"]),
    (
        "arm64",
        &[
            "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9", "v9", "v9.1",
            "v9.2", "v9.3", "v9.4", "v9.5", "v9.6", "v9.7", "v9.8", "v9.9",
        ],
    ),
    ("loong64", &[]),
    ("mips", &[]),
    ("mips64", &[]),
    ("mips64le", &[]),
    ("mipsle", &[]),
    ("ppc64", &[]),
    ("ppc64le", &["power8", "power9", "power10"]),
    ("riscv64", &["rva20u64", "rva22u64", "rva23u64"]),
    ("s390x", &[]),
    ("wasm", &[]),
];

/// Whether operating system, architecture and variant stand in the tables.
pub(super) fn check(platform: &Platform) -> Result<(), PlatformError> {
    if !SYSTEMS.contains(&platform.os()) {
        return Err(PlatformError::Os);
    }
    let found = ARCHITECTURES.iter().find(|(name, _)| *name == platform.architecture());
    let (_, variants) = found.ok_or(PlatformError::Architecture)?;
    if !platform.variant().is_none_or(|variant| variants.contains(&variant)) {
        return Err(PlatformError::Variant);
    }
    Ok(())
}

/// Every known platform.
#[cfg(test)]
pub(super) fn all() -> Vec<Platform> {
    let mut all: Vec<Platform> = Vec::new();
    for os in SYSTEMS {
        for (architecture, variants) in ARCHITECTURES {
            all.extend(variants.iter().map(|v| Platform::new(os, architecture, Some(v))));
            if *architecture != "arm" {
                all.push(Platform::new(os, architecture, None));
            }
        }
    }
    all
}
