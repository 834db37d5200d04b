//! A bundle over several media is taken in whichever comes first, and nothing of it is brought twice (bug classes: an order
//! that must be kept; a wrong stick that spoils what came before; an image that is visible while a layer is on another stick;
//! parts that nobody ever cleans up).

mod orders;
mod staying;
mod trouble;

use std::{
    collections::{HashMap, HashSet},
    io::Cursor,
};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use wharf::{
    bundle::{Archive, Blob, Bundle, Image, Named, Piece, Volume, Wanted, read},
    oci::{Digest, media_type},
    pull::{Error, ImportTerms, Imported, VolumeSet},
    upstream::Mode,
};

use crate::{
    import::{LAYER, Taken, descriptor, terms, written_by_tar},
    support::{Wharf, names, noise},
};

const KIB: usize = 1024;

/// An image, and the bundle of it.
pub(super) struct Made {
    pub(super) tag: String,
    pub(super) manifest: Bytes,
    pub(super) blobs: Vec<Bytes>,
    pub(super) bundle: Bundle,
}

impl Made {
    /// With layers of these lengths, which differ by tag.
    pub(super) fn of(tag: &str, layers: &[usize]) -> Self {
        let layers = layers.iter().enumerate().map(|(n, len)| noise(&format!("{tag} {n}"), *len));
        Self::with(tag, &layers.collect::<Vec<_>>(), &HashSet::new())
    }

    /// With these layers, for a site that has some of them.
    pub(super) fn with(tag: &str, layers: &[Bytes], have: &HashSet<Digest>) -> Self {
        let config: Bytes = json!({ "os": "linux", "tag": tag }).to_string().into();
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
        });
        let manifest: Bytes = document.to_string().into();
        let mut blobs = vec![config];
        blobs.extend_from_slice(layers);
        let image = Image {
            named: Named::Image(format!("app:{tag}").parse().expect("a name")),
            digest: Digest::sha256(&manifest),
            media_type: media_type::OCI_MANIFEST.parse().expect("a type"),
            size: manifest.len() as u64,
            platforms: Vec::new(),
        };
        let listed = [(blob(&manifest), true)].into_iter();
        let listed = listed.chain(blobs.iter().map(|bytes| (blob(bytes), false))).collect();
        let wanted = Wanted { image, attached: false, docker: None, blobs: listed };
        let bundle = Bundle::new(vec![wanted], have).expect("a bundle");
        Self { tag: tag.to_owned(), manifest, blobs, bundle }
    }

    /// As small as volumes of it may be.
    pub(super) fn least(&self) -> u64 {
        match self.bundle.shares(1) {
            Err(wharf::bundle::SplitError::Small(least)) => least,
            other => panic!("it is too small: {other:?}"),
        }
    }

    /// Its volumes of at most so many bytes.
    pub(super) fn volumes(&self, size: u64) -> Vec<Vec<u8>> {
        let shares = self.bundle.shares(size).expect("split");
        let volumes = (1..).zip(&shares).map(|(number, share)| {
            let sums = share.parts().iter().map(|(digest, from, len)| {
                let whole = self.bytes(digest);
                Digest::sha256(&whole[*from as usize..(from + len) as usize])
            });
            let sums: Vec<Digest> = sums.collect();
            self.written(&self.bundle.volume(&shares, number, &sums).expect("a volume"))
        });
        volumes.collect()
    }

    /// Three volumes, each of which ends in the middle of a layer, but the last.
    pub(super) fn three(&self) -> [Vec<u8>; 3] {
        let total: usize = self.blobs.iter().map(Bytes::len).sum();
        let sizes = (0..64).map(|n| (total / 3 + n * 2 * KIB) as u64);
        let mut split = sizes.map(|size| self.volumes(size.max(self.least())));
        let three = split.find(|volumes| volumes.len() == 3).expect("some size is right");
        three.try_into().expect("three")
    }

    pub(super) fn bytes(&self, digest: &Digest) -> &Bytes {
        let all = self.blobs.iter().chain([&self.manifest]);
        all.into_iter().find(|bytes| Digest::sha256(bytes) == *digest).expect("one of its blobs")
    }

    fn written(&self, archive: &Archive) -> Vec<u8> {
        let mut written = Vec::new();
        for piece in archive.pieces() {
            match piece {
                Piece::Bytes(bytes) => written.extend_from_slice(&bytes),
                Piece::Blob { digest, from, to } => {
                    written.extend_from_slice(&self.bytes(&digest)[from as usize..to as usize]);
                }
            }
        }
        written
    }

    /// Everything of it is served, and nothing is half there.
    pub(super) async fn assert_served(&self, wharf: &Wharf) {
        wharf.pull.set_mode(Mode::Offline);
        let answer = wharf.get(&format!("/v2/library/app/manifests/{}", self.tag)).await;
        assert_eq!(answer.bytes(), &self.manifest);
        for blob in &self.blobs {
            let path = format!("/v2/library/app/blobs/{}", Digest::sha256(blob));
            assert!(wharf.get(&path).await.bytes() == blob, "{path}");
        }
    }

    /// Nobody sees it.
    pub(super) async fn assert_unseen(&self, wharf: &Wharf) {
        wharf.pull.set_mode(Mode::Offline);
        let answer = wharf.get(&format!("/v2/library/app/manifests/{}", self.tag)).await;
        assert_eq!(answer.status, 404);
        for blob in &self.blobs {
            let path = format!("/v2/library/app/blobs/{}", Digest::sha256(blob));
            assert_eq!(wharf.get(&path).await.status, 404, "{path}");
        }
    }
}

fn blob(bytes: &Bytes) -> Blob {
    Blob { digest: Digest::sha256(bytes), size: bytes.len() as u64 }
}

pub(super) async fn import(wharf: &Wharf, archive: &[u8]) -> Result<Imported, Error> {
    wharf.pull.import(Cursor::new(archive.to_vec()), ImportTerms::default()).await
}

/// The numbers of the volumes that are not here yet.
pub(super) async fn missing(wharf: &Wharf, archive: &[u8]) -> Vec<u32> {
    let imported = import(wharf, archive).await.expect("taken in");
    let volume = imported.volume.expect("a volume");
    assert_eq!(imported.images.is_empty(), !volume.missing.is_empty());
    volume.missing
}

pub(super) async fn refused(wharf: &Wharf, archive: &[u8]) -> String {
    import(wharf, archive).await.expect_err("refused").to_string()
}

/// The bundles that wait for volumes.
pub(super) async fn sets(wharf: &Wharf) -> Vec<VolumeSet> {
    wharf.pull.status().await.volume_sets
}

/// What lies below `wharf/volumes`.
pub(super) fn dirs(wharf: &Wharf) -> Vec<String> {
    let dir = wharf.cache().join("wharf/volumes");
    if dir.exists() { names(&dir) } else { Vec::new() }
}

/// The members of an archive, by their names.
pub(super) fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let members = archive.entries().expect("an archive").map(|member| {
        let mut member = member.expect("a member");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).expect("read");
        (String::from_utf8(member.path_bytes().into_owned()).expect("UTF-8"), bytes)
    });
    members.collect()
}

/// The archive with its last part of a blob changed, and its sum made right.
pub(super) fn lied(archive: &[u8]) -> Vec<u8> {
    let mut members = members(archive);
    let part = members.iter().rposition(|(name, _)| name.starts_with("segments/"));
    let part = part.expect("a volume with a part");
    members[part].1[0] ^= 1;
    let (name, bytes) = members[part].clone();
    let volume = members.iter_mut().find(|(name, _)| name == wharf::bundle::VOLUME);
    let document = &mut volume.expect("a volume").1;
    let mut volume = Volume::parse(document).expect("a volume");
    let segment = volume
        .segments
        .iter_mut()
        .find(|part| name.ends_with(&format!("{}/{:020}", part.digest.encoded(), part.offset)));
    segment.expect("it is listed").sha256 = Digest::sha256(&bytes);
    *document = volume.to_bytes().expect("a volume");
    written_by_tar(&members)
}

/// The archive with a byte of the last member of this kind changed.
pub(super) fn damaged(archive: &[u8], kind: &str) -> Vec<u8> {
    let mut members = members(archive);
    let member = members.iter_mut().rfind(|(name, _)| name.starts_with(kind));
    let bytes = &mut member.expect("there is one").1;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    written_by_tar(&members)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn split_and_joined_in_any_order_a_bundle_is_what_it_was(
        sizes in proptest::collection::vec(0_usize..300_000, 0..6),
        more in 0_u64..200_000,
        seed in any::<u64>(),
    ) {
        let made = Made::of("1", &sizes);
        let mut volumes: Vec<Vec<u8>> = made.volumes(made.least() + more);
        volumes.sort_by_cached_key(|volume| {
            Digest::sha256(&[Digest::sha256(volume).as_bytes(), &seed.to_le_bytes()].concat())
        });
        let mut taken = Taken::default();
        let last = volumes.len() - 1;
        for (n, volume) in volumes.iter().enumerate() {
            let brought = read(Cursor::new(volume), &terms(), &mut taken).expect("taken");
            prop_assert_eq!(brought.volume.expect("a volume").missing.len(), last - n);
            prop_assert_eq!(brought.images.len(), usize::from(n == last));
        }
        let kept: HashMap<Digest, Bytes> = taken.blobs;
        for bytes in made.blobs.iter().chain([&made.manifest]) {
            prop_assert!(kept.get(&Digest::sha256(bytes)) == Some(bytes));
        }
    }
}
