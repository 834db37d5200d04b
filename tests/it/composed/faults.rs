//! Parts that are missing, wrong or out of reach.

use super::*;

fn amd64_only(two: &Two) -> Vec<(String, String)> {
    listed(&[&two.amd64])
}

#[tokio::test]
async fn a_part_that_is_missing_is_left_out_until_it_is_there() {
    let two = Two::start().await;
    two.site.delete_tag("arm64v8-test", "latest");
    let wharf = two.wharf(own_and_lan()).await;
    assert_eq!(entries(&wharf.get(TAG).await), amd64_only(&two));
    pull(&wharf, NAME, &two.amd64).await;
    // It is not asked for again at once.
    two.clear_logs();
    assert_eq!(entries(&wharf.get(TAG).await), amd64_only(&two));
    assert_eq!(two.asked(), 0);
    two.site.move_tag("arm64v8-test", "latest", two.arm64.manifest.digest);
    wharf.clock.advance(LATER);
    assert_eq!(entries(&wharf.get(TAG).await), listed(&[&two.amd64, &two.arm64]));
    two.site.delete_tag("arm64v8-test", "latest");
    wharf.clock.advance(LATER);
    assert_eq!(entries(&wharf.get(TAG).await), amd64_only(&two));
    wharf.end().await;
}

#[tokio::test]
async fn a_repository_that_does_not_exist_is_a_part_that_is_missing() {
    let two = Two::start().await;
    let parts = [("linux/amd64", "docker.io/user/test"), ("linux/arm64", "docker.io/user/not-yet")];
    let wharf = two.wharf(compose("docker.io/user/test", &parts)).await;
    assert_eq!(entries(&wharf.get(TAG).await), amd64_only(&two));
    wharf.end().await;
}

#[tokio::test]
async fn a_tag_that_no_part_has_is_unknown() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let unknown = format!("{NAME}/manifests/other");
    assert_eq!(wharf.get(&unknown).await.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    two.clear_logs();
    assert_eq!(wharf.head(&unknown).await.status, 404);
    assert_eq!(two.asked(), 0);
    wharf.end().await;
}

#[tokio::test]
async fn a_list_without_its_platform_is_told_to_whoever_can_correct_it() {
    let two = Two::start().await;
    two.site.push_image("multi", "latest", &[AMD64], &[10]);
    let multi = format!("{LAN}/multi");
    let parts = [("linux/amd64", "docker.io/user/test"), ("linux/arm64", multi.as_str())];
    let wharf = two.wharf(compose("docker.io/user/test", &parts)).await;
    for _ in 0..2 {
        let refused = wharf.get(TAG).await;
        assert_eq!(refused.refusal(), (502, "MANIFEST_INVALID".to_owned()));
        let message = refused.json()["errors"][0]["message"].to_string();
        for part in ["docker.io/user/test:latest", "registry.lan:5000/multi:latest", "linux/arm64"]
        {
            assert!(message.contains(part), "{message}");
        }
    }
    assert_eq!(wharf.head(TAG).await.status, 502);
    two.site.push_image("multi", "latest", &[AMD64, ARM64], &[10]);
    wharf.clock.advance(LATER);
    assert_eq!(entries(&wharf.get(TAG).await).len(), 2);
    wharf.end().await;
}

#[tokio::test]
async fn without_a_kept_index_an_outage_of_one_part_is_told() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    two.site.fault(On::Manifests, Fault::status(503));
    assert_eq!(wharf.get(TAG).await.refusal(), (502, "UNKNOWN".to_owned()));
    two.site.clear_faults();
    wharf.clock.advance(LATER);
    assert_eq!(entries(&wharf.get(TAG).await).len(), 2);
    wharf.end().await;
}

#[tokio::test]
async fn with_a_kept_index_an_outage_changes_nothing_for_the_hosts() {
    // Whether or not anybody has pulled the images themselves.
    for pulled in [false, true] {
        let mut two = Two::start().await;
        let wharf = two.wharf(own_and_lan()).await;
        let kept = wharf.get(TAG).await;
        if pulled {
            pull(&wharf, NAME, &two.amd64).await;
            pull(&wharf, NAME, &two.arm64).await;
        }
        let moved = two.hub.push_single("user/test", "new", AMD64, &[10]);
        wharf.clock.advance(Duration::from_secs(7 * 60));
        two.site.stop().await;
        for _ in 0..2 {
            let stale = wharf.get(TAG).await;
            assert_eq!((stale.bytes(), stale.cache()), (kept.bytes(), "stale"), "{pulled}");
            let warning = stale.header("warning").expect("a warning");
            assert!(warning.ends_with("last confirmed 7 min ago\""), "{warning}");
        }
        // The other part's new image comes when both can be asked, or when the old one is kept to compose with.
        two.hub.move_tag("user/test", "latest", moved.manifest.digest);
        let wharf = wharf.restart().await;
        let stale = wharf.get(TAG).await;
        assert_eq!(stale.cache(), "stale");
        assert_eq!(entries(&stale)[1], listed(&[&two.arm64])[0]);
        two.site.resume();
        wharf.clock.advance(LATER);
        wharf.until_up("registry.lan:5000").await;
        let fresh = wharf.get(TAG).await;
        assert_eq!(entries(&fresh), listed(&[&moved, &two.arm64]));
        two.hub.stop().await;
        two.site.stop().await;
        let wharf = wharf.restart().await;
        let stale = wharf.get(TAG).await;
        assert_eq!((stale.bytes(), stale.cache()), (fresh.bytes(), "stale"));
        wharf.end().await;
    }
}

#[tokio::test]
async fn without_serve_stale_an_outage_is_told_whatever_is_kept() {
    let two = Two::start().await;
    let wharf = two.wharf_with(own_and_lan(), |config| config.pull.serve_stale = false).await;
    let kept = digest(&wharf.get(TAG).await);
    two.hub.fault(On::Manifests, Fault::status(503));
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(TAG).await.refusal(), (502, "UNKNOWN".to_owned()));
    assert_eq!(wharf.get(&format!("{NAME}/manifests/{kept}")).await.cache(), "hit");
    wharf.end().await;
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_waited_for_no_longer_than_for_any_tag() {
    let two = Two::start().await;
    let wharf = two
        .wharf_with(own_and_lan(), |config| {
            config.pull.revalidate_timeout = Duration::from_secs(1);
            for upstream in &mut config.upstreams {
                upstream.patience.first_byte = Duration::from_secs(600);
            }
        })
        .await;
    let kept = digest(&wharf.get(TAG).await);
    two.site.fault(On::Manifests, Fault::Stall);
    wharf.clock.advance(LATER);
    let stale = wharf.get(TAG).await;
    assert_eq!((digest(&stale), stale.cache()), (kept, "stale"));
    wharf.end().await;
}

#[tokio::test]
async fn nobody_is_told_of_an_image_of_the_name_itself_that_its_registry_refuses() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let kept = wharf.get(TAG).await;
    let moved = two.hub.push_single("user/test", "new", AMD64, &[10]);
    two.hub.move_tag("user/test", "latest", moved.manifest.digest);
    wharf.clock.advance(LATER);
    // HEAD is free, and tells the truth.
    two.hub.fault_next(1, On::ManifestHeads, Fault::All(Vec::new()));
    two.hub.fault(On::Manifests, Fault::too_many_requests("3600"));
    let stale = wharf.get(TAG).await;
    assert_eq!((stale.bytes(), stale.cache()), (kept.bytes(), "stale"));
    two.hub.clear_faults();
    wharf.clock.advance(Duration::from_secs(3601));
    assert_eq!(entries(&wharf.get(TAG).await), listed(&[&moved, &two.arm64]));
    wharf.end().await;
}

#[tokio::test]
async fn an_unknown_digest_is_asked_for_once_at_each_part() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    wharf.get(TAG).await;
    let nothing = Digest::sha256(b"nothing");
    for (kind, code) in [("manifests", "MANIFEST_UNKNOWN"), ("blobs", "BLOB_UNKNOWN")] {
        let path = format!("{NAME}/{kind}/{nothing}");
        for _ in 0..2 {
            assert_eq!(wharf.get(&path).await.refusal(), (404, code.to_owned()));
            assert_eq!(wharf.head(&path).await.status, 404);
        }
        let asked = format!("/{kind}/{nothing}");
        for registry in [&two.hub, &two.site] {
            let count =
                registry.count(|seen| seen.path.ends_with(&asked) && seen.status == Some(404));
            assert_eq!(count, 1, "{kind}: {:?}", registry.log());
        }
    }
    wharf.end().await;
}

#[tokio::test]
async fn an_index_that_the_disk_does_not_take_can_be_pulled_all_the_same() {
    let two = Two::start().await;
    let wharf = two.wharf(own_and_lan()).await;
    let partial = wharf.cache().join("wharf/partial");
    fs::remove_dir(&partial).expect("nothing is in it");
    fs::write(&partial, "").expect("the rest of the directory works");
    let get = wharf.get(TAG).await;
    assert_eq!(get.cache(), "relay");
    let by_digest = wharf.get(&format!("{NAME}/manifests/{}", digest(&get))).await;
    assert_eq!(by_digest.bytes(), get.bytes());
    for image in [&two.amd64, &two.arm64] {
        pull(&wharf, NAME, image).await;
    }
    fs::remove_file(&partial).expect("it is there");
    fs::create_dir(partial).expect("the rest of the directory works");
    let kept = wharf.get(TAG).await;
    assert_eq!((kept.bytes(), kept.cache()), (get.bytes(), "miss"));
    wharf.end().await;
}
