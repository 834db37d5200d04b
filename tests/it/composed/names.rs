//! What a composed name means beside its tags, and what the names around it mean.

use super::*;

#[tokio::test]
async fn the_registry_of_the_name_need_not_be_there() {
    let two = Two::start().await;
    let lan = format!("{LAN}/arm64v8-test");
    let parts = [("linux/amd64", "docker.io/user/test"), ("linux/arm64", lan.as_str())];
    let wharf = two.wharf(compose("apps.site/test", &parts)).await;
    for name in ["/v2/apps.site/test", "/apps.site/v2/test"] {
        let get = wharf.get(&format!("{name}/manifests/latest")).await;
        assert_eq!(entries(&get), listed(&[&two.amd64, &two.arm64]));
        pull(&wharf, name, &two.amd64).await;
        pull(&wharf, name, &two.arm64).await;
    }
    for other in ["/v2/apps.site/other/manifests/latest", "/v2/other.site/test/manifests/latest"] {
        assert_eq!(wharf.get(other).await.status, 404, "{other}");
    }
    let other = wharf.get("/apps.site/v2/other/manifests/latest").await;
    assert_eq!(other.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    // The parts' own names go on to mean what they mean.
    let part = wharf.get(TAG).await;
    assert_eq!(digest(&part), two.amd64.manifest.digest.to_string());
    wharf.end().await;
}

#[tokio::test]
async fn a_name_with_one_tag_leaves_the_others_to_its_registry() {
    let two = Two::start().await;
    let newer = two.hub.push_single("user/test", "2", AMD64, &[10]);
    let lan = format!("{LAN}/arm64v8-test:latest");
    let parts = [("linux/amd64", "docker.io/user/test:2"), ("linux/arm64", lan.as_str())];
    let wharf = two.wharf(compose("docker.io/user/test:1", &parts)).await;
    let composed = wharf.get(&format!("{NAME}/manifests/1")).await;
    assert_eq!(entries(&composed), listed(&[&newer, &two.arm64]));
    assert_eq!(digest(&wharf.get(TAG).await), two.amd64.manifest.digest.to_string());
    for image in [&two.arm64, &newer, &two.amd64] {
        pull(&wharf, NAME, image).await;
    }
    let tags = wharf.get(&format!("{NAME}/tags/list")).await;
    assert_eq!(tags.json()["tags"], serde_json::json!(["2", "latest"]));
    wharf.end().await;
}

#[tokio::test]
async fn a_name_with_one_tag_at_no_registry_has_no_other() {
    let two = Two::start().await;
    let lan = format!("{LAN}/arm64v8-test:latest");
    let wharf = two.wharf(compose("apps.site/test:1", &[("linux/arm64", &lan)])).await;
    let get = wharf.get("/v2/apps.site/test/manifests/1").await;
    assert_eq!(entries(&get), listed(&[&two.arm64]));
    two.clear_logs();
    let other = wharf.get("/v2/apps.site/test/manifests/latest").await;
    assert_eq!(other.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    let tags = wharf.get("/v2/apps.site/test/tags/list").await;
    assert_eq!(tags.json()["tags"], serde_json::json!(["1"]));
    assert_eq!(two.asked(), 0);
    wharf.end().await;
}

#[tokio::test]
async fn several_tags_of_one_name_may_be_composed_of_different_parts() {
    let two = Two::start().await;
    let other = two.hub.push_single("user/other", "latest", ARM64, &[10]);
    let lan = format!("{LAN}/arm64v8-test:latest");
    let first = compose("apps.site/test:1", &[("linux/arm64", &lan)]);
    let second = compose("apps.site/test:2", &[("linux/arm64", "docker.io/user/other:latest")]);
    let wharf = two.wharf_with(first, |config| config.pull.compose.push(second)).await;
    for (tag, image) in [("1", &two.arm64), ("2", &other)] {
        let get = wharf.get(&format!("/v2/apps.site/test/manifests/{tag}")).await;
        assert_eq!(entries(&get), listed(&[image]));
    }
    two.clear_logs();
    for image in [&other, &two.arm64] {
        pull(&wharf, "/v2/apps.site/test", image).await;
    }
    let missed = |registry: &FakeHub| registry.count(|seen| seen.status == Some(404));
    assert_eq!((missed(&two.hub), missed(&two.site)), (0, 0), "each is asked for what it has");
    wharf.end().await;
}

#[tokio::test]
async fn the_tags_are_those_of_a_part() {
    let mut two = Two::start().await;
    two.hub.move_tag("user/test", "1.2", two.amd64.manifest.digest);
    let wharf = two.wharf(own_and_lan()).await;
    let tags =
        async |wharf: &Wharf| wharf.get(&format!("{NAME}/tags/list")).await.json()["tags"].take();
    assert_eq!(tags(&wharf).await, serde_json::json!(["1.2", "latest"]));
    two.hub.stop().await;
    assert_eq!(tags(&wharf).await, serde_json::json!(["latest"]), "the next one is asked");
    wharf.get(TAG).await;
    wharf.end().await;
}

#[tokio::test]
async fn referrers_are_those_of_the_part_that_has_the_subject() {
    let two = Two::start().await;
    let index =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}} "#, media_type::OCI_INDEX);
    two.site.referrers("arm64v8-test", two.arm64.manifest.digest, Some(index.clone().into()));
    let wharf = two.wharf(own_and_lan()).await;
    let composed = digest(&wharf.get(TAG).await);
    let subject = two.arm64.manifest.digest.to_string();
    let referrers = async |of: &str| wharf.get(&format!("{NAME}/referrers/{of}")).await;
    assert_eq!(*referrers(&subject).await.bytes(), index.as_bytes());
    for nothing in [composed, Digest::sha256(b"nothing").to_string()] {
        let empty = referrers(&nothing).await;
        assert_eq!(
            (empty.status.as_u16(), &empty.json()["manifests"]),
            (200, &serde_json::json!([]))
        );
    }
    wharf.end().await;
}
