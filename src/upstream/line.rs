//! Whether registries may be asked ([`Mode`]), and whether the way to one of them is there ([`Line`]).

use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{clock::Clock, oci::RegistryName};

/// For so long a question or a body may be silent before it is doubted that the registry is there.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// A doubt that nothing came of is not followed by another one for so long: each costs a request.
const TRUST: Duration = Duration::from_secs(10);

/// Whether registries are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As far as they answer: while none does, what is kept is answered without asking.
    #[default]
    Auto,
    /// Whenever something is due, whether they answered before or not.
    Online,
    /// Never: nothing is dialled.
    Offline,
}

/// The mode that all registries are in. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Switch(Arc<watch::Sender<Mode>>);

/// The way to one registry. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: RegistryName,
    clock: Clock,
    switch: Switch,
    state: watch::Sender<State>,
    /// Told when the registry should be looked for.
    doubt: Notify,
    trusted_until: Mutex<Option<Instant>>,
    /// Whether somebody looks for the registry when it is away: without that, it is never taken to be.
    is_watched: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// No endpoint says anything.
    is_away: bool,
    /// It was looked for since, in vain.
    is_certain: bool,
    /// How often it came back.
    returns: u64,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Online, Self::Offline];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

impl Switch {
    pub(super) fn mode(&self) -> Mode {
        *self.0.borrow()
    }

    pub(super) fn set(&self, mode: Mode) {
        self.0.send_if_modified(|is| std::mem::replace(is, mode) != mode);
    }

    /// Waits until `holds` is true of the mode.
    async fn until(&self, holds: impl FnMut(&Mode) -> bool) {
        if self.0.subscribe().wait_for(holds).await.is_err() {
            // Its sender is this.
            pending::<()>().await;
        }
    }
}

impl Line {
    pub(super) fn new(registry: &RegistryName, clock: &Clock, switch: &Switch) -> Self {
        Self(Arc::new(Inner {
            registry: registry.clone(),
            clock: clock.clone(),
            switch: switch.clone(),
            state: watch::Sender::default(),
            doubt: Notify::new(),
            trusted_until: Mutex::default(),
            is_watched: AtomicBool::new(false),
        }))
    }

    pub(super) fn is_offline(&self) -> bool {
        self.0.switch.mode() == Mode::Offline
    }

    /// Waits until nothing may be dialled.
    pub(super) async fn offline(&self) {
        self.0.switch.until(|mode| *mode == Mode::Offline).await;
    }

    /// Waits until registries may be dialled.
    pub(super) async fn online(&self) {
        self.0.switch.until(|mode| *mode != Mode::Offline).await;
    }

    /// Whether no endpoint says anything, so that what can do without an answer need not wait for one.
    pub(super) fn is_away(&self) -> bool {
        self.0.state.borrow().is_away
    }

    /// Whether that was found by looking for it, rather than by one question that may have been odd.
    pub(super) fn is_certainly_away(&self) -> bool {
        self.0.state.borrow().is_certain
    }

    /// Waits until what can do without an answer should.
    pub(super) async fn should_be_spared(&self) {
        loop {
            self.0.switch.until(|mode| *mode == Mode::Auto).await;
            self.until(|state| state.is_away).await;
            if self.0.switch.mode() == Mode::Auto {
                return;
            }
        }
    }

    /// Waits until the registry may be asked, and is not known to be away; whether it came back for that.
    pub(super) async fn present(&self) -> bool {
        let returns = self.0.state.borrow().returns;
        loop {
            self.online().await;
            self.until(|state| !state.is_away).await;
            if !self.is_offline() {
                return self.0.state.borrow().returns != returns;
            }
        }
    }

    /// Waits until the registry was away, and is back.
    pub(super) async fn returned(&self) {
        let returns = self.0.state.borrow().returns;
        self.until(|state| state.returns != returns).await;
    }

    /// No endpoint said anything to a question that all of them were asked.
    pub(super) fn lost(&self) {
        if self.0.is_watched.load(Ordering::Relaxed) {
            let lose = |state: &mut State| !std::mem::replace(&mut state.is_away, true);
            if self.0.state.send_if_modified(lose) {
                self.0.doubt.notify_one();
            }
        }
    }

    /// It was looked for, and no endpoint said anything.
    pub(super) fn not_found(&self) {
        let is_news = self.0.state.send_if_modified(|state| {
            let before = *state;
            (state.is_away, state.is_certain) = (true, true);
            before != *state
        });
        if is_news {
            tracing::warn!(registry = %self.0.registry, "no endpoint of the registry answers: it is looked for until one does");
        }
    }

    /// The registry said something.
    pub(super) fn found(&self) {
        let mut was_certain = false;
        self.0.state.send_if_modified(|state| {
            was_certain = state.is_certain;
            let was_away = state.is_away;
            (state.is_away, state.is_certain) = (false, false);
            state.returns += u64::from(was_certain);
            was_away
        });
        if was_certain {
            tracing::info!(registry = %self.0.registry, "the registry answers again");
        }
    }

    /// The registry has been silent for a while, and may be away.
    pub(super) fn doubt(&self) {
        let now = self.0.clock.now();
        let mut trusted = self.0.trusted_until.lock().unwrap_or_else(PoisonError::into_inner);
        if trusted.is_none_or(|until| until <= now) {
            *trusted = Some(now + TRUST);
            self.0.doubt.notify_one();
        }
    }

    /// From now on somebody waits for doubts.
    pub(super) fn is_watched(&self) {
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    /// Waits until the registry should be looked for.
    pub(super) async fn doubted(&self) {
        self.0.doubt.notified().await;
    }

    /// What was doubted so far is settled.
    pub(super) fn settle(&self) {
        let _ = self.0.doubt.notified().now_or_never();
    }

    /// Waits until the registry should be looked for again, `pause` after it was; `false` when it came back meanwhile.
    pub(super) async fn again(&self, pause: Duration) -> bool {
        tokio::select! {
            () = self.0.clock.sleep(pause) => self.is_away(),
            () = self.until(|state| !state.is_away) => false,
        }
    }

    async fn until(&self, holds: impl FnMut(&State) -> bool) {
        if self.0.state.subscribe().wait_for(holds).await.is_err() {
            // Its sender is this.
            pending::<()>().await;
        }
    }
}
