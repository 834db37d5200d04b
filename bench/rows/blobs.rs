//! Kept blobs: over connections that stay, over a new one for each, in plain HTTP and in TLS; nobody writes a log.

use std::path::Path;

use super::{
    Setting,
    stage::{QUIET, Stage},
    support::{
        MIB, Result,
        content::Content,
        line::Rate,
        load::Work,
        nginx::{Manner, Nginx},
        report::{Report, Row},
        tls::Tls,
        upstream::{self, Upstream},
    },
    warm::{Server, Unit, row, take_turns},
};

const CONNECTIONS: usize = 4;

/// How connections are used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Kept,
    /// A new one for each request.
    Fresh,
}

/// Plain HTTP, connections kept.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    for mib in sizes(setting) {
        report.add(blob(setting, mib, Use::Kept, None)?);
    }
    Ok(())
}

/// Plain HTTP, `Connection: close`.
pub(crate) fn measure_fresh(setting: &Setting, report: &mut Report) -> Result<()> {
    let [_, small] = sizes(setting);
    report.add(blob(setting, small, Use::Fresh, None)?);
    Ok(())
}

/// TLS, both ways.
pub(crate) fn measure_tls(setting: &Setting, report: &mut Report) -> Result<()> {
    let tls = Tls::make(&setting.options.dir)?;
    let [large, small] = sizes(setting);
    report.add(blob(setting, large, Use::Kept, Some(&tls))?);
    report.add(blob(setting, small, Use::Kept, Some(&tls))?);
    report.add(blob(setting, small, Use::Fresh, Some(&tls))?);
    Ok(())
}

/// A layer that is most of an image, and one that is not, in MiB.
fn sizes(setting: &Setting) -> [u64; 2] {
    if setting.options.quick { [16, 5] } else { [50, 5] }
}

fn blob(setting: &Setting, mib: u64, kept: Use, tls: Option<&Tls>) -> Result<Row> {
    let upstream = Upstream::start(upstream::Manner::plain(Rate::Unlimited))?;
    let (size, content) = (mib * MIB, setting.noise.blob(mib * MIB)?);
    let path = content.blob_path();
    upstream.offer(vec![(path.clone(), Content::clone(&content))]);
    let mut stage = Stage::new(setting, &upstream, tls, content, path);
    let wharf = stage.wharf(QUIET)?;
    let dir = wharf.kept(&stage.content.digest);
    let root = dir.parent().unwrap_or_else(|| Path::new("/"));
    let plain = tls.is_none();
    let [stock, tuned] =
        [Manner::Stock, Manner::Tuned].map(|manner| Nginx { tls, ..Nginx::files(root, manner) });
    let (stock, tuned) = (if plain { stage.nginx(&stock)? } else { None }, stage.nginx(&tuned)?);
    let others = plain && kept == Use::Kept;
    let cache = if others { stage.nginx_cache()? } else { None };
    let registry = if others { stage.registry()? } else { None };

    // So long that a tick of the CPU's clock is little.
    let wanted =
        if setting.options.quick { 150 } else { 2000 } * 1_000_000 / if plain { 1 } else { 2 };
    let gets = (wanted / (size * CONNECTIONS as u64)).max(2);
    let work = Work { connections: CONNECTIONS, gets, fresh: kept == Use::Fresh };
    let mut servers: Vec<Server<'_>> = Vec::new();
    servers.extend(stock.iter().map(|nginx| stage.on_files("nginx, stock", nginx, work)));
    servers.extend(tuned.iter().map(|nginx| stage.on_files("nginx, tuned", nginx, work)));
    servers.extend(cache.iter().map(|nginx| stage.on_cache("nginx, proxy_cache", nginx, work)));
    let registry = registry.iter().map(|registry| &registry.0);
    servers.extend(registry.map(|registry| stage.on_cache("docker-registry", registry, work)));
    let last = servers.len();
    servers.push(stage.on_wharf("wharf", &wharf, work));

    let made = take_turns(setting, &servers)?;
    let pairs: Vec<_> = (0..last).map(|other| (last, other)).collect();
    let how = match (kept, plain) {
        (Use::Kept, true) => "",
        (Use::Fresh, true) => ", a new connection each",
        (Use::Kept, false) => ", TLS",
        (Use::Fresh, false) => ", TLS, a new connection each",
    };
    let told = match (kept, plain) {
        (Use::Fresh, false) => ", each with a full TLS handshake, no resumption",
        _ => "",
    };
    Ok(row(
        &servers,
        &made,
        Unit::Bytes(size),
        &pairs,
        format!("warm blob, {mib} MiB{how}"),
        format!("warm blob, {mib} MiB, {CONNECTIONS} at a time{how}{told}, bare loopback"),
    ))
}
