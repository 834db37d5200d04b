//! Lists that are too long, or that do not say what is there: bounded, clear, and nothing else is lost.

use serde_json::{Value, json};
use wharf::oci::{Digest, media_type};

use super::{Client, OFFICIAL, REPO, by_digest, by_tag, engine, is_whole};
use crate::support::{FakeHub, Fault, On, Wharf, client};

fn entry(digest: Digest, size: usize, architecture: &str) -> Value {
    json!({
        "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size,
        "platform": { "os": "linux", "architecture": architecture },
    })
}

fn list(hub: &FakeHub, tag: &str, entries: &[Value]) {
    let list =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    hub.put_manifest(REPO, Some(tag), media_type::OCI_INDEX, list.to_string());
}

async fn prefetching(hub: &FakeHub) -> Wharf {
    Wharf::start_with(hub, |config| config.pull.prefetch.on_pull = true).await
}

#[tokio::test]
async fn a_list_of_ten_thousand_entries_is_served_and_resolved() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let child = image.child("linux/arm64/v8");
    let filler = |n: u32| {
        entry(Digest::sha256(&n.to_be_bytes()), 1, if n % 2 == 0 { "amd64" } else { "s390x" })
    };
    let mut entries: Vec<Value> = (0..10_000).map(filler).collect();
    entries.push(entry(child.manifest.digest, child.manifest.bytes.len(), "arm64"));
    list(&hub, "long", &entries);
    let wharf = prefetching(&hub).await;
    let agent = engine("arm64");
    let one = [("user-agent", agent.as_str()), ("accept", media_type::OCI_MANIFEST)];
    assert_eq!(client::get(wharf.addr, &by_tag("long"), &one).await.bytes(), &child.manifest.bytes);
    assert_eq!(
        Client::new(&wharf, &agent).get(&by_tag("long")).await.json()["manifests"]
            .as_array()
            .map(Vec::len),
        Some(10_001)
    );
    wharf.quiet().await;
    assert!(is_whole(&wharf, child));
    wharf.stop().await;
}

#[tokio::test]
async fn a_child_that_is_missing_or_lies_fails_alone() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let (arm, amd) = (image.child("linux/arm64/v8"), image.child("linux/amd64"));
    let missing = Digest::sha256(b"never pushed");
    list(
        &hub,
        "missing",
        &[
            entry(missing, 100, "arm64"),
            entry(amd.manifest.digest, amd.manifest.bytes.len(), "amd64"),
        ],
    );
    list(&hub, "size", &[entry(arm.manifest.digest, 7, "arm64")]);
    let wharf = prefetching(&hub).await;
    let client = Client::new(&wharf, &engine("arm64"));
    assert_eq!(client.get(&by_tag("missing")).await.status, 200);
    wharf.quiet().await;
    assert_eq!(
        client.get(&by_digest(&missing)).await.refusal(),
        (404, "MANIFEST_UNKNOWN".to_owned())
    );
    let one = [("accept", media_type::OCI_MANIFEST)];
    assert_eq!(client.get_with(&by_tag("missing"), &one).await.refusal().0, 404);
    let other = Client::new(&wharf, &engine("amd64"));
    other.take(amd).await;
    // What is not as long as its list says is nobody's, until a list says it as it is.
    let refused = (502, "MANIFEST_INVALID".to_owned());
    assert_eq!(client.get_with(&by_tag("size"), &one).await.refusal(), refused);
    assert_eq!(client.get(&by_digest(&arm.manifest.digest)).await.refusal(), refused);
    assert_eq!(client.get(&by_tag("1")).await.status, 200);
    client.take(arm).await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, arm) && is_whole(&wharf, amd));
    // A child of other bytes than the list names is never handed out, nor what it names fetched.
    let liar = hub.push_image(REPO, "liar", &OFFICIAL, &[20]);
    let victim = liar.child("linux/arm64/v8");
    hub.fault(On::Path("/manifests/sha256:"), Fault::FlipByte(20));
    list(&hub, "lying", &[entry(victim.manifest.digest, victim.manifest.bytes.len(), "arm64")]);
    assert_eq!(client.get(&by_tag("lying")).await.status, 200);
    wharf.quiet().await;
    assert_eq!(client.get(&by_digest(&victim.manifest.digest)).await.refusal().0, 502);
    hub.clear_faults();
    wharf.quiet().await;
    client.take(victim).await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn nesting_without_end_has_an_end() {
    let hub = FakeHub::start().await;
    let mut inner = Digest::sha256(b"the bottom, which is not there");
    let mut size = 1;
    for depth in 0..40 {
        let nested = json!({ "mediaType": media_type::OCI_INDEX, "digest": inner, "size": size });
        let list = json!({ "schemaVersion": 2, "depth": depth, "manifests": [nested] }).to_string();
        size = list.len();
        inner = hub.put_manifest(REPO, Some("deep"), media_type::OCI_INDEX, list);
    }
    // Each of them lists the next one twice: a tree of 2^12 indexes.
    let mut wide = Digest::sha256(b"another bottom");
    for depth in 0..12 {
        let nested = json!({ "mediaType": media_type::OCI_INDEX, "digest": wide, "size": size });
        let list = json!({ "schemaVersion": 2, "depth": depth, "manifests": [nested, nested] })
            .to_string();
        size = list.len();
        wide = hub.put_manifest(REPO, Some("wide"), media_type::OCI_INDEX, list);
    }
    let wharf = prefetching(&hub).await;
    let client = Client::new(&wharf, &engine("arm64"));
    let one = [("accept", media_type::OCI_MANIFEST)];
    for tag in ["deep", "wide"] {
        hub.clear_log();
        assert_eq!(client.get(&by_tag(tag)).await.status, 200);
        assert_eq!(client.get_with(&by_tag(tag), &one).await.refusal().0, 404, "{tag}");
        wharf.quiet().await;
        assert!(hub.manifest_gets() <= 10, "{tag}: {} manifests", hub.manifest_gets());
    }
    wharf.stop().await;
}
