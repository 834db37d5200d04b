//! What the benches stand on: contents, a scripted upstream on a line of a known rate, clients, wharf and other people's
//! servers as processes of their own, and the machine's word on whether anything else was running.

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod cores;
pub(crate) mod crowd;
pub(crate) mod line;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod nginx;
pub(crate) mod pinned;
pub(crate) mod process;
pub(crate) mod records;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod running;
pub(crate) mod series;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod wharf;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// A bench ends at the first thing that is not as it should be; the sentence says what.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// 2^20 bytes.
pub(crate) const MIB: u64 = 1024 * 1024;

/// This moment, on the one clock that upstream and client share.
#[expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Blocks this thread: the upstream's, which paces, or that of a bench between two measurements.
#[expect(clippy::disallowed_methods, reason = "no runtime's worker is blocked")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
