//! A cold image as Docker pulls it: tag, manifest, configuration, then twelve layers, three at a time.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;

use super::{
    Setting,
    support::{
        MIB, Result,
        content::Content,
        line::Rate,
        now,
        report::{Report, Row},
        series::Series,
    },
};

/// Layers fetched at one time (Docker's `max-concurrent-downloads`).
pub(super) const AT_ONCE: usize = 3;

/// What the layers weigh, in hundredths of the image.
pub(super) const LAYERS: [u64; 12] = [24, 2, 11, 1, 6, 30, 1, 3, 9, 1, 5, 7];

pub(super) const CONFIG_BYTES: u64 = 8 * 1024;

/// Where the parts of one image are.
struct Image {
    tag: String,
    manifest: String,
    config: String,
    layers: Vec<String>,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = setting.options.size();
    report.add(pull(setting, if setting.options.quick { size / 2 } else { size * 3 / 2 }, 1000)?);
    if !setting.options.quick {
        report.add(pull(setting, size / 4, 100)?);
    }
    Ok(())
}

fn pull(setting: &Setting, size: u64, megabits: u32) -> Result<Row> {
    let rate = Rate::Megabits(megabits);
    let site = setting.site(rate)?;
    let before = site.wharf.process.written()?;
    let mut images = 0;
    let offer = || {
        images += 1;
        let mut parts = vec![setting.noise.blob(CONFIG_BYTES)?];
        for hundredths in LAYERS {
            parts.push(setting.noise.blob(size * hundredths / 100)?);
        }
        let manifest = setting.noise.manifest(&parts)?;
        let image = Image::of(&manifest, &parts, images)?;
        let mut offers =
            vec![(image.tag.clone(), manifest.clone()), (image.manifest.clone(), manifest)];
        offers.extend(parts.into_iter().map(|part| (part.blob_path(), part)));
        site.upstream.offer(offers);
        Ok(image)
    };
    let made = setting.take_turns(&site, offer, |addr, image| fetch(setting, addr, image))?;
    let written = site.wharf.process.written()?.to_disk - before.to_disk;
    let (mib, layers) = (size / MIB, LAYERS.len());
    let mut row = made.compared(
        format!("cold image, {mib} MiB, {rate}"),
        format!("cold image, {mib} MiB in {layers} layers, {AT_ONCE} at a time, {rate}"),
    );
    let share = written as f64 / (images * size) as f64;
    row.series.push(Series::new("wharf: written to files ÷ fetched", "", vec![share]));
    Ok(row)
}

impl Image {
    fn of(manifest: &Content, parts: &[Content], number: u64) -> Result<Self> {
        let (config, layers) = parts.split_first().ok_or("an image has a configuration")?;
        Ok(Self {
            tag: format!("/v2/bench/app/manifests/run-{number}"),
            manifest: manifest.manifest_path(),
            config: config.blob_path(),
            layers: layers.iter().map(Content::blob_path).collect(),
        })
    }
}

fn fetch(setting: &Setting, addr: SocketAddr, image: &Image) -> Result<Duration> {
    let begun = now();
    let left = RefCell::new(image.layers.iter());
    setting.client.run(async {
        let mut first = setting.client.connect(addr).await?;
        first.head(&image.tag).await?;
        first.get(&image.manifest).await?.whole()?;
        first.get(&image.config).await?.whole()?;
        let workers = (0..AT_ONCE).map(|_| async {
            let mut connection = setting.client.connect(addr).await?;
            loop {
                let next = left.borrow_mut().next();
                let Some(layer) = next else { return Result::Ok(()) };
                connection.get(layer).await?.whole()?;
            }
        });
        try_join_all(workers).await?;
        Ok(begun.elapsed())
    })
}
