//! What wharf costs and saves: beside a direct pull, nginx and docker-registry, in turns, on one machine.
//!
//! `bench/compare --help` tells the options, `bench/README.md` what each row means.

mod ahead;
mod blob;
mod blobs;
mod cuts;
mod first_byte;
mod image;
mod limited;
mod manifests;
mod memory;
mod options;
mod peers;
mod plot;
mod setting;
mod stage;
mod stampede;
#[path = "../support/mod.rs"]
mod support;
mod warm;

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

use self::{
    options::{Options, Part},
    setting::Setting,
    support::{
        Result, cores,
        machine::Machine,
        nginx, registry,
        report::{Report, print},
    },
};

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        print("a bench, not a test: run it with `bench/compare`");
        return ExitCode::SUCCESS;
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("the bench failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What it was told, but not where things lie on this machine.
fn arguments() -> Vec<String> {
    let told = std::env::args().skip(1).filter(|argument| argument != "--bench");
    told.map(|argument| match Path::new(&argument).file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => argument,
    })
    .collect()
}

fn run(mut options: Options) -> Result<()> {
    options.pin()?;
    cores::many_files()?;
    let (rows, out) = (options.rows.clone(), options.out());
    let mut report = Report {
        bench: "compare",
        arguments: arguments(),
        wharf: env!("CARGO_PKG_VERSION"),
        nginx: nginx::version(),
        docker_registry: registry::version(),
        server_cpus: options.wharf_cpus.clone(),
        client_cpus: options.client_cpus.clone(),
        machine: Machine::describe()?,
        rows: Vec::new(),
    };
    report.begin();
    let setting = Setting::new(options)?;
    for part in rows {
        let measure = match part {
            Part::Warm => blobs::measure,
            Part::Close => blobs::measure_fresh,
            Part::Manifests => manifests::measure,
            Part::Tls => measure_tls,
            Part::Blob => blob::measure,
            Part::FirstByte => first_byte::measure,
            Part::Limited => limited::measure,
            Part::Image => image::measure,
            Part::Ahead => ahead::measure,
            Part::Stampede => stampede::measure,
            Part::Cuts => cuts::measure,
            Part::Memory => memory::measure,
        };
        measure(&setting, &mut report).map_err(|error| format!("{part}: {error}"))?;
    }
    report.write(&out.join("compare.json"))?;
    plot::draw(&report, &out.join("compare.svg"))
}

fn measure_tls(setting: &Setting, report: &mut Report) -> Result<()> {
    blobs::measure_tls(setting, report)?;
    manifests::measure_tls(setting, report)
}
