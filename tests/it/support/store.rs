//! What the hub holds: blobs, manifests, tags, and the tokens and signatures it gave out.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use wharf::oci::{Algorithm, Digest};

use super::hub::FakeHub;

#[derive(Default)]
pub(super) struct Store {
    repositories: HashMap<String, Repository>,
    /// The `Authorization` that a Basic challenge or the token service wants.
    pub(super) basic: Option<String>,
    /// Accounts by their `Authorization`, each with the repositories that it may pull from; where there are any, nobody
    /// else may pull.
    rights: HashMap<String, Vec<String>>,
    /// Valid tokens, each with the repositories that it opens.
    tokens: HashMap<String, Vec<String>>,
    /// Valid signatures of redirects, each with the blob that it opens.
    signatures: HashMap<String, (String, Digest)>,
    /// How many secrets were ever made, so that none is made twice.
    made: u64,
    /// The identity token for which alone tokens are given.
    pub(super) identity: Option<String>,
    /// Pulls that accounts may make, by their `Authorization`, and how many each made.
    pub(super) limits: HashMap<String, (u64, u64)>,
    /// Manifest `GET`s answered, as Hub counts pulls.
    pub(super) pulls: u64,
}

#[derive(Default)]
pub(super) struct Repository {
    pub(super) blobs: HashMap<Digest, Bytes>,
    pub(super) manifests: HashMap<Digest, Manifest>,
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) referrers: HashMap<Digest, Bytes>,
}

#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl FakeHub {
    pub(crate) fn put_blob(&self, repo: &str, bytes: impl Into<Bytes>) -> Digest {
        self.put_blob_as(Algorithm::Sha256, repo, bytes)
    }

    /// A blob whose name is its digest in `algorithm`.
    pub(crate) fn put_blob_as(
        &self,
        algorithm: Algorithm,
        repo: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(algorithm, &bytes);
        self.store().repository(repo).blobs.insert(digest, bytes);
        digest
    }

    /// Any bytes as a manifest, under its digest and, if given, a tag.
    pub(crate) fn put_manifest(
        &self,
        repo: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let manifest = Manifest { media_type: media_type.to_owned(), bytes: bytes.into() };
        let digest = Digest::sha256(&manifest.bytes);
        self.store().repository(repo).manifests.insert(digest, manifest);
        if let Some(tag) = tag {
            self.move_tag(repo, tag, digest);
        }
        digest
    }

    pub(crate) fn move_tag(&self, repo: &str, tag: &str, digest: Digest) {
        self.store().repository(repo).tags.insert(tag.to_owned(), digest);
    }

    pub(crate) fn delete_tag(&self, repo: &str, tag: &str) {
        self.store().repository(repo).tags.remove(tag);
    }

    /// What the referrers API answers for `digest`; `None` is 404, as Hub answers.
    pub(crate) fn referrers(&self, repo: &str, digest: Digest, index: Option<Bytes>) {
        let mut store = self.store();
        let referrers = &mut store.repository(repo).referrers;
        match index {
            Some(index) => referrers.insert(digest, index),
            None => referrers.remove(&digest),
        };
    }

    /// From now on tokens (and, with [`Challenge::Basic`](super::Challenge), answers) are for this account only.
    pub(crate) fn require_basic(&self, user: &str, password: &str) {
        self.store().basic = Some(http_auth::basic::encode_credentials(user, password));
    }

    /// From now on tokens are given for this identity token only (OAuth2, `grant_type=refresh_token`).
    pub(crate) fn require_identity(&self, token: &str) {
        self.store().identity = Some(token.to_owned());
    }

    /// From now on the account may make so many pulls more, and has a limit of its own (with
    /// [`Challenge::Basic`](super::Challenge)).
    pub(crate) fn limit(&self, user: &str, password: &str, pulls: u64) {
        let account = http_auth::basic::encode_credentials(user, password);
        self.store().limits.insert(account, (pulls, 0));
    }

    /// From now on repositories are shown to accounts that were allowed them, and to nobody else.
    pub(crate) fn allow(&self, user: &str, password: &str, repo: &str) {
        let account = http_auth::basic::encode_credentials(user, password);
        self.store().rights.entry(account).or_default().push(repo.to_owned());
    }

    /// Takes everything back that the account was allowed.
    pub(crate) fn disallow(&self, user: &str, password: &str) {
        let account = http_auth::basic::encode_credentials(user, password);
        let mut store = self.store();
        store.rights.insert(account, Vec::new());
        store.tokens.clear();
    }

    /// A token for `repo`, as the token service would give it out.
    pub(crate) fn issue_token(&self, repo: &str) -> String {
        self.store().token(vec![repo.to_owned()])
    }

    /// Makes every token given out so far invalid.
    pub(crate) fn revoke_tokens(&self) {
        self.store().tokens.clear();
    }

    /// Makes every signed redirect given out so far invalid, as time does.
    pub(crate) fn expire_redirects(&self) {
        self.store().signatures.clear();
    }
}

impl Store {
    /// The repository, which is made if there is none.
    fn repository(&mut self, repo: &str) -> &mut Repository {
        self.repositories.entry(repo.to_owned()).or_default()
    }

    pub(super) fn find(&self, repo: &str) -> Option<&Repository> {
        self.repositories.get(repo)
    }

    pub(super) fn token(&mut self, repositories: Vec<String>) -> String {
        let token = self.secret();
        self.tokens.insert(token.clone(), repositories);
        token
    }

    /// Whether `token` is valid and, if a repository is named, opens it.
    pub(super) fn admits(&self, token: &str, repo: Option<&str>) -> bool {
        let granted = self.tokens.get(token);
        granted.is_some_and(|granted| repo.is_none_or(|repo| granted.iter().any(|r| r == repo)))
    }

    /// What the account of this `Authorization` may pull; `None`: whatever there is. An account that is not known may not
    /// even ask.
    pub(super) fn rights_of(&self, authorization: Option<&str>) -> Option<Result<&[String], ()>> {
        if self.rights.is_empty() {
            return None;
        }
        Some(match authorization {
            None => Ok(&[]),
            Some(sent) => self.rights.get(sent).map(Vec::as_slice).ok_or(()),
        })
    }

    pub(super) fn sign(&mut self, repo: &str, digest: Digest) -> String {
        let signature = self.secret();
        self.signatures.insert(signature.clone(), (repo.to_owned(), digest));
        signature
    }

    pub(super) fn signed(&self, signature: &str) -> Option<&(String, Digest)> {
        self.signatures.get(signature)
    }

    /// Says nothing to whoever reads it.
    fn secret(&mut self) -> String {
        self.made += 1;
        Digest::sha256(&self.made.to_be_bytes()).encoded()
    }
}
