//! One answer for all who ask the same question at the same time.
//!
//! The question is asked by a task of its own: whoever asked first may leave, and the others still get the answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{
    Error, Limits, Tasks,
    turns::Turns,
    whose::{Crowd, Whose},
};
use crate::{
    metrics::{Limit, Metrics},
    oci::{Digest, RegistryName, Repository},
};

/// Questions that are being asked, by key.
#[derive(Debug)]
pub(super) struct Coalesced<K, V> {
    running: Arc<Mutex<Running<K, V>>>,
    /// Each registry has turns of its own: of one that does not answer, nobody else is to know. There are as many as are
    /// configured.
    turns: Mutex<HashMap<Option<RegistryName>, Turns>>,
    /// Different questions that may be open at once, and of these, how many are asked of one registry.
    most: (usize, usize),
    metrics: Metrics,
}

/// What is asked, and of whom.
pub(super) trait Question: Clone + Eq + Hash + Send + 'static {
    /// The registry; `None`: this wharf itself.
    fn registry(&self) -> Option<&RegistryName>;
}

impl Question for Digest {
    fn registry(&self) -> Option<&RegistryName> {
        None
    }
}

impl<A: Clone + Eq + Hash + Send + 'static> Question for (Repository, A) {
    fn registry(&self) -> Option<&RegistryName> {
        Some(&self.0.registry)
    }
}

impl<A, B> Question for (Repository, A, B)
where
    A: Clone + Eq + Hash + Send + 'static,
    B: Clone + Eq + Hash + Send + 'static,
{
    fn registry(&self) -> Option<&RegistryName> {
        Some(&self.0.registry)
    }
}

/// Each with who waits for its answer, and where that will be.
type Running<K, V> = HashMap<K, (Arc<Crowd>, watch::Receiver<Option<V>>)>;

/// How long anybody waits for an answer. Questions end by deadlines of their own, within about a minute; this one
/// holds when many wait for their turn, or a disk hangs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

impl<K, V> Coalesced<K, V>
where
    K: Question,
    V: Clone + Send + Sync + 'static,
{
    /// The answer to `key`: from the task that asks already, or from `ask`. Tells whether this call asked.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many questions are open, or the daemon is shutting down.
    pub(super) async fn get<F>(&self, key: K, tasks: &Tasks, ask: F) -> Result<(V, bool), Error>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut answer, asked) = self.join(key, tasks, ask)?;
        let answered = timeout(ANSWER_DEADLINE, answer.wait_for(Option::is_some)).await;
        let value = answered.map_err(|_| self.busy())?.map_err(|_| Error::Busy)?;
        value.clone().map(|value| (value, asked)).ok_or(Error::Busy)
    }

    fn join<F>(
        &self,
        key: K,
        tasks: &Tasks,
        ask: F,
    ) -> Result<(watch::Receiver<Option<V>>, bool), Error>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let whose = Whose::now();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((crowd, answer)) = running.get(&key) {
            crowd.join(whose);
            return Ok((answer.clone(), false));
        }
        if running.len() >= self.most.0 {
            return Err(self.busy());
        }
        let (sender, answer) = watch::channel(None);
        let crowd = Arc::new(Crowd::of(whose));
        running.insert(key.clone(), (Arc::clone(&crowd), answer.clone()));
        let entry = Entry { running: Arc::clone(&self.running), key };
        let turns = self.turns_of(entry.key.registry());
        tasks.spawn(async move {
            // Dropped with the task, however it ends: the key is free again and `sender` wakes all who wait.
            let _entry = entry;
            let _turn = turns.turn(&crowd).await;
            // What it leads to is asked for whoever came first.
            let value = whose.does(ask).await;
            sender.send_replace(Some(value));
        });
        Ok((answer, true))
    }

    fn turns_of(&self, registry: Option<&RegistryName>) -> Turns {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Turns::new(self.most.1, "question", &self.metrics);
        turns.entry(registry.cloned()).or_insert_with(fresh).clone()
    }

    fn busy(&self) -> Error {
        self.metrics.limit_reached(Limit::Questions);
        Error::Busy
    }

    /// How many questions are open.
    #[cfg(test)]
    fn open(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K, V> Coalesced<K, V> {
    /// No questions yet, and no more than `limits` let be.
    pub(super) fn new(limits: &Limits, metrics: &Metrics) -> Self {
        Self {
            running: Arc::default(),
            turns: Mutex::default(),
            most: (limits.questions, limits.questions_per_registry),
            metrics: metrics.clone(),
        }
    }
}

struct Entry<K: Eq + Hash, V> {
    running: Arc<Mutex<Running<K, V>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn question(registry: &str, n: u8) -> (Repository, u8) {
        (format!("{registry}/library/app").parse().expect("a name"), n)
    }

    fn questions(questions: usize) -> Coalesced<(Repository, u8), u32> {
        Coalesced::new(&Limits { questions, ..Limits::default() }, &Metrics::new())
    }

    #[tokio::test]
    async fn many_askers_make_one_question_and_the_first_may_leave() {
        let (questions, tasks) = (questions(4096), Tasks::default());
        let (asked, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            async move {
                gate.notified().await;
                asked.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let first = questions.join(question("docker.io", 1), &tasks, ask()).expect("room");
        assert!(first.1);
        drop(first);
        let (mut second, led) =
            questions.join(question("docker.io", 1), &tasks, ask()).expect("room");
        assert!(!led);
        gate.notify_one();
        assert_eq!(*second.wait_for(Option::is_some).await.expect("answered"), Some(1));
        tasks.finish(Duration::from_secs(5)).await;
        assert_eq!(questions.open(), 0);
    }

    #[tokio::test]
    async fn a_question_that_dies_frees_its_key_and_wakes_all() {
        let (questions, tasks) = (questions(4096), Tasks::default());
        let waiting = questions.get(question("docker.io", 1), &tasks, std::future::pending());
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        tasks.finish(Duration::ZERO).await;
        assert!(matches!(waiting.await, Err(Error::Busy)));
        assert_eq!(questions.open(), 0);
    }

    #[tokio::test]
    async fn who_asks_what_another_has_asked_already_brings_its_own_turn() {
        let limits = Limits { questions_per_registry: 1, ..Limits::default() };
        let questions = Coalesced::new(&limits, &Metrics::new());
        let (tasks, order) = (Tasks::default(), Arc::new(Mutex::new(Vec::new())));
        let client = |last| std::net::IpAddr::from([10, 0, 0, last]);
        let ask = |n: u8| {
            let (order, question) = (Arc::clone(&order), question("docker.io", n));
            let asking = questions.get(question, &tasks, async move {
                order.lock().expect("no panic").push((n, Whose::now()));
            });
            Box::pin(asking)
        };
        // The first is being asked when the others come.
        let gate = Arc::new(Notify::new());
        let held = Arc::clone(&gate);
        let first = questions.get(question("docker.io", 0), &tasks, async move {
            held.notified().await;
        });
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
        let mut flood = Vec::new();
        for n in 1..=9 {
            let mut asking = Box::pin(super::super::on_behalf_of(client(1), ask(n)));
            assert!(futures_util::poll!(&mut asking).is_pending());
            flood.push(asking);
            tokio::task::yield_now().await;
        }
        let mut same = Box::pin(super::super::on_behalf_of(client(2), ask(9)));
        assert!(futures_util::poll!(&mut same).is_pending());
        tokio::task::yield_now().await;
        gate.notify_one();
        assert!(!same.await.expect("answered").1);
        first.await.expect("answered");
        for asked in flood {
            asked.await.expect("answered");
        }
        tasks.finish(Duration::ZERO).await;
        let order = order.lock().expect("no panic");
        let whose = Whose::Client(client(1));
        assert_eq!(order[..2], [(1, whose), (9, whose)]);
    }

    #[tokio::test]
    async fn a_registry_that_does_not_answer_holds_up_no_other() {
        let (questions, tasks) = (questions(4096), Tasks::default());
        let waiting: Vec<_> = (0..=u8::MAX)
            .map(|n| questions.join(question("dead.example", n), &tasks, std::future::pending()))
            .collect();
        tokio::task::yield_now().await;
        let other = questions.get(question("docker.io", 1), &tasks, async { 7 });
        assert_eq!(other.await.expect("answered"), (7, true));
        drop(waiting);
        tasks.finish(Duration::ZERO).await;
    }
}
