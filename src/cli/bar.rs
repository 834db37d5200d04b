//! Progress in bytes, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shown once it is among others. Not wider than 80 columns: a line that is cut by the screen's edge, or goes on behind it, is not cleared well.
pub(super) fn bar(size: u64, name: String) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>12} [{bar:20}] {binary_bytes:>11} of {binary_total_bytes:>11}  {binary_bytes_per_sec}",
    );
    let style = style.expect("a fixed template").progress_chars("=> ");
    let hidden = ProgressDrawTarget::hidden();
    ProgressBar::with_draw_target(Some(size), hidden).with_style(style).with_prefix(name)
}
