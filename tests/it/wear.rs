//! What is written to the disk (bug class: every byte twice, or a write for every request, until the card is worn out).
//!
//! The whole measure, 1 GiB and 10,000 pulls, is taken by hand: `WHARF_WEAR=full cargo test --test it wear`.

use std::sync::Arc;

use crate::support::{FakeHub, Program, blob_path, client};

const REPO: &str = "library/busybox";
const MIB: usize = 1 << 20;

/// What a start and a few images cost whatever their size: the files of the look-up tables, above all.
const FIXED_BYTES: u64 = 3 << 20;

fn is_full() -> bool {
    std::env::var("WHARF_WEAR").is_ok_and(|much| much == "full")
}

#[expect(clippy::print_stderr, reason = "the figures are worth having when all is well, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_byte_is_written_once_and_a_warm_pull_writes_none() {
    let (layer, pulls) = if is_full() { (256 * MIB, 10_000) } else { (16 * MIB, 500) };
    let hub = FakeHub::start().await;
    // A directory in memory is written to for nothing. The log is its reader's.
    let site = Program::site_on_disk(&hub, "[log]\nlevel = \"warn\"\n");
    let wharf = Program::start_in(site).await;
    let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[layer; 4]);
    let manifest = format!("/v2/{REPO}/manifests/latest");
    let paths = Arc::new(
        std::iter::once(manifest)
            .chain(
                std::iter::once(&image.config)
                    .chain(&image.layers)
                    .map(|blob| blob_path(REPO, &blob.digest)),
            )
            .collect::<Vec<_>>(),
    );
    let fetched: u64 = image.layers.iter().map(|layer| layer.bytes.len() as u64).sum();
    let before = wharf.written_bytes();
    for path in paths.iter() {
        assert_eq!(client::get(wharf.addr, path, &[]).await.status, 200, "{path}");
    }
    wharf.until_zero("wharf_downloads_in_flight").await;
    let written = wharf.written_bytes() - before;
    let share = written as f64 / fetched as f64;
    eprintln!(
        "a cold pull of {} MiB: {written} bytes written, {share:.4} of those fetched",
        fetched >> 20
    );
    assert!(written <= fetched + fetched / 50 + FIXED_BYTES, "{written} bytes for {fetched}");

    let before = wharf.written_bytes();
    let pull = async |client: usize| {
        for _ in 0..pulls / 4 {
            // Layers are opened, and not read: what a reader takes of them is not written.
            assert_eq!(client::get(wharf.addr, &paths[0], &[]).await.status, 200);
            let path = &paths[1 + client % 5];
            assert_eq!(client::get(wharf.addr, path, &[("range", "bytes=0-99")]).await.status, 206);
        }
    };
    tokio::join!(pull(0), pull(1), pull(2), pull(3));
    let mut pulls = pulls;
    // Whoever takes the whole measure waits for the minute's write, too.
    while is_full() && wharf.written_bytes() == before && pulls < 1_000_000 {
        assert_eq!(client::get(wharf.addr, &paths[0], &[]).await.status, 200);
        pulls += 1;
    }
    let written = wharf.written_bytes() - before;
    eprintln!("{pulls} warm pulls: {written} bytes written");
    assert!(written <= MIB as u64, "{written} bytes for {pulls} warm pulls");
    wharf.end().await;
}
