//! Lists taken from what a site runs: each image that is meant and no other, and nothing at all where something cannot be read
//! (bug class: a site that lacks the one image whose line was passed over).

use std::{fs, time::Duration};

use super::{BOTH, PLATFORMS, REPO, Site, contents};
use crate::support::{FakeHub, Wharf, deadline};
use wharf::pull::{WarmImage, WarmTags};

const TAGS: [&str; 6] = ["1.26.0", "1.27.1", "1.27.2", "1.28.0", "1.28.0-alpine", "latest"];

async fn hub() -> FakeHub {
    let hub = FakeHub::start().await;
    for tag in TAGS {
        hub.push_image(REPO, tag, &PLATFORMS[..2], &[100]);
    }
    hub
}

fn names(tags: &[&str]) -> String {
    tags.iter().map(|tag| format!("docker.io/library/busybox:{tag}\n")).collect()
}

#[tokio::test]
async fn a_pattern_fetches_the_newest_tags_that_match() {
    for daemon in BOTH {
        let hub = hub().await;
        let site = Site::start(&hub, daemon).await;
        let newest = ["1.28.0", "1.27.2"];
        let dry = ["pull", "--dry-run", "--newest", "2", "busybox:^1.26"];
        assert_eq!(site.ok(&dry).await, names(&newest));
        assert_eq!(contents(&hub), 0, "a dry run fetches nothing");
        site.write("images.txt", "busybox:~1.27 # two\nbusybox:1.28.0*\nbusybox:1.27.2\n");
        let all = ["1.27.2", "1.27.1", "1.28.0-alpine", "1.28.0"];
        assert_eq!(site.ok(&["pull", "--print", "--file", "images.txt"]).await, names(&all));

        site.pull(&["--platform", "linux/arm64", "--newest", "2", "busybox:^1.26"]).await;
        let kept = site.json(&["ls"]).await;
        let kept: Vec<_> =
            kept.as_array().expect("a list").iter().map(|row| &row["name"]).collect();
        assert_eq!(kept, ["docker.io/library/busybox:1.27.2", "docker.io/library/busybox:1.28.0"]);

        // What matches nothing is told, and keeps nothing else from being fetched.
        let said = site.run(&["pull", "busybox:^9", "busybox:1.26.0"]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err.contains("busybox:^9: docker.io/library/busybox has no tag that matches ^9"),
            "{said:?}"
        );
        assert!(site.ok(&["ls"]).await.contains("busybox:1.26.0"));
        site.end().await;
    }
}

#[tokio::test]
async fn what_a_site_runs_is_what_is_fetched() {
    let hub = hub().await;
    let site = Site::start(&hub, true).await;
    fs::create_dir_all(site.dir.path().join("k8s/base")).expect("made");
    site.write(".env", "TAG=1.26.0\n");
    site.write(
        "compose.yaml",
        "services:\n  a:\n    image: busybox:${TAG}\n  b: {image: \"busybox:${NEW:-1.28.0}\"}\n",
    );
    site.write(
        "k8s/base/app.yml",
        "kind: Deployment\nspec: {template: {spec: {containers: [{image: \"busybox:1.27.1\"}]}}}\n---\nkind: Service\n",
    );
    let from = ["--from", "compose.yaml", "--from", "k8s"];
    let wanted = ["1.26.0", "1.28.0", "1.27.1"];
    assert_eq!(site.ok(&[&["pull", "--dry-run"], &from[..]].concat()).await, names(&wanted));
    assert_eq!(hub.log().len(), 0, "names alone need nobody");
    site.pull(&from).await;
    let kept = site.ok(&["ls"]).await;
    assert!(wanted.iter().all(|tag| kept.contains(&format!("busybox:{tag}"))), "{kept}");

    // One line that makes no sense, and nothing is fetched.
    site.write(
        "k8s/base/more.yaml",
        "spec:\n  containers:\n  - image: busybox:1.27.2\n  - image: '{{ .image }}'\n",
    );
    hub.clear_log();
    let said = site.run(&["pull", "--from", "k8s"]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("k8s/base/more.yaml:4: image: \"{{ .image }}\""), "{said:?}");
    assert_eq!(hub.log().len(), 0);
    let said = site
        .begin_reading(&["pull", "--dry-run", "--from", "-"], "containers: [{image: a}]")
        .ended()
        .await;
    assert_eq!((said.code, &*said.out), (Some(0), "docker.io/library/a:latest\n"), "{said:?}");
    site.end().await;
}

#[tokio::test]
async fn offline_a_pattern_means_what_is_kept_and_a_pull_says_what_would_bring_the_rest() {
    let hub = hub().await;
    let site = Site::start(&hub, true).await;
    site.pull(&["--platform", "linux/arm64", "busybox:1.27.1"]).await;
    site.rewrite(|text| text.replace("[server]\n", "[server]\nmode = \"offline\"\n"));
    let daemon = site.daemon.as_ref().expect("it runs");
    daemon.signal("HUP");
    daemon.until_logged("and changed key=server.mode value=offline").await;
    hub.clear_log();
    assert_eq!(site.ok(&["pull", "--dry-run", "busybox:^1"]).await, names(&["1.27.1"]));
    let said = site.run(&["pull", "--platform", "linux/arm64", "busybox:1.28.0"]).await;
    let brings =
        "`wharf export docker.io/library/busybox:1.28.0 --platform linux/arm64 -o bundle.tar`";
    assert!(said.code == Some(1) && said.err.contains(brings), "{said:?}");
    let status = site.json(&["status"]).await;
    assert_eq!(status["mode"], "offline");
    assert!(site.ok(&["status"]).await.contains("Mode:        offline: no registry is asked\n"));
    assert_eq!(daemon.metric("wharf_mode{mode=\"offline\"}").await, 1.0);
    assert_eq!(hub.log().len(), 0, "{:?}", hub.log());
    site.end().await;
}

#[tokio::test]
async fn the_newest_tags_that_match_are_kept_warm() {
    let hub = hub().await;
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(WarmImage {
            repository: "docker.io/library/busybox".parse().expect("a name"),
            tags: WarmTags::Newest(2, "^1.26".parse().expect("a pattern")),
            platforms: vec!["linux/arm64".parse().expect("a platform")],
            every: Duration::from_secs(3600),
            window: None,
        });
    })
    .await;
    deadline("two images to be whole", async {
        loop {
            let images = wharf.pull.images().await.expect("a good disk");
            let whole = images.iter().filter(|image| image.platforms.iter().any(|one| one.whole));
            if whole.count() == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    wharf.quiet().await;
    let images = wharf.pull.images().await.expect("a good disk");
    let kept: Vec<&str> = images.iter().map(|image| &*image.name).collect();
    assert_eq!(kept, ["docker.io/library/busybox:1.27.2", "docker.io/library/busybox:1.28.0"]);
    wharf.end().await;
}
