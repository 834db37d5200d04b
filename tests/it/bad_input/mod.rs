//! Whatever comes in, from a client or from a registry, is answered in the specification's form or not at all
//! (bug class: an input that nobody thought of panics, hangs, is kept, or leaves something open).
//!
//! Each row of the tables says what comes in and what it must get. Bad configurations and command lines have their
//! rows in `src/config/tests` and `tests/cli.rs`.

mod blobs;
mod elsewhere;
mod gets;
mod heads;
mod manifests;
mod raw;
mod requests;
mod site;
mod slow;
mod tokens;
mod upstream;

use std::{
    panic,
    sync::{Mutex, Once, PoisonError},
    thread,
};

use gets::Gets;

/// The name of the threads on which wharf runs in these tests, so that its panics are told from other tests' ones.
const THREAD: &str = "bad-input";

/// What panicked on such a thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a table; a panic on any of its threads is a failure, also of a task that nobody waits for.
fn run(table: impl Future<Output = ()>) {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if thread::current().name() == Some(THREAD) {
                panics().push(panicked.to_string());
            }
            others(panicked);
        }));
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(THREAD)
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(table);
    drop(runtime);
    assert_eq!(*panics(), [""; 0], "something panicked");
}

fn panics() -> std::sync::MutexGuard<'static, Vec<String>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails with every row that did not get what it must.
fn assert_all(results: Vec<Result<(), String>>, at_least: usize) {
    let rows = results.len();
    let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows >= at_least, "the table lost rows: {rows} are left");
}
