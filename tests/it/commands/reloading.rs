//! SIGHUP: what can change does, what cannot is named, and a file with a mistake in it changes nothing (bug class: a
//! reload that ends the daemon, or takes half of a configuration).

use super::{PLATFORMS, REPO, Site};
use crate::support::{FakeHub, client};

#[tokio::test]
async fn a_hangup_reads_the_configuration_again() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
    let site = Site::start_with(&hub, true, "[log]\nlevel = \"info\"\n").await;
    let daemon = site.daemon.as_ref().expect("it runs");

    daemon.signal("HUP");
    daemon.until_logged("the configuration was read again: nothing has changed").await;

    // What is not said at this level is not logged, until it is.
    let debug = "DEBUG";
    assert!(!daemon.log().contains(debug), "{}", daemon.log());
    site.rewrite(|text| {
        text.replace("level = \"info\"", "level = \"debug\"")
            + "[cache]\nmax_size = \"5GiB\"\nscrub = \"off\"\ntag_ttl = \"7m\"\n"
    });
    daemon.signal("HUP");
    daemon.until_logged("takes effect when wharf is restarted").await;
    let log = daemon.log();
    for said in [
        "the configuration was read again, and changed key=cache.max_size value=5GiB",
        "the configuration was read again, and changed key=cache.scrub value=off",
        "the configuration was read again, and changed key=log.level value=debug",
        "this takes effect when wharf is restarted key=cache.tag_ttl",
    ] {
        assert!(log.contains(said), "{said:?} in\n{log}");
    }
    client::get(daemon.addr, &format!("/v2/{REPO}/manifests/1"), &[]).await;
    daemon.until_logged(debug).await;

    // Two mistakes: the first is said with its line, and nothing of the file counts.
    site.rewrite(|text| text.replace("5GiB", "6GiB") + "serve_stale = \"perhaps\"\n");
    daemon.signal("HUP");
    daemon.until_logged("the configuration stays as it was: config.toml:").await;
    assert!(daemon.log().contains("cache.serve_stale: string \"perhaps\" will not do"));
    assert!(!daemon.log().contains("6GiB"), "{}", daemon.log());
    site.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let hub = FakeHub::start().await;
    hub.push_single(REPO, "1", PLATFORMS[1], &[1000]);
    let site = Site::start_with(&hub, true, "").await;
    let daemon = site.daemon.as_ref().expect("it runs");
    daemon.limit_files(Some(0));
    daemon.signal("HUP");
    // Each is a line of the log, and time for the reload to be another.
    for _ in 0..20 {
        client::get(daemon.addr, &format!("/v2/{REPO}/manifests/1"), &[]).await;
    }
    daemon.limit_files(None);
    daemon.signal("HUP");
    daemon.until_logged("the configuration was read again: nothing has changed").await;
    site.end().await;
}
