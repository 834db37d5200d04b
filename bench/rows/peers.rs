//! Cold blobs through wharf, docker-registry and nginx with `proxy_cache`, beside a direct pull of the same.

use std::net::SocketAddr;

use super::{
    Setting,
    setting::{Repetitions, Site},
    support::{
        Result,
        content::Content,
        nginx::Nginx,
        process::Process,
        registry::Registry,
        report::{Figure, Ratio, Row},
        running::Running,
        series::Series,
        upstream::{Manner, Served, Traffic},
    },
};

/// One upstream, and whoever keeps what comes from it.
pub(crate) struct Peers {
    pub(crate) site: Site,
    registry: Option<Registry>,
    nginx: Option<Running>,
}

/// What one way of pulling took.
#[derive(Clone, Copy)]
pub(crate) struct Pulled {
    /// In ms.
    pub(crate) took: f64,
    pub(crate) traffic: Traffic,
}

/// Where a pull goes: the upstream itself first, then wharf, then its peers.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Option<Process>,
}

impl Peers {
    pub(crate) fn start(setting: &Setting, manner: Manner, more: &str) -> Result<Self> {
        let site = setting.site_with(manner, more)?;
        let (dir, cpus) = (&setting.options.dir, setting.options.wharf_cpus.as_deref());
        let addr = site.upstream.addr;
        let registry = Registry::start(addr, dir, cpus)?;
        let nginx = Nginx::cache(addr).start(dir, cpus)?;
        Ok(Self { site, registry, nginx })
    }

    pub(crate) fn ways(&self) -> Vec<Way> {
        let Site { upstream, wharf } = &self.site;
        let mut ways = vec![
            Way { name: "direct", addr: upstream.addr, process: None },
            Way { name: "wharf", addr: wharf.addr, process: Some(wharf.process) },
        ];
        let mut add = |name, running: &Running| {
            ways.push(Way { name, addr: running.addr, process: Some(running.process) });
        };
        if let Some(registry) = &self.registry {
            add("docker-registry", &registry.0);
        }
        if let Some(nginx) = &self.nginx {
            add("nginx, proxy_cache", nginx);
        }
        ways
    }

    /// Waits until a blob that was pulled `way` is kept.
    pub(crate) fn settle(&self, setting: &Setting, way: &Way, blob: &Content) -> Result<()> {
        match (way.name, &self.registry) {
            ("wharf", _) => self.site.wharf.settle(&setting.client),
            ("docker-registry", Some(registry)) => registry.settle(&blob.digest),
            _ => Ok(()),
        }
    }

    /// Has `pull` pull new blobs of `size` each way, in turns, `blobs` of them in a repetition: what all took each way.
    pub(crate) fn take_turns(
        &self,
        setting: &Setting,
        size: u64,
        blobs: usize,
        pull: impl Fn(&Way, &str, &Served) -> Result<f64>,
    ) -> Result<Repetitions<Vec<Vec<Pulled>>>> {
        let ways = self.ways();
        let ours: Vec<_> = ways.iter().filter_map(|way| way.process).collect();
        let mut first = 0;
        setting.repeat(&ours, setting.options.runs(), || {
            let mut pulled = vec![Vec::new(); ways.len()];
            for _ in 0..blobs {
                first += 1;
                let blob = setting.noise.blob(size)?;
                let path = blob.blob_path();
                let served = self.site.upstream.offer(vec![(path.clone(), blob.clone())]).remove(0);
                for n in (0..ways.len()).map(|n| (first + n) % ways.len()) {
                    let took = pull(&ways[n], &path, &served)?;
                    self.settle(setting, &ways[n], &blob)?;
                    pulled[n].push(Pulled { took, traffic: served.take() });
                }
            }
            Ok(pulled)
        })
    }
}

/// One row of what all ways took, and of wharf's ratio to each of the others.
pub(crate) fn row(
    ways: &[Way],
    made: &Repetitions<Vec<Vec<Pulled>>>,
    name: String,
    title: String,
) -> Row {
    let mut row = made.row(name, title);
    let of = |way: usize| made.values.iter().map(move |all| median(&all[way]));
    for (n, way) in ways.iter().enumerate() {
        let each = made.values.iter().flat_map(|all| all[n].iter().map(|pulled| pulled.took));
        row.series.push(Series::new(way.name, "ms", each.collect()));
    }
    for (n, way) in ways.iter().enumerate().filter(|(n, _)| *n != 1) {
        let ratio = of(1).zip(of(n)).map(|(wharf, other)| wharf / other).collect();
        row.ratios.push(Ratio {
            peer: way.name.to_owned(),
            of: Figure::Time,
            series: Series::new(format!("wharf ÷ {}", way.name), "", ratio),
        });
    }
    row
}

/// Of the blobs of one repetition, in ms.
fn median(pulled: &[Pulled]) -> f64 {
    Series::new("", "ms", pulled.iter().map(|pulled| pulled.took).collect()).median()
}
