//! Kept manifests of 2 KB by tag and by digest; with a line in the log for each on both sides, and without on both.

use std::path::Path;

use super::{
    Setting,
    stage::{QUIET, Stage},
    support::{
        Result,
        line::Rate,
        load::Work,
        nginx::{Manner, Nginx},
        report::{Report, Row},
        series::Series,
        tls::Tls,
        upstream::{self, Upstream},
    },
    warm::{Server, Unit, row, take_turns},
};

/// Connections that ask.
const ASKERS: usize = 32;

/// Of wharf: the tag is not looked up again while something is measured.
const FRESH: &str = "[cache]\ntag_ttl = \"1h\"\n";

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Tag,
    Digest,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    report.add(manifest(setting, By::Tag, None)?);
    report.add(manifest(setting, By::Digest, None)?);
    Ok(())
}

pub(crate) fn measure_tls(setting: &Setting, report: &mut Report) -> Result<()> {
    let tls = Tls::make(&setting.options.dir)?;
    report.add(manifest(setting, By::Digest, Some(&tls))?);
    Ok(())
}

fn manifest(setting: &Setting, by: By, tls: Option<&Tls>) -> Result<Row> {
    let upstream = Upstream::start(upstream::Manner::plain(Rate::Unlimited))?;
    let parts = (0..14).map(|_| setting.noise.blob(1000)).collect::<Result<Vec<_>>>()?;
    let manifest = setting.noise.manifest(&parts)?;
    let by_digest = manifest.manifest_path();
    let by_tag = by_digest.replace(&manifest.digest.to_string(), "warm");
    let mut offers =
        vec![(by_tag.clone(), manifest.clone()), (by_digest.clone(), manifest.clone())];
    offers.extend(parts.into_iter().map(|part| (part.blob_path(), part)));
    let served = upstream.offer(offers);
    let path = if by == By::Tag { by_tag } else { by_digest };
    let mut stage = Stage::new(setting, &upstream, tls, manifest, path);
    let (wharf, quiet) = (stage.wharf(FRESH)?, stage.wharf(&format!("{FRESH}{QUIET}"))?);
    let dir = wharf.kept(&stage.content.digest);
    let root = dir.parent().unwrap_or_else(|| Path::new("/"));
    let nginx = |manner, logs| stage.nginx(&Nginx { logs, tls, ..Nginx::files(root, manner) });
    let stock = if tls.is_none() { nginx(Manner::Stock, false)? } else { None };
    let (tuned, logging) = (nginx(Manner::Tuned, false)?, nginx(Manner::Tuned, true)?);
    let registry = if tls.is_none() { stage.registry()? } else { None };

    let gets = if setting.options.quick { 60 } else { 1500 };
    let work = Work { connections: ASKERS, gets, fresh: false };
    // It answers a hundredth as many a second.
    let less = Work { gets: gets / 30, ..work };
    let mut servers: Vec<Server<'_>> = vec![
        stage.on_wharf("wharf, log", &wharf, work),
        stage.on_wharf("wharf, no log", &quiet, work),
    ];
    let mut pairs = Vec::new();
    for (name, nginx, beside) in [
        ("nginx, stock, no log", &stock, 1),
        ("nginx, tuned, no log", &tuned, 1),
        ("nginx, tuned, log", &logging, 0),
    ] {
        if let Some(nginx) = nginx {
            pairs.push((beside, servers.len()));
            servers.push(stage.on_files(name, nginx, work));
        }
    }
    if let Some(registry) = &registry {
        pairs.push((0, servers.len()));
        servers.push(stage.on_cache("docker-registry", &registry.0, less));
    }

    let asked = || {
        served
            .iter()
            .map(|part| part.take())
            .fold((0, 0), |(heads, gets), part| (heads + part.heads, gets + part.gets))
    };
    asked();
    let made = take_turns(setting, &servers)?;
    let (heads, gets) = asked();
    let by = if by == By::Tag { "by tag" } else { "by digest" };
    let how = if tls.is_some() { ", TLS" } else { "" };
    let mut row = row(
        &servers,
        &made,
        Unit::Requests,
        &pairs,
        format!("warm manifest {by}{how}"),
        format!("warm manifest {by}, 2 KB, {ASKERS} connections{how}, bare loopback"),
    );
    // wharf's are fresh; docker-registry asks for a tag each time.
    row.series.push(Series::new("the upstream was asked HEAD", "times", vec![heads as f64]));
    row.series.push(Series::new("the upstream was asked GET", "times", vec![gets as f64]));
    Ok(row)
}
