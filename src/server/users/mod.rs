//! Who may sign in with name and password: the lines of an htpasswd file.
//!
//! Verifying a password takes long, by intention. So it is done on threads that may block, few at a time, whoever asks;
//! what was right is known for a short while; and who is wrong too often has to wait. A name that nobody has takes as long
//! as a wrong password.

mod hash;
mod memory;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use self::{
    hash::Kept,
    memory::{Mark, Marker, Memory},
};
use super::{
    credentials::{Credentials, NAME_MAX_BYTES},
    seats::household,
};

/// Passwords that are verified at one time.
const VERIFIED_AT_ONCE: usize = 2;

/// Further ones that wait for that.
const WAITING_MAX: usize = 64;

/// How long one waits, and how long its verification may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Most users of one file.
const USERS_MAX: usize = 10_000;

/// Who may sign in, checked. Clones are the same ones, and change together.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    table: RwLock<Arc<Table>>,
    marker: Marker,
    memory: Mutex<Memory>,
    /// Permits to verify a password, and to wait for one.
    verifying: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

#[derive(PartialEq, Eq)]
struct Table {
    kept: HashMap<Arc<str>, Kept>,
    /// The first line's: what a password is verified against whose user is nobody.
    nobody: Kept,
}

/// Why a client has not signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSignedIn {
    /// The name, or the password.
    Wrong,
    /// It was wrong too often, and may try again after that time.
    TooOften(Duration),
    /// Too many others want the same.
    Busy,
}

impl NotSignedIn {
    /// The word for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::TooOften(_) => "too_often",
            Self::Busy => "busy",
        }
    }
}

impl Users {
    /// The users of an htpasswd file: `name:password` lines, whose passwords are kept by bcrypt or argon2.
    ///
    /// # Errors
    /// The number of the line that will not do, and how a sentence about it goes on.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let (mut kept, mut nobody) = (HashMap::new(), None);
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let Some((name, password)) = text.split_once(':') else {
                return Err((
                    line,
                    "is no user: write <name>:<password, by htpasswd -B>".to_owned(),
                ));
            };
            if !(1..=NAME_MAX_BYTES).contains(&name.len()) {
                let problem =
                    format!("has no name of 1 to {NAME_MAX_BYTES} bytes in front of the colon");
                return Err((line, problem));
            }
            let password = Kept::parse(password)
                .map_err(|problem| (line, format!("has a password that {problem}")))?;
            nobody.get_or_insert_with(|| password.clone());
            if kept.insert(Arc::from(name), password).is_some() {
                return Err((
                    line,
                    "has a name that stands above already: leave one of them out".to_owned(),
                ));
            }
            if kept.len() > USERS_MAX {
                return Err((
                    line,
                    format!("is one user too many: {USERS_MAX} may be in the file"),
                ));
            }
        }
        let Some(nobody) = nobody else {
            return Err((1, "and all others name nobody: add a user with htpasswd -B".to_owned()));
        };
        Ok(Self(Arc::new(Inner {
            table: RwLock::new(Arc::new(Table { kept, nobody })),
            marker: Marker::new(),
            memory: Mutex::default(),
            verifying: Arc::new(Semaphore::new(VERIFIED_AT_ONCE)),
            waiting: Arc::new(Semaphore::new(VERIFIED_AT_ONCE + WAITING_MAX)),
        })))
    }

    /// From the next request on, has the users of `new`; whether these are others. Who was found right by a line that
    /// stays as it is need not be verified again.
    pub fn adopt(&self, new: &Self) -> bool {
        let new = new.0.table();
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        let changes = *table != new;
        *table = new;
        changes
    }

    /// Whether both have the same lines.
    #[cfg(test)]
    pub(crate) fn are_as(&self, other: &Self) -> bool {
        self.0.table() == other.0.table()
    }

    /// The name of the user that `credentials` are of, which `client` has sent.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(super) async fn verify(
        &self,
        credentials: Credentials,
        client: IpAddr,
    ) -> Result<Arc<str>, NotSignedIn> {
        let inner = &self.0;
        let client = household(client);
        let table = inner.table();
        let (name, kept) = match table.kept.get_key_value(credentials.name.as_str()) {
            Some((name, kept)) => (Some(Arc::clone(name)), kept.clone()),
            None => (None, table.nobody.clone()),
        };
        let mark = inner.marker.mark(&credentials, &kept);
        let known = |memory: &Memory| name.clone().filter(|_| memory.is_good(&mark));
        if let Some(name) = known(&inner.memory()) {
            return Ok(name);
        }
        let permit = inner.turn(client).await?;
        // Meanwhile another request of the same client may have found it right, or have been wrong once too often.
        let (found, pause) = {
            let memory = inner.memory();
            (known(&memory), memory.pause(client))
        };
        match (found, pause) {
            (Some(name), _) => return Ok(name),
            (None, Some(pause)) => return Err(NotSignedIn::TooOften(pause)),
            (None, None) => {}
        }
        let attempt = Attempt { name, password: credentials.password, kept, mark, client };
        let verifying = Arc::clone(inner);
        // Who hangs up meanwhile has tried all the same.
        let verdict = spawn_blocking(move || verifying.try_now(attempt, permit));
        match timeout(DEADLINE, verdict).await {
            Ok(Ok(Some(name))) => Ok(name),
            Ok(Ok(None)) => Err(NotSignedIn::Wrong),
            Ok(Err(_)) | Err(_) => Err(NotSignedIn::Busy),
        }
    }
}

/// The right to have one password verified.
struct Permit {
    _verifying: OwnedSemaphorePermit,
    _waiting: OwnedSemaphorePermit,
}

/// One password to be verified.
struct Attempt {
    name: Option<Arc<str>>,
    password: Vec<u8>,
    kept: Kept,
    mark: Mark,
    client: IpAddr,
}

impl Inner {
    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, client: IpAddr) -> Result<Permit, NotSignedIn> {
        if let Some(pause) = self.memory().pause(client) {
            return Err(NotSignedIn::TooOften(pause));
        }
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_| NotSignedIn::Busy)?;
        let verifying = timeout(DEADLINE, Arc::clone(&self.verifying).acquire_owned()).await;
        match verifying {
            Ok(Ok(verifying)) => Ok(Permit { _verifying: verifying, _waiting: waiting }),
            _ => Err(NotSignedIn::Busy),
        }
    }

    /// Verifies a password, and remembers what came of it.
    fn try_now(&self, attempt: Attempt, permit: Permit) -> Option<Arc<str>> {
        let Attempt { name, password, kept, mark, client } = attempt;
        let is_right = kept.is(&password);
        // A name that nobody has is wrong whatever the password.
        let name = name.filter(|_| is_right);
        let mut memory = self.memory();
        match &name {
            Some(_) => memory.was_good(mark),
            None => memory.was_bad(client),
        }
        drop(permit);
        name
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}
