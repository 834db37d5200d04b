//! What a server that was just started keeps in memory: idle, with a thousand readers, with a hundred downloads.

use futures_util::future::try_join_all;

use super::{
    Setting,
    peers::Peers,
    setting::Repetitions,
    support::{
        MIB, Result,
        content::Content,
        crowd,
        line::Rate,
        report::{Figure, Ratio, Report, print},
        series::Series,
        upstream::Manner,
    },
};

/// Starts that are made of each.
const STARTS: usize = 3;

/// What is done with a server before its memory is read.
#[derive(Clone, Copy)]
enum Work {
    Idle,
    /// The same, but for pages of files: of the program and its libraries, of which the system has as many in memory as it likes.
    IdleOwn,
    /// So many readers of one kept blob of so many MiB.
    Readers(usize, u64),
    /// So many cold blobs at once, of so many MiB each.
    Downloads(usize, u64),
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let works = match setting.options.quick {
        true => [Work::Idle, Work::IdleOwn, Work::Readers(100, 16), Work::Downloads(20, 1)],
        false => [Work::Idle, Work::IdleOwn, Work::Readers(1000, 50), Work::Downloads(100, 8)],
    };
    works.into_iter().try_for_each(|work| add(setting, report, work))
}

fn add(setting: &Setting, report: &mut Report, work: Work) -> Result<()> {
    let starts = if setting.options.quick { 1 } else { STARTS };
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        // Downloads that wait for their turn would cost nothing.
        let peers = Peers::start(
            setting,
            Manner::plain(Rate::Unlimited),
            "[cache]\nmax_downloads = 100\n",
        )?;
        names = peers.ways().iter().skip(1).map(|way| way.name).collect();
        values.push(resident(setting, &peers, work)?);
    }
    let made = Repetitions { values, disturbed: 0, repeated: 0 };
    let (name, what) = match work {
        Work::Idle => ("idle".to_owned(), "just started".to_owned()),
        Work::IdleOwn => {
            ("idle, own".to_owned(), "just started, without pages of files".to_owned())
        }
        Work::Readers(readers, mib) => (
            format!("{readers} readers"),
            format!("most, {readers} connections that read one kept blob of {mib} MiB"),
        ),
        Work::Downloads(blobs, mib) => (
            format!("{blobs} downloads"),
            format!("most, {blobs} cold blobs of {mib} MiB at once, bare loopback"),
        ),
    };
    let mut row = made.row(format!("memory, {name}"), format!("resident memory: {what}"));
    for (n, name) in names.iter().enumerate() {
        let each = |of: &dyn Fn(&[f64]) -> f64| made.values.iter().map(|all| of(all)).collect();
        row.series.push(Series::new(*name, "MiB", each(&|all| all[n])));
        if n > 0 {
            let series = Series::new(format!("wharf ÷ {name}"), "", each(&|all| all[0] / all[n]));
            row.ratios.push(Ratio { peer: (*name).to_owned(), of: Figure::Memory, series });
        }
    }
    report.add(row);
    Ok(())
}

/// What each server had resident, in MiB: now when idle, else at most since its start.
fn resident(setting: &Setting, peers: &Peers, work: Work) -> Result<Vec<f64>> {
    let mut resident = Vec::new();
    for way in peers.ways() {
        let Some(process) = way.process else { continue };
        let named = |error| format!("{}: {error}", way.name);
        let offer = |count: usize, mib: u64| -> Result<Vec<Content>> {
            let blobs = (0..count).map(|_| setting.noise.blob(mib * MIB));
            let blobs = blobs.collect::<Result<Vec<_>>>()?;
            let offers = blobs.iter().map(|blob| (blob.blob_path(), blob.clone()));
            peers.site.upstream.offer(offers.collect());
            Ok(blobs)
        };
        let bytes = match work {
            Work::Idle => process.memory()?,
            Work::IdleOwn => process.own_memory()?,
            Work::Readers(readers, mib) => {
                let blob = offer(1, mib)?.remove(0);
                setting.client.get(way.addr, &blob.blob_path()).map_err(named)?;
                peers.settle(setting, &way, &blob)?;
                let path = blob.blob_path();
                let left = crowd::read(&setting.client, way.addr, &path, readers).map_err(named)?;
                match (left, way.name) {
                    (0, _) => {}
                    (_, "wharf") => return Err(format!("{left} readers got no more").into()),
                    // Seen of docker-registry, once in some twenty times: one answer is a head, and nothing behind it.
                    (_, name) => print(&format!("{name}: {left} of {readers} readers got no more")),
                }
                process.peak_memory()?
            }
            Work::Downloads(count, mib) => {
                let blobs = offer(count, mib)?;
                setting
                    .client
                    .run(async {
                        let pulls = blobs.iter().map(|blob| async {
                            let mut connection = setting.client.connect(way.addr).await?;
                            connection.get(&blob.blob_path()).await?.whole()
                        });
                        try_join_all(pulls).await
                    })
                    .map_err(named)?;
                for blob in &blobs {
                    peers.settle(setting, &way, blob)?;
                }
                process.peak_memory()?
            }
        };
        resident.push(bytes as f64 / MIB as f64);
    }
    Ok(resident)
}
