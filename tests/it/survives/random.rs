//! Chance that can be repeated.

/// Numbers that are the same for the same seed (splitmix64).
pub(super) struct Random(u64);

impl Random {
    /// From `WHARF_SEED`, or another in each run; the seed is printed.
    #[expect(clippy::print_stderr, reason = "a failure is to be repeated")]
    pub(super) fn seeded() -> Self {
        let given = std::env::var("WHARF_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = given.unwrap_or_else(|| now().map_or(1, |now| u64::from(now.subsec_nanos())));
        eprintln!("WHARF_SEED={seed}");
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of the numbers below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
