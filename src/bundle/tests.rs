//! Archives and volumes as `tar` reads them.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
};

use proptest::prelude::*;

use super::{
    Archive, Blob, Bundle, CONTENTS, DOCKER, Image, Named, Piece, SIGNATURE, SecretKey, SplitError,
    Wanted,
};
use crate::oci::{Algorithm, Digest, media_type};

/// A blob of so many bytes, each of which is its place.
fn content(size: u64) -> Vec<u8> {
    (0..size).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

fn blob(algorithm: Algorithm, seed: usize, size: u64) -> Blob {
    Blob { digest: Digest::of(algorithm, &seed.to_le_bytes()), size }
}

fn wanted(name: &str, blobs: &[Blob]) -> Wanted {
    let named = Named::Image(name.parse().expect("a name"));
    let document = Blob { digest: Digest::sha256(name.as_bytes()), size: 9 };
    let media_type = media_type::OCI_MANIFEST.parse().expect("a type");
    let image =
        Image { named, digest: document.digest, media_type, size: 9, platforms: Vec::new() };
    let blobs = [(document, true)].into_iter().chain(blobs.iter().map(|blob| (*blob, false)));
    Wanted { image, attached: false, docker: None, blobs: blobs.collect() }
}

/// The archive's bytes, with [`content`] for those of blobs.
fn written(archive: &Archive) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in archive.pieces() {
        match piece {
            Piece::Bytes(piece) => bytes.extend_from_slice(&piece),
            Piece::Blob { from, to, .. } => {
                bytes.extend_from_slice(&content(to)[usize::try_from(from).expect("small")..]);
            }
        }
    }
    assert_eq!(bytes.len() as u64, archive.size());
    assert_eq!(bytes.len() % 512, 0);
    bytes
}

fn read(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let members = archive.entries().expect("an archive").map(|member| {
        let mut member = member.expect("a member");
        let mut content = Vec::new();
        member.read_to_end(&mut content).expect("read");
        (String::from_utf8(member.path_bytes().into_owned()).expect("UTF-8"), content)
    });
    members.collect()
}

#[test]
fn long_names_and_empty_blobs_are_members_like_others() {
    let blobs = [blob(Algorithm::Sha512, 1, 700), blob(Algorithm::Sha256, 2, 0)];
    let bundle = Bundle::new(vec![wanted("app:1", &blobs)], &HashSet::new()).expect("a bundle");
    let members = read(&written(&bundle.archive()));
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let long = format!("blobs/sha512/{}", blobs[0].digest.encoded());
    assert_eq!(names[..3], ["oci-layout", "wharf-bundle.json", "index.json"]);
    assert_eq!(names[4], long);
    assert_eq!((&members[4].1, &members[5].1), (&content(700), &Vec::new()));
}

#[test]
fn a_blob_of_more_than_eight_gibibytes_has_its_size_said() {
    let huge = blob(Algorithm::Sha256, 1, 9 << 30);
    let bundle = Bundle::new(vec![wanted("app:1", &[huge])], &HashSet::new()).expect("a bundle");
    let mut begin = Vec::new();
    for piece in bundle.archive().pieces() {
        match piece {
            Piece::Blob { to, .. } if to == huge.size => break,
            Piece::Blob { from, to, .. } => begin.resize(begin.len() + (to - from) as usize, 0),
            Piece::Bytes(bytes) => begin.extend_from_slice(&bytes),
        }
    }
    let mut archive = tar::Archive::new(&begin[..]);
    let sizes: Vec<u64> = archive
        .entries()
        .expect("an archive")
        .map_while(Result::ok)
        .map(|one| one.size())
        .collect();
    assert_eq!(sizes.last(), Some(&huge.size));
}

#[test]
fn what_an_image_needs_twice_is_carried_once_and_documents_come_first() {
    let shared = blob(Algorithm::Sha256, 1, 10);
    let own = blob(Algorithm::Sha256, 2, 20);
    let images = vec![wanted("b:1", &[shared, own]), wanted("a:1", &[shared])];
    let bundle = Bundle::new(images.clone(), &HashSet::new()).expect("a bundle");
    let names: Vec<String> =
        bundle.contents().images.iter().map(|image| image.named.to_string()).collect();
    assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/b:1"]);
    let documents = ["a:1", "b:1"].map(|name| Digest::sha256(name.as_bytes()));
    let carried: Vec<Digest> = bundle.contents().blobs.iter().map(|blob| blob.digest).collect();
    assert_eq!(carried, [documents[0], documents[1], shared.digest, own.digest]);
    let delta = Bundle::new(images, &HashSet::from([shared.digest])).expect("a bundle");
    assert_eq!(delta.contents().base[0].image.to_string(), "docker.io/library/a:1");
    assert_eq!(delta.contents().base_bytes(), 10);
}

#[test]
fn docker_is_told_of_images_that_are_all_there() {
    let [config, layer] = [1, 2].map(|seed| blob(Algorithm::Sha256, seed, 10));
    let image = |name| {
        let docker = Some((config.digest, vec![layer.digest]));
        Wanted { docker, ..wanted(name, &[config, layer]) }
    };
    let images = vec![image("a:1"), image("a:2")];
    let bundle = Bundle::new(images.clone(), &HashSet::new()).expect("a bundle");
    let list = bundle.archive().place_of(DOCKER).expect("it has one");
    let bytes = written(&bundle.archive());
    let list = &bytes[list.start as usize..list.end as usize];
    let list: serde_json::Value = serde_json::from_slice(list).expect("JSON");
    let tags = serde_json::json!(["docker.io/library/a:1", "docker.io/library/a:2"]);
    assert_eq!((list.as_array().map(Vec::len), &list[0]["RepoTags"]), (Some(1), &tags));
    let delta = Bundle::new(images, &HashSet::from([layer.digest])).expect("a bundle");
    assert_eq!(delta.archive().place_of(DOCKER), None);
}

#[test]
fn a_signature_that_is_there_is_taken_over_if_it_is_right() {
    let (text, public) = SecretKey::generate(None).expect("random numbers");
    let key = SecretKey::parse(&text, None).expect("a key");
    let (_, stranger) = SecretKey::generate(None).expect("random numbers");
    let new = |name| {
        let mut bundle = Bundle::new(vec![wanted(name, &[])], &HashSet::new()).expect("a bundle");
        bundle.sign(&key).expect("signed");
        bundle
    };
    let (first, mut second, mut other) = (new("a:1"), new("a:1"), new("b:1"));
    let first = written(&first.archive());
    assert_ne!(written(&second.archive()), first, "each time another");
    let place = second.archive().place_of(SIGNATURE).expect("signed");
    let signature = &first[place.start as usize..place.end as usize];
    assert!(!second.take_signature(&stranger, signature));
    assert!(!other.take_signature(&public, signature), "it is of something else");
    assert!(!second.take_signature(&public, b"\xff"));
    assert!(second.take_signature(&public, signature));
    assert_eq!(written(&second.archive()), first);
    assert_eq!(second.archive().place_of(CONTENTS).map(|place| place.start), Some(512 * 3));
}

#[test]
fn a_volume_that_holds_nothing_is_refused() {
    let big = blob(Algorithm::Sha256, 1, 1 << 50);
    let bundle = Bundle::new(vec![wanted("app:1", &[big])], &HashSet::new()).expect("a bundle");
    let Err(SplitError::Small(least)) = bundle.shares(1) else { panic!("it is too small") };
    assert_eq!(bundle.shares(least - 1), Err(SplitError::Small(least)));
    assert_eq!(bundle.shares(least), Err(SplitError::TooMany));
}

proptest! {
    #[test]
    fn volumes_have_every_byte_once_and_are_not_larger_than_is_said(
        sizes in proptest::collection::vec((any::<bool>(), 0_u64..300_000), 0..12),
        more in 0_u64..200_000,
    ) {
        let algorithm = |long| if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let blobs: Vec<Blob> = sizes.iter().enumerate()
            .map(|(seed, (long, size))| blob(algorithm(*long), seed, *size)).collect();
        let bundle = Bundle::new(vec![wanted("app:1", &blobs)], &HashSet::new()).expect("a bundle");
        let Err(SplitError::Small(least)) = bundle.shares(1) else { panic!("it is too small") };
        let shares = bundle.shares(least + more).expect("split");
        let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (number, share) in (1..).zip(&shares) {
            let sums: Vec<Digest> = share.parts().iter().map(|(digest, from, _)| {
                Digest::sha256(format!("{digest} {from}").as_bytes())
            }).collect();
            let archive = bundle.volume(&shares, number, &sums).expect("a volume");
            prop_assert!(archive.size() <= least + more);
            prop_assert!(bundle.volume(&shares, number, &[Digest::sha256(b"one more")].repeat(sums.len() + 1)).is_err());
            for (name, bytes) in read(&written(&archive)) {
                if let Some(hex) = name.strip_prefix("blobs/") {
                    prop_assert!(found.insert(hex.to_owned(), bytes).is_none());
                } else if let Some(part) = name.strip_prefix("segments/") {
                    let (hex, offset) = part.rsplit_once('/').expect("a place");
                    let blob = found.entry(hex.to_owned()).or_default();
                    prop_assert_eq!(offset.parse::<usize>().expect("a number"), blob.len());
                    blob.extend_from_slice(&bytes);
                }
            }
        }
        prop_assert_eq!(found.len(), blobs.len() + 1);
        for Blob { digest, size } in blobs {
            let name = format!("{}/{}", digest.algorithm().as_str(), digest.encoded());
            prop_assert!(found[&name] == content(size));
        }
    }
}
