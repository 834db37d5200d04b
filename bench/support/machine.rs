//! The machine: what it is, and whether it was ours alone while something was measured.

use std::{fs, process::Command, time::Duration};

use serde::Serialize;

use super::{
    Result, now, pause,
    process::{Process, TICK},
};

/// What else may run, as a share of all cores, before a repetition counts as disturbed.
const DISTURBED: f64 = 0.10;

/// How long the machine is looked at before a repetition.
const LOOK: Duration = Duration::from_millis(100);

/// A description for whoever compares figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
}

/// CPU time of the whole machine, in ticks.
#[derive(Clone, Copy, Debug)]
struct Total {
    /// In programs and on their behalf; not in interrupts, which are mostly ours.
    busy: u64,
    /// Given to another guest of the host.
    stolen: u64,
}

/// Watches for others on the machine, from its making to [`Watch::disturbed`].
pub(crate) struct Watch {
    ours: Vec<Process>,
    begun: std::time::Instant,
    total: Total,
    cpu: Duration,
}

impl Machine {
    pub(crate) fn describe() -> Result<Self> {
        let first = |path: &str, name: &str| -> String {
            let text = fs::read_to_string(path).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let memory = first("/proc/meminfo", "MemTotal:");
        let kib: u64 = memory.split(' ').next().unwrap_or_default().parse().unwrap_or(0);
        Ok(Self {
            cpu: first("/proc/cpuinfo", "model name"),
            cores: cores(),
            memory_mib: kib / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: version(Command::new("rustc").arg("--version")),
        })
    }
}

/// Waits until the machine is quiet, but not longer than `patience`.
pub(crate) fn await_quiet(ours: &[Process], patience: Duration) -> Result<()> {
    let until = now() + patience;
    loop {
        let watch = Watch::begin(ours)?;
        pause(LOOK);
        if !watch.disturbed()? || now() >= until {
            return Ok(());
        }
    }
}

impl Watch {
    pub(crate) fn begin(ours: &[Process]) -> Result<Self> {
        let ours = ours.to_vec();
        Ok(Self { cpu: sum(&ours)?, ours, begun: now(), total: Total::read()? })
    }

    /// Whether others, or the host, took more than a tenth of the machine (or three ticks, if that is more).
    pub(crate) fn disturbed(&self) -> Result<bool> {
        let (total, elapsed) = (Total::read()?, self.begun.elapsed());
        let busy = total.busy.saturating_sub(self.total.busy);
        let stolen = total.stolen.saturating_sub(self.total.stolen);
        let ours = sum(&self.ours)?.saturating_sub(self.cpu).as_secs_f64();
        let others = (busy + stolen) as f64 * TICK.as_secs_f64() - ours;
        let limit = (elapsed.as_secs_f64() * cores() as f64 * DISTURBED).max(0.03);
        Ok(others > limit)
    }
}

impl Total {
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let [user, nice, system, _, _, _, _, stolen, ..] = ticks[..] else {
            return Err("/proc/stat has another form".into());
        };
        Ok(Self { busy: user + nice + system, stolen })
    }
}

/// What a program says of its version, or that it says nothing.
pub(crate) fn version(command: &mut Command) -> String {
    let said = command.output().map(|output| [output.stdout, output.stderr].concat());
    let said = String::from_utf8(said.unwrap_or_default()).unwrap_or_default();
    said.lines().next().unwrap_or("not installed").to_owned()
}

/// All cores, those that this process may not run on included.
fn cores() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).max(1)
}

fn sum(processes: &[Process]) -> Result<Duration> {
    processes.iter().map(|process| process.cpu()).sum()
}
