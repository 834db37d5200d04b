//! How sizes, ages and tables are written for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{BinaryBytes, HumanDuration};

use crate::{admin::KeptPlatform, oci::Platform};

/// `3.24 MiB`.
pub(super) fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// `1 blob`, `2 blobs`.
pub(super) fn count(number: u64, what: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{number} {what}{many}")
}

/// `3 days`, from `then` to `now`, both in seconds since 1970.
pub(super) fn age(then: u64, now: u64) -> String {
    HumanDuration(Duration::from_secs(now.saturating_sub(then))).to_string()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `linux/arm64, linux/arm/v7`.
pub(super) fn platforms(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `linux/arm64 (partial)`.
pub(super) fn kept_platform(kept: &KeptPlatform) -> String {
    let name = kept.platform.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    if kept.whole { name } else { format!("{name} (partial)") }
}

/// Columns as wide as their widest cell, two spaces apart; no line ends in spaces. The first row is the heading.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        for (bytes, said) in
            [(0, "0 B"), (1023, "1023 B"), (3_400_000, "3.24 MiB"), (5 << 30, "5.00 GiB")]
        {
            assert_eq!(size(bytes), said);
        }
        for (then, said) in [(1000, "0 seconds"), (970, "30 seconds"), (2000, "0 seconds")] {
            assert_eq!(age(then, 1000), said);
        }
        assert_eq!(age(0, 3 * 86_400), "3 days");
    }

    #[test]
    fn a_table_lines_up_and_ends_where_its_text_ends() {
        let rows = [["IMAGE", "SIZE"], ["a-long-name", "1 B"], ["é", ""]];
        let rows = rows.map(|row| row.map(ToOwned::to_owned));
        assert_eq!(table(&rows), "IMAGE        SIZE\na-long-name  1 B\né");
    }
}
