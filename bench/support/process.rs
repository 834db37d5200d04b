//! What the kernel knows of a process.

use std::{fs, path::Path, process::Command, time::Duration};

use super::Result;

/// The unit of CPU times in `/proc` (`USER_HZ`): 100 to the second, on every Linux that wharf runs on.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A process, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// Bytes that a process wrote so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// To pages of files, as the kernel counts them when they become dirty.
    pub(crate) to_disk: u64,
    /// By `write`, `writev` and the like, to files and sockets alike; not by `send`.
    pub(crate) by_call: u64,
}

/// The program, on the cores `cpus` alone if given (as `taskset -c` takes them).
pub(crate) fn pinned(program: &Path, cpus: Option<&str>) -> Command {
    match cpus {
        Some(cpus) => {
            let mut pinned = Command::new("taskset");
            pinned.args(["-c", cpus]).arg(program);
            pinned
        }
        None => Command::new(program),
    }
}

impl Process {
    /// The process that asks.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn written(self) -> Result<Written> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.0))?;
        Ok(Written { to_disk: field(&text, "write_bytes:")?, by_call: field(&text, "wchar:")? })
    }

    /// The most memory that was resident at any time, in bytes.
    pub(crate) fn peak_memory(self) -> Result<u64> {
        Ok(field(&fs::read_to_string(format!("/proc/{}/status", self.0))?, "VmHWM:")? * 1024)
    }

    /// Memory that is resident now and no file's, in bytes.
    pub(crate) fn own_memory(self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        Ok((field(&text, "RssAnon:")? + field(&text, "RssShmem:")?) * 1024)
    }

    /// Memory that is resident now, in bytes.
    pub(crate) fn memory(self) -> Result<u64> {
        Ok(field(&fs::read_to_string(format!("/proc/{}/status", self.0))?, "VmRSS:")? * 1024)
    }

    /// CPU time of all its threads.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
        let (_, fields) = text.rsplit_once(')').ok_or("a stat line has a name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        Ok(TICK * ticks.sum::<std::result::Result<u32, _>>()?)
    }
}

/// The number behind `name`.
fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("the kernel tells no {name}"))?.parse()?)
}
