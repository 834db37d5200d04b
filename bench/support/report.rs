//! What was measured: a table for people, JSON for later comparisons.

use std::{fs, path::Path};

use serde::Serialize;

use super::{Result, machine::Machine, series::Series};

/// One comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// In a few words, for the plot.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) series: Vec<Series>,
    pub(crate) ratios: Vec<Ratio>,
    /// Repetitions that were kept although something else ran meanwhile, and those that were made again.
    pub(crate) disturbed: usize,
    pub(crate) repeated: usize,
}

/// wharf beside another, repetition by repetition.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    /// Beside whom.
    pub(crate) peer: String,
    pub(crate) of: Figure,
    /// wharf's figure ÷ the peer's.
    pub(crate) series: Series,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Figure {
    /// Bytes or answers a second: more is better.
    Speed,
    /// Until something is there: less is better.
    Time,
    /// CPU time for the same: less is better.
    Cpu,
    /// Memory for the same: less is better.
    Memory,
}

/// One run of a bench.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    /// The arguments behind `--`.
    pub(crate) arguments: Vec<String>,
    pub(crate) wharf: &'static str,
    pub(crate) nginx: String,
    pub(crate) docker_registry: String,
    /// The cores of the servers, and those of all else; where they like, if none are named.
    pub(crate) server_cpus: Option<String>,
    pub(crate) client_cpus: Option<String>,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Prints what comes before the rows.
    pub(crate) fn begin(&self) {
        let Machine { cpu, cores, memory_mib, kernel, rustc } = &self.machine;
        print(&format!(
            "{cores} cores ({cpu}), {memory_mib} MiB, Linux {kernel}, wharf {}, {rustc}, {}, {}",
            self.wharf, self.nginx, self.docker_registry
        ));
        let on = |cpus: &Option<String>| cpus.clone().unwrap_or_else(|| "all".to_owned());
        print(&format!(
            "servers on cores: {}; client and upstream: {}\n",
            on(&self.server_cpus),
            on(&self.client_cpus)
        ));
    }

    /// Takes in a row, and prints it.
    pub(crate) fn add(&mut self, row: Row) {
        print(&row.table());
        self.rows.push(row);
    }

    /// Writes everything, each value included.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

impl Figure {
    /// Where more than 1 would be to wharf's disadvantage.
    pub(crate) const fn less_is_better(self) -> bool {
        !matches!(self, Self::Speed)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Speed => "",
            Self::Time => "of time",
            Self::Cpu => "of CPU",
            Self::Memory => "of memory",
        }
    }
}

impl Row {
    fn table(&self) -> String {
        let mut text = format!(
            "{}\n  {:<48}{:>10}{:>10}{:>10}{:>10}{:>5}\n",
            self.title, "", "median", "min", "p95", "max", "n"
        );
        for series in self.series.iter().chain(self.ratios.iter().map(|ratio| &ratio.series)) {
            let label = format!("{} {}", series.name, bracketed(series.unit));
            let [median, min, p95, max] = [
                series.median(),
                series.quantile(0.0),
                series.quantile(0.95),
                series.quantile(1.0),
            ]
            .map(short);
            let n = series.values.len();
            text += &format!("  {label:<48}{median:>10}{min:>10}{p95:>10}{max:>10}{n:>5}\n");
        }
        if self.disturbed + self.repeated > 0 {
            text += &format!(
                "  the machine was not ours alone: {} repetitions made again, {} kept all the same\n",
                self.repeated, self.disturbed
            );
        }
        text
    }
}

/// Prints a line of the bench's own output.
#[expect(clippy::print_stdout, reason = "that is what a bench is for")]
pub(crate) fn print(line: &str) {
    println!("{line}");
}

fn bracketed(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!("({unit})") }
}

/// Four digits, or as many as stand before the point.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
