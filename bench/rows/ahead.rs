//! A cold image of two platforms from far away, as Docker Engine pulls it: tag, index, its platform's manifest, then
//! configuration and layers, each of which is redirected to a second host. wharf knows from the index on what comes,
//! and need not wait for the client's questions.

use std::{cell::RefCell, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::{try_join, try_join_all};

use super::{
    Setting,
    image::{AT_ONCE, CONFIG_BYTES, LAYERS},
    support::{
        MIB, Result,
        content::Content,
        line::Rate,
        now, pause,
        report::{Report, Row},
        upstream::{Manner, Served, Upstream},
    },
};

/// How Docker Engine presents itself.
const AGENT: &str = "docker/27.3.1 go/go1.22.7 kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1)";

/// For wharf to notice that connections are gone.
const NOTICE: Duration = Duration::from_millis(50);

/// What another platform's layer weighs.
const FOREIGN_BYTES: u64 = MIB;

/// What a row is measured under.
#[derive(Clone, Copy)]
struct Conditions {
    size: u64,
    megabits: u32,
    round_trip: Duration,
    on_pull: bool,
    caller: Caller,
}

/// How a client uses connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// It keeps them.
    Keeps,
    /// A new one for each request, a redirected one included: Docker Engine up to 29.3.
    Engine,
    /// The same, and towards the upstream each costs the round trip of a TLS 1.3 handshake more, wharf's own too.
    EngineTls,
}

/// Where the parts of one image are, and what was sent of them.
struct Image {
    tag: String,
    index: String,
    manifest: String,
    config: String,
    layers: Vec<String>,
    /// All below the tag that an amd64 client needs.
    own: Vec<Arc<Served>>,
    /// What only others need.
    foreign: Vec<Arc<Served>>,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let quick = setting.options.quick;
    let size = setting.options.size() * 3 / if quick { 12 } else { 2 };
    let far = Duration::from_millis(50);
    let thick =
        Conditions { size, megabits: 1000, round_trip: far, on_pull: true, caller: Caller::Keeps };
    let thin = Conditions { size: size / 2, megabits: 100, round_trip: Duration::ZERO, ..thick };
    report.add(pull(setting, thick)?);
    report.add(pull(setting, Conditions { caller: Caller::Engine, ..thick })?);
    report.add(pull(setting, Conditions { caller: Caller::EngineTls, ..thick })?);
    report.add(pull(setting, Conditions { on_pull: false, ..thick })?);
    report.add(pull(setting, thin)?);
    if !quick {
        report.add(pull(setting, Conditions { on_pull: false, ..thin })?);
        report.add(pull(setting, Conditions { round_trip: far, ..thin })?);
    }
    Ok(())
}

fn pull(setting: &Setting, conditions: Conditions) -> Result<Row> {
    let Conditions { size, megabits, round_trip, on_pull, caller } = conditions;
    let rate = Rate::Megabits(megabits);
    let handshake = u32::from(caller == Caller::EngineTls);
    let manner = Manner { round_trip, handshake, redirects: true, ..Manner::plain(rate) };
    let site = setting.site_with(manner, &format!("[prefetch]\non_pull = {on_pull}\n"))?;
    let mut images = 0;
    let offer = || {
        images += 1;
        Image::offer(setting, &site.upstream, size, images)
    };
    let made = setting.take_turns(&site, offer, |addr, image| {
        // Everyone begins without a connection: a wharf that pulled a moment ago would have some left.
        site.upstream.hang_up();
        pause(NOTICE);
        let took = match caller {
            Caller::Keeps => fetch(setting, addr, image)?,
            Caller::Engine | Caller::EngineTls => fetch_anew(setting, addr, image)?,
        };
        image.was_sent_once()?;
        Ok(took)
    })?;
    let away = round_trip.as_millis();
    let (layers, told) = (LAYERS.len(), if on_pull { "" } else { ", on_pull = false" });
    let how = match caller {
        Caller::Keeps => "",
        Caller::Engine => ", client as Docker Engine: a new connection for each request",
        Caller::EngineTls => {
            ", client as Docker Engine, far away with TLS 1.3: a new connection for each request, one more round trip each"
        }
    };
    Ok(made.compared(
        format!(
            "image, {} MiB, {rate}, {away} ms{}{told}",
            size / MIB,
            match caller {
                Caller::Keeps => "",
                Caller::Engine => ", as Docker Engine",
                Caller::EngineTls => ", as Docker Engine, TLS",
            }
        ),
        format!(
            "image ahead: cold, {} MiB in {layers} layers, {AT_ONCE} at a time, {rate}, {away} ms away{told}{how}",
            size / MIB,
        ),
    ))
}

impl Image {
    /// Something new to pull.
    fn offer(setting: &Setting, upstream: &Upstream, size: u64, number: u64) -> Result<Self> {
        let noise = &setting.noise;
        let mut parts = vec![noise.blob(CONFIG_BYTES)?];
        for hundredths in LAYERS {
            parts.push(noise.blob(size * hundredths / 100)?);
        }
        let foreign = vec![noise.blob(CONFIG_BYTES)?, noise.blob(FOREIGN_BYTES)?];
        let (manifest, other) = (noise.manifest(&parts)?, noise.manifest(&foreign)?);
        let index = noise.index(&[("arm64", &other), ("amd64", &manifest)])?;

        let tag = format!("/v2/bench/app/manifests/run-{number}");
        let (config, layers) = parts.split_first().ok_or("an image has a configuration")?;
        let (config, layers) = (config.blob_path(), layers.iter().map(Content::blob_path));
        let mut image = Self {
            tag: tag.clone(),
            index: index.manifest_path(),
            manifest: manifest.manifest_path(),
            config,
            layers: layers.collect(),
            own: Vec::new(),
            foreign: Vec::new(),
        };
        let as_blob = |part: Content| (part.blob_path(), part);
        let mut offers = vec![(tag, index.clone()), (image.index.clone(), index)];
        offers.push((image.manifest.clone(), manifest));
        offers.extend(parts.into_iter().map(as_blob));
        let own = offers.len();
        offers.push((other.manifest_path(), other));
        offers.extend(foreign.into_iter().map(as_blob));
        let mut served = upstream.offer(offers);
        image.foreign = served.split_off(own);
        // The tag itself is asked for by `HEAD` alone.
        image.own = served.split_off(1);
        Ok(image)
    }

    /// # Errors
    /// When something was not sent, or twice, or nobody needed it.
    fn was_sent_once(&self) -> Result<()> {
        let sent =
            |parts: &[Arc<Served>], times| parts.iter().all(|part| part.take().gets == times);
        match sent(&self.own, 1) && sent(&self.foreign, 0) {
            true => Ok(()),
            false => {
                Err("the upstream did not send each part of the image once, and no other".into())
            }
        }
    }
}

/// The configuration comes beside the layers, as Docker Engine has it, and takes the place of none of them.
fn fetch(setting: &Setting, addr: SocketAddr, image: &Image) -> Result<Duration> {
    let begun = now();
    let left = RefCell::new(image.layers.iter());
    let connect = || setting.client.connect_as(AGENT, addr);
    setting.client.run(async {
        let mut first = connect().await?;
        first.head(&image.tag).await?;
        first.get(&image.index).await?.whole()?;
        first.get(&image.manifest).await?.whole()?;
        let config = async { first.get(&image.config).await?.whole() };
        let workers = (0..AT_ONCE).map(|_| async {
            let mut connection = connect().await?;
            loop {
                let next = left.borrow_mut().next();
                let Some(layer) = next else { return Result::Ok(()) };
                connection.get(layer).await?.whole()?;
            }
        });
        try_join(config, try_join_all(workers)).await?;
        Ok(begun.elapsed())
    })
}

/// The same by a client that opens a connection for every request.
fn fetch_anew(setting: &Setting, addr: SocketAddr, image: &Image) -> Result<Duration> {
    let begun = now();
    let left = RefCell::new(image.layers.iter());
    let get = |path| async move {
        setting.client.connect_as(AGENT, addr).await?.get(path).await?.whole()
    };
    setting.client.run(async {
        setting.client.connect_as(AGENT, addr).await?.head(&image.tag).await?;
        get(&image.index).await?;
        get(&image.manifest).await?;
        let workers = (0..AT_ONCE).map(|_| async {
            loop {
                let next = left.borrow_mut().next();
                let Some(layer) = next else { return Result::Ok(()) };
                get(layer).await?;
            }
        });
        try_join(get(&image.config), try_join_all(workers)).await?;
        Ok(begun.elapsed())
    })
}
