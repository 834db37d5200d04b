//! Each host gets its own platform's image, and the uplink carries no other (bug classes: an index replaced by a child; a
//! host that is handed amd64 because it cannot read a list; an image fetched for six architectures).

mod answers;
mod clients;
mod kept;
mod lies;

use wharf::oci::Digest;

use crate::support::{
    FakeHub, PushedImage, PushedManifest, Wharf, blob_path,
    client::{self, Answer, Headers},
};

pub(super) const REPO: &str = "library/busybox";

/// The platforms of Docker's official images, and two more.
pub(super) const OFFICIAL: [(&str, &str, Option<&str>); 7] = [
    ("linux", "amd64", None),
    ("linux", "arm", Some("v6")),
    ("linux", "arm", Some("v7")),
    ("linux", "arm64", Some("v8")),
    ("linux", "386", None),
    ("linux", "ppc64le", None),
    ("linux", "s390x", None),
];

/// A Docker Engine of that architecture, as its User-Agent tells.
pub(super) fn engine(architecture: &str) -> String {
    format!(
        "docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1.0-18 os/linux arch/{architecture} \
         UpstreamClient(Docker-Client/28.2.2 \\(linux\\))"
    )
}

pub(super) fn by_tag(tag: &str) -> String {
    format!("/v2/{REPO}/manifests/{tag}")
}

pub(super) fn by_digest(digest: &Digest) -> String {
    format!("/v2/{REPO}/manifests/{digest}")
}

/// A client with a User-Agent.
pub(super) struct Client<'a> {
    wharf: &'a Wharf,
    user_agent: String,
}

impl<'a> Client<'a> {
    pub(super) fn new(wharf: &'a Wharf, user_agent: &str) -> Self {
        Self { wharf, user_agent: user_agent.to_owned() }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        client::get(self.wharf.addr, path, &[("user-agent", &self.user_agent)]).await
    }

    pub(super) async fn head(&self, path: &str) -> Answer {
        client::head(self.wharf.addr, path, &[("user-agent", &self.user_agent)]).await
    }

    pub(super) async fn get_with(&self, path: &str, more: Headers<'_>) -> Answer {
        let mut headers = vec![("user-agent", self.user_agent.as_str())];
        headers.extend_from_slice(more);
        client::get(self.wharf.addr, path, &headers).await
    }

    /// A pull as clients do it: the list by its tag, the child that the client takes, its config and layers.
    pub(super) async fn pull(&self, tag: &str, image: &PushedImage, platform: &str) {
        assert_eq!(self.get(&by_tag(tag)).await.bytes(), &image.index.bytes);
        self.take(image.child(platform)).await;
    }

    /// A manifest and all its blobs.
    pub(super) async fn take(&self, child: &PushedManifest) {
        let manifest = self.get(&by_digest(&child.manifest.digest)).await;
        assert_eq!(manifest.bytes(), &child.manifest.bytes);
        for blob in child.layers.iter().chain([&child.config]) {
            self.get(&blob_path(REPO, &blob.digest)).await.expect(&blob.bytes);
        }
    }
}

/// Whether every byte of the image is in the cache.
pub(super) fn is_whole(wharf: &Wharf, child: &PushedManifest) -> bool {
    let parts = child.layers.iter().chain([&child.config, &child.manifest]);
    parts.into_iter().all(|part| wharf.blob_file(&part.digest).exists())
}

/// Whether anything of the image is in the cache.
pub(super) fn is_there(wharf: &Wharf, child: &PushedManifest) -> bool {
    let parts = child.layers.iter().chain([&child.config, &child.manifest]);
    parts.into_iter().any(|part| wharf.blob_file(&part.digest).exists())
}

/// How often anything of the image was asked of the registry, and whether each part at most once.
pub(super) fn asked(hub: &FakeHub, child: &PushedManifest) -> usize {
    let parts = child.layers.iter().chain([&child.config]);
    let blobs = parts.map(|part| hub.blob_gets(&part.digest).len());
    let name = child.manifest.digest.encoded();
    let manifests = hub.count(|seen| seen.is_manifest() && seen.path.contains(&name));
    let asked: Vec<usize> = blobs.chain([manifests]).collect();
    assert!(
        asked.iter().all(|times| *times <= 1),
        "{} was asked for {asked:?} times",
        child.platform
    );
    asked.iter().sum()
}
