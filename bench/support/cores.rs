//! Which cores the servers and the bench run on, and how many files they may open.

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::Result;

/// Files that a bench, and whoever it starts, may have open: two thousand connections and some.
const FILES: u64 = 8192;

/// The first core that this process may run on, for servers, and the second, for everything else; `None` if there
/// is but one.
pub(crate) fn apart() -> Result<Option<(String, String)>> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Ok(cores.next().zip(cores.next()).map(|(one, other)| (one.to_string(), other.to_string())))
}

/// Keeps this thread, and all that it starts from now on, on the cores `list` (as `taskset -c` takes them).
pub(crate) fn stay_on(list: &str) -> Result<()> {
    let mut cores = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for core in first.parse()?..=last.parse::<usize>()? {
            if core >= CpuSet::MAX_CPU {
                return Err(format!("there is no core {core}").into());
            }
            cores.set(core);
        }
    }
    Ok(sched_setaffinity(None, &cores)?)
}

/// Allows [`FILES`], or as many as may be allowed.
pub(crate) fn many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    }
    Ok(())
}
