//! What `wharf verify` shows while it goes on: a bar on a terminal, else lines, or JSON.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar};

use crate::{
    admin::VerifyEvent,
    cli::{bar::bar, say, say_json, words},
};

/// How the steps are shown. What was found goes to standard output, the bar to standard error.
pub(super) enum Progress {
    Json,
    Lines,
    Bar { shown: MultiProgress, bar: Option<ProgressBar> },
}

impl Progress {
    pub(super) fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stderr().is_terminal() {
            Self::Bar { shown: MultiProgress::new(), bar: None }
        } else {
            Self::Lines
        }
    }

    pub(super) fn tell(&mut self, event: &VerifyEvent) {
        match self {
            Self::Json => say_json(event),
            Self::Lines => {
                line(event).inspect(|line| say(line));
            }
            Self::Bar { shown, bar } => {
                draw(shown, bar, event);
                line(event).inspect(|line| shown.suspend(|| say(line)));
            }
        }
    }
}

/// The bar goes when all is read: what follows has no measure.
fn draw(shown: &MultiProgress, drawn: &mut Option<ProgressBar>, event: &VerifyEvent) {
    match event {
        VerifyEvent::Progress { bytes, of_bytes, .. } if bytes < of_bytes => {
            let begin = || {
                let bar = bar(*of_bytes, "checked".to_owned());
                shown.add(bar)
            };
            let bar = drawn.get_or_insert_with(begin);
            // What is pulled meanwhile is checked as well.
            bar.set_length(*of_bytes);
            bar.set_position(*bytes);
        }
        VerifyEvent::Bad { .. }
        | VerifyEvent::Repaired { .. }
        | VerifyEvent::Unrepaired { .. }
        | VerifyEvent::Incomplete { .. } => {}
        VerifyEvent::Progress { .. } | VerifyEvent::Done { .. } | VerifyEvent::Failed { .. } => {
            if let Some(bar) = drawn.take() {
                bar.finish_and_clear();
                shown.remove(&bar);
            }
        }
    }
}

/// What stays on the screen of an event.
fn line(event: &VerifyEvent) -> Option<String> {
    match event {
        VerifyEvent::Bad { digest, size, why, images, aside } => {
            let mut line = format!("damaged: {digest}, {}: {why}", words::size(*size));
            match images.is_empty() {
                true => line.push_str("; no image needs it"),
                false => line.push_str(&format!("; of {}", images.join(", "))),
            }
            if !aside {
                line.push_str("; it stays where it is");
            }
            Some(line)
        }
        VerifyEvent::Repaired { digest, size } => {
            Some(format!("repaired: {digest}, {}", words::size(*size)))
        }
        VerifyEvent::Unrepaired { digest, why } => Some(format!("not repaired: {digest}: {why}")),
        VerifyEvent::Incomplete { name, platform, missing, missing_bytes, lost, .. } => {
            let platform = platform.as_ref().map(|platform| format!(" for {platform}"));
            let kind = if *lost { "lost" } else { "partial" };
            Some(format!(
                "{kind}: {name}{}: {} missing, {}",
                platform.unwrap_or_default(),
                match missing {
                    1 => "1 blob is".to_owned(),
                    many => format!("{many} blobs are"),
                },
                words::size(*missing_bytes)
            ))
        }
        VerifyEvent::Done { blobs, bytes, bad, repaired, lost } => {
            let (blobs, bytes) = (words::count(*blobs, "blob"), words::size(*bytes));
            let found = match (bad, repaired, lost) {
                (0, 0, 0) => "nothing is damaged".to_owned(),
                (bad, 0, _) => format!("{bad} damaged"),
                (bad, repaired, _) => format!("{bad} damaged, {repaired} repaired"),
            };
            Some(format!("{blobs} checked, {bytes}: {found}"))
        }
        VerifyEvent::Progress { .. } | VerifyEvent::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn what_stays_is_what_was_found() {
        let digest = Digest::sha256(b"");
        let platform = || "linux/arm64".parse().ok();
        let name = || "docker.io/library/alpine:3".to_owned();
        for (event, says) in [
            (VerifyEvent::Progress { blobs: 1, of_blobs: 2, bytes: 1, of_bytes: 2 }, None),
            (
                VerifyEvent::Bad {
                    digest,
                    size: 3 << 20,
                    why: "other bytes".into(),
                    images: vec![name(), "ghcr.io/a/b:1".into()],
                    aside: true,
                },
                Some(format!(
                    "damaged: {digest}, 3.00 MiB: other bytes; of {}, ghcr.io/a/b:1",
                    name()
                )),
            ),
            (
                VerifyEvent::Bad {
                    digest,
                    size: 1,
                    why: "other bytes".into(),
                    images: Vec::new(),
                    aside: false,
                },
                Some(format!(
                    "damaged: {digest}, 1 B: other bytes; no image needs it; it stays where it is"
                )),
            ),
            (VerifyEvent::Repaired { digest, size: 1 }, Some(format!("repaired: {digest}, 1 B"))),
            (
                VerifyEvent::Unrepaired { digest, why: "no route".into() },
                Some(format!("not repaired: {digest}: no route")),
            ),
            (
                VerifyEvent::Incomplete {
                    name: name(),
                    platform: platform(),
                    digest,
                    missing: 2,
                    missing_bytes: 1 << 10,
                    lost: true,
                },
                Some(format!("lost: {} for linux/arm64: 2 blobs are missing, 1.00 KiB", name())),
            ),
            (
                VerifyEvent::Incomplete {
                    name: name(),
                    platform: None,
                    digest,
                    missing: 1,
                    missing_bytes: 5,
                    lost: false,
                },
                Some(format!("partial: {}: 1 blob is missing, 5 B", name())),
            ),
            (
                VerifyEvent::Done { blobs: 148, bytes: 3 << 20, bad: 0, repaired: 0, lost: 0 },
                Some("148 blobs checked, 3.00 MiB: nothing is damaged".to_owned()),
            ),
            (
                VerifyEvent::Done { blobs: 1, bytes: 3, bad: 1, repaired: 1, lost: 0 },
                Some("1 blob checked, 3 B: 1 damaged, 1 repaired".to_owned()),
            ),
        ] {
            assert_eq!(line(&event), says, "{event:?}");
        }
    }
}
