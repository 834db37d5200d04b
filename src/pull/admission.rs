//! Who may see what of a registry to which clients bring their own accounts (`auth = "client"`): the registry says.
//!
//! Its yes counts for the whole repository, which is what registries give rights to, and for a stated time. Nothing of such
//! a registry is answered without one, kept or not.

use std::{hash::Hash, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Error, Inner, Limits, Pull, coalesce::Coalesced, freshness::Kind};
use crate::{
    clock::Clock,
    metrics::{Limit, Metrics},
    oci::{Digest, Reference, Repository},
    on_demand::OnDemand,
    upstream::{Claim, Terms, Wanted},
};

/// What registries said of clients; bounded, and lost at restart: whoever was let in then proves it again.
pub(super) struct Admissions {
    clock: Clock,
    /// How long a no counts.
    refused_ttl: Duration,
    admitted: OnDemand<(Repository, ClaimId), Instant>,
    refused: OnDemand<(Repository, ClaimId, Wanted), (Error, Instant)>,
    checks: Coalesced<(Repository, ClaimId, Wanted), Result<(), Error>>,
}

/// Stands for a client's claim: [`Claim::id`].
type ClaimId = Digest;

impl Admissions {
    pub(super) fn new(
        clock: &Clock,
        refused_ttl: Duration,
        limits: &Limits,
        metrics: &Metrics,
    ) -> Self {
        Self {
            clock: clock.clone(),
            refused_ttl,
            admitted: remembered(limits, metrics),
            refused: remembered(limits, metrics),
            checks: Coalesced::new(limits, metrics),
        }
    }

    /// Whether the registry said yes within `age`.
    fn is_admitted(&self, repository: &Repository, claim: ClaimId, age: Duration) -> bool {
        let at = self.admitted.get(&(repository.clone(), claim));
        at.is_some_and(|at| self.clock.now().duration_since(at) < age)
    }

    /// How the registry refused to show this a moment ago.
    fn refusal(&self, key: &(Repository, ClaimId, Wanted)) -> Option<Error> {
        let (error, at) = self.refused.get(key)?;
        (self.clock.now().duration_since(at) < self.refused_ttl).then_some(error)
    }
}

impl Pull {
    /// Whether the registry leaves it to its clients' own accounts who may see what of the repository.
    pub fn is_by_claim(&self, repository: &Repository) -> bool {
        self.0.terms(repository).is_some()
    }

    /// Lets a client see `wanted` of `repository`, if its registry leaves that to clients' own accounts and lets whoever
    /// claims `claim` see it; all clients, if it does not leave it to them.
    ///
    /// # Errors
    /// `SignIn` when the registry asks for another account, and what else it says; when it does not answer, and its last yes
    /// is too old.
    pub async fn admit(
        &self,
        repository: &Repository,
        wanted: Wanted,
        claim: &Claim,
    ) -> Result<(), Error> {
        let pull = &self.0;
        let Some(terms) = pull.terms(repository) else { return Ok(()) };
        // What nobody is served needs no question.
        pull.upstream(repository)?;
        if !pull.admissions.is_admitted(repository, claim.id(), terms.ttl) {
            Box::pin(self.checked(repository, wanted, claim, terms)).await?;
        }
        // What is not kept is fetched with the account of whoever came last.
        pull.upstream(repository)?.lend(&repository.name, claim);
        Ok(())
    }

    /// What is said to a client that was let in and then could not be answered: where the registry does not take its account
    /// any more, that it is to sign in again.
    pub fn let_in(&self, repository: &Repository, claim: &Claim, error: Error) -> Error {
        if self.0.terms(repository).is_none() || !matches!(error, Error::NameUnknown) {
            return error;
        }
        self.0.admissions.admitted.invalidate(&(repository.clone(), claim.id()));
        Error::SignIn(repository.registry.clone())
    }

    async fn checked(
        &self,
        repository: &Repository,
        wanted: Wanted,
        claim: &Claim,
        terms: Terms,
    ) -> Result<(), Error> {
        let (pull, id) = (&self.0, claim.id());
        let key = (repository.clone(), id, wanted);
        if let Some(error) = pull.admissions.refusal(&key) {
            return Err(error);
        }
        let check = Arc::clone(pull).check_claim(key.clone(), claim.clone());
        let (checked, _) = pull.admissions.checks.get(key, &pull.tasks, check).await?;
        match checked {
            Err(error) if error.is_outage() => {
                let is_known = pull.admissions.is_admitted(repository, id, terms.offline_grace);
                if is_known { Ok(()) } else { Err(error) }
            }
            checked => checked,
        }
    }
}

impl Inner {
    /// On which terms the repository's registry leaves its clients to their own accounts, if it does.
    pub(super) fn terms(&self, repository: &Repository) -> Option<Terms> {
        self.upstreams.select(&repository.registry)?.terms()
    }

    /// Whether what is fetched through the repository is not for everybody who is served here.
    fn is_closed(&self, repository: &Repository) -> bool {
        self.terms(repository).is_some()
    }

    /// Whether the bytes of a kept blob came through a repository that is not for everybody, and nobody but a manifest says
    /// that this one has it: whoever writes manifests would read others' blobs by their digests.
    pub(super) fn needs_word(&self, repository: &Repository, digest: &Digest) -> bool {
        if !self.has_closed {
            return false;
        }
        let vouchers = self.store.vouchers(digest);
        !vouchers.contains(repository) && vouchers.iter().any(|voucher| self.is_closed(voucher))
    }

    /// The same of a blob that is being fetched through `origin`.
    pub(super) fn must_confirm(
        &self,
        repository: &Repository,
        digest: &Digest,
        origin: &Repository,
    ) -> bool {
        self.is_closed(origin) && !self.store.vouchers(digest).contains(repository)
    }

    /// Whether the registry says that the repository has the blob; it is written down if so.
    pub(super) async fn has_word(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
    ) -> bool {
        let name = Reference::Digest(*digest);
        if self.freshness.unknown(repository, Kind::Blob, &name).is_some() {
            return false;
        }
        let asked = Pull(Arc::clone(self));
        let confirmed = Box::pin(asked.confirm_blob(repository, digest)).await;
        confirmed.inspect_err(|error| {
            tracing::warn!(%repository, %digest, %error, "a blob that came through another repository is not shown");
        })
        .is_ok()
    }

    /// Remembers for a while that there is no such thing, or not for us. Where each client has an account of its own, what
    /// the registry does not show to one says nothing of the others.
    pub(super) fn remember_unknown(
        &self,
        repository: &Repository,
        kind: Kind,
        name: &Reference,
        error: &Error,
    ) {
        let is_of_account = matches!(error, Error::NameUnknown | Error::Denied);
        if !is_of_account || self.terms(repository).is_none() {
            self.freshness.remember_unknown(repository, kind, name, error);
        }
    }

    /// Asks the registry, and remembers what it says.
    async fn check_claim(
        self: Arc<Self>,
        key: (Repository, ClaimId, Wanted),
        claim: Claim,
    ) -> Result<(), Error> {
        let (repository, id, wanted) = &key;
        let upstream = self.upstream(repository)?;
        let is_known = self.admissions.admitted.contains_key(&(repository.clone(), *id));
        let urgency = self.urgency(is_known);
        let asked = upstream.admits(&repository.name, wanted, &claim, urgency).await;
        let verdict = asked.map_err(|error| match (error, wanted) {
            (crate::upstream::Error::Unauthorized, _) => Error::SignIn(repository.registry.clone()),
            (error, Wanted::Manifest(_)) => Error::of_manifest(error),
            (error, Wanted::Blob(_)) => Error::of_blob(error),
            (crate::upstream::Error::NotFound, Wanted::Tags) => Error::NameUnknown,
            (error, Wanted::Tags) => Error::of_manifest(error),
        });
        let admitted = (repository.clone(), *id);
        match &verdict {
            Ok(()) => self.admissions.admitted.insert(admitted, self.clock.now()),
            Err(error) if error.is_outage() => {}
            Err(error) => {
                // Registries hide what one may not see: that it is not there may be a no as well.
                self.admissions.admitted.invalidate(&admitted);
                let refused = (error.clone(), self.clock.now());
                self.admissions.refused.insert(key, refused);
            }
        }
        verdict
    }
}

/// As many verdicts as may be remembered: yeses, or noes.
fn remembered<K, V>(limits: &Limits, metrics: &Metrics) -> OnDemand<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let metrics = metrics.clone();
    OnDemand::new(limits.verdicts).telling(move || metrics.limit_reached(Limit::Verdicts))
}
