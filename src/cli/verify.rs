//! `wharf verify`: whether what is kept is what it was.

mod progress;

use std::collections::HashMap;

use clap::Args;

use self::progress::Progress;
use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    failed,
};
use crate::{
    admin::{self, Client, VerifyEvent},
    config::parse_rate,
    oci::Digest,
};

const EXAMPLES: &str = "\
Examples:
  wharf verify
  wharf verify --repair                   fetch again what is damaged or missing
  wharf verify --rate 20MiB/s             leave the disk to others
  wharf verify --json | jq 'select(.event == \"bad\")'

Every byte that is kept is read and compared with its digest, and every image is looked at, whether all of it is here for
each platform that is kept of it. What is damaged is put aside at once: it is never served, and is fetched again when a
device asks for it. A running wharf does all this by itself, slowly ([cache] scrub).
Exit codes: 0 all is right, or is again; 1 something is damaged or lost, or interrupted; 2 wrong usage or configuration.";

/// Check that everything kept is what it was
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Verify {
    #[command(flatten)]
    cache: CacheArgs,
    /// Fetch again what is damaged or missing
    #[arg(long)]
    repair: bool,
    /// Read at most this much per second, such as 20MiB/s [default: as fast as the disk gives it]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<u64>,
    /// Print each step as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { cache, repair, rate, json } = self;
        with_cache(cache.load_existing()?, async |client| {
            let how = admin::Verify { repair, rate };
            follow(client, how, &mut Progress::choose(json)).await
        })
    }
}

async fn follow(
    client: &Client,
    how: admin::Verify,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut found = Found::default();
    let mut events = client.verify(how).await.map_err(failed)?;
    while let Some(event) = events.next().await.map_err(failed)? {
        progress.tell(&event);
        found.take(&event);
        if let VerifyEvent::Failed { why } = event {
            return Err(Failure::Failed(why));
        }
    }
    found.verdict(how.repair).map_or(Ok(()), |sentence| Err(Failure::Failed(sentence)))
}

/// What is wrong and still is.
#[derive(Default)]
struct Found {
    /// Blobs, and whether each was put aside.
    damaged: HashMap<Digest, bool>,
    lost: u64,
}

impl Found {
    fn take(&mut self, event: &VerifyEvent) {
        match event {
            // What no image needs is put aside, and that is all there is to do.
            VerifyEvent::Bad { images, aside: true, .. } if images.is_empty() => {}
            VerifyEvent::Bad { digest, aside, .. } => {
                self.damaged.insert(*digest, *aside);
            }
            VerifyEvent::Repaired { digest, .. } => {
                self.damaged.remove(digest);
            }
            VerifyEvent::Done { lost, .. } => self.lost = *lost,
            VerifyEvent::Progress { .. }
            | VerifyEvent::Unrepaired { .. }
            | VerifyEvent::Incomplete { .. }
            | VerifyEvent::Failed { .. } => {}
        }
    }

    /// What there is to say of it; `None`: nothing.
    fn verdict(&self, repair: bool) -> Option<String> {
        let damaged = self.damaged.len() as u64;
        let what = match (damaged, self.lost) {
            (0, 0) => return None,
            (0, 1) => "1 platform of an image is not whole any more".to_owned(),
            (0, lost) => format!("{lost} platforms of images are not whole any more"),
            (damaged, _) => format!(
                "{} damaged, and {}",
                match damaged {
                    1 => "1 blob is".to_owned(),
                    many => format!("{many} blobs are"),
                },
                match self.damaged.values().all(|aside| *aside) {
                    true => "put aside",
                    false => "not all of it could be put aside",
                }
            ),
        };
        let how = if repair {
            "what is missing is fetched again when a device asks for it"
        } else {
            "`wharf verify --repair` fetches it again"
        };
        Some(format!("{what}: {how}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_wrong_is_a_failure() {
        let digest = |text: &[u8]| Digest::sha256(text);
        let bad = |text| VerifyEvent::Bad {
            digest: digest(text),
            size: 1,
            why: "other bytes".into(),
            images: vec!["docker.io/library/alpine:3".into()],
            aside: true,
        };
        let done = |lost| VerifyEvent::Done { blobs: 2, bytes: 2, bad: 2, repaired: 1, lost };
        let mut found = Found::default();
        assert_eq!(found.verdict(false), None);
        found.take(&bad(b"a"));
        found.take(&bad(b"b"));
        let said = found.verdict(false).expect("damaged");
        assert_eq!(
            said,
            "2 blobs are damaged, and put aside: `wharf verify --repair` fetches it again"
        );
        found.take(&VerifyEvent::Repaired { digest: digest(b"a"), size: 1 });
        found.take(&VerifyEvent::Unrepaired { digest: digest(b"b"), why: "no route".into() });
        let said = found.verdict(true).expect("damaged");
        assert!(said.starts_with("1 blob is damaged, and put aside: what is missing"), "{said}");
        found.take(&VerifyEvent::Repaired { digest: digest(b"b"), size: 1 });
        let loose = VerifyEvent::Bad {
            digest: digest(b"c"),
            size: 1,
            why: "other bytes".into(),
            images: Vec::new(),
            aside: true,
        };
        found.take(&loose);
        found.take(&done(0));
        assert_eq!(
            found.verdict(true),
            None,
            "all is right again, and what no image needs is aside"
        );
        found.take(&done(2));
        let said = found.verdict(false).expect("lost");
        assert!(
            said.starts_with("2 platforms of images are not whole any more: `wharf verify"),
            "{said}"
        );
    }
}
