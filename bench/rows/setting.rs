//! What all rows are measured in: a site of an upstream and a wharf, and repetitions that take turns.

use std::{cell::Cell, fs, net::SocketAddr, time::Duration};

use super::{
    Options,
    support::{
        MIB, Result,
        client::Client,
        content::Noise,
        line::Rate,
        machine::{Watch, await_quiet},
        process::Process,
        report::{Figure, Ratio, Row},
        series::Series,
        upstream::{Manner, Traffic, Upstream},
        wharf::Wharf,
    },
};

/// How often a repetition is made again because the machine was not ours alone.
const TRIES: usize = 4;

/// Options, contents and client of one run.
pub(crate) struct Setting {
    pub(crate) options: Options,
    pub(crate) noise: Noise,
    pub(crate) client: Client,
}

/// An upstream on a line of its own, and a wharf with an empty cache in front of it.
pub(crate) struct Site {
    pub(crate) upstream: Upstream,
    pub(crate) wharf: Wharf,
}

/// Repetitions that were made for one row.
pub(crate) struct Repetitions<T> {
    pub(crate) values: Vec<T>,
    pub(crate) disturbed: usize,
    pub(crate) repeated: usize,
}

/// The same work, past wharf and through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<T> {
    pub(crate) direct: T,
    pub(crate) through: T,
}

impl Setting {
    pub(crate) fn new(options: Options) -> Result<Self> {
        fs::create_dir_all(&options.dir)?;
        // Of cold blobs the large ones are the longest, four times the others; of warm ones 50 MiB.
        let noise = Noise::new((options.size() * 4).max(50 * MIB))?;
        Ok(Self { options, noise, client: Client::new()? })
    }

    /// A site whose upstream sends at `rate` and cuts no one off.
    pub(crate) fn site(&self, rate: Rate) -> Result<Site> {
        self.site_with(Manner::plain(rate), "")
    }

    /// A site whose upstream sends as `manner` says, with a wharf of whose configuration `more` is a part.
    pub(crate) fn site_with(&self, manner: Manner, more: &str) -> Result<Site> {
        let upstream = Upstream::start(manner)?;
        let wharf = self.wharf(&upstream, more)?;
        Ok(Site { upstream, wharf })
    }

    /// A wharf with an empty cache, of whose configuration `more` is a part.
    pub(crate) fn wharf(&self, upstream: &Upstream, more: &str) -> Result<Wharf> {
        let Options { wharf, dir, wharf_cpus, .. } = &self.options;
        Wharf::start(wharf, wharf_cpus.as_deref(), upstream.addr, dir, more)
    }

    /// Makes `once` `runs` times, after one time that does not count, each when the machine is quiet. One during
    /// which others ran is made again, up to [`TRIES`] times.
    pub(crate) fn repeat<T>(
        &self,
        ours: &[Process],
        runs: usize,
        mut once: impl FnMut() -> Result<T>,
    ) -> Result<Repetitions<T>> {
        let ours: Vec<_> = ours.iter().copied().chain([Process::own()]).collect();
        let patience = self.options.patience();
        once()?;
        let mut made = Repetitions { values: Vec::new(), disturbed: 0, repeated: 0 };
        for _ in 0..runs {
            for left in (0..TRIES).rev() {
                await_quiet(&ours, Duration::from_secs(patience))?;
                let watch = Watch::begin(&ours)?;
                let value = once()?;
                let disturbed = watch.disturbed()?;
                if !disturbed || left == 0 || patience == 0 {
                    made.disturbed += usize::from(disturbed);
                    made.values.push(value);
                    break;
                }
                made.repeated += 1;
            }
        }
        Ok(made)
    }

    /// Repeats `measure` for an address past wharf and one through it, in turns: who is first changes every time.
    /// `offer` makes something new to pull each time, and what wharf fetched is on the disk before the next.
    pub(crate) fn take_turns<O, T>(
        &self,
        site: &Site,
        mut offer: impl FnMut() -> Result<O>,
        measure: impl Fn(SocketAddr, &O) -> Result<T>,
    ) -> Result<Repetitions<Pair<T>>> {
        let direct_first = Cell::new(false);
        self.repeat(&[site.wharf.process], self.options.runs(), || {
            direct_first.set(!direct_first.get());
            let offered = offer()?;
            let through = || {
                let measured = measure(site.wharf.addr, &offered)?;
                site.wharf.settle(&self.client)?;
                Result::Ok(measured)
            };
            if direct_first.get() {
                let direct = measure(site.upstream.addr, &offered)?;
                Ok(Pair { direct, through: through()? })
            } else {
                let through = through()?;
                Ok(Pair { through, direct: measure(site.upstream.addr, &offered)? })
            }
        })
    }
}

impl<T> Repetitions<T> {
    /// A row of them; what is told so far is that others ran meanwhile.
    pub(crate) fn row(&self, name: impl Into<String>, title: String) -> Row {
        let Self { disturbed, repeated, .. } = *self;
        let (name, series, ratios) = (name.into(), Vec::new(), Vec::new());
        Row { name, title, series, ratios, disturbed, repeated }
    }
}

impl Repetitions<Pair<Duration>> {
    /// A row of both times, and the ratio of each pair.
    pub(crate) fn compared(&self, name: impl Into<String>, title: String) -> Row {
        let each = |of: fn(&Pair<Duration>) -> f64| self.values.iter().map(of).collect();
        let mut row = self.row(name, title);
        row.series = vec![
            Series::new("direct", "ms", each(|pair| milliseconds(pair.direct))),
            Series::new("through wharf", "ms", each(|pair| milliseconds(pair.through))),
        ];
        let ratio = each(|pair| pair.through.as_secs_f64() / pair.direct.as_secs_f64());
        row.ratios.push(Ratio {
            peer: "direct".to_owned(),
            of: Figure::Time,
            series: Series::new("through ÷ direct", "", ratio),
        });
        row
    }
}

impl Repetitions<Pair<(Duration, Traffic)>> {
    /// The same, and what the upstream sent for wharf, of blobs of `size` bytes.
    pub(crate) fn compared(&self, name: impl Into<String>, title: String, size: u64) -> Row {
        let Self { ref values, disturbed, repeated } = *self;
        let took = |pair: &Pair<(Duration, Traffic)>| Pair {
            direct: pair.direct.0,
            through: pair.through.0,
        };
        let times = Repetitions { values: values.iter().map(took).collect(), disturbed, repeated };
        let mut row = times.compared(name, title);
        let of_wharf = |of: &dyn Fn(&Traffic) -> f64| {
            values.iter().map(|pair| of(&pair.through.1)).collect::<Vec<_>>()
        };
        let sent = of_wharf(&|traffic| traffic.sent as f64 / size as f64);
        row.series.push(Series::new("upstream bytes for wharf ÷ blob", "", sent));
        let gets = of_wharf(&|traffic| traffic.gets as f64);
        row.series.push(Series::new("upstream GETs by wharf", "", gets));
        row
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
