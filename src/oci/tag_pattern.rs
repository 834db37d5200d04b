//! [`TagPattern`]: which tags of a repository are meant, and which of them are the newest.

use std::{cmp::Ordering, fmt, str::FromStr};

use glob::{MatchOptions, Pattern};
use semver::{Version, VersionReq};

use super::{ImageName, NameError, Repository, Tag};

/// Longest pattern: a range of two versions is some 30 characters.
const MAX_LEN: usize = 256;

/// Some tags of a repository: those that match a pattern with `*`, or versions in a range.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagPattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// `1.2*`: `*` stands for any characters, `?` for one, `[ab]` for one of these.
    Glob(Pattern),
    /// `^1.27-alpine`: versions in the range, of this variant alone.
    Range { range: VersionReq, variant: Option<String> },
}

/// What people write where several images may be meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImagePattern {
    /// One image.
    One(ImageName),
    /// Those of a repository whose tags match.
    Tags(Repository, TagPattern),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is to be one image, and is not.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What stands behind the name is neither a glob nor a range.
    #[error(
        "\"{0}\" is no pattern of tags: write one with * such as 1.2*, or a range of versions such as ^1.27, ~1.27, \
         \">=1.25, <1.28\" or ^1.27-alpine"
    )]
    Pattern(String),
}

/// A tag that is a version: `1.27`, `v3`, `3.20.1-alpine`.
struct Versioned<'t> {
    version: Version,
    /// What stands behind the first hyphen.
    variant: Option<&'t str>,
}

impl TagPattern {
    /// Whether the tag is meant.
    ///
    /// In a range, a tag is a version of up to three numbers (those that are not there count as zero), with `v` before it or
    /// not; what follows a hyphen is its variant, which has to be the range's. So `^1.27` means neither `1.27-alpine` nor
    /// `1.28-rc.1`, and `^1.27-alpine` means nothing else than `1.27-alpine`, `1.28.3-alpine` and the like.
    pub fn matches(&self, tag: &Tag) -> bool {
        match &self.kind {
            Kind::Glob(pattern) => pattern.matches_with(tag.as_str(), MatchOptions::new()),
            Kind::Range { range, variant } => Versioned::of(tag.as_str()).is_some_and(|tag| {
                tag.variant == variant.as_deref() && range.matches(&tag.version)
            }),
        }
    }

    /// Whether `text`, which stands where a tag would, is meant to be one of these: no tag has such characters.
    fn is_meant(text: &str) -> bool {
        text.contains(['*', '?', '[']) || text.starts_with(['^', '~', '>', '<', '='])
    }
}

/// The newest of tags that are told one after the other, as many as are wanted.
#[derive(Debug)]
pub struct Newest {
    most: usize,
    /// The newest first.
    tags: Vec<Tag>,
}

impl Newest {
    /// None yet, and at most so many.
    pub const fn new(most: usize) -> Self {
        Self { most, tags: Vec::new() }
    }

    /// One more.
    pub fn add(&mut self, tag: Tag) {
        let place = self.tags.partition_point(|known| by_age(known, &tag) == Ordering::Less);
        if place < self.most && self.tags.get(place) != Some(&tag) {
            self.tags.insert(place, tag);
            self.tags.truncate(self.most);
        }
    }

    /// The newest first.
    pub fn into_tags(self) -> Vec<Tag> {
        self.tags
    }
}

/// Registries do not tell how old a tag is; by its name, the one with the larger numbers is newer. Of `1.27` and `1.27.3`,
/// the longer.
fn by_age(one: &Tag, other: &Tag) -> Ordering {
    let (one, other) = (one.as_str(), other.as_str());
    let versions = (Versioned::of(one), Versioned::of(other));
    let by_version = match &versions {
        (Some(one), Some(other)) => other.version.cmp(&one.version),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    by_version.then_with(|| natural(other, one)).then_with(|| other.cmp(one))
}

/// In the order of the numbers in them, and else of their characters.
fn natural(mut one: &str, mut other: &str) -> Ordering {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    loop {
        let (a, b) = (digits(one), digits(other));
        if a > 0 && b > 0 {
            let (x, y) = (one[..a].trim_start_matches('0'), other[..b].trim_start_matches('0'));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
            if order != Ordering::Equal {
                return order;
            }
            (one, other) = (&one[a..], &other[b..]);
            continue;
        }
        match (one.chars().next(), other.chars().next()) {
            (Some(x), Some(y)) if x == y => {
                (one, other) = (&one[x.len_utf8()..], &other[y.len_utf8()..]);
            }
            (x, y) => return x.cmp(&y),
        }
    }
}

impl<'t> Versioned<'t> {
    fn of(tag: &'t str) -> Option<Self> {
        let (version, variant) = match tag.split_once('-') {
            Some((version, variant)) => (version, Some(variant)),
            None => (tag, None),
        };
        let numbers = numbers(version.strip_prefix('v').unwrap_or(version))?;
        let at = |place: usize| numbers.get(place).copied().unwrap_or(0);
        Some(Self { version: Version::new(at(0), at(1), at(2)), variant })
    }
}

/// One to three numbers with dots between them. Unlike a semantic version, `20.04` is two of them.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| if is_number(part) { part.parse().ok() } else { None };
    let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
    numbers.filter(|numbers| numbers.len() <= 3)
}

impl FromStr for TagPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError::Pattern(text.to_owned());
        if text.len() > MAX_LEN {
            return Err(wrong());
        }
        let kind = if text.starts_with(['^', '~', '>', '<', '=']) {
            range(text).ok_or_else(wrong)?
        } else {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-*?[]!".contains(&b);
            if !Self::is_meant(text) || !text.bytes().all(fits) {
                return Err(wrong());
            }
            Kind::Glob(Pattern::new(text).map_err(|_| wrong())?)
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

/// `>=1.25, <1.28-alpine`: what stands between commas all holds; a variant stands behind one of the versions or each.
fn range(text: &str) -> Option<Kind> {
    let (mut plain, mut variant) = (Vec::new(), None);
    for part in text.split(',') {
        let part = part.trim();
        let version = part.trim_start_matches(['^', '~', '>', '<', '=']);
        let (operator, version) = (&part[..part.len() - version.len()], version.trim());
        let (version, its) = match version.split_once('-') {
            Some((version, its)) => (version, Some(its.to_owned())),
            None => (version, None),
        };
        let is_other = its.is_some() && variant.is_some() && its != variant;
        if is_other || its.as_deref() == Some("") {
            return None;
        }
        variant = its.or(variant);
        let numbers = numbers(version.strip_prefix('v').unwrap_or(version))?;
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        plain.push(format!("{operator}{}", numbers.join(".")));
    }
    let is_variant = |text: &String| format!("0-{text}").parse::<Tag>().is_ok();
    if !variant.as_ref().is_none_or(is_variant) {
        return None;
    }
    Some(Kind::Range { range: VersionReq::parse(&plain.join(", ")).ok()?, variant })
}

impl FromStr for ImagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some((name, tags)) = text.rsplit_once(':') {
            if !tags.contains('/') && TagPattern::is_meant(tags) {
                let name: ImageName = name.parse()?;
                return Ok(Self::Tags(name.repository, tags.parse()?));
            }
        }
        Ok(Self::One(text.parse()?))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for ImagePattern {
    /// The full name, and the pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(image) => image.fmt(f),
            Self::Tags(repository, tags) => write!(f, "{repository}:{tags}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAGS: &[&str] = &[
        "latest",
        "1",
        "1.2",
        "1.20",
        "1.25",
        "1.26.3",
        "1.27",
        "1.27.0",
        "1.27.5",
        "1.28",
        "1.28.1",
        "v1.27.9",
        "1.27-alpine",
        "1.28.1-alpine",
        "1.28-rc.1",
        "1.27-alpine3.20",
        "2",
        "2.0.1",
        "20.04",
        "mainline",
        "1.27.5.1",
    ];

    fn newest(pattern: &str, most: usize) -> Vec<String> {
        let pattern: TagPattern = pattern.parse().expect(pattern);
        let mut found = Newest::new(most);
        for tag in TAGS {
            let tag: Tag = tag.parse().expect("a tag");
            if pattern.matches(&tag) {
                found.add(tag);
            }
        }
        found.into_tags().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pattern_means_these_tags_the_newest_first() {
        for (pattern, want) in [
            ("1.27*", "1.27.5 1.27.0 1.27-alpine3.20 1.27-alpine 1.27 1.27.5.1"),
            ("1.2?", "1.28 1.27 1.25 1.20"),
            ("1.2[57]", "1.27 1.25"),
            ("^1.27", "1.28.1 1.28 v1.27.9 1.27.5 1.27.0 1.27"),
            ("~1.27", "v1.27.9 1.27.5 1.27.0 1.27"),
            ("~1.27.1", "v1.27.9 1.27.5"),
            ("=1.27.5", "1.27.5"),
            (">=1.25, <1.28", "v1.27.9 1.27.5 1.27.0 1.27 1.26.3 1.25"),
            (">=1.25,<1.28", "v1.27.9 1.27.5 1.27.0 1.27 1.26.3 1.25"),
            (">= v1.28", "20.04 2.0.1 2 1.28.1 1.28"),
            ("^1.27-alpine", "1.28.1-alpine 1.27-alpine"),
            (">=1, <1.28-alpine", "1.27-alpine"),
            ("^20.4", "20.04"),
            ("^9", ""),
        ] {
            let want: Vec<&str> = want.split_whitespace().collect();
            assert_eq!(newest(pattern, 100), want, "{pattern}");
            assert_eq!(newest(pattern, 2), want[..want.len().min(2)], "{pattern}");
        }
    }

    #[test]
    fn a_name_with_a_pattern_is_told_from_one_image() {
        for (text, shown) in [
            ("nginx:1.2*", "docker.io/library/nginx:1.2*"),
            ("nginx:^1.27", "docker.io/library/nginx:^1.27"),
            ("registry.lan:5000/a/b:>=1.25, <1.28", "registry.lan:5000/a/b:>=1.25, <1.28"),
            ("ghcr.io/owner/app:*", "ghcr.io/owner/app:*"),
        ] {
            let pattern: ImagePattern = text.parse().expect(text);
            assert!(matches!(pattern, ImagePattern::Tags(..)), "{text}");
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse(), Ok(pattern));
        }
        for one in ["nginx", "nginx:1.27", "registry.lan:5000/a/b", "a.example/b:v1"] {
            assert!(matches!(one.parse(), Ok(ImagePattern::One(_))), "{one}");
        }
        for bad in [
            "nginx:^",
            "nginx:^x",
            "nginx:^1.2.3.4",
            "nginx:>=1 <2",
            "nginx:^1-a,^1-b",
            "nginx:^1-",
            "nginx:[",
            "nginx:a/*",
            "nginx*:1",
            "nginx:1.* ",
            "Nginx:*",
            "nginx:^99999999999999999999",
            "nginx:^1-a b",
            "nginx:=>1",
            "nginx:^1,",
        ] {
            let refused = bad.parse::<ImagePattern>();
            assert!(refused.is_err(), "{bad}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_age_is_one(tags in proptest::collection::vec("v?[0-9]{1,3}(\\.[0-9]{1,2}){0,3}(-[a-z0-9.]{1,4})?", 3)) {
            let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().expect("a tag")).collect();
            let [a, b, c] = &tags[..] else { unreachable!("three") };
            prop_assert_eq!(by_age(a, b), by_age(b, a).reverse());
            if by_age(a, b) != Ordering::Greater && by_age(b, c) != Ordering::Greater {
                prop_assert_ne!(by_age(a, c), Ordering::Greater);
            }
        }

        #[test]
        fn never_panics_on_any_text(text in ".{0,40}|[a-z0-9:^~<>=*?,. -]{0,40}") {
            if let Ok(pattern) = text.parse::<ImagePattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }
    }
}
