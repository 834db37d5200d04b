//! A list that ends too early hides tags, and one that fails where it could be empty sends Docker away:
//! both look like an image that does not exist.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use wharf::oci::{Digest, RegistryName, media_type};

use crate::support::{Challenge, FakeHub, Fault, Host, On, Wharf, client::Answer, upstream};

const REPO: &str = "library/busybox";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const TAGS: [&str; 7] = ["1.35", "1.36", "1.36-musl", "edge", "latest", "musl", "stable"];

/// A hub with all of [`TAGS`] on one image.
async fn hub_with_tags() -> FakeHub {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, TAGS[0], &[ARM64], &[10]);
    for tag in TAGS {
        hub.move_tag(REPO, tag, image.index.digest);
    }
    hub
}

fn names(answer: &Answer, field: &str) -> Vec<String> {
    let names = answer.json()[field].take();
    serde_json::from_value(names).expect("a list of names")
}

/// The target of the `Link` to the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(target.expect("one link to the next page").to_owned())
}

/// All pages from `path` on, as a client reads them.
async fn follow(wharf: &Wharf, path: &str, field: &str) -> (Vec<String>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    let mut path = Some(path.to_owned());
    while let Some(at) = path {
        let page = wharf.get(&at).await;
        assert_eq!(page.status, 200, "{at}");
        all.extend(names(&page, field));
        pages += 1;
        assert!(pages < 20, "{at} leads in circles");
        path = next(&page);
    }
    (all, pages)
}

#[tokio::test]
async fn every_page_leads_to_the_next_in_the_shape_that_the_client_uses() {
    let hub = hub_with_tags().await;
    let wharf = Wharf::start(&hub).await;
    for (path, shape) in [
        ("/v2/library/busybox/tags/list?n=2", "/v2/library/busybox/tags/list?n=2&last="),
        ("/v2/busybox/tags/list?n=2", "/v2/library/busybox/tags/list?n=2&last="),
        ("/v2/docker.io/busybox/tags/list?n=2", "/v2/docker.io/library/busybox/tags/list?n=2&"),
        ("/docker.io/v2/busybox/tags/list?n=2", "/docker.io/v2/library/busybox/tags/list?n=2&"),
        ("/v2/busybox/tags/list?ns=docker.io&n=2", "/v2/library/busybox/tags/list?n=2&last="),
    ] {
        let first = wharf.get(path).await;
        assert_eq!(first.json()["name"], REPO);
        assert_eq!(names(&first, "tags"), TAGS[..2]);
        let second = next(&first).expect("there is more");
        assert!(second.starts_with(shape), "{path}: {second}");
        assert_eq!(second.contains("ns=docker.io"), path.contains("ns="), "{second}");
        assert_eq!(
            follow(&wharf, path, "tags").await,
            (TAGS.map(str::to_owned).into(), 4),
            "{path}"
        );
    }
    let all = wharf.get("/v2/busybox/tags/list").await;
    assert_eq!((names(&all, "tags"), next(&all)), (TAGS.map(str::to_owned).into(), None));
    let last = wharf.get("/v2/busybox/tags/list?last=latest").await;
    assert_eq!(names(&last, "tags"), ["musl", "stable"]);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_registry_with_smaller_pages_and_links_of_its_own_is_read_to_the_end() {
    let hub = hub_with_tags().await;
    let wharf = Wharf::start(&hub).await;
    let page = |tags: &[&str], link: Option<String>| {
        let headers = link.map(|link| ("link", link)).into_iter().collect();
        Fault::Status(200, headers, json!({ "name": REPO, "tags": tags }).to_string().into())
    };
    let absolute = format!("{}/v2/{REPO}/tags/list?last=x", hub.url(Host::Registry));
    for link in [
        format!("</v2/{REPO}/tags/list?n=3&last=1.36-musl>; rel=\"next\""),
        "<?last=1.36-musl>; rel=next".to_owned(),
        format!("<{absolute}>; rel=\"prev\", </v2/x?last=1.36-musl>; rel=\"next\""),
        format!("<{absolute}&last=1.36-musl&n=3>; title=\"a, b\"; rel=\"next\"")
            .replace("last=x&", ""),
    ] {
        hub.fault_next(1, On::Path("/tags/list"), page(&TAGS[..3], Some(link.clone())));
        let (all, pages) = follow(&wharf, "/v2/busybox/tags/list", "tags").await;
        assert_eq!((all, pages), (TAGS.map(str::to_owned).into(), 2), "{link}");
    }
    // What some registries answer when there are none.
    for none in [json!({ "name": REPO, "tags": null }), json!({ "name": REPO })] {
        let body = none.to_string();
        hub.fault_next(1, On::Path("/tags/list"), Fault::Status(200, Vec::new(), body.into()));
        let empty = wharf.get("/v2/busybox/tags/list").await;
        assert_eq!((empty.json()["tags"].take(), next(&empty)), (json!([]), None));
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn a_registry_that_sends_all_its_tags_at_once_is_read_page_by_page() {
    let hub = hub_with_tags().await;
    let wharf = Wharf::start(&hub).await;
    let backwards: Vec<&str> = TAGS.into_iter().rev().collect();
    for tags in [TAGS.to_vec(), backwards] {
        let body = json!({ "name": REPO, "tags": tags }).to_string();
        hub.fault(On::Path("/tags/list"), Fault::Status(200, Vec::new(), body.into()));
        for (n, pages) in [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (100, 1)] {
            let path = format!("/v2/busybox/tags/list?n={n}");
            let first = wharf.get(&path).await;
            assert_eq!(names(&first, "tags"), tags[..n.min(7)], "{n}");
            let all: Vec<String> = tags.iter().map(ToString::to_string).collect();
            assert_eq!(follow(&wharf, &path, "tags").await, (all, pages), "{n}");
        }
        let none = wharf.get("/v2/busybox/tags/list?n=0").await;
        assert_eq!((names(&none, "tags"), next(&none)), (vec![], None));
        hub.clear_faults();
    }
    // One that begins where it is told to, and sends the rest; and one whose own pages are longer than the client's.
    let page = |from: usize, to: usize| {
        let more = TAGS.get(to).map(|_| format!("<?last={}>; rel=\"next\"", TAGS[to - 1]));
        let headers = more.map(|link| ("link", link)).into_iter().collect();
        let body = json!({ "name": REPO, "tags": TAGS[from..to] }).to_string();
        Fault::Status(200, headers, body.into())
    };
    for until in [|_: usize| 7, |from: usize| 7.min(from + 3)] {
        for from in [0, 2, 4, 6] {
            hub.fault_next(1, On::Path("/tags/list"), page(from, until(from)));
        }
        let (all, pages) = follow(&wharf, "/v2/busybox/tags/list?n=2", "tags").await;
        assert_eq!((all, pages), (TAGS.map(str::to_owned).into(), 4));
    }
    // Of a thousand thousand tags, no client is sent more than a page.
    let many: Vec<String> = (0..2500).map(|n| format!("v{n}")).collect();
    let body = json!({ "name": REPO, "tags": many }).to_string();
    hub.fault(On::Path("/tags/list"), Fault::Status(200, Vec::new(), body.into()));
    let (all, pages) = follow(&wharf, "/v2/busybox/tags/list", "tags").await;
    assert_eq!((all, pages), (many, 3));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn without_an_upstream_the_tags_that_are_kept_are_listed() {
    let mut hub = hub_with_tags().await;
    let wharf = Wharf::start(&hub).await;
    let list = "/v2/busybox/tags/list";
    hub.fault(On::Path("/tags/list"), Fault::status(503));
    assert_eq!(wharf.get(list).await.refusal(), (502, "UNKNOWN".to_owned()), "nothing is kept");
    let kept = ["1.36", "edge", "latest", "stable"];
    for tag in kept {
        wharf.get(&format!("/v2/busybox/manifests/{tag}")).await;
    }
    let outages: [(&str, Option<Fault>); 4] = [
        ("503", Some(Fault::status(503))),
        ("a page", Some(Fault::Status(200, Vec::new(), Bytes::from_static(b"<html>")))),
        ("a stall", Some(Fault::Stall)),
        ("gone", None),
    ];
    for (name, fault) in outages {
        wharf.clock.advance(std::time::Duration::from_secs(61));
        hub.clear_faults();
        match fault {
            Some(fault) => hub.fault(On::Path("/tags/list"), fault),
            None => hub.stop().await,
        }
        let listed = wharf.get(list).await;
        assert_eq!(names(&listed, "tags"), kept, "{name}");
        assert_eq!(listed.cache(), "stale", "{name}");
        assert!(listed.header("warning").is_some_and(|text| text.starts_with("299 ")), "{name}");
        let (all, pages) = follow(&wharf, "/v2/docker.io/busybox/tags/list?n=3", "tags").await;
        assert_eq!((all, pages), (kept.map(str::to_owned).into(), 2), "{name}");
    }
    let wharf = wharf.restart().await;
    assert_eq!(names(&wharf.get(list).await, "tags"), kept);
    let unknown = wharf.get("/v2/alpine/tags/list").await;
    assert_eq!(unknown.refusal(), (502, "UNKNOWN".to_owned()));
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn the_catalog_names_what_is_kept_and_can_be_pulled() {
    let hub = FakeHub::start().await;
    let other = FakeHub::builder().challenge(Challenge::None).start().await;
    let lan: RegistryName = "registry.lan:5000".parse().expect("a name");
    let wharf = Wharf::start_with(&hub, |config| {
        config.upstreams.push(upstream(lan, &[&other.url(Host::Registry)]));
    })
    .await;
    let empty = wharf.get("/v2/_catalog").await;
    assert_eq!((empty.json(), next(&empty)), (json!({ "repositories": [] }), None));
    let repositories = ["a/b", "a/b-c", "a/b/c", "library/alpine", "library/busybox"];
    for (hub, registry) in [(&hub, "docker.io"), (&other, "registry.lan:5000")] {
        for repository in repositories {
            for tag in ["1", "2"] {
                hub.push_single(repository, tag, ARM64, &[10]);
                let path = format!("/v2/{registry}/{repository}/manifests/{tag}");
                assert_eq!(wharf.get(&path).await.status, 200, "{path}");
            }
        }
    }
    let wharf = wharf.restart().await;
    let expected: BTreeSet<String> = ["docker.io", "registry.lan:5000"]
        .iter()
        .flat_map(|registry| repositories.iter().map(move |name| format!("{registry}/{name}")))
        .collect();
    for (path, pages) in [("/v2/_catalog", 1), ("/v2/_catalog?n=3", 4), ("/v2/_catalog?n=10", 1)] {
        let (all, seen) = follow(&wharf, path, "repositories").await;
        assert_eq!(
            (all.iter().collect::<BTreeSet<_>>(), all.len()),
            (expected.iter().collect(), 10)
        );
        assert_eq!(seen, pages, "{path}");
    }
    for name in &expected {
        let answer = wharf.head(&format!("/v2/{name}/manifests/2")).await;
        assert_eq!(answer.status, 200, "{name}");
    }
    assert_eq!(hub.count(|seen| seen.path.contains("_catalog")), 0);
    wharf.quiet().await;
    wharf.stop().await;
}

/// An index of things that refer to another, of two artifact types.
fn referrers() -> (Bytes, [Value; 2]) {
    let entry = |kind: &str, size: u64| {
        json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(kind.as_bytes()),
            "size": size, "artifactType": kind, "annotations": { "made": "today" },
        })
    };
    let entries = [entry("application/vnd.example.sbom", 10), entry("text/x.sig", 20)];
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    // Not as wharf would write it: it is to come through to the byte.
    (format!("  {index}\n").into(), entries)
}

#[tokio::test]
async fn referrers_are_never_an_error() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let subject = image.index.digest;
    let wharf = Wharf::start_with(&hub, |config| {
        // Only the revalidate timeout can end a stall within this test.
        config.upstreams[0].patience.first_byte = std::time::Duration::from_secs(600);
        config.pull.revalidate_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let check = async |wharf: &Wharf, repo: &str, when: &str| {
        let path = format!("/v2/{repo}/referrers/{subject}");
        let answer = wharf.get(&path).await;
        assert_eq!(answer.status, 200, "{when}");
        assert_eq!(answer.header("content-type"), Some(media_type::OCI_INDEX), "{when}");
        let body = answer.json();
        assert_eq!((&body["schemaVersion"], &body["manifests"]), (&json!(2), &json!([])), "{when}");
        assert_eq!(wharf.head(&path).await.status, 200, "{when}");
        let filtered = wharf.get(&format!("{path}?artifactType=a/b")).await;
        assert_eq!(filtered.json()["manifests"], json!([]), "{when}");
    };
    // Hub answers 404.
    check(&wharf, REPO, "no such list").await;
    check(&wharf, "library/nowhere", "no such repository").await;
    let html = vec![("content-type", "text/html".to_owned())];
    let oci = vec![("content-type", media_type::OCI_INDEX.to_owned())];
    for (when, fault) in [
        ("a stall", Fault::Stall),
        ("a stall within", Fault::StallAfter(1)),
        ("429", Fault::too_many_requests("3600")),
        ("500", Fault::status(500)),
        ("403", Fault::status(403)),
        ("a page", Fault::Status(200, html, Bytes::from_static(b"<html>"))),
        ("an image", Fault::Status(200, oci.clone(), image.children[0].manifest.bytes.clone())),
        ("null", Fault::Status(200, oci.clone(), Bytes::from_static(b"null"))),
        ("half of it", Fault::Status(200, oci, Bytes::from_static(b"{\"manifests\":[]"))),
        ("garbage", Fault::GarbageHead),
        ("too much", Fault::HugeBody(5 << 20)),
    ] {
        wharf.clock.advance(std::time::Duration::from_secs(61));
        hub.fault(On::Path("/referrers/"), fault);
        check(&wharf, REPO, when).await;
        hub.clear_faults();
    }
    hub.stop().await;
    wharf.clock.advance(std::time::Duration::from_secs(61));
    check(&wharf, REPO, "gone").await;
    let wharf = wharf.restart().await;
    check(&wharf, REPO, "gone, after a restart").await;
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn referrers_are_the_registrys_and_outlive_it() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "latest", &[ARM64], &[10]);
    let (index, entries) = referrers();
    hub.referrers(REPO, image.index.digest, Some(index.clone()));
    let path = format!("/v2/{REPO}/referrers/{}", image.index.digest);
    let wharf = Wharf::start(&hub).await;
    // A list is kept for what is kept: a client cannot fill the disk with digests of its own making.
    assert_eq!(wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.status, 200);
    let fresh = wharf.get(&path).await;
    assert_eq!((fresh.status.as_u16(), fresh.cache(), fresh.bytes()), (200, "miss", &index));
    assert_eq!(fresh.header("content-type"), Some(media_type::OCI_INDEX));
    assert_eq!(fresh.header("oci-filters-applied"), None);
    let sbom = format!("{path}?artifactType=application%2Fvnd.example.sbom");
    let check_filters = async |wharf: &Wharf| {
        for (query, expected) in [
            (sbom.clone(), json!([entries[0]])),
            (format!("{path}?artifactType=text/x.sig&ns=docker.io"), json!([entries[1]])),
            (format!("{path}?artifactType=none"), json!([])),
        ] {
            let filtered = wharf.get(&query).await;
            assert_eq!(filtered.json()["manifests"], expected, "{query}");
            assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"), "{query}");
            let length = filtered.bytes().len().to_string();
            assert_eq!(filtered.header("content-length"), Some(&*length), "{query}");
        }
    };
    check_filters(&wharf).await;
    hub.stop().await;
    let mut wharf = wharf;
    for _ in 0..2 {
        let kept = wharf.get(&path).await;
        assert_eq!((kept.status.as_u16(), kept.cache(), kept.bytes()), (200, "stale", &index));
        assert!(kept.header("warning").is_some_and(|text| text.starts_with("299 ")));
        check_filters(&wharf).await;
        wharf = wharf.restart().await;
    }
    wharf.quiet().await;
    wharf.stop().await;
}
