//! Limits that cannot be met.

use super::CacheStatus;

impl CacheStatus {
    /// Why the limits cannot be met, in a sentence; `None` while they are. After an eviction that is what no eviction
    /// changes: what is pinned or being downloaded, or what others put on the file system.
    pub fn shortage(&self) -> Option<String> {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        let Self { bytes, limit, free, min_free, .. } = *self;
        if bytes > limit {
            return Some(format!(
                "{} MiB are kept, and [cache] max_size is {} MiB: what is pinned or being downloaded does not go",
                mib(bytes),
                mib(limit)
            ));
        }
        let free = free.filter(|free| *free < min_free)?;
        Some(format!(
            "the file system has {} MiB free, and [cache] min_free is {} MiB: what else lies there must make room",
            free / (1024 * 1024),
            mib(min_free)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_be_met_are_named() {
        let mib = 1 << 20;
        let met = CacheStatus {
            bytes: 100 * mib,
            limit: 100 * mib,
            free: Some(10 * mib),
            min_free: 10 * mib,
            ..CacheStatus::default()
        };
        assert_eq!(met.shortage(), None);
        assert_eq!(CacheStatus { free: None, ..met }.shortage(), None, "it is not known");
        for (short, says) in [
            (
                CacheStatus { bytes: 100 * mib + 1, ..met.clone() },
                "101 MiB are kept, and [cache] max_size",
            ),
            (
                CacheStatus { free: Some(10 * mib - 1), ..met },
                "has 9 MiB free, and [cache] min_free is 10",
            ),
        ] {
            let said = short.shortage().expect("short");
            assert!(said.contains(says), "{said}");
        }
    }
}
