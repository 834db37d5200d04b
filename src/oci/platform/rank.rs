//! Which images a host runs, and which of them it would rather have: the clients' own rules, so that wharf
//! knows what they will ask for next.

use std::cmp::Reverse;

use super::{Platform, Rules, windows};

/// How well an image suits a host: the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'a> {
    step: Step,
    /// Of Windows images, containerd takes the one whose version is the greatest text.
    version: Reverse<&'a str>,
    /// Rather an image that makes use of what the host has.
    features: Reverse<usize>,
}

/// How far down from the host's own kind an image is: first the same architecture, then one that it can run as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Own(u32),
    Other(u32),
}

impl Platform {
    /// Whether a host of this platform runs what is built for `image`.
    pub fn runs(&self, image: &Self, rules: Rules) -> bool {
        self.rank(image, rules).is_some()
    }

    /// How well what is built for `image` suits a host of this platform; `None`: not at all.
    ///
    /// The rules of containers/image compare texts, and know of `linux/arm` without a variant as the last thing to
    /// take. Here it is normalised first, so that `linux/arm` is `linux/arm/v7`: an ARMv6 host does not take it,
    /// which is what containerd decides, and what it would fail to run. It has no rule for a host of unknown variant:
    /// there is none.
    pub fn rank<'a>(&self, image: &'a Self, rules: Rules) -> Option<Rank<'a>> {
        if image.is_unknown() {
            return None;
        }
        match rules {
            Rules::Containerd => self.rank_containerd(image),
            Rules::ContainersImage => self.rank_containers_image(image),
        }
    }

    fn rank_containerd<'a>(&self, image: &'a Self) -> Option<Rank<'a>> {
        // A document that leaves the system out means that of whoever reads it.
        if self.os != image.os && !image.os.is_empty() {
            return None;
        }
        let is_windows = self.os() == "windows";
        if is_windows && !windows::runs(self.os_version(), image.os_version()) {
            return None;
        }
        // Every Windows host counts as having `win32k`.
        let has = |feature| {
            (is_windows && feature == "win32k") || self.os_features().any(|own| own == feature)
        };
        if !image.os_features().all(has) {
            return None;
        }
        Some(Rank {
            step: step_containerd(self, image)?,
            version: Reverse(image.os_version().filter(|_| is_windows).unwrap_or_default()),
            features: Reverse(image.os_features().len()),
        })
    }

    fn rank_containers_image<'a>(&self, image: &'a Self) -> Option<Rank<'a>> {
        if self.os != image.os || self.architecture != image.architecture {
            return None;
        }
        let step = match (self.variant(), image.variant()) {
            (host, image) if host == image => Step::Own(0),
            (Some(host), Some(image)) if self.architecture() == "arm" => {
                let host = number(host).filter(|host| *host <= 8)?;
                step_down(host, number(image)?, 5)?
            }
            (Some(_), None) => Step::Own(1),
            _ => return None,
        };
        Some(Rank { step, version: Reverse(""), features: Reverse(0) })
    }
}

fn step_containerd(host: &Platform, image: &Platform) -> Option<Step> {
    if (&host.architecture, &host.variant) == (&image.architecture, &image.variant) {
        return Some(Step::Own(0));
    }
    match (host.architecture(), image.architecture()) {
        ("amd64", "amd64") => step_down(level(host)?, level(image)?, 1),
        ("amd64", "386") => image.variant().is_none().then_some(Step::Other(0)),
        ("arm", "arm") => step_down(number(host.variant()?)?, number(image.variant()?)?, 5),
        ("arm64", "arm64") => step_arm64(version(host)?, version(image)?),
        ("arm64", "arm") => match step_down(8, number(image.variant()?)?, 5)? {
            Step::Own(step) | Step::Other(step) => Some(Step::Other(step)),
        },
        _ => None,
    }
}

/// From `host` down to `lowest`, by ones.
fn step_down(host: u32, image: u32, lowest: u32) -> Option<Step> {
    (lowest..=host).contains(&image).then(|| Step::Own(host - image))
}

/// From a version down through its minor ones; behind 9.0 comes what it took over of the eighth: 9.x has all of 8.(x+5).
fn step_arm64(host: (u32, u32), image: (u32, u32)) -> Option<Step> {
    let (major, minor) = host;
    let of_eighth = minor.saturating_add(5).min(9);
    match image {
        (image, below) if image == major && below <= minor => Some(Step::Own(minor - below)),
        (8, below) if major == 9 && below <= of_eighth => {
            Some(Step::Own(minor + 1 + of_eighth - below))
        }
        _ => None,
    }
}

/// The level of an `amd64` platform.
fn level(platform: &Platform) -> Option<u32> {
    platform.variant().map_or(Some(1), number)
}

/// Major and minor version of an `arm64` platform.
fn version(platform: &Platform) -> Option<(u32, u32)> {
    let Some(variant) = platform.variant() else { return Some((8, 0)) };
    let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
    let major = number(major).filter(|major| matches!(major, 8 | 9))?;
    let minor = minor.parse().ok().filter(|_| minor.len() == 1)?;
    Some((major, minor))
}

/// The 7 of `v7`.
fn number(variant: &str) -> Option<u32> {
    let digits = variant.strip_prefix('v').filter(|digits| !digits.starts_with('0'))?;
    digits.parse().ok()
}
