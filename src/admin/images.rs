//! What the API asks of the pull-through: the seam at which tests put a script in its place.

use std::io::Read;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use crate::{
    oci::{Digest, ImageName, Platform, Reference, Repository, TagPattern},
    pull::{
        Asker, Collected, Error, Explanation, ExportEvent, ImportTerms, Imported, Inspection,
        KeptImage, KnownClient, Mismatch, Pull, PullEvent, RemovedImage, Status, StoredBlob,
        Verify, VerifyEvent, VolumeSet,
    },
};

/// The images behind the API: [`Pull`], whose methods of the same names say what each does.
pub trait Images: Send + Sync {
    /// All images that are kept, by name.
    fn images(&self) -> BoxFuture<'_, Result<Vec<KeptImage>, Error>>;

    /// What an image name means, and what of it is kept.
    fn inspect<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<Inspection, Error>>;

    /// Which manifest of `image` a client gets, and why.
    fn explain<'a>(
        &'a self,
        asker: &'a Asker,
        image: &'a ImageName,
    ) -> BoxFuture<'a, Result<Explanation, Error>>;

    /// The newest `most` tags that match, as names of images.
    fn matching<'a>(
        &'a self,
        repository: &'a Repository,
        tags: &'a TagPattern,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<ImageName>, Error>>;

    /// The clients of which something was learned.
    fn clients(&self) -> Vec<KnownClient>;

    /// The latest pulls of what a client cannot run.
    fn mismatches(&self) -> Vec<Mismatch>;

    /// Fetches `image` for `platforms`, and tells of it.
    fn bring<'a>(
        &'a self,
        image: &'a ImageName,
        platforms: &'a [Platform],
        events: &'a mpsc::Sender<PullEvent>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Has a kept image stay whatever room is needed, or no longer; whether that is new.
    fn pin<'a>(&'a self, image: &'a ImageName, pinned: bool) -> BoxFuture<'a, Result<bool, Error>>;

    /// Removes a kept image.
    fn remove<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<RemovedImage, Error>>;

    /// Evicts to the budget, and sweeps what nothing refers to.
    fn collect(&self) -> BoxFuture<'_, Result<Collected, Error>>;

    /// Reads every kept blob, and tells of it.
    fn verify<'a>(
        &'a self,
        how: Verify,
        events: &'a mpsc::Sender<VerifyEvent>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Fetches what is missing of images, tells what an export of them holds, and keeps that from eviction.
    fn export<'a>(
        &'a self,
        images: &'a [ImageName],
        platforms: &'a [Platform],
        events: &'a mpsc::Sender<ExportEvent>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// A kept blob.
    fn kept_file<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<StoredBlob, Error>>;

    /// Kept blobs, and their lengths in bytes.
    fn kept_blobs<'a>(
        &'a self,
        last: Option<&'a Digest>,
        n: usize,
    ) -> BoxFuture<'a, Result<Vec<(Digest, u64)>, Error>>;

    /// Takes in an archive, which is read on a thread that may block.
    fn import(
        &self,
        archive: Box<dyn Read + Send>,
        terms: ImportTerms,
    ) -> BoxFuture<'_, Result<Imported, Error>>;

    /// Drops what is here of a bundle that waits for volumes.
    fn drop_volumes<'a>(&'a self, set: &'a str) -> BoxFuture<'a, Result<VolumeSet, Error>>;

    /// How this wharf is.
    fn status(&self) -> BoxFuture<'_, Status>;
}

impl Images for Pull {
    fn images(&self) -> BoxFuture<'_, Result<Vec<KeptImage>, Error>> {
        self.images().boxed()
    }

    fn inspect<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<Inspection, Error>> {
        self.inspect(image).boxed()
    }

    fn explain<'a>(
        &'a self,
        asker: &'a Asker,
        image: &'a ImageName,
    ) -> BoxFuture<'a, Result<Explanation, Error>> {
        self.explain(asker, image).boxed()
    }

    fn matching<'a>(
        &'a self,
        repository: &'a Repository,
        tags: &'a TagPattern,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<ImageName>, Error>> {
        async move {
            let tags = self.matching(repository, tags, most).await?;
            let named =
                |tag| ImageName { repository: repository.clone(), reference: Reference::Tag(tag) };
            Ok(tags.into_iter().map(named).collect())
        }
        .boxed()
    }

    fn clients(&self) -> Vec<KnownClient> {
        self.clients()
    }

    fn mismatches(&self) -> Vec<Mismatch> {
        self.mismatches()
    }

    fn bring<'a>(
        &'a self,
        image: &'a ImageName,
        platforms: &'a [Platform],
        events: &'a mpsc::Sender<PullEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.bring(image, platforms, events).boxed()
    }

    fn pin<'a>(&'a self, image: &'a ImageName, pinned: bool) -> BoxFuture<'a, Result<bool, Error>> {
        self.pin(image, pinned).boxed()
    }

    fn remove<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<RemovedImage, Error>> {
        self.remove(image).boxed()
    }

    fn collect(&self) -> BoxFuture<'_, Result<Collected, Error>> {
        self.collect().boxed()
    }

    fn verify<'a>(
        &'a self,
        how: Verify,
        events: &'a mpsc::Sender<VerifyEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.verify(how, events).boxed()
    }

    fn export<'a>(
        &'a self,
        images: &'a [ImageName],
        platforms: &'a [Platform],
        events: &'a mpsc::Sender<ExportEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.export(images, platforms, events).boxed()
    }

    fn kept_file<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<StoredBlob, Error>> {
        self.kept_file(digest).boxed()
    }

    fn kept_blobs<'a>(
        &'a self,
        last: Option<&'a Digest>,
        n: usize,
    ) -> BoxFuture<'a, Result<Vec<(Digest, u64)>, Error>> {
        self.kept_blobs(last, n).boxed()
    }

    fn import(
        &self,
        archive: Box<dyn Read + Send>,
        terms: ImportTerms,
    ) -> BoxFuture<'_, Result<Imported, Error>> {
        self.import(archive, terms).boxed()
    }

    fn drop_volumes<'a>(&'a self, set: &'a str) -> BoxFuture<'a, Result<VolumeSet, Error>> {
        self.drop_volumes(set).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Status> {
        self.status().boxed()
    }
}
