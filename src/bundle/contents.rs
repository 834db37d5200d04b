//! [`Contents`]: what a bundle brings, carries and takes for granted; and [`Volume`], a bundle's share on one medium.
//!
//! Long by its tests, and because it is one form.

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::read::line;
use crate::oci::{Descriptor, Digest, ImageName, MediaType, Platform, Reference};

/// Longest contents document that is read or written, in bytes: some 600 000 blobs.
pub const CONTENTS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most images of one bundle.
const IMAGES_MAX: usize = 100_000;
/// Most blobs that one bundle carries or takes for granted.
const BLOBS_MAX: usize = 1_000_000;
/// Most platforms of one image.
const PLATFORMS_MAX: usize = 256;
/// Most volumes of one bundle.
const VOLUMES_MAX: u32 = 100_000;
/// Most parts of blobs in one volume, which ends one blob and begins another: each is made durable for itself.
const PARTS_MAX: usize = 16;

/// Numbers of volumes, or runs of them, that a sentence names.
const NUMBERS_TOLD: usize = 20;

/// The form of the documents that is written here.
const FORM: u32 = 1;

/// What a bundle is to bring to a site. Who takes it in has, afterwards, every image whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The images, sorted by name, then digest.
    pub images: Vec<Image>,
    /// The blobs that the archive carries, in the order of its members.
    pub blobs: Vec<Blob>,
    /// The blobs that the images need and the archive does not carry, sorted by image, then digest.
    pub base: Vec<Base>,
}

/// One image of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it is called at the site.
    pub named: Named,
    /// Its index or manifest: digest, type and length.
    pub digest: Digest,
    /// The type of that document.
    pub media_type: MediaType,
    /// The length of that document, in bytes.
    pub size: u64,
    /// The platforms that it is brought for, of those that its index names; none for what has no platform.
    pub platforms: Vec<Platform>,
}

/// What an entry of the images is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// An image by this name.
    Image(ImageName),
    /// The list of what refers to the manifest of this name, which is by digest.
    ReferrersOf(ImageName),
}

/// A blob that a bundle carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob that a site must have already, because the bundle was made without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// An image that needs it: the first of them.
    pub image: ImageName,
}

/// What one volume of a bundle holds; volumes are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The SHA-256 of the contents document that all volumes of the bundle carry.
    pub set: Digest,
    /// Which of them this is.
    pub number: u32,
    /// How many there are.
    pub of: u32,
    /// The parts of blobs in it, in the order of its members.
    pub segments: Vec<Segment>,
}

/// A part of a blob that is cut at the end of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The whole blob.
    pub digest: Digest,
    /// Where in it this part begins, in bytes.
    pub offset: u64,
    /// How long this part is, in bytes.
    pub size: u64,
    /// The SHA-256 of this part.
    #[serde(with = "bare_sha256")]
    pub sha256: Digest,
}

/// Why a document is no contents document, or no volume's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// Longer than is taken.
    #[error("it is longer than 64 MiB")]
    Long,
    /// Not JSON of the form; what the parser says.
    #[error("it is not of the form that wharf writes: {0}")]
    Form(String),
    /// Of a form of a later wharf.
    #[error("it is of form {0}, which a later wharf reads: this one knows form {FORM}")]
    Later(u32),
    /// More of something than is taken.
    #[error("it lists more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        most: usize,
    },
    /// A digest, or an image, twice.
    #[error("it lists {0} twice")]
    Twice(String),
    /// Sizes whose sum is no number of bytes that any disk holds.
    #[error("the sizes in it are more than any disk holds")]
    Sizes,
    /// An image whose document is neither carried nor taken for granted.
    #[error("it names {0}, but not that image's own document")]
    Unfounded(String),
    /// A part that has no bytes.
    #[error("it has a part of {0} without a byte in it")]
    Empty(Digest),
    /// A number of a volume that cannot be.
    #[error("it calls itself volume {number} of {of}")]
    Number {
        /// Which.
        number: u32,
        /// Of how many.
        of: u32,
    },
}

impl Contents {
    /// Puts the lists that have an order by themselves into it: images, and what is taken for granted.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.images.iter_mut().for_each(|image| image.platforms.sort());
        self.images.sort_by_cached_key(|image| {
            let of = matches!(image.named, Named::ReferrersOf(_));
            (image.named.image().to_string(), of, image.digest)
        });
        let key = |base: &Base| (base.image.to_string(), base.digest);
        self.base.sort_by_cached_key(key);
        self
    }

    /// The document: one line of JSON, the same for the same contents.
    ///
    /// # Errors
    /// When nobody would read it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContentsError> {
        self.check()?;
        let raw = RawContents {
            form: FORM,
            images: self.images.clone(),
            blobs: self.blobs.clone(),
            base: self.base.clone(),
        };
        written(&raw)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// When it is not what [`Contents::to_bytes`] could have written, give or take spaces.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContentsError> {
        let RawContents { form: _, images, blobs, base } = read(bytes)?;
        let contents = Self { images, blobs, base };
        contents.check()?;
        Ok(contents)
    }

    /// How many bytes of blobs the bundle carries.
    pub fn carried_bytes(&self) -> u64 {
        self.blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// How many bytes of blobs it takes for granted.
    pub fn base_bytes(&self) -> u64 {
        self.base.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    fn check(&self) -> Result<(), ContentsError> {
        let Self { images, blobs, base } = self;
        at_most("images", images.len(), IMAGES_MAX)?;
        at_most("blobs", blobs.len().saturating_add(base.len()), BLOBS_MAX)?;
        let mut sizes = std::collections::HashMap::new();
        let all = blobs.iter().map(|blob| (blob.digest, blob.size));
        let mut sum = 0_u64;
        for (digest, size) in all.chain(base.iter().map(|base| (base.digest, base.size))) {
            sum = sum.checked_add(size).ok_or(ContentsError::Sizes)?;
            if sizes.insert(digest, size).is_some() {
                return Err(ContentsError::Twice(digest.to_string()));
            }
        }
        if sum > i64::MAX as u64 {
            return Err(ContentsError::Sizes);
        }
        let mut names = HashSet::new();
        for image in images {
            at_most("platforms of an image", image.platforms.len(), PLATFORMS_MAX)?;
            if !names.insert(image.named.to_string()) {
                return Err(ContentsError::Twice(image.named.to_string()));
            }
            if sizes.get(&image.digest) != Some(&image.size) {
                return Err(ContentsError::Unfounded(image.named.to_string()));
            }
        }
        Ok(())
    }
}

impl Image {
    /// Its document, as others describe it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { media_type: self.media_type.clone(), digest: self.digest, size: self.size }
    }
}

impl Volume {
    /// The document: one line of JSON, the same for the same volume.
    ///
    /// # Errors
    /// When nobody would read it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ContentsError> {
        self.check()?;
        let Self { set, number, of, segments } = self;
        written(&RawVolume {
            form: FORM,
            set: *set,
            number: *number,
            of: *of,
            segments: segments.clone(),
        })
    }

    /// Reads the document.
    ///
    /// # Errors
    /// When it is not what [`Volume::to_bytes`] could have written, give or take spaces.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContentsError> {
        let RawVolume { form: _, set, number, of, segments } = read(bytes)?;
        let volume = Self { set, number, of, segments };
        volume.check()?;
        Ok(volume)
    }

    fn check(&self) -> Result<(), ContentsError> {
        let Self { number, of, segments, .. } = self;
        if *number == 0 || number > of || *of > VOLUMES_MAX {
            return Err(ContentsError::Number { number: *number, of: *of });
        }
        at_most("parts of blobs", segments.len(), PARTS_MAX)?;
        let mut seen = HashSet::new();
        for segment in segments {
            segment.offset.checked_add(segment.size).ok_or(ContentsError::Sizes)?;
            if segment.size == 0 {
                return Err(ContentsError::Empty(segment.digest));
            }
            if !seen.insert((segment.digest, segment.offset)) {
                return Err(ContentsError::Twice(segment.digest.to_string()));
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Its bytes in the whole blob, the first and behind the last.
    pub const fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

/// `1, 2, 3 and 7`; of five that follow each other, `1 to 5`. Of many, the first, and how many more there are.
///
/// `numbers` are in their order.
pub fn listed_numbers(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|before, next| before.checked_add(1) == Some(*next));
    let items = runs.flat_map(|run| match run {
        [first, _, _, _, .., last] => vec![format!("{first} to {last}")],
        few => few.iter().map(ToString::to_string).collect(),
    });
    let mut items: Vec<String> = items.take(NUMBERS_TOLD + 1).collect();
    if items.len() > NUMBERS_TOLD {
        items.truncate(NUMBERS_TOLD);
        return format!("{} and others", items.join(", "));
    }
    match items.pop() {
        Some(last) if !items.is_empty() => format!("{} and {last}", items.join(", ")),
        last => last.unwrap_or_default(),
    }
}

impl Named {
    /// The name of the image, or of what the list speaks of.
    pub const fn image(&self) -> &ImageName {
        match self {
            Self::Image(name) | Self::ReferrersOf(name) => name,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => name.fmt(f),
            Self::ReferrersOf(name) => write!(f, "the referrers of {name}"),
        }
    }
}

/// The documents as they stand in JSON: fields in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContents {
    #[serde(rename = "wharfBundle", deserialize_with = "known_form")]
    form: u32,
    images: Vec<Image>,
    blobs: Vec<Blob>,
    base: Vec<Base>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVolume {
    #[serde(rename = "wharfVolume", deserialize_with = "known_form")]
    form: u32,
    set: Digest,
    number: u32,
    of: u32,
    segments: Vec<Segment>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawImage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<ImageName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    referrers_of: Option<ImageName>,
    digest: Digest,
    media_type: MediaType,
    size: u64,
    /// As [`Platform::parse_any`] reads them.
    platforms: Vec<String>,
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { named, digest, media_type, size, platforms } = self.clone();
        let (name, referrers_of) = match named {
            Named::Image(name) => (Some(name), None),
            Named::ReferrersOf(subject) => (None, Some(subject)),
        };
        let platforms = platforms.iter().map(ToString::to_string).collect();
        RawImage { name, referrers_of, digest, media_type, size, platforms }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawImage { name, referrers_of, digest, media_type, size, platforms } =
            RawImage::deserialize(deserializer)?;
        let named = match (name, referrers_of) {
            (Some(name), None) => {
                if matches!(name.reference, Reference::Digest(named) if named != digest) {
                    return Err(de::Error::custom("an image by digest has another digest"));
                }
                Named::Image(name)
            }
            (None, Some(of)) if matches!(of.reference, Reference::Digest(_)) => {
                Named::ReferrersOf(of)
            }
            (None, Some(_)) => return Err(de::Error::custom("referrersOf is not by digest")),
            _ => return Err(de::Error::custom("an image has one of name and referrersOf")),
        };
        let platforms = platforms.iter().map(|text| {
            let wrong = || de::Error::custom(format_args!("\"{text}\" is no platform"));
            Platform::parse_any(text).ok_or_else(wrong)
        });
        let platforms = platforms.collect::<Result<_, _>>()?;
        Ok(Self { named, digest, media_type, size, platforms })
    }
}

/// A SHA-256 written as its hex digits alone.
mod bare_sha256 {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::oci::{Algorithm, Digest};

    pub(super) fn serialize<S: Serializer>(
        digest: &Digest,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digest.encoded())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Digest, D::Error> {
        let hex = String::deserialize(deserializer)?;
        format!("{}:{hex}", Algorithm::Sha256.as_str()).parse().map_err(de::Error::custom)
    }
}

/// What [`known_form`] says of a later form, so that it is told from a document of no form.
const LATER: &str = "wharf form ";

fn known_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        FORM => Ok(FORM),
        other => Err(de::Error::custom(format_args!("{LATER}{other}"))),
    }
}

fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, ContentsError> {
    if bytes.len() > CONTENTS_MAX_BYTES {
        return Err(ContentsError::Long);
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let said = error.to_string();
        let later = said.strip_prefix(LATER).and_then(|rest| rest.split(' ').next());
        match later.and_then(|form| form.parse().ok()) {
            Some(form) if form > FORM => ContentsError::Later(form),
            // It may repeat what it read.
            _ => ContentsError::Form(line(&said)),
        }
    })
}

fn written(raw: &impl Serialize) -> Result<Vec<u8>, ContentsError> {
    let bytes = serde_json::to_vec(raw).map_err(|error| ContentsError::Form(error.to_string()))?;
    if bytes.len() > CONTENTS_MAX_BYTES {
        return Err(ContentsError::Long);
    }
    Ok(bytes)
}

const fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), ContentsError> {
    if count > most {
        return Err(ContentsError::TooMany { what, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type;

    fn blob(text: &str) -> Blob {
        Blob { digest: Digest::sha256(text.as_bytes()), size: text.len() as u64 }
    }

    fn image(named: Named, document: &str) -> Image {
        let Blob { digest, size } = blob(document);
        let media_type = media_type::OCI_INDEX.parse().expect("a type");
        let platforms = ["linux/arm64", "linux/arm/v7"].map(|text| text.parse().expect("one"));
        Image { named, digest, media_type, size, platforms: platforms.into() }
    }

    fn name(text: &str) -> ImageName {
        text.parse().expect("a name")
    }

    fn contents() -> Contents {
        let subject = format!("alpine@{}", blob("index").digest);
        let base = Base { digest: blob("old").digest, size: 3, image: name("alpine:3.20") };
        Contents {
            images: vec![
                image(Named::ReferrersOf(name(&subject)), "referrers"),
                image(Named::Image(name("alpine:3.20")), "index"),
            ],
            blobs: vec![blob("index"), blob("referrers"), blob("layer")],
            base: vec![base],
        }
        .sorted()
    }

    #[test]
    fn a_document_is_the_same_each_time_and_is_read_again() {
        let bytes = contents().to_bytes().expect("written");
        assert_eq!(bytes, contents().to_bytes().expect("written"));
        assert_eq!(Contents::parse(&bytes), Ok(contents()));
        let text = String::from_utf8(bytes).expect("JSON");
        let begin = format!(
            r#"{{"wharfBundle":1,"images":[{{"name":"docker.io/library/alpine:3.20","digest":"{}","mediaType":"{}","size":5,"platforms":["linux/arm/v7","linux/arm64"]}},{{"referrersOf":"docker.io/library/alpine@sha256:"#,
            blob("index").digest,
            media_type::OCI_INDEX,
        );
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.ends_with(r#""size":3,"image":"docker.io/library/alpine:3.20"}]}"#), "{text}");
    }

    #[test]
    fn a_volume_is_read_again() {
        let part = Segment {
            digest: blob("layer").digest,
            offset: 2,
            size: 3,
            sha256: Digest::sha256(b"yer"),
        };
        let set = Digest::sha256(b"contents");
        let volume = Volume { set, number: 2, of: 3, segments: vec![part] };
        let bytes = volume.to_bytes().expect("written");
        assert_eq!(Volume::parse(&bytes), Ok(volume.clone()));
        let text = String::from_utf8(bytes).expect("JSON");
        let begin = format!(r#"{{"wharfVolume":1,"set":"{set}","number":2,"of":3,"segments":[{{"#);
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.ends_with(&format!(r#""sha256":"{}"}}]}}"#, part.sha256.encoded())), "{text}");
        for (number, of) in [(0, 3), (4, 3), (1, u32::MAX)] {
            let wrong = Volume { number, of, ..volume.clone() };
            assert_eq!(wrong.to_bytes(), Err(ContentsError::Number { number, of }));
        }
        let twice = Volume { segments: vec![part, part], ..volume };
        assert!(matches!(twice.to_bytes(), Err(ContentsError::Twice(_))));
        let empty = Volume { segments: vec![Segment { size: 0, ..part }], ..twice };
        assert_eq!(empty.to_bytes(), Err(ContentsError::Empty(part.digest)));
        let parts = (0..17).map(|offset| Segment { offset, size: 1, ..part }).collect();
        let many = Volume { segments: parts, ..empty };
        assert!(matches!(many.to_bytes(), Err(ContentsError::TooMany { most: 16, .. })));
        let beyond = Segment { offset: u64::MAX, ..part };
        let beyond = Volume { segments: vec![beyond], ..many };
        assert_eq!(beyond.to_bytes(), Err(ContentsError::Sizes));
    }

    #[test]
    fn numbers_are_short_in_a_sentence() {
        for (numbers, said) in [
            (vec![], ""),
            (vec![3], "3"),
            (vec![2, 3, 4, 5], "2, 3, 4 and 5"),
            (vec![1, 3, 4, 5, 6, 7, 9], "1, 3 to 7 and 9"),
            ((2..100).collect(), "2 to 99"),
        ] {
            assert_eq!(listed_numbers(&numbers), said);
        }
        let odd: Vec<u32> = (0..30).map(|n| 2 * n + 1).collect();
        let said = listed_numbers(&odd);
        assert!(said.starts_with("1, 3, 5") && said.ends_with("37, 39 and others"), "{said}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let good = contents();
        let mut twice = good.clone();
        twice.blobs.push(blob("layer"));
        let mut both = good.clone();
        both.blobs.push(blob("old"));
        let mut same_name = good.clone();
        same_name.images.push(good.images[0].clone());
        for wrong in [twice, both, same_name] {
            assert!(matches!(wrong.to_bytes(), Err(ContentsError::Twice(_))), "{wrong:?}");
        }
        let mut huge = good.clone();
        huge.blobs[2].size = u64::MAX;
        assert_eq!(huge.to_bytes(), Err(ContentsError::Sizes));
        huge.blobs[2].size = 1 << 63;
        assert_eq!(huge.to_bytes(), Err(ContentsError::Sizes));
        let mut unfounded = good.clone();
        unfounded.blobs.remove(0);
        assert!(matches!(unfounded.to_bytes(), Err(ContentsError::Unfounded(_))));
        let mut lied = good;
        lied.images[0].size += 1;
        assert!(matches!(lied.to_bytes(), Err(ContentsError::Unfounded(_))));
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let text = String::from_utf8(contents().to_bytes().expect("written")).expect("JSON");
        let later = text.replace("\"wharfBundle\":1", "\"wharfBundle\":2");
        assert_eq!(Contents::parse(later.as_bytes()), Err(ContentsError::Later(2)));
        for (good, bad) in [
            ("\"wharfBundle\":1", "\"wharfBundle\":0"),
            ("\"wharfBundle\":1,", ""),
            ("\"base\":", "\"bases\":"),
            ("\"name\":", "\"referrersOf\":"),
            ("\"name\":", "\"x\":"),
            ("linux/arm64", "linux"),
            ("alpine:3.20", "Alpine:3.20"),
            ("\"size\":5", "\"size\":-5"),
            ("sha256:", "md5:"),
        ] {
            let wrong = text.replacen(good, bad, 1);
            assert_ne!(wrong, text, "{good}");
            let read = Contents::parse(wrong.as_bytes());
            assert!(matches!(read, Err(ContentsError::Form(_))), "{wrong}: {read:?}");
        }
        let steers = text.replacen("\"base\":", "\"ba\\nse\\u001b[2J\":", 1);
        let told = Contents::parse(steers.as_bytes()).expect_err("no such key").to_string();
        assert!(told.contains("`ba") && !told.contains(char::is_control), "{told:?}");
        for cut in [0, 1, text.len() / 2, text.len() - 1] {
            assert!(Contents::parse(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let long = vec![b' '; CONTENTS_MAX_BYTES + 1];
        assert_eq!(Contents::parse(&long), Err(ContentsError::Long));
        let elsewhere = format!("alpine@{}", blob("other").digest);
        let elsewhere = text.replacen("docker.io/library/alpine:3.20", &elsewhere, 1);
        assert!(Contents::parse(elsewhere.as_bytes()).is_err());
    }
}
