//! Files that name images: lists, Compose files and manifests of Kubernetes; and the tags that their patterns mean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::{
    cli::fuzzing,
    oci::{ImagePattern, Newest, Reference, Tag},
};

/// What is named is written the same way, and read again; what is wrong is said with its line.
fn named(text: &str, read: Result<Vec<ImagePattern>, (usize, String)>) -> Vec<ImagePattern> {
    match read {
        Ok(images) => {
            for image in &images {
                assert_eq!(image.to_string().parse().as_ref(), Ok(image), "{image}");
            }
            images
        }
        Err((line, why)) => {
            // YAML has more kinds of line ends than `lines` knows.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            assert!((1..=lines + 1).contains(&line) && !why.is_empty(), "{line}: {why}");
            Vec::new()
        }
    }
}

/// Which tags are the newest is no matter of the order in which a registry tells them.
fn newest(tags: &[Tag]) {
    let first = |tags: &mut dyn Iterator<Item = &Tag>| {
        let mut newest = Newest::new(3);
        tags.for_each(|tag| newest.add(tag.clone()));
        newest.into_tags()
    };
    let forwards = first(&mut tags.iter());
    assert!(forwards.len() <= 3);
    assert_eq!(forwards, first(&mut tags.iter().rev()));
    let half = tags.len() / 2;
    assert_eq!(forwards, first(&mut tags[half..].iter().chain(&tags[..half])));
}

fuzz_target!(|text: &str| {
    let mut images = named(text, fuzzing::names(text));
    images.extend(named(text, fuzzing::documents(text)));
    let mut tags: Vec<Tag> =
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    for image in &images {
        match image {
            ImagePattern::One(image) => {
                if let Reference::Tag(tag) = &image.reference {
                    tags.push(tag.clone());
                }
            }
            ImagePattern::Tags(_, pattern) => {
                let _ = tags.iter().filter(|tag| pattern.matches(tag)).count();
            }
        }
    }
    newest(&tags);
});
