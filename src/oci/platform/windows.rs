//! Windows: whose container images a host of some build runs
//! ([version compatibility](https://learn.microsoft.com/en-us/virtualization/windowscontainers/deploy-containers/version-compatibility)).

/// Windows Server 2022, the first whose successors run its images.
const SERVER_2022: u16 = 20348;

/// Windows Server 2025.
const SERVER_2025: u16 = 26100;

/// Whether a host of version `host` runs what is built for version `image`; whoever names none fits all.
///
/// The build decides, the number behind it does not. Before Server 2022 the two must be equal; since then a host runs
/// images down to the release with long-term support that came before it.
pub(super) fn runs(host: Option<&str>, image: Option<&str>) -> bool {
    let (Some(host), Some(image)) = (host.and_then(build), image) else { return true };
    let Some(image) = build(image).filter(|image| image.0 == host.0) else { return false };
    if host.1 < SERVER_2022 {
        return host.1 == image.1;
    }
    let oldest = if host.1 > SERVER_2025 { SERVER_2025 } else { SERVER_2022 };
    (oldest..=host.1).contains(&image.1)
}

/// `((10, 0), 20348)` of `10.0.20348.2113`.
fn build(version: &str) -> Option<((u8, u8), u16)> {
    let mut numbers = version.split('.');
    let release = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((release, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_decide_and_revisions_do_not() {
        for (host, image, fits) in [
            (None, Some("10.0.17763.1"), true),
            (Some("10.0.17763"), None, true),
            (Some("not a version"), Some("10.0.17763.1"), true),
            (Some("10.0.17763.9"), Some("10.0.17763.1"), true),
            (Some("10.0.17763"), Some("10.0.17134.1"), false),
            (Some("10.0.17763"), Some("10.0.20348.1"), false),
            (Some("10.0.17763"), Some("10.0"), false),
            (Some("10.0.20348"), Some("10.0.20348.2113"), true),
            (Some("10.0.20348"), Some("10.0.17763.1"), false),
            (Some("10.0.22621"), Some("10.0.20348.1"), true),
            (Some("10.0.26100"), Some("10.0.20348.1"), true),
            (Some("10.0.26100"), Some("10.0.26200.1"), false),
            (Some("10.0.26200"), Some("10.0.26100.1"), true),
            (Some("10.0.26200"), Some("10.0.20348.1"), false),
            (Some("11.0.26100"), Some("10.0.26100.1"), false),
        ] {
            assert_eq!(runs(host, image), fits, "{host:?} and {image:?}");
        }
    }
}
