//! A start of wharf on a large cache, watched until it is idle.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    Options,
    cache::Cache,
    support::{Result, client::Client, now, pause, process::Process},
};

/// How long a wharf that was started is watched at most until it is idle.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that takes no time for so long is idle.
const IDLE: Duration = Duration::from_secs(2);

/// What one start cost.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// Until a kept manifest was answered.
    pub(crate) answer: Duration,
    /// Until nothing was done any more.
    pub(crate) idle: Duration,
    pub(crate) cpu: Duration,
    /// Resident when idle, and at most, in bytes.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
}

/// Starts wharf on `cache` in front of `upstream`, has it answer, and watches until it is idle.
pub(crate) fn run(
    options: &Options,
    cache: &Cache,
    dir: &Path,
    upstream: SocketAddr,
) -> Result<Running> {
    let config = dir.join("config.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"off\"\n[[upstream]]\nregistry = \"docker.io\"\n\
         endpoints = [\"http://{upstream}\"]\n"
    );
    fs::write(&config, text)?;
    let begun = now();
    let mut command = Command::new(&options.wharf);
    command.arg("serve").arg("--config").arg(&config).arg("--dir").arg(&cache.dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(dir.join("log"))?);
    command.env("MALLOC_ARENA_MAX", "2");
    let mut child = Ended(command.spawn()?);
    let process = Process(child.0.id());
    let output = BufReader::new(child.0.stdout.take().ok_or("no output")?);
    let mut lines = output.lines();
    let address = loop {
        let line = lines.next().ok_or("it ended")??;
        let told =
            line.split_once(" on ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        if let Some(address) = told {
            break address;
        }
    };
    let answered =
        Client::new()?.document(address, cache.paths.last().ok_or("nothing is kept")?)?;
    let answer = begun.elapsed();
    if answered.len() as u64 != cache.length {
        return Err("the answer is not what is kept".into());
    }
    let (mut cpu, mut since) = (process.cpu()?, now());
    while since.elapsed() < IDLE && begun.elapsed() < PATIENCE {
        pause(Duration::from_millis(20));
        let used = process.cpu()?;
        if used > cpu {
            (cpu, since) = (used, now());
        }
    }
    let idle = since.duration_since(begun);
    let (memory, peak) = (process.memory()?, process.peak_memory()?);
    let start = Start { answer, idle, cpu, memory, peak };
    Ok(Running { start, addr: address, process, child })
}

/// A wharf that runs.
pub(crate) struct Running {
    /// What its start cost.
    pub(crate) start: Start,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    child: Ended,
}

/// A process that is killed when this is dropped.
struct Ended(Child);

impl Running {
    /// Ends it as a service manager does.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.0.id().to_string()).status()?;
        self.child.0.wait()?;
        Ok(())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
