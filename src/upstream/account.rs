//! wharf's own accounts at one registry: which is asked with, what each is known to have left, and its turn.

use std::{
    cmp::Reverse,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Claim, Source, credentials::Keeper};
use crate::{
    clock::Clock,
    metrics::Metrics,
    oci::{Digest, RegistryName},
};

/// How long what a registry said of its pull limit is believed: Docker Hub's window is six hours.
const LIMIT_BELIEVED: Duration = Duration::from_secs(60 * 60);
/// How long others go before an account that was not let in, or was limited without a word on the time.
const OTHERS_FIRST: Duration = Duration::from_secs(60);

/// One of wharf's own accounts at a registry.
#[derive(Clone, Debug)]
pub struct Account {
    /// What metrics and the status call it; not the user's name unless it is configured so.
    pub name: String,
    /// Where its credentials come from.
    pub source: Source,
}

/// Who asks: one of wharf's own accounts, or a client with its own.
#[derive(Clone)]
pub(super) enum Asker {
    /// An account of wharf's.
    Own(Arc<Own>),
    /// What a client brought.
    Client(Claim),
}

/// By whom a limit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// The account of wharf's in that place of its list; `None`: without any.
    Own(Option<usize>),
    /// A client with that claim.
    Client(Digest),
}

/// All of wharf's own accounts at one registry.
pub(super) struct Accounts {
    registry: RegistryName,
    /// At least one; where none is configured, one without credentials.
    own: Vec<Arc<Own>>,
    /// Asks where the accounts may not be shown.
    nobody: Arc<Own>,
    turn: AtomicUsize,
    metrics: Metrics,
}

/// One account, and what is known of it.
pub(super) struct Own {
    name: String,
    /// Its place in the list.
    place: Option<usize>,
    is_anonymous: bool,
    keeper: Keeper,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    told: Option<Told>,
    /// Until when others go first.
    last_until: Option<Instant>,
    /// Whether it was not taken when it was last shown.
    is_refused: bool,
}

/// What a registry said of an account's limit.
#[derive(Clone, Copy)]
struct Told {
    limit: Option<u64>,
    left: Option<u64>,
    at: Instant,
}

/// Pulls that an account has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLeft {
    /// The account's configured name.
    pub name: String,
    /// Pulls left, where the registry said so within the last hour.
    pub left: Option<u64>,
    /// Whether it was answered with 401 when it was last shown.
    pub is_refused: bool,
}

impl Accounts {
    pub(super) fn new(
        registry: &RegistryName,
        accounts: &[Account],
        clock: &Clock,
        metrics: &Metrics,
    ) -> Self {
        let own = |place, account: &Account| {
            Arc::new(Own {
                name: account.name.clone(),
                place,
                is_anonymous: matches!(account.source, Source::Anonymous),
                keeper: Keeper::new(registry, account, clock),
                clock: clock.clone(),
                known: Mutex::default(),
            })
        };
        let nobody =
            own(None, &Account { name: "anonymous".to_owned(), source: Source::Anonymous });
        let mut list: Vec<_> =
            accounts.iter().enumerate().map(|(place, account)| own(Some(place), account)).collect();
        if list.is_empty() {
            list.push(Arc::clone(&nobody));
        }
        Self {
            registry: registry.clone(),
            own: list,
            nobody,
            turn: AtomicUsize::new(0),
            metrics: metrics.clone(),
        }
    }

    /// Who asks where no account may be shown.
    pub(super) fn nobody(&self) -> Asker {
        Asker::Own(Arc::clone(&self.nobody))
    }

    /// All accounts, the one to ask with first; `cools` tells whether one is not to be asked with now.
    pub(super) fn in_turn(&self, cools: impl Fn(Who) -> bool) -> Vec<Asker> {
        let standings: Vec<_> = self
            .own
            .iter()
            .map(|own| Standing {
                cools: cools(own.who()),
                is_last: own.is_last(),
                is_anonymous: own.is_anonymous,
                left: own.left(),
            })
            .collect();
        let turn = match standings.len() {
            1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        order(&standings, turn)
            .into_iter()
            .map(|at| Asker::Own(Arc::clone(&self.own[at])))
            .collect()
    }

    /// The registry told `asker` of its limit.
    pub(super) fn told(&self, asker: &Asker, limit: Option<u64>, remaining: Option<u64>) {
        if limit.is_none() && remaining.is_none() {
            return;
        }
        let registry = self.registry.as_str();
        let Asker::Own(own) = asker else {
            // Each client has a limit of its own: the last that was told of is shown.
            return self.metrics.ratelimit(registry, limit, remaining);
        };
        own.lock().told = Some(Told { limit, left: remaining, at: own.clock.now() });
        if own.place.is_some() {
            self.metrics.account_ratelimit(registry, &own.name, limit, remaining);
        }
        let sum = |of: fn(&Told) -> Option<u64>| {
            self.all().filter_map(|own| of(&own.fresh()?)).reduce(u64::saturating_add)
        };
        self.metrics.ratelimit(registry, sum(|told| told.limit), sum(|told| told.left));
    }

    /// Pulls left with all accounts together, as far as the registry said so lately.
    pub(super) fn pulls_left(&self) -> Option<u64> {
        self.all().filter_map(|own| own.left()).reduce(u64::saturating_add)
    }

    /// What each configured account has left.
    pub(super) fn each_left(&self) -> Vec<AccountLeft> {
        let named = self.own.iter().filter(|own| own.place.is_some());
        let left = |own: &Arc<Own>| AccountLeft {
            name: own.name.clone(),
            left: own.left(),
            is_refused: own.lock().is_refused,
        };
        named.map(left).collect()
    }

    /// The registry, or its token service, answered the account of `asker` with 401.
    pub(super) fn refused(&self, asker: &Asker) {
        if let Some(account) = self.turns(asker, true) {
            tracing::warn!(
                registry = %self.registry, account,
                "the registry answered wharf's account with 401: as a rule its password is wrong, or has expired; what no \
                 other account may pull is answered as if it were not there"
            );
        }
    }

    /// They took it.
    pub(super) fn taken(&self, asker: &Asker) {
        if let Some(account) = self.turns(asker, false) {
            tracing::info!(registry = %self.registry, account, "the registry takes wharf's account again");
        }
    }

    /// The name of the account of `asker`, if this is news of it.
    fn turns<'a>(&self, asker: &'a Asker, is_refused: bool) -> Option<&'a str> {
        let Asker::Own(own) = asker else { return None };
        let mut known = own.lock();
        if own.is_anonymous || known.is_refused == is_refused {
            return None;
        }
        known.is_refused = is_refused;
        // While nobody else has other news.
        self.metrics.account_refused(self.registry.as_str(), &own.name, is_refused);
        Some(&own.name)
    }

    /// Has every account's source asked anew before it is used again.
    pub(super) fn reread(&self) {
        for own in &self.own {
            own.keeper.forget();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Own>> {
        let nobody = self.own.iter().all(|own| own.place.is_some()).then_some(&self.nobody);
        self.own.iter().chain(nobody)
    }
}

/// What decides whose turn it is.
#[derive(Clone, Copy, Debug)]
struct Standing {
    cools: bool,
    is_last: bool,
    is_anonymous: bool,
    /// `None`: the registry says nothing of a limit.
    left: Option<u64>,
}

/// The places of `standings` in the order to ask: whoever may be asked with, then who has most left, those of equal
/// standing in turn.
fn order(standings: &[Standing], turn: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..standings.len()).collect();
    order.rotate_left(turn % standings.len().max(1));
    order.sort_by_key(|at| {
        let Standing { cools, is_last, is_anonymous, left } = standings[*at];
        (cools, is_last || left == Some(0), is_anonymous, Reverse(left.unwrap_or(u64::MAX)))
    });
    order
}

impl Asker {
    /// By whom limits are used up.
    pub(super) fn who(&self) -> Who {
        match self {
            Self::Own(own) => own.who(),
            Self::Client(claim) => Who::Client(claim.id()),
        }
    }

    /// What to show to the registry.
    ///
    /// # Errors
    /// Why the account's source has nothing to show, without a word of what it said.
    pub(super) async fn claim(&self) -> Result<Claim, String> {
        match self {
            Self::Own(own) => own.keeper.claim().await,
            Self::Client(claim) => Ok(claim.clone()),
        }
    }

    /// Another claim than `refused`, which the registry did not take, if the account's source has one by now.
    pub(super) async fn renewed(&self, refused: &Claim) -> Option<Claim> {
        match self {
            Self::Own(own) => own.keeper.renewed(refused).await,
            Self::Client(_) => None,
        }
    }

    /// From now on and for a while, others go first.
    pub(super) fn is_last(&self) {
        if let Self::Own(own) = self {
            own.lock().last_until = Some(own.clock.now() + OTHERS_FIRST);
        }
    }
}

impl Own {
    fn who(&self) -> Who {
        Who::Own(self.place)
    }

    fn is_last(&self) -> bool {
        self.lock().last_until.is_some_and(|until| self.clock.now() < until)
    }

    fn fresh(&self) -> Option<Told> {
        let told = self.lock().told?;
        (self.clock.now().duration_since(told.at) < LIMIT_BELIEVED).then_some(told)
    }

    fn left(&self) -> Option<u64> {
        self.fresh()?.left
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Plain values: whatever a panicking holder left is still known.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Standing =
        Standing { cools: false, is_last: false, is_anonymous: false, left: None };

    #[test]
    fn whoever_has_most_left_goes_first() {
        let left = |left| Standing { left: Some(left), ..FREE };
        assert_eq!(order(&[left(5), left(200), left(0), left(7)], 0), [1, 3, 0, 2]);
        assert_eq!(order(&[left(5), FREE], 3), [1, 0], "no limit is known of it");
    }

    #[test]
    fn equals_take_turns() {
        let first = |turn| order(&[FREE, FREE, FREE], turn)[0];
        assert_eq!([0, 1, 2, 3].map(first), [0, 1, 2, 0]);
        assert_eq!(order(&[FREE, FREE, FREE], usize::MAX).len(), 3);
    }

    #[test]
    fn limited_refused_and_anonymous_ones_go_last() {
        let anonymous = Standing { is_anonymous: true, ..FREE };
        let refused = Standing { is_last: true, ..FREE };
        let cooling = Standing { cools: true, ..FREE };
        let some = Standing { left: Some(1), ..FREE };
        for turn in 0..5 {
            let order = order(&[cooling, refused, anonymous, some, FREE], turn);
            assert_eq!(order, [4, 3, 2, 1, 0], "{turn}");
        }
    }
}
