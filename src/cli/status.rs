//! `wharf status`: how this wharf is, on one screen.

use clap::Args;
use serde::Serialize;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    failed, say, say_json, words,
};
use crate::{
    admin::{self, CacheStatus, ScrubStatus, UpstreamStatus, VolumeSet},
    bundle::listed_numbers,
};

const EXAMPLES: &str = "\
Examples:
  wharf status
  wharf status --json | jq .cache.bytes

While wharf is stopped, it says what is on the disk; what registries answered is not known then.
Exit codes: 0 done, 1 there is no cache, 2 wrong usage or configuration.";

/// Digits by which a bundle that waits for volumes is called.
const SET_DIGITS: usize = 12;

/// Say how this wharf is
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    cache: CacheArgs,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The stable form.
#[derive(Serialize)]
struct Told {
    /// Whether a daemon has the cache open.
    running: bool,
    #[serde(flatten)]
    status: admin::Status,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        with_cache(self.cache.load_existing()?, async |client| {
            let status = client.status().await.map_err(failed)?;
            let told = Told { running: client.asks_a_daemon(), status };
            if self.json {
                say_json(&told);
            } else {
                say(&text(&told, words::now()));
            }
            Ok(())
        })
    }
}

fn text(told: &Told, now: u64) -> String {
    let admin::Status { version, mode, degraded, cache, scrub, volume_sets, upstreams, downloads } =
        &told.status;
    let state = match (told.running, degraded) {
        (_, Some(why)) => format!("degraded, nothing new is kept: {why}"),
        (true, None) => "running".to_owned(),
        (false, None) => "stopped".to_owned(),
    };
    let mut rows = vec![["Version:".to_owned(), version.clone()], ["State:".to_owned(), state]];
    let mut row = |label: &str, said: String| rows.push([label.to_owned(), said]);
    let is_offline = mode == "offline";
    row("Mode:", if is_offline { format!("{mode}: no registry is asked") } else { mode.clone() });
    if let Some(why) = cache.shortage() {
        row("Warning:", why);
    }
    row("Cache:", kept(cache));
    row("Disk:", disk(cache));
    if cache.quarantined > 0 {
        let size = words::size(cache.quarantined);
        row("Put aside:", format!("{size} that the disk has damaged; never served"));
    }
    row(
        "Scrub:",
        scrub.as_ref().map_or_else(|| "off".to_owned(), |scrub| scrubbed(scrub, cache, now)),
    );
    let parts = volume_sets.iter().map(|set| set.parts).fold(0, u64::saturating_add);
    row("Downloads:", under_way(*downloads, cache.partial.saturating_sub(parts), cache));
    for (number, set) in volume_sets.iter().enumerate() {
        row(if number == 0 { "Volumes:" } else { "" }, waiting(set, now));
    }
    let widest = upstreams.iter().map(|upstream| upstream.registry.len()).max().unwrap_or(0);
    for (number, upstream) in upstreams.iter().enumerate() {
        let label = if number == 0 { "Registries:" } else { "" };
        row(label, registry(upstream, is_offline, widest, now));
    }
    words::table(&rows)
}

fn kept(cache: &CacheStatus) -> String {
    let CacheStatus { bytes, blobs, images, limit, .. } = cache;
    let share = match limit {
        0 => String::new(),
        limit => format!(" ({} %)", percent(*bytes, *limit)),
    };
    format!(
        "{} of {}{share}, {} in {}",
        words::size(*bytes),
        words::size(*limit),
        words::count(*images, "image"),
        words::count(*blobs, "blob"),
    )
}

fn disk(cache: &CacheStatus) -> String {
    let free = cache.free.map_or_else(|| "unknown how much is".to_owned(), words::size);
    match cache.min_free {
        0 => format!("{free} free"),
        min => format!("{free} free, of which {} stay free", words::size(min)),
    }
}

fn scrubbed(scrub: &ScrubStatus, cache: &CacheStatus, now: u64) -> String {
    let ScrubStatus { period, since, blobs, bad, finished, .. } = scrub;
    let round = match cache.blobs {
        0 => "nothing to read".to_owned(),
        _ if *since == 0 => format!("not begun, all within {}", words::age(0, *period)),
        all => format!(
            "{} % read since {} ago, all within {}",
            percent(*blobs, all),
            words::age(*since, now),
            words::age(0, *period)
        ),
    };
    let bad = if *bad > 0 { format!(", {bad} found damaged") } else { String::new() };
    let last = finished.map(|at| format!("; the last round ended {} ago", words::age(at, now)));
    format!("{round}{bad}{}", last.unwrap_or_default())
}

/// A bundle that waits for volumes, and how to give it up.
fn waiting(set: &VolumeSet, now: u64) -> String {
    let VolumeSet { set, images, more_images, of, here, missing, bytes, size, touched, .. } = set;
    let more = match more_images {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let awaited = match (of - here.min(of), missing.as_slice()) {
        (0, _) => "bring any of them once more".to_owned(),
        (all, told) if all as usize > told.len() => format!("{all} are awaited"),
        (_, told) => format!("{} awaited", listed_numbers(told)),
    };
    let name: String = set.encoded().chars().take(SET_DIGITS).collect();
    format!(
        "{name}  {}{more}: {here} of {of} here, {awaited}; {} of {}, the last {} ago; wharf import --drop {name} gives it up",
        images.join(", "),
        words::size(*bytes),
        words::size(*size),
        words::age(*touched, now),
    )
}

fn under_way(downloads: u64, partial: u64, cache: &CacheStatus) -> String {
    let mut said = match downloads {
        0 => "none".to_owned(),
        some => some.to_string(),
    };
    if partial > 0 {
        said.push_str(&format!(", {} unfinished on the disk", words::size(partial)));
    }
    if cache.reserved > 0 {
        said.push_str(&format!(", {} reserved for them", words::size(cache.reserved)));
    }
    said
}

/// The name in as many columns as the widest one takes.
fn registry(upstream: &UpstreamStatus, is_offline: bool, widest: usize, now: u64) -> String {
    let UpstreamStatus { registry, up, since, pulls_left, accounts } = upstream;
    let since = since.map(|since| format!(" for {}", words::age(since, now))).unwrap_or_default();
    let answers = match up {
        _ if is_offline => "not asked".to_owned(),
        None => "not asked yet".to_owned(),
        Some(true) => format!("up{since}"),
        Some(false) => format!("down{since}"),
    };
    let left = pulls_left.map(|left| format!(", {} left", words::count(left, "pull")));
    let each: Vec<_> = accounts
        .iter()
        .filter(|_| accounts.len() > 1)
        .filter_map(|account| Some(format!("{} {}", account.name, account.pulls_left?)))
        .collect();
    let each = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
    let refused: Vec<_> =
        accounts.iter().filter(|account| account.refused).map(|account| &*account.name).collect();
    let refused = match (&*refused, accounts.len()) {
        ([], _) => String::new(),
        (_, 1) => ", REFUSES wharf's account".to_owned(),
        _ => format!(", REFUSES the account {}", refused.join(", ")),
    };
    format!("{registry:widest$}  {answers}{}{each}{refused}", left.unwrap_or_default())
}

/// At most 100, and only if it is all.
fn percent(part: u64, whole: u64) -> u64 {
    let hundredths = u128::from(part.min(whole)) * 100 / u128::from(whole.max(1));
    u64::try_from(hundredths).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AccountStatus;

    fn told() -> Told {
        let registry = |name: &str, up, since, pulls_left| UpstreamStatus {
            registry: name.into(),
            up,
            since,
            pulls_left,
            accounts: Vec::new(),
        };
        let cache = CacheStatus {
            bytes: 5 << 30,
            blobs: 148,
            images: 12,
            partial: 3 << 20,
            quarantined: 1 << 20,
            reserved: 2 << 20,
            limit: 32 << 30,
            free: Some(40 << 30),
            min_free: 1 << 30,
        };
        let scrub = ScrubStatus {
            period: 30 * 86_400,
            since: 97 * 86_400,
            bytes: 1 << 30,
            blobs: 37,
            bad: 1,
            finished: Some(97 * 86_400),
        };
        let status = admin::Status {
            version: "1.2.3".into(),
            mode: "auto".into(),
            degraded: None,
            cache,
            scrub: Some(scrub),
            volume_sets: Vec::new(),
            upstreams: vec![
                registry("docker.io", Some(true), Some(97 * 86_400), Some(98)),
                registry("ghcr.io", Some(false), Some(100 * 86_400 - 300), None),
                registry("quay.io", None, None, None),
            ],
            downloads: 2,
        };
        Told { running: true, status }
    }

    #[test]
    fn everything_is_on_one_screen() {
        assert_eq!(
            text(&told(), 100 * 86_400),
            "\
Version:     1.2.3
State:       running
Mode:        auto
Cache:       5.00 GiB of 32.00 GiB (15 %), 12 images in 148 blobs
Disk:        40.00 GiB free, of which 1.00 GiB stay free
Put aside:   1.00 MiB that the disk has damaged; never served
Scrub:       25 % read since 3 days ago, all within 4 weeks, 1 found damaged; the last round ended 3 days ago
Downloads:   2, 3.00 MiB unfinished on the disk, 2.00 MiB reserved for them
Registries:  docker.io  up for 3 days, 98 pulls left
             ghcr.io    down for 5 minutes
             quay.io    not asked yet"
        );
    }

    #[test]
    fn each_of_several_accounts_is_told_of() {
        let account = |name: &str, pulls_left| AccountStatus {
            name: name.into(),
            pulls_left,
            refused: false,
        };
        let mut told = told();
        told.status.upstreams[0].accounts = vec![account("first", Some(90))];
        assert!(text(&told, 100 * 86_400).contains("98 pulls left\n"));
        told.status.upstreams[0].accounts.extend([account("paid", None), account("last", Some(8))]);
        assert!(text(&told, 100 * 86_400).contains("98 pulls left (first 90, last 8)\n"));
        let accounts = &mut told.status.upstreams[0].accounts;
        (accounts[1].refused, accounts[2].refused) = (true, true);
        let said = text(&told, 100 * 86_400);
        assert!(said.contains("(first 90, last 8), REFUSES the account paid, last\n"), "{said}");
        told.status.upstreams[0].accounts.truncate(1);
        told.status.upstreams[0].accounts[0].refused = true;
        assert!(text(&told, 100 * 86_400).contains("98 pulls left, REFUSES wharf's account\n"));
    }

    #[test]
    fn bundles_that_wait_for_volumes_are_told_of() {
        let set = |images: &[&str], more_images, missing: &[u32]| VolumeSet {
            set: crate::oci::Digest::sha256(b""),
            images: images.iter().map(|name| (*name).to_owned()).collect(),
            more_images,
            of: 5,
            here: 5 - missing.len() as u32,
            missing: missing.into(),
            bytes: 4 << 20,
            parts: 1 << 20,
            size: 9 << 20,
            touched: 99 * 86_400,
        };
        let mut told = told();
        told.status.volume_sets =
            vec![set(&["a:1", "b:2", "c:3"], 4, &[2, 5]), set(&["a:1"], 0, &[])];
        let said = text(&told, 100 * 86_400);
        for line in [
            "Downloads:   2, 1.00 MiB unfinished on the disk, 2.00 MiB reserved for them",
            "Volumes:     e3b0c44298fc  a:1, b:2, c:3 and 4 more: 3 of 5 here, 2 and 5 awaited; 4.00 MiB of 9.00 MiB, the last 24 hours ago; wharf import --drop e3b0c44298fc gives it up",
            "             e3b0c44298fc  a:1: 5 of 5 here, bring any of them once more; 4.00 MiB of 9.00 MiB, the last 24 hours ago; wharf import --drop e3b0c44298fc gives it up",
        ] {
            assert!(said.lines().any(|said| said == line), "{line}\n{said}");
        }
    }

    #[test]
    fn a_round_of_the_scrub_that_has_not_begun_has_no_age() {
        let mut told = told();
        told.status.scrub.as_mut().expect("it is on").since = 0;
        let said = text(&told, 100 * 86_400);
        assert!(said.contains("\nScrub:       not begun, all within 4 weeks"), "{said}");
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let mut told = told();
        told.status.degraded = Some("No space left on device (os error 28)".into());
        told.status.cache.free = Some(1 << 20);
        told.status.scrub = None;
        let said = text(&told, 100 * 86_400);
        let lines: Vec<_> = said.lines().collect();
        let degraded =
            "State:       degraded, nothing new is kept: No space left on device (os error 28)";
        assert_eq!(lines[1], degraded);
        assert!(lines[3].starts_with("Warning:     the file system has 1 MiB free"), "{said}");
        assert!(said.contains("\nScrub:       off\n"), "{said}");
        let empty = admin::Status {
            mode: "offline".into(),
            degraded: None,
            cache: CacheStatus::default(),
            volume_sets: Vec::new(),
            upstreams: Vec::new(),
            downloads: 0,
            ..told.status
        };
        let said = text(&Told { running: false, status: empty }, 0);
        assert!(said.contains("State:      stopped\n"), "{said}");
        assert!(said.contains("Mode:       offline: no registry is asked\n"), "{said}");
        assert!(said.contains("Disk:       unknown how much is free\n"), "{said}");
        assert!(said.ends_with("Downloads:  none"), "{said}");
    }

    #[test]
    fn the_stable_form_is_flat() {
        let json = serde_json::to_value(told()).expect("strings and numbers");
        assert_eq!(json["running"], true);
        assert_eq!(json["version"], "1.2.3");
        assert_eq!(json["cache"]["bytes"], 5_u64 << 30);
        assert_eq!(json["upstreams"][1]["up"], false);
    }
}
