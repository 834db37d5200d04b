//! What `wharf pull` shows while it goes on: bars on a terminal, else lines, or JSON.

use std::{
    collections::HashMap,
    io::{self, IsTerminal},
};

use indicatif::{MultiProgress, ProgressBar};

use crate::{
    admin::PullEvent,
    cli::{bar::bar, note, say, say_json, words},
    oci::Digest,
};

/// How the steps of pulls are shown. Results go to standard output, bars to standard error; why a pull failed is said
/// by who asked for it.
pub(in crate::cli) enum Progress {
    /// Each step as a line of JSON.
    Json,
    /// The beginning and the end of each pull.
    Lines,
    /// The same, and how far each blob is in between.
    Bars(Bars),
    /// What comes before a result: bars if there is a terminal for them, lines if they are wanted, all to standard error.
    Aside { bars: Option<Bars>, lines: bool },
}

impl Progress {
    pub(in crate::cli) fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stderr().is_terminal() {
            Self::Bars(Bars::on(MultiProgress::new()))
        } else {
            Self::Lines
        }
    }

    /// For what is not the result; nothing but bars is shown if that is JSON.
    pub(in crate::cli) fn on_stderr(json: bool) -> Self {
        let bars = io::stderr().is_terminal().then(|| Bars::on(MultiProgress::new()));
        Self::Aside { bars, lines: !json }
    }

    pub(in crate::cli) fn tell(&mut self, event: &PullEvent) {
        match self {
            Self::Json => say_json(event),
            Self::Lines => {
                line(event).inspect(|line| say(line));
            }
            Self::Bars(bars) => {
                bars.take(event);
                line(event).inspect(|line| bars.shown.suspend(|| say(line)));
            }
            Self::Aside { bars, lines } => {
                let line = line(event).filter(|_| *lines);
                match bars {
                    Some(bars) => {
                        bars.take(event);
                        line.inspect(|line| bars.shown.suspend(|| note(line)));
                    }
                    None => {
                        line.inspect(|line| note(line));
                    }
                }
            }
        }
    }
}

/// The bars of one pull: one for each blob that is being fetched, and one for all blobs together.
pub(in crate::cli) struct Bars {
    shown: MultiProgress,
    all: ProgressBar,
    blobs: HashMap<Digest, Blob>,
}

struct Blob {
    here: u64,
    /// `None` while nothing of it is here, and once all of it is.
    bar: Option<ProgressBar>,
}

impl Bars {
    fn on(shown: MultiProgress) -> Self {
        Self { shown, all: ProgressBar::hidden(), blobs: HashMap::new() }
    }

    fn take(&mut self, event: &PullEvent) {
        match event {
            PullEvent::Resolved { .. } => {
                self.clear();
                self.all = self.shown.add(bar(0, "total".to_owned()));
            }
            PullEvent::Blob { digest, size, here, .. } => self.blob(*digest, *size, *here),
            PullEvent::Done { .. } | PullEvent::Failed { .. } => self.clear(),
        }
    }

    fn blob(&mut self, digest: Digest, size: u64, here: u64) {
        let (shown, all) = (&self.shown, &self.all);
        let mut first = false;
        let blob = self.blobs.entry(digest).or_insert_with(|| {
            first = true;
            all.inc_length(size);
            Blob { here: 0, bar: None }
        });
        // A download that begins anew, because its bytes were wrong, goes back.
        all.set_position((all.position() + here).saturating_sub(blob.here));
        blob.here = here;
        if first {
            // What is here already did not come now: it is no speed.
            all.reset_eta();
        }
        if here > 0 && here < size {
            let begin = || {
                let bar = bar(size, short(&digest));
                bar.set_position(here);
                bar.reset_eta();
                shown.insert_before(all, bar)
            };
            blob.bar.get_or_insert_with(begin).set_position(here);
        } else if let Some(bar) = blob.bar.take() {
            bar.finish_and_clear();
            shown.remove(&bar);
        }
    }

    fn clear(&mut self) {
        for bar in self.blobs.drain().filter_map(|(_, blob)| blob.bar).chain([self.all.clone()]) {
            bar.finish_and_clear();
            self.shown.remove(&bar);
        }
    }
}

/// The first twelve digits, as `docker pull` shows them.
fn short(digest: &Digest) -> String {
    digest.encoded().chars().take(12).collect()
}

/// What stays on the screen of an event.
fn line(event: &PullEvent) -> Option<String> {
    match event {
        PullEvent::Resolved { name, digest, platforms, stale } => {
            let mut line = format!("{name}: {digest}");
            if !platforms.is_empty() {
                line.push_str(&format!(" for {}", words::platforms(platforms)));
            }
            if *stale {
                line.push_str(", as it was: its registry does not answer");
            }
            Some(line)
        }
        PullEvent::Done { name, size, fetched: 0, .. } => {
            Some(format!("{name}: done, {}, all of it was here already", words::size(*size)))
        }
        PullEvent::Done { name, size, fetched, .. } => {
            let (size, fetched) = (words::size(*size), words::size(*fetched));
            Some(format!("{name}: done, {size}, of which {fetched} were fetched"))
        }
        PullEvent::Blob { .. } | PullEvent::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    fn digest(hex: &str) -> Digest {
        format!("sha256:{}", hex.repeat(32)).parse().expect("a digest")
    }

    #[test]
    fn what_stays_is_what_it_resolved_to_and_what_it_cost() {
        let name = || "docker.io/library/alpine:3".to_owned();
        let platforms = vec!["linux/arm64".parse().expect("a platform")];
        let resolved =
            PullEvent::Resolved { name: name(), digest: digest("ab"), platforms, stale: false };
        let expected = format!("{}: sha256:{} for linux/arm64", name(), "ab".repeat(32));
        assert_eq!(line(&resolved), Some(expected));
        let done =
            PullEvent::Done { name: name(), digest: digest("ab"), size: 3 << 20, fetched: 1 << 20 };
        let expected = format!("{}: done, 3.00 MiB, of which 1.00 MiB were fetched", name());
        assert_eq!(line(&done), Some(expected));
        let kept =
            PullEvent::Done { name: name(), digest: digest("ab"), size: 3 << 20, fetched: 0 };
        let expected = format!("{}: done, 3.00 MiB, all of it was here already", name());
        assert_eq!(line(&kept), Some(expected));
    }

    #[test]
    fn bars_come_and_go_with_their_blobs_and_add_up() {
        let hidden = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut bars = Bars::on(hidden);
        let blob = |hex, here| PullEvent::Blob {
            digest: digest(hex),
            size: 100,
            platform: None,
            here,
            hit: here == 100,
        };
        bars.take(&PullEvent::Resolved {
            name: "x".into(),
            digest: digest("00"),
            platforms: Vec::new(),
            stale: false,
        });
        for (event, position, length, open) in [
            (blob("aa", 100), 100, 100, 0),
            (blob("bb", 0), 100, 200, 0),
            (blob("bb", 60), 160, 200, 1),
            (blob("cc", 10), 170, 300, 2),
            (blob("bb", 0), 110, 300, 1),
            (blob("bb", 100), 210, 300, 1),
            (blob("bb", 100), 210, 300, 1),
            (blob("cc", 100), 300, 300, 0),
        ] {
            bars.take(&event);
            let count = bars.blobs.values().filter(|blob| blob.bar.is_some()).count();
            assert_eq!(
                (bars.all.position(), bars.all.length(), count),
                (position, Some(length), open),
                "{event:?}"
            );
        }
        bars.take(&PullEvent::Failed { name: "x".into(), why: "y".into() });
        assert!(bars.blobs.is_empty() && bars.all.is_finished());
    }
}
