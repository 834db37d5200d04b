//! Clients beside: whatever else wharf is doing, and whatever befalls it, what they are given is right.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{KIB, Pushed, REPO, digest};
use crate::support::{
    FakeHub, blob_path,
    client::{self, Answer},
    deadline,
};

const AT_ONCE: usize = 2;

/// A path, and what is there.
type There = (String, Bytes);

/// Images that clients pull, and one that they ask for.
#[derive(Default)]
pub(super) struct Wanted {
    /// At the registry.
    images: Vec<There>,
    /// What is imported meanwhile: its list first.
    arriving: Vec<There>,
}

/// Clients that pull over and over.
pub(super) struct Clients {
    running: JoinSet<()>,
    over: CancellationToken,
    /// wharf is about to be killed.
    doomed: CancellationToken,
}

impl Wanted {
    /// Two images of one platform each, which are put into `hub`.
    pub(super) fn at(hub: &FakeHub) -> Self {
        let mut images = Vec::new();
        for name in ["library/first", "library/second"] {
            let (platform, layers) = (("linux", "arm64", None), [200 * KIB, 3000, 40 * KIB]);
            let image = hub.push_image(name, "1", &[platform], &layers);
            let child = &image.children[0];
            let manifest = |reference: String| format!("/v2/{name}/manifests/{reference}");
            images.push((manifest("1".to_owned()), image.index.bytes.clone()));
            images
                .push((manifest(child.manifest.digest.to_string()), child.manifest.bytes.clone()));
            let blobs = child.layers.iter().chain([&child.config]);
            images.extend(blobs.map(|blob| (blob_path(name, &blob.digest), blob.bytes.clone())));
        }
        Self { images, arriving: Vec::new() }
    }

    /// And this image, of which nobody knows before it is imported.
    pub(super) fn and(mut self, image: &Pushed) -> Self {
        for document in [&image.index, &image.manifest, &image.attestation] {
            let path = format!("/v2/{REPO}/manifests/{}", digest(document));
            self.arriving.push((path, document.clone()));
        }
        let blobs = image.layers.iter().chain([&image.config, &image.statement]);
        self.arriving.extend(blobs.map(|blob| (blob_path(REPO, &digest(blob)), blob.clone())));
        self
    }
}

impl Clients {
    pub(super) fn of(addr: SocketAddr, wanted: &Arc<Wanted>) -> Self {
        let (over, doomed) = (CancellationToken::new(), CancellationToken::new());
        let mut running = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (wanted, over, doomed) = (Arc::clone(wanted), over.clone(), doomed.clone());
            running.spawn(async move {
                let pulling = async {
                    pull(addr, &wanted).await?;
                    while !over.is_cancelled() {
                        pull(addr, &wanted).await?;
                    }
                    Some(())
                };
                let ended = pulling.await;
                assert!(ended.is_some() || doomed.is_cancelled(), "no answer, or half of one");
            });
        }
        Self { running, over, doomed }
    }

    /// Before wharf is killed: from now on there may be no answer, and it may be cut, but a whole one is right.
    pub(super) fn expect_death(&self) {
        self.doomed.cancel();
    }

    /// Ends them. Of a wharf that lives each has pulled everything at least once.
    pub(super) async fn end(mut self) {
        self.over.cancel();
        while let Some(ended) = deadline("the clients to end", self.running.join_next()).await {
            ended.expect("they are given what is right");
        }
    }
}

/// Pulls everything: `None` if there was no answer, or half of one.
async fn pull(addr: SocketAddr, wanted: &Wanted) -> Option<()> {
    for (path, bytes) in &wanted.images {
        get(addr, path).await?.expect(bytes);
    }
    let Some(((path, index), rest)) = wanted.arriving.split_first() else { return Some(()) };
    let answer = get(addr, path).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Some(());
    }
    // What is there is there whole.
    answer.expect(index);
    for (path, bytes) in rest {
        get(addr, path).await?.expect(bytes);
    }
    Some(())
}

/// A whole answer.
async fn get(addr: SocketAddr, path: &str) -> Option<Answer> {
    let answer = client::open("GET", addr, path, &[]).await.ok()?.rest().await;
    answer.body.is_ok().then_some(answer)
}
