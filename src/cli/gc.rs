//! `wharf gc`: the budget is met, and what nothing refers to goes.

use clap::Args;

use super::{
    Failure,
    cache::{CacheArgs, with_cache},
    failed, say, say_json, words,
};
use crate::admin::Collected;

const EXAMPLES: &str = "\
Examples:
  wharf gc
  wharf gc --json | jq .swept_bytes

A running wharf keeps to its budget by itself; this is for a stopped one, or after [cache] max_size was lowered. It also
removes blobs that no image needs any more.
Exit codes: 0 done, 1 the budget cannot be met, 2 wrong usage or configuration.";

/// Remove what is over the budget, and what no image needs
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Gc {
    #[command(flatten)]
    cache: CacheArgs,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(super) fn run(self) -> Result<(), Failure> {
        with_cache(self.cache.load_existing()?, async |client| {
            let collected = client.collect().await.map_err(failed)?;
            if self.json {
                say_json(&collected);
            } else {
                say(&text(&collected));
            }
            if collected.bytes > collected.limit {
                let sentence = "the budget is not met: what is left is pinned or being downloaded";
                return Err(Failure::Failed(sentence.to_owned()));
            }
            Ok(())
        })
    }
}

fn text(collected: &Collected) -> String {
    let Collected { images, evicted, swept, swept_bytes, bytes, limit } = collected;
    let mut lines: Vec<_> = images.iter().map(|name| format!("{name}: evicted")).collect();
    if *swept > 0 {
        let blobs = words::count(*swept, "blob");
        let size = words::size(*swept_bytes);
        lines.push(format!("{blobs} that no image needs: removed, {size}"));
    }
    let freed = match evicted + swept_bytes {
        0 => "Nothing was to be removed".to_owned(),
        freed => format!("{} are free now", words::size(freed)),
    };
    let (bytes, limit) = (words::size(*bytes), words::size(*limit));
    lines.push(format!("{freed}; {bytes} are kept, of {limit}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_went_and_what_is_left() {
        let nothing = Collected { bytes: 3 << 20, limit: 1 << 30, ..Collected::default() };
        assert_eq!(text(&nothing), "Nothing was to be removed; 3.00 MiB are kept, of 1.00 GiB");
        let some = Collected {
            images: vec!["docker.io/library/old:1".into(), "docker.io/library/old:2".into()],
            evicted: 5 << 20,
            swept: 1,
            swept_bytes: 1 << 20,
            ..nothing
        };
        assert_eq!(
            text(&some),
            "\
docker.io/library/old:1: evicted
docker.io/library/old:2: evicted
1 blob that no image needs: removed, 1.00 MiB
6.00 MiB are free now; 3.00 MiB are kept, of 1.00 GiB"
        );
    }
}
