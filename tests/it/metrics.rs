//! A metric that does not add up is worse than none: what crossed the uplink and what is left of the pull
//! limit are what an operator pays for.

use crate::support::{Challenge, FakeHub, Fault, Host, On, PushedImage, Wharf, upstream};

const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// The sum of every value of a metric, over all labels.
fn total(wharf: &Wharf, name: &str) -> f64 {
    let (text, _) = wharf.metrics.render();
    let text = String::from_utf8(text).expect("the text format is UTF-8");
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .strip_prefix('{')
            .map_or(rest, |labels| labels.rsplit_once('}').expect("closed").1);
        value.trim().parse::<f64>().ok()
    };
    text.lines().filter_map(value).sum()
}

/// What a device asks for; how many requests that is, and how many bytes of bodies it got.
async fn pull(wharf: &Wharf, image: &PushedImage) -> (f64, f64) {
    let child = image.child("linux/arm64");
    let mut paths = vec!["manifests/latest".to_owned()];
    paths.push(format!("manifests/{}", child.manifest.digest));
    for blob in std::iter::once(&child.config).chain(&child.layers) {
        paths.push(format!("blobs/{}", blob.digest));
    }
    let mut bytes = 0;
    for path in &paths {
        let answer = wharf.get(&format!("/v2/library/app/{path}")).await;
        assert_eq!(answer.status, 200, "{path}");
        bytes += answer.bytes().len();
        wharf.quiet().await;
    }
    (paths.len() as f64, bytes as f64)
}

#[tokio::test]
async fn requests_and_bytes_of_a_pull_add_up() {
    let hub = FakeHub::start().await;
    let image = hub.push_image("library/app", "latest", &[ARM64], &[100_000, 300_000]);
    let wharf = Wharf::start(&hub).await;
    let (requests, bytes) = pull(&wharf, &image).await;

    assert_eq!(total(&wharf, "wharf_requests_total"), requests);
    assert_eq!(wharf.metric("wharf_requests_total{endpoint=\"manifest\",outcome=\"miss\"}"), 2.0);
    assert_eq!(wharf.metric("wharf_requests_total{endpoint=\"blob\",outcome=\"miss\"}"), 3.0);
    assert_eq!(wharf.metric("wharf_served_bytes_total{outcome=\"miss\"}"), bytes);
    assert_eq!(total(&wharf, "wharf_served_bytes_total"), bytes);
    assert_eq!(total(&wharf, "wharf_request_duration_seconds_count"), requests);
    assert_eq!(total(&wharf, "wharf_time_to_first_byte_seconds_count"), requests);

    // Of the upstream everything counts: challenges, the token and redirects, too.
    let sent = hub.log().iter().map(|seen| seen.body_bytes_sent).sum::<u64>() as f64;
    assert!(sent > bytes);
    assert_eq!(wharf.metric("wharf_upstream_bytes_total{registry=\"docker.io\"}"), sent);
    let asked = hub.count(|_| true) as f64;
    assert_eq!(total(&wharf, "wharf_upstream_requests_total"), asked);
    for (endpoint, status, count) in [
        ("manifest", 401, 1.0),
        ("manifest", 200, 2.0),
        ("token", 200, 1.0),
        ("blob", 307, 3.0),
        ("blob", 200, 3.0),
    ] {
        let labels = format!("endpoint=\"{endpoint}\",registry=\"docker.io\",status=\"{status}\"");
        let metric = format!("wharf_upstream_requests_total{{{labels}}}");
        assert_eq!(wharf.metric(&metric), count, "{metric}");
    }
    assert_eq!(wharf.metric("wharf_upstream_up{registry=\"docker.io\"}"), 1.0);
    assert_eq!(wharf.metric("wharf_downloads_in_flight"), 0.0);
    assert_eq!(total(&wharf, "wharf_verify_failures_total"), 0.0);

    // The second pull is all hits, and costs the uplink nothing.
    assert_eq!(pull(&wharf, &image).await, (requests, bytes));
    assert_eq!(wharf.metric("wharf_served_bytes_total{outcome=\"hit\"}"), bytes);
    assert_eq!(total(&wharf, "wharf_requests_total"), 2.0 * requests);
    assert_eq!(wharf.metric("wharf_upstream_bytes_total{registry=\"docker.io\"}"), sent);
    assert_eq!(total(&wharf, "wharf_upstream_requests_total"), asked);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn refusals_are_counted_by_whose_they_are() {
    let hub = FakeHub::start().await;
    hub.push_image("library/app", "latest", &[ARM64], &[10]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.upstreams[0].patience.attempts = 1;
    })
    .await;
    let requests = |endpoint: &str, outcome: &str| {
        wharf.metric(&format!(
            "wharf_requests_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!(wharf.get("/v2/library/app/manifests/none").await.status, 404);
    assert_eq!(wharf.get("/v2/library/app/manifests/sha256:x").await.status, 400);
    assert_eq!(wharf.get("/v2/").await.status, 200);
    assert_eq!(requests("manifest", "client_error"), 1.0);
    assert_eq!(requests("other", "client_error"), 1.0, "what has no address has no endpoint");
    assert_eq!(requests("ping", "hit"), 1.0);
    hub.fault(On::Manifests, Fault::status(503));
    assert_eq!(wharf.get("/v2/library/app/manifests/latest").await.status, 502);
    assert_eq!(requests("manifest", "upstream_error"), 1.0);
    assert_eq!(wharf.metric("wharf_upstream_up{registry=\"docker.io\"}"), 0.0);
    hub.clear_faults();
    assert_eq!(wharf.get("/v2/library/app/manifests/latest").await.status, 200);
    assert_eq!(wharf.metric("wharf_upstream_up{registry=\"docker.io\"}"), 1.0);
    // Stale answers are counted as such, and a registry that says 429 is there.
    wharf.clock.advance(std::time::Duration::from_secs(61));
    hub.fault(On::Manifests, Fault::too_many_requests("60"));
    assert_eq!(wharf.get("/v2/library/app/manifests/latest").await.cache(), "stale");
    assert_eq!(requests("manifest", "stale"), 1.0);
    assert_eq!(wharf.metric("wharf_upstream_up{registry=\"docker.io\"}"), 1.0);
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn the_pull_limit_is_shown_as_the_registry_last_told_it() {
    let hub = FakeHub::start().await;
    let site = FakeHub::builder().challenge(Challenge::None).start().await;
    for hub in [&hub, &site] {
        for tag in ["1", "2"] {
            hub.push_single("library/app", tag, ARM64, &[10]);
        }
    }
    let wharf = Wharf::start_with(&hub, |config| {
        let name = "registry.lan:5000".parse().expect("a registry");
        config.upstreams.push(upstream(name, &[&site.url(Host::Registry)]));
    })
    .await;
    let left = |registry: &str| {
        wharf.metric(&format!("wharf_upstream_ratelimit_remaining{{registry=\"{registry}\"}}"))
    };
    assert_eq!(total(&wharf, "wharf_upstream_ratelimit_limit"), 0.0, "nobody has told yet");
    wharf.get("/v2/library/app/manifests/1").await;
    assert_eq!(wharf.metric("wharf_upstream_ratelimit_limit{registry=\"docker.io\"}"), 100.0);
    assert_eq!(left("docker.io"), 99.0);
    wharf.get("/v2/library/app/manifests/2").await;
    wharf.get("/v2/registry.lan:5000/library/app/manifests/1").await;
    assert_eq!((left("docker.io"), left("registry.lan:5000")), (98.0, 99.0));
    // HEAD is free and tells as well; a refusal tells, too.
    wharf.clock.advance(std::time::Duration::from_secs(61));
    wharf.get("/v2/library/app/manifests/1").await;
    assert_eq!(left("docker.io"), 98.0);
    let headers = vec![
        ("ratelimit-limit", "100;w=21600".to_owned()),
        ("ratelimit-remaining", "0;w=21600".to_owned()),
    ];
    hub.fault(On::Manifests, Fault::Status(429, headers, "{}".into()));
    wharf.get("/v2/library/app/manifests/2").await;
    assert_eq!(left("docker.io"), 0.0);
    wharf.quiet().await;
    wharf.stop().await;
}
