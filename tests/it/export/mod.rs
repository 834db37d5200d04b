//! What goes across an air gap is exactly what the other side needs, and nobody there can ask again (bug classes: a bundle
//! that says it is whole and is not; the list's digest lost; another platform's bytes on the stick; a delta without its
//! base; two bundles of the same images that differ).

mod arrival;
mod clients;
mod interrupted;
mod killed;
mod site;
mod split;
mod whole;

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use bytes::Bytes;
use serde_json::{Value, json};
use wharf::{
    bundle::{CONTENTS, Contents},
    oci::{Digest, media_type},
};

use crate::{
    commands::Site,
    support::{FakeHub, noise},
};

const REPO: &str = "library/app";
const KIB: usize = 1024;

/// An image for linux/arm64, in a list that has amd64 as well.
struct Pushed {
    index: Bytes,
    manifest: Bytes,
    config: Bytes,
    layers: Vec<Bytes>,
    /// What is said of it: in the list, too.
    attestation: Bytes,
    statement: Bytes,
}

impl Pushed {
    /// With layers of these seeds and lengths.
    fn to(hub: &FakeHub, tag: &str, layers: &[(&str, usize)]) -> Self {
        let layers: Vec<Bytes> = layers.iter().map(|(seed, len)| noise(seed, *len)).collect();
        let config: Bytes =
            json!({ "os": "linux", "architecture": "arm64", "tag": tag }).to_string().into();
        let statement = noise(&format!("statement {tag}"), 300);
        for bytes in layers.iter().chain([&config, &statement]) {
            hub.put_blob(REPO, bytes.clone());
        }
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest =
            document(&config, &layers.iter().map(|bytes| (layer, bytes)).collect::<Vec<_>>());
        let attestation = document(&config, &[("application/vnd.in-toto+json", &statement)]);
        for bytes in [&manifest, &attestation] {
            hub.put_manifest(REPO, None, media_type::OCI_MANIFEST, bytes.clone());
        }
        let mut arm64 = descriptor(media_type::OCI_MANIFEST, &manifest);
        arm64["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let mut amd64 = descriptor(media_type::OCI_MANIFEST, &Bytes::from(format!("amd64 {tag}")));
        amd64["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let mut attests = descriptor(media_type::OCI_MANIFEST, &attestation);
        attests["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        attests["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digest(&manifest),
        });
        let index: Bytes = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [amd64, arm64, attests],
        })
        .to_string()
        .into();
        hub.put_manifest(REPO, Some(tag), media_type::OCI_INDEX, index.clone());
        Self { index, manifest, config, layers, attestation, statement }
    }

    /// All of it, sorted.
    fn all(&self) -> Vec<Digest> {
        let documents =
            [&self.index, &self.manifest, &self.config, &self.attestation, &self.statement];
        sorted(documents.into_iter().chain(&self.layers).map(digest))
    }
}

/// A manifest.
fn document(config: &Bytes, layers: &[(&str, &Bytes)]) -> Bytes {
    let layers: Vec<Value> = layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, config), "layers": layers,
    });
    manifest.to_string().into()
}

fn descriptor(media_type: &str, bytes: &Bytes) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &Bytes) -> Digest {
    Digest::sha256(bytes)
}

fn sorted(digests: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut digests: Vec<Digest> = digests.collect();
    digests.sort_unstable();
    digests
}

/// A bundle as another program reads it.
struct Opened {
    names: Vec<String>,
    members: BTreeMap<String, Vec<u8>>,
}

impl Opened {
    /// Reads an archive: every header and digest in it is right.
    fn archive(bytes: &[u8]) -> Self {
        let mut archive = tar::Archive::new(bytes);
        let (mut names, mut members) = (Vec::new(), BTreeMap::new());
        for member in archive.entries().expect("an archive") {
            let mut member = member.expect("a member");
            let header = member.header();
            assert_eq!(
                (header.mode().expect("a mode"), header.mtime().expect("a time")),
                (0o644, 0)
            );
            assert_eq!((header.uid().expect("a user"), header.gid().expect("a group")), (0, 0));
            let name = String::from_utf8(member.path_bytes().into_owned()).expect("UTF-8");
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).expect("read");
            if let Some(path) = name.strip_prefix("blobs/") {
                assert_eq!(Digest::sha256(&bytes).to_string(), path.replace('/', ":"));
            }
            names.push(name.clone());
            assert_eq!(members.insert(name, bytes), None, "twice");
        }
        Self { names, members }
    }

    fn file(path: &Path) -> Self {
        Self::archive(&fs::read(path).expect("it is there"))
    }

    fn contents(&self) -> Contents {
        Contents::parse(&self.members[CONTENTS]).expect("a contents document")
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.members[name]).expect("JSON")
    }

    /// The blobs that it carries, sorted; it says the same, in the order in which they stand in it.
    fn blobs(&self) -> Vec<Digest> {
        let names = self.names.iter().filter_map(|name| name.strip_prefix("blobs/"));
        let carried: Vec<Digest> =
            names.map(|name| name.replace('/', ":").parse().expect("a digest")).collect();
        let said: Vec<Digest> = self.contents().blobs.iter().map(|blob| blob.digest).collect();
        assert_eq!(carried, said);
        sorted(carried.into_iter())
    }
}

impl Site {
    /// An export that must succeed: what it says.
    async fn export(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[&["export", "--json"], arguments].concat()).await;
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}: {said:?}");
        serde_json::from_str(&said.out).expect("one JSON value")
    }

    /// A file beside the cache.
    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).expect("it is there")
    }
}
