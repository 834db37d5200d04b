//! `wharf export`: images into a bundle, for a site that has no uplink.

mod place;
mod read;
mod since;
mod sink;
mod summary;

use std::path::PathBuf;

use clap::Args;

use self::{
    place::Place,
    read::Reading,
    sink::{Sink, Target},
    summary::{Left, Summary},
};
use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    complain, failed,
    images::{ImageArgs, Resolved},
    key,
    pull::Progress,
};
use crate::{
    admin::{Client, DockerImage, ExportEvent, PullEvent},
    bundle::{Archive, Blob, Bundle, SecretKey, Wanted},
    config::parse_size,
};

const EXAMPLES: &str = "\
Examples:
  wharf export --platform linux/arm64 -o site.tar alpine:3.20 nginx
  wharf export --file images.txt -o /media/stick/site.tar.zst
  wharf export --from compose.yaml --platform linux/arm64 -o site.tar
  wharf export --file images.txt --since monday.tar.receipt -o tuesday.tar    only what changed
  wharf ls --digests > site.inv               at the site; then, with the uplink:
  wharf export --file images.txt --since site.inv -o site.tar
  wharf export --file images.txt --volume-size 4GB -o site.tar       site.tar.001, site.tar.002, ...
  wharf export --sign site.key --file images.txt -o - | ssh site wharf import -

What is missing is fetched first; without an uplink, what is kept whole is exported. A bundle is an OCI image layout,
which docker load, podman load, ctr images import and skopeo copy oci-archive: read as well. The lists of images are in it
as they are, to the byte, and of what they list only the platforms that were chosen. The same images make the same bundle.

A command that is run again goes on where it was interrupted: site.tar.part becomes site.tar when all of it is written.
Beside it is site.tar.receipt, which says what is in it: keep it for the next --since.
Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage or configuration.";

/// Where none is chosen, an export takes another default than a pull.
const PLATFORMS: &str = "For this platform, such as linux/arm64; may be repeated \
                         [default: platforms.keep, else what is kept whole]";

/// Write images into a bundle for a site without an uplink
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_arg("platforms", |platforms| platforms.help(PLATFORMS)))]
pub(super) struct Export {
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    images: ImageArgs,
    /// The bundle to write, compressed if it ends in .zst; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Leave out what the site has: an earlier bundle, its receipt, or what `wharf ls --digests` prints there
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Split the bundle into files of at most this size, such as 4GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volume_size: Option<u64>,
    /// Sign what is in it with this secret key, made by `wharf key new` or `minisign -G`
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// The file with the secret key's password in its first line [default: asked for]
    #[arg(long, value_name = "FILE", requires = "sign")]
    password_file: Option<PathBuf>,
    /// Replace a bundle that is there and is another
    #[arg(long)]
    force: bool,
    /// Print what was exported as a JSON object
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.cache.load()?;
        let place = Place::of(&self.output, self.volume_size, self.force)?;
        let wanted = self.images.read()?;
        let have = self.since.as_deref().map(since::read).transpose()?.unwrap_or_default();
        let key = self.sign.as_deref().map(|path| key::secret(path, self.password_file.as_deref()));
        let key = key.transpose()?;
        with_cache(config, async |client| {
            let Resolved { images, unknown } = wanted.resolve(client).await;
            if let Some((pattern, why)) = unknown.first() {
                return Err(Failure::Failed(format!("{pattern}: {why}")));
            }
            let mut events =
                client.export(&images, &self.images.platforms).await.map_err(failed)?;
            let mut told = Told::default();
            let mut progress = Progress::on_stderr(self.json);
            // From here on, what was told of is kept from eviction until the events are dropped.
            while let Some(event) = events.next().await.map_err(failed)? {
                if told.take(event, &mut progress)? {
                    break;
                }
            }
            for (name, why) in &told.unfetched {
                complain(&format!(
                    "warning: {name} is exported as it is kept, which may be old: {why}"
                ));
            }
            let nonsense = |error| Failure::Failed(format!("this cannot be a bundle: {error}"));
            let mut bundle = Bundle::new(told.images, &have).map_err(nonsense)?;
            if let Some(key) = &key {
                place.sign(&mut bundle, key)?;
            }
            let mut summary = Summary::of(&bundle, told.left, &place, key_id(key.as_ref()));
            write(client, &place, &bundle, &mut summary).await?;
            drop(events);
            summary.show(&place, self.json);
            Ok(())
        })
    }
}

/// What the cache tells of an export.
#[derive(Default)]
struct Told {
    images: Vec<Wanted>,
    left: Left,
    /// What could not be fetched, and why. Of what was told of nevertheless, all that is needed was here.
    unfetched: Vec<(String, String)>,
}

impl Told {
    /// Takes the next event; whether it was the last.
    fn take(&mut self, event: ExportEvent, progress: &mut Progress) -> Result<bool, Failure> {
        match event {
            ExportEvent::Fetch { step } => {
                progress.tell(&step);
                if let PullEvent::Failed { name, why } = step {
                    self.unfetched.push((name, why));
                }
            }
            ExportEvent::Image { image, attached, docker } => {
                let docker = docker.map(|DockerImage { config, layers }| (config, layers));
                self.images.push(Wanted { image, attached, docker, blobs: Vec::new() });
            }
            ExportEvent::Blob { digest, size, document } => {
                let image = self.images.last_mut();
                image.into_iter().for_each(|image| {
                    image.blobs.push((Blob { digest, size }, document));
                });
            }
            ExportEvent::Left { platforms, bytes, known } => {
                self.left.add(platforms, bytes, known);
            }
            ExportEvent::Ready => return Ok(true),
            ExportEvent::Failed { why } => return Err(Failure::Failed(why)),
        }
        Ok(false)
    }
}

/// The number of the key that signs.
fn key_id(key: Option<&SecretKey>) -> Option<String> {
    key.and_then(|key| key.public().ok()).map(|public| public.id())
}

/// Writes all files of a bundle.
async fn write(
    client: &Client,
    place: &Place,
    bundle: &Bundle,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let Some(size) = place.volume_size() else {
        let archive = bundle.archive();
        let mut reading = Reading::begin(client, archive.size());
        let path = place.whole();
        summary.add(archive.size(), pour(&mut reading, &archive, place.target(path)?).await?);
        return place.receipt(bundle.document());
    };
    let shares = bundle.shares(size).map_err(|error| Failure::Usage(error.to_string()))?;
    let mut reading = Reading::begin(client, bundle.archive().size());
    reading.look_at_parts(&shares).await?;
    for (number, share) in (1_u32..).zip(&shares) {
        let sums = reading.sums(share);
        let archive = bundle.volume(&shares, number, &sums);
        let archive = archive.map_err(|error| Failure::Failed(error.to_string()))?;
        let target = place.target(&place.volume(number))?;
        summary.add(archive.size(), pour(&mut reading, &archive, target).await?);
    }
    place.receipt(bundle.document())
}

/// Writes one file: how many bytes of it were there already.
async fn pour(
    reading: &mut Reading<'_>,
    archive: &Archive,
    target: Target,
) -> Result<u64, Failure> {
    let sink = Sink::start(target)?;
    let poured = reading.pour(archive, &sink).await;
    match poured {
        Ok(()) => sink.finish().await,
        // The end is not written, and the file not named: it is not whole.
        Err(Some(why)) => Err(why),
        // What the sink says is why it takes no more.
        Err(None) => Err(sink.give_up().await),
    }
}
