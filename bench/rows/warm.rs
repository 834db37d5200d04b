//! What servers do with the same load when they have what is asked for: they take turns, and each is first in turn.

use super::{
    Setting,
    setting::{Repetitions, milliseconds},
    support::{
        Result,
        load::{Done, Target, Work},
        report::{Figure, Ratio, Row},
        series::Series,
    },
};

/// One of the servers of a row.
pub(crate) struct Server<'a> {
    pub(crate) name: &'static str,
    pub(crate) target: Target<'a>,
    pub(crate) work: Work,
}

/// What the answers are counted in.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Gigabytes (10^9), so many bytes each.
    Bytes(u64),
    Requests,
}

/// What all servers did, in the order of the servers.
pub(crate) type Made = Repetitions<Vec<Done>>;

pub(crate) fn take_turns(setting: &Setting, servers: &[Server<'_>]) -> Result<Made> {
    let ours: Vec<_> = servers.iter().map(|server| server.target.process).collect();
    let mut first = 0;
    setting.repeat(&ours, setting.options.runs(), || {
        first += 1;
        let mut done: Vec<Option<Done>> = servers.iter().map(|_| None).collect();
        for n in (0..servers.len()).map(|n| (first + n) % servers.len()) {
            let Server { name, target, work } = &servers[n];
            let loaded = target.load(&setting.client, *work);
            done[n] = Some(loaded.map_err(|error| format!("{name}: {error}"))?);
        }
        Ok(done.into_iter().flatten().collect())
    })
}

/// Speed, cost and waiting of each server, and the ratios of the `pairs`: which wharf, beside which other.
pub(crate) fn row(
    servers: &[Server<'_>],
    made: &Made,
    unit: Unit,
    pairs: &[(usize, usize)],
    name: String,
    title: String,
) -> Row {
    let mut row = made.row(name, title);
    let count = |n: usize| match unit {
        Unit::Bytes(each) => (servers[n].work.total() * each) as f64 / 1e9,
        Unit::Requests => servers[n].work.total() as f64,
    };
    let speed = |n: usize, done: &[Done]| count(n) / done[n].took.as_secs_f64();
    let cost = |n: usize, done: &[Done]| done[n].cpu.as_secs_f64() / count(n);
    let each = |of: &dyn Fn(&[Done]) -> f64| made.values.iter().map(|done| of(done)).collect();
    let (speed_unit, cost_unit, scale) = match unit {
        Unit::Bytes(_) => ("GB/s", "CPU s/GB", 1.0),
        Unit::Requests => ("requests/s", "CPU µs/request", 1e6),
    };
    let mut add = |n: usize, unit, of: &dyn Fn(&[Done]) -> f64| {
        row.series.push(Series::new(servers[n].name, unit, each(of)));
    };
    (0..servers.len()).for_each(|n| add(n, speed_unit, &|done| speed(n, done)));
    (0..servers.len()).for_each(|n| add(n, cost_unit, &|done| cost(n, done) * scale));
    if matches!(unit, Unit::Requests) {
        (0..servers.len()).for_each(|n| add(n, "ms, 99 %", &|done| slow(&done[n])));
    }
    // Where the client has no time left, it is measured rather than the server.
    let busy = |done: &Done| done.client_cpu.as_secs_f64() / done.took.as_secs_f64();
    (0..servers.len()).for_each(|n| add(n, "of client's core", &|done| busy(&done[n])));
    for &(wharf, other) in pairs {
        let named = format!("{} ÷ {}", servers[wharf].name, servers[other].name);
        let mut add = |of: Figure, values: Vec<f64>| {
            let peer = servers[other].name.to_owned();
            let series = Series::new(named.clone(), of.word(), values);
            row.ratios.push(Ratio { peer, of, series });
        };
        add(Figure::Speed, each(&|done| speed(wharf, done) / speed(other, done)));
        // Where the CPU's clock counted nothing, there is no ratio.
        let cost = made.values.iter().map(|done| cost(wharf, done) / cost(other, done));
        add(Figure::Cpu, cost.filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect());
    }
    row
}

/// What the slowest hundredth waited for at least, in ms.
fn slow(done: &Done) -> f64 {
    Series::new("", "", done.waits.iter().copied().map(milliseconds).collect()).quantile(0.99)
}
