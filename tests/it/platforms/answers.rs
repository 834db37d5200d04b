//! What a host is answered: the list to who can read it, its own manifest to who cannot, and to a digest that digest.

use wharf::{
    oci::media_type,
    pull::{AnswerWith, ClientRule},
};

use super::{Client, OFFICIAL, REPO, by_digest, by_tag, engine};
use crate::support::{FakeHub, Fault, Gate, On, Wharf, client};

const ONE: (&str, &str) = ("accept", media_type::OCI_MANIFEST);

#[tokio::test]
async fn a_client_that_reads_no_list_gets_the_manifest_for_its_platform() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let wharf = Wharf::start(&hub).await;
    for (architecture, platform) in [
        ("arm64", "linux/arm64/v8"),
        ("amd64", "linux/amd64"),
        ("arm", "linux/arm/v7"),
        ("s390x", "linux/s390x"),
    ] {
        let child = &image.child(platform).manifest;
        let agent = engine(architecture);
        let headers = [("user-agent", agent.as_str()), ONE];
        for _ in 0..2 {
            let head = client::head(wharf.addr, &by_tag("1"), &headers).await;
            let get = client::get(wharf.addr, &by_tag("1"), &headers).await;
            for answer in [&head, &get] {
                assert_eq!(answer.status, 200, "{platform}");
                let digest = child.digest.to_string();
                assert_eq!(answer.header("docker-content-digest"), Some(&*digest), "{platform}");
                assert_eq!(answer.header("content-type"), Some(media_type::OCI_MANIFEST));
                let length = child.bytes.len().to_string();
                assert_eq!(answer.header("content-length"), Some(&*length));
                assert_eq!(answer.header("warning"), None, "{platform}");
            }
            assert_eq!(get.bytes(), &child.bytes, "{platform}");
        }
        // The list itself is there for whoever asks for it, by whatever name.
        let list = by_digest(&image.index.digest);
        assert_eq!(client::get(wharf.addr, &list, &headers).await.bytes(), &image.index.bytes);
        let reads = Client::new(&wharf, &agent);
        assert_eq!(reads.get(&by_tag("1")).await.bytes(), &image.index.bytes);
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn no_platform_that_fits_is_404_and_names_those_that_there_are() {
    let hub = FakeHub::start().await;
    hub.push_image(REPO, "1", &[("linux", "amd64", None), ("linux", "arm", Some("v7"))], &[10]);
    let wharf = Wharf::start(&hub).await;
    for agent in [engine("riscv64"), engine("ppc64le")] {
        let headers = [("user-agent", agent.as_str()), ONE];
        let answer = client::get(wharf.addr, &by_tag("1"), &headers).await;
        assert_eq!(answer.refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
        let said = String::from_utf8_lossy(answer.bytes()).into_owned();
        assert!(said.contains("it has linux/amd64, linux/arm/v7"), "{said}");
        assert_eq!(client::head(wharf.addr, &by_tag("1"), &headers).await.status, 404);
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn every_host_may_be_handed_its_own_manifest_for_a_tag() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.platforms.answer = AnswerWith::Manifest;
    })
    .await;
    let child = &image.child("linux/arm64/v8").manifest;
    let arm = Client::new(&wharf, &engine("arm64"));
    let digest = child.digest.to_string();
    // The head comes first here, when nothing is kept.
    let head = arm.head(&by_tag("1")).await;
    assert_eq!(head.header("docker-content-digest"), Some(&*digest));
    assert_eq!(arm.get(&by_tag("1")).await.bytes(), &child.bytes);
    assert_eq!(arm.get(&by_digest(&image.index.digest)).await.bytes(), &image.index.bytes);
    let other = &image.child("linux/386").manifest;
    assert_eq!(arm.get(&by_digest(&other.digest)).await.bytes(), &other.bytes);
    wharf.quiet().await;
    hub.stop().await;
    wharf.clock.advance(std::time::Duration::from_secs(3600));
    let stale = arm.get(&by_tag("1")).await;
    assert_eq!((stale.bytes(), stale.cache()), (&child.bytes, "stale"));
    assert!(stale.header("warning").is_some_and(|warning| warning.contains("did not answer")));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn nested_lists_are_looked_into() {
    let hub = FakeHub::start().await;
    let inner = hub.push_image(REPO, "inner", &OFFICIAL, &[10]);
    let other = hub.push_image(REPO, "other", &[("windows", "amd64", None)], &[10]);
    let entry = |image: &crate::support::PushedImage| {
        serde_json::json!({
            "mediaType": media_type::OCI_INDEX, "digest": image.index.digest,
            "size": image.index.bytes.len(),
        })
    };
    let outer = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry(&other), entry(&inner)],
    });
    hub.put_manifest(REPO, Some("outer"), media_type::OCI_INDEX, outer.to_string());
    let wharf = Wharf::start(&hub).await;
    for (architecture, platform) in [("arm64", "linux/arm64/v8"), ("amd64", "linux/amd64")] {
        let agent = engine(architecture);
        let headers = [("user-agent", agent.as_str()), ONE];
        let answer = client::get(wharf.addr, &by_tag("outer"), &headers).await;
        assert_eq!(answer.bytes(), &inner.child(platform).manifest.bytes, "{platform}");
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_host_that_takes_what_it_cannot_run_is_warned_and_told_of() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "list", &OFFICIAL, &[10]);
    let single = hub.push_single(REPO, "single", ("linux", "arm64", None), &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.platforms.clients.push(ClientRule {
            net: Some("127.0.0.9/32".parse().expect("a network")),
            subject: None,
            listener: None,
            host: None,
            platforms: vec![
                "linux/amd64".parse().expect("one"),
                "linux/arm64".parse().expect("one"),
            ],
        });
    })
    .await;
    let amd = Client::new(&wharf, &engine("amd64"));
    let arm = Client::new(&wharf, &engine("arm64"));
    let single_path = by_digest(&single.manifest.digest);
    let listed = image.child("linux/arm64/v8");
    let listed_path = by_digest(&listed.manifest.digest);
    amd.get(&by_tag("list")).await;
    for path in [&by_tag("single"), &single_path, &listed_path] {
        for _ in 0..2 {
            let warned = amd.get(path).await;
            let warning = warned.header("warning").unwrap_or_default();
            assert!(warning.starts_with("299 - "), "{path}: {warning}");
            assert!(
                warning.contains("for linux/arm64") && warning.contains("linux/amd64"),
                "{warning}"
            );
        }
        let fine = arm.get(path).await;
        assert_eq!((fine.header("warning"), fine.status.as_u16()), (None, 200), "{path}");
        // A host that runs several architectures.
        let both = client::get_from([127, 0, 0, 9].into(), wharf.addr, path, &[]).await;
        assert_eq!((both.header("warning"), both.status.as_u16()), (None, 200), "{path}");
    }
    // A client of which nothing is known but what it takes is not called wrong.
    let silent = Client::new(&wharf, "containerd/1.6.20");
    for path in [&by_tag("single"), &listed_path] {
        assert_eq!(silent.get(path).await.header("warning"), None, "{path}");
    }
    wharf.quiet().await;
    assert_eq!(wharf.metric("wharf_platform_mismatch_total{platform=\"linux/arm64\"}"), 6.0);
    let told = wharf.pull.mismatches();
    assert_eq!(told.len(), 3, "{told:?}");
    for mismatch in &told {
        assert_eq!(mismatch.client, "127.0.0.1");
        assert_eq!(
            (mismatch.runs.to_string(), mismatch.platform.to_string()),
            ("linux/amd64".into(), "linux/arm64".into())
        );
        assert!(mismatch.name.starts_with("docker.io/library/busybox"), "{}", mismatch.name);
    }
    wharf.stop().await;
}

#[tokio::test]
async fn a_host_is_warned_all_the_same_once_it_took_from_a_list() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "list", &OFFICIAL, &[10]);
    hub.push_single(REPO, "single", ("linux", "arm64", None), &[10]);
    let wharf = Wharf::start(&hub).await;
    let amd = Client::new(&wharf, &engine("amd64"));
    amd.pull("list", &image, "linux/amd64").await;
    wharf.quiet().await;
    let warned = amd.get(&by_tag("single")).await;
    assert!(warned.header("warning").is_some_and(|warning| warning.contains("linux/arm64")));
    wharf.end().await;
}

#[tokio::test]
async fn a_newer_processor_than_is_known_of_is_not_called_wrong() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "list", &OFFICIAL, &[10]);
    hub.push_single(REPO, "amd64", ("linux", "amd64", Some("v2")), &[10]);
    hub.push_single(REPO, "arm64", ("linux", "arm64", Some("v8.2")), &[10]);
    hub.push_single(REPO, "arm", ("linux", "arm", Some("v7")), &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        let rule = super::clients::rule("127.0.0.9/32", &["linux/amd64"]);
        config.pull.platforms.clients.push(rule);
    })
    .await;
    let single = by_tag("amd64");
    let told = client::get_from([127, 0, 0, 9].into(), wharf.addr, &single, &[]).await;
    assert_eq!((told.status.as_u16(), told.header("warning")), (200, None));
    for (architecture, child) in [("amd64", "linux/amd64"), ("arm64", "linux/arm64/v8")] {
        let host = Client::new(&wharf, &engine(architecture));
        for _ in 0..2 {
            let answer = host.get(&by_tag(architecture)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("warning")),
                (200, None),
                "{architecture}"
            );
            host.pull("list", &image, child).await;
            wharf.quiet().await;
        }
    }
    // 64-bit processors run 32-bit programs, whatever their engine would choose by itself.
    let crio = Client::new(&wharf, "cri-o/1.30.0 go/go1.22.0 os/linux arch/arm64");
    assert_eq!(crio.get(&by_tag("arm")).await.header("warning"), None);
    wharf.end().await;
}

#[tokio::test]
async fn whether_an_image_suits_its_host_waits_for_nothing_that_is_fetched_ahead() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "list", &OFFICIAL, &[100_000]);
    hub.push_single(REPO, "single", ("linux", "arm64", None), &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.concurrency = 1;
        config.pull.revalidate_timeout = std::time::Duration::from_secs(3600);
    })
    .await;
    let amd = Client::new(&wharf, &engine("amd64"));
    let gate = Gate::after(1000);
    let slow = image.child("linux/amd64").layers[0].digest;
    hub.fault(On::Blob(slow), Fault::Gate(gate.clone()));
    amd.get(&by_tag("list")).await;
    gate.halted(1).await;
    let warned = amd.get(&by_tag("single")).await;
    assert!(warned.header("warning").is_some_and(|warning| warning.contains("linux/arm64")));
    gate.open();
    wharf.end().await;
}

#[tokio::test]
async fn head_and_get_agree_also_on_what_is_refused_and_on_what_a_list_lies_about() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[10]);
    let child = &image.child("linux/arm64/v8").manifest;
    for (tag, size) in [("lies", child.bytes.len()), ("length", 7)] {
        let list = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [{
                "mediaType": media_type::DOCKER_MANIFEST, "digest": child.digest, "size": size,
                "platform": { "os": "linux", "architecture": "arm64" },
            }],
        });
        hub.put_manifest(REPO, Some(tag), media_type::OCI_INDEX, list.to_string());
    }
    let agent = engine("arm64");
    let headers = [("user-agent", agent.as_str()), ONE];
    let wharf = Wharf::start(&hub).await;
    let head = client::head(wharf.addr, &by_tag("lies"), &headers).await;
    let get = client::get(wharf.addr, &by_tag("lies"), &headers).await;
    for name in ["content-length", "content-type", "docker-content-digest", "etag"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(get.bytes(), &child.bytes);
    wharf.end().await;

    let wharf = Wharf::start(&hub).await;
    assert_eq!(client::head(wharf.addr, &by_tag("length"), &headers).await.status, 502);
    let refused = client::get(wharf.addr, &by_tag("length"), &headers).await;
    assert_eq!(refused.refusal(), (502, "MANIFEST_INVALID".to_owned()));
    wharf.end().await;

    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.platforms.keep = vec!["linux/amd64".parse().expect("one")];
        config.pull.platforms.others = wharf::pull::Others::Refuse;
    })
    .await;
    for _ in 0..2 {
        assert_eq!(client::head(wharf.addr, &by_tag("1"), &headers).await.status, 403);
        let refused = client::get(wharf.addr, &by_tag("1"), &headers).await;
        assert_eq!(refused.refusal(), (403, "DENIED".to_owned()));
    }
    wharf.end().await;
}
