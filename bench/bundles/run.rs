//! One command, and what it cost.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    image::{Image, NAME},
    support::{Result, now, pause, process::Process},
};

/// How long one command may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// Between two looks at a process that runs: its end is seen so late at most.
const LOOK: Duration = Duration::from_millis(1);

/// What a command cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From its start to its end.
    pub(crate) time: Duration,
    /// From there until the disk has what it wrote.
    pub(crate) sync: Duration,
    pub(crate) cpu: Duration,
    /// Most memory that was resident, in bytes.
    pub(crate) peak: u64,
}

/// wharf (0) and skopeo (1).
pub(crate) struct Tools<'a> {
    wharf: &'a Path,
    config: PathBuf,
    scratch: PathBuf,
    image: &'a Image,
}

impl<'a> Tools<'a> {
    pub(crate) fn new(wharf: &'a Path, dir: &Path, image: &'a Image) -> Result<Self> {
        let config = dir.join("config.toml");
        fs::write(&config, "[server]\nmode = \"offline\"\n")?;
        let tools = Self { wharf, config, scratch: dir.join("scratch"), image };
        fs::create_dir_all(&tools.scratch)?;
        // Makes the tables of a cache that nobody has opened yet.
        cost(tools.wharf("ls", &image.dir), dir)?;
        Ok(tools)
    }

    /// Writes the image into `archive`.
    pub(crate) fn export(&self, who: usize, archive: &Path) -> Result<Cost> {
        let mut command;
        if who == 0 {
            command = self.wharf("export", &self.image.dir);
            command.args(["--platform", "linux/arm64", "--output"]).arg(archive).arg(NAME);
        } else {
            let from = format!("oci:{}:{NAME}", self.image.dir.display());
            command = self.skopeo(&from, &format!("oci-archive:{}:{NAME}", archive.display()));
        }
        cost(command, archive)
    }

    /// Reads `archive` into the layout at `into`, which is not there yet.
    pub(crate) fn import(&self, who: usize, archive: &Path, into: &Path) -> Result<Cost> {
        let mut command;
        if who == 0 {
            command = self.wharf("import", into);
            command.arg(archive);
        } else {
            let from = format!("oci-archive:{}:{NAME}", archive.display());
            command = self.skopeo(&from, &format!("oci:{}:{NAME}", into.display()));
        }
        cost(command, into)
    }

    fn wharf(&self, verb: &str, cache: &Path) -> Command {
        let mut command = Command::new(self.wharf);
        command.arg(verb).arg("--config").arg(&self.config).arg("--dir").arg(cache);
        command.env("MALLOC_ARENA_MAX", "2");
        command
    }

    fn skopeo(&self, from: &str, to: &str) -> Command {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "--tmpdir"]).arg(&self.scratch);
        command.args(["copy", "--quiet", "--all", "--preserve-digests", from, to]);
        command
    }
}

/// Runs `command` to its end, then has what lies beside `written` reach the disk.
fn cost(mut command: Command, written: &Path) -> Result<Cost> {
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = now();
    let mut child = command.spawn()?;
    let process = Process(child.id());
    let mut peak = 0;
    // One that has ended and was not waited for yet has no memory any more, and all of its times.
    while !has_ended(process)? {
        peak = process.peak_memory().unwrap_or(0).max(peak);
        if begun.elapsed() > DEADLINE {
            child.kill()?;
        }
        pause(LOOK);
    }
    let (time, cpu) = (begun.elapsed(), process.cpu()?);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let beside = File::open(written.parent().ok_or("it is beside nothing")?)?;
    let begun = now();
    rustix::fs::syncfs(&beside)?;
    Ok(Cost { time, sync: begun.elapsed(), cpu, peak })
}

/// Whether a process has ended; it is asked before it is waited for.
fn has_ended(process: Process) -> Result<bool> {
    let text = fs::read_to_string(format!("/proc/{}/stat", process.0))?;
    let (_, fields) = text.rsplit_once(')').ok_or("a stat line has a name")?;
    Ok(fields.trim_start().starts_with('Z'))
}
