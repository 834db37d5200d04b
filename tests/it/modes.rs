//! `[server] mode`: offline nothing is dialled; in auto a dead uplink is noticed once for all who ask, costs nobody a wait
//! after that, and is found again without anybody's asking (bug class: each pull waits for its own time-out).

use std::time::Duration;

use tokio::time::Instant;
use wharf::{config::Config, upstream::Mode};

use crate::support::{Challenge, FakeHub, Fault, On, PushedImage, Wharf, client};

const REPO: &str = "library/busybox";
const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);
const AMD64: (&str, &str, Option<&str>) = ("linux", "amd64", None);

/// Beyond every time to live, and every pause between two looks.
const LATER: Duration = Duration::from_secs(3601);

/// The bound for answers that owe nothing to a registry, on a busy machine.
const SOON: Duration = Duration::from_millis(900);

fn tag(name: &str) -> String {
    format!("/v2/{REPO}/manifests/{name}")
}

/// All that a device with arm64 pulls of an image.
fn contents(image: &PushedImage) -> Vec<String> {
    let child = image.child("linux/arm64");
    let blobs = [&child.config].into_iter().chain(&child.layers);
    let blobs = blobs.map(|blob| format!("/v2/{REPO}/blobs/{}", blob.digest));
    std::iter::once(format!("/v2/{REPO}/manifests/{}", child.manifest.digest))
        .chain(blobs)
        .collect()
}

async fn pull(wharf: &Wharf, name: &str, image: &PushedImage) {
    assert_eq!(wharf.get(&tag(name)).await.status, 200);
    for path in contents(image) {
        assert_eq!(wharf.get(&path).await.status, 200, "{path}");
    }
    wharf.quiet().await;
}

/// No answer but the revalidate timeout ends a question that is not answered.
fn patient(config: &mut Config) {
    config.upstreams[0].patience.connect = Duration::from_secs(600);
    config.upstreams[0].patience.first_byte = Duration::from_secs(600);
    config.pull.revalidate_timeout = Duration::from_secs(1);
}

fn offline(config: &mut Config) {
    config.mode = Mode::Offline;
}

#[tokio::test]
async fn offline_nothing_is_dialled_and_what_is_kept_is_answered_without_a_warning() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[ARM64, AMD64], &[5000]);
    let wharf = Wharf::start(&hub).await;
    pull(&wharf, "1", &image).await;
    // A tag that is never fresh, an answer that is never stale, and a prefetch that would ask.
    let wharf = wharf
        .restart_with(|config| {
            offline(config);
            config.pull.tag_ttl = Duration::ZERO;
            config.pull.serve_stale = false;
            config.pull.prefetch.on_pull = true;
        })
        .await;
    hub.clear_log();
    let subject = image.index.digest;
    let begun = Instant::now();
    for path in [tag("1")].into_iter().chain(contents(&image)) {
        for answer in [wharf.get(&path).await, wharf.head(&path).await] {
            assert_eq!((answer.status.as_u16(), answer.cache()), (200, "hit"), "{path}");
            assert_eq!(answer.header("warning"), None, "{path}");
        }
    }
    let tags = wharf.get(&format!("/v2/{REPO}/tags/list")).await;
    assert_eq!((tags.cache(), &tags.json()["tags"]), ("hit", &serde_json::json!(["1"])));
    assert_eq!(tags.header("warning"), None);
    let catalog = wharf.get("/v2/_catalog").await.json();
    assert_eq!(catalog["repositories"], serde_json::json!(["docker.io/library/busybox"]));
    let referrers = wharf.get(&format!("/v2/{REPO}/referrers/{subject}")).await;
    assert_eq!((referrers.status.as_u16(), referrers.header("warning")), (200, None));
    assert_eq!(referrers.json()["manifests"], serde_json::json!([]));

    // What is not kept is 404, with what would bring it.
    let agent = [("user-agent", "docker/29.0 os/linux arch/arm64")];
    let asked = |path: String| async move { client::get(wharf.addr, &path, &agent).await };
    let (status, code) = asked(tag("2")).await.refusal();
    assert_eq!((status, &*code), (404, "MANIFEST_UNKNOWN"));
    let wharf_export = "`wharf export docker.io/library/busybox:2 --platform linux/arm64";
    let said = asked(tag("2")).await.json().to_string();
    assert!(said.contains("for linux/arm64") && said.contains(wharf_export), "{said}");
    let amd64 = image.child("linux/amd64");
    let said = asked(tag(&amd64.manifest.digest.to_string())).await.json().to_string();
    let wharf_export =
        format!("`wharf export docker.io/library/busybox@{subject} --platform linux/amd64 ");
    assert!(said.contains(&wharf_export), "{said}");
    let blob = asked(format!("/v2/{REPO}/blobs/{}", amd64.layers[0].digest)).await;
    assert_eq!(blob.refusal(), (404, "BLOB_UNKNOWN".to_owned()));
    let unknown = asked("/v2/library/alpine/tags/list".to_owned()).await;
    assert_eq!(unknown.refusal(), (404, "NAME_UNKNOWN".to_owned()));
    assert!(begun.elapsed() < SOON * 10, "{:?}", begun.elapsed());
    assert_eq!(hub.log().len(), 0, "asked: {:?}", hub.log());

    let status = wharf.pull.status().await;
    assert_eq!(status.mode, "offline");
    assert_eq!(wharf.metric("wharf_mode{mode=\"offline\"}"), 1.0);
    assert_eq!(wharf.metric("wharf_mode{mode=\"auto\"}"), 0.0);
    assert_eq!(client::get(wharf.admin, "/readyz", &[]).await.status, 200);

    // Asked for, it is asked for again; and not, once that is taken back.
    wharf.pull.set_mode(Mode::Auto);
    assert_eq!(wharf.get(&tag("1")).await.cache(), "hit");
    assert_eq!(hub.manifest_heads(), 1);
    wharf.pull.set_mode(Mode::Offline);
    wharf.quiet().await;
    hub.clear_log();
    assert_eq!(wharf.get(&tag("1")).await.cache(), "hit");
    assert_eq!(hub.log().len(), 0);
    wharf.end().await;
}

#[tokio::test]
async fn a_download_ends_when_wharf_goes_offline_and_goes_on_afterwards() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[ARM64], &[300_000]);
    let wharf = Wharf::start(&hub).await;
    let layer = &image.child("linux/arm64").layers[0];
    let path = format!("/v2/{REPO}/blobs/{}", layer.digest);
    assert_eq!(wharf.get(&tag("1")).await.status, 200);
    assert_eq!(wharf.get(&contents(&image)[0]).await.status, 200);
    hub.fault_next(1, On::Blobs, Fault::StallAfter(150_000));
    let begun = wharf.open(&path, &[]).await;
    hub.until("half of it", |seen| seen.iter().any(|seen| seen.body_bytes_sent == 150_000)).await;
    wharf.pull.set_mode(Mode::Offline);
    assert!(begun.rest().await.body.is_err(), "it was cut");
    assert_eq!(wharf.get(&path).await.refusal(), (404, "BLOB_UNKNOWN".to_owned()));
    wharf.pull.set_mode(Mode::Auto);
    hub.clear_log();
    assert_eq!(wharf.get(&path).await.bytes().len() as u64, layer.bytes.len() as u64);
    wharf.end().await;
}

/// Bug class: as many waits as there are tags; and one more for each minute that the uplink is gone.
#[tokio::test]
async fn one_question_finds_a_dead_uplink_for_all_and_then_nobody_waits() {
    let hub = FakeHub::start().await;
    let wharf = Wharf::start_with(&hub, patient).await;
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    for name in &names {
        hub.push_image(REPO, name, &[ARM64], &[10]);
        assert_eq!(wharf.get(&tag(name)).await.status, 200);
    }
    wharf.quiet().await;
    wharf.clock.advance(LATER);
    hub.fault(On::Any, Fault::Stall);
    hub.clear_log();
    // One asks first; the others come while it waits, and are told when it is.
    let begun = Instant::now();
    let paths: Vec<String> = names.iter().map(|name| tag(name)).collect();
    let all = futures_util::future::join_all(paths.iter().map(|path| wharf.get(path))).await;
    assert!(all.iter().all(|answer| answer.cache() == "stale"));
    assert!(begun.elapsed() < Duration::from_secs(1) + SOON * 2, "{:?}", begun.elapsed());
    // For as long as it lasts, whatever times to live and rests are over.
    let questions = |hub: &FakeHub| hub.count(|seen| !seen.is_ping());
    let asked = questions(&hub);
    assert!(asked <= names.len(), "{asked}");
    for _ in 0..5 {
        wharf.clock.advance(LATER);
        for path in &paths {
            let begun = Instant::now();
            assert_eq!(wharf.get(path).await.cache(), "stale");
            assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        }
    }
    assert_eq!(questions(&hub), asked, "nothing but the registry itself was looked for");
    // How often it was looked for is for the clock to say, not for the clients.
    let looks = hub.count(|seen| seen.is_ping());
    assert!((1..=7).contains(&looks), "{looks}");
    let status = wharf.pull.status().await;
    assert_eq!((status.mode.as_str(), status.upstreams[0].up), ("auto", Some(false)));
    assert_eq!(wharf.metric("wharf_upstream_up{registry=\"docker.io\"}"), 0.0);
    assert_eq!(client::get(wharf.admin, "/readyz", &[]).await.status, 200);

    // It is found again without anybody's asking for anything, and then left in peace.
    hub.clear_faults();
    wharf.clock.advance(LATER);
    wharf.until_up("docker.io").await;
    hub.clear_log();
    wharf.clock.advance(LATER);
    assert_eq!(wharf.get(&paths[0]).await.cache(), "hit");
    assert_eq!(hub.count(|seen| seen.is_ping()), 0, "a line that works is idle");
    wharf.end().await;
}

#[tokio::test]
async fn online_every_tag_that_is_due_is_asked_for_though_nobody_answers() {
    // Without tokens, each question is one exchange.
    let mut hub = FakeHub::builder().challenge(Challenge::None).start().await;
    hub.push_image(REPO, "1", &[ARM64], &[10]);
    let wharf = Wharf::start_with(&hub, |config| config.mode = Mode::Online).await;
    assert_eq!(wharf.get(&tag("1")).await.status, 200);
    hub.stop().await;
    let errors = "wharf_upstream_requests_total{endpoint=\"manifest\",registry=\"docker.io\",status=\"error\"}";
    for asked in 1..=3 {
        wharf.clock.advance(LATER);
        assert_eq!(wharf.get(&tag("1")).await.cache(), "stale");
        assert_eq!(wharf.metric(errors), f64::from(asked));
    }
    wharf.quiet().await;
    wharf.stop().await;
}

#[tokio::test]
async fn what_was_to_be_fetched_ahead_is_when_the_registry_is_back() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[ARM64], &[5000]);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.platforms.default = Some("linux/arm64".parse().expect("a platform"));
        // A retry that is due by time would come in a day.
        config.pull.prefetch.retry_after = Duration::from_secs(86_400);
    })
    .await;
    // The list comes; of what it names, nothing does.
    hub.fault(On::Blobs, Fault::CloseBeforeHead);
    assert_eq!(wharf.get(&tag("1")).await.status, 200);
    hub.stop().await;
    hub.clear_faults();
    wharf.quiet().await;
    // Somebody asks, and with that it is known.
    assert_eq!(wharf.get(&tag("2")).await.status, 502);
    hub.resume();
    wharf.clock.advance(LATER);
    wharf.until_up("docker.io").await;
    let layer = &image.child("linux/arm64").layers[0];
    crate::support::deadline("it to be fetched ahead", async {
        while !wharf.blob_file(&layer.digest).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    wharf.end().await;
}

#[tokio::test]
async fn a_broken_pull_waits_for_the_registry_and_goes_on() {
    let mut hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &[ARM64], &[300_000]);
    let wharf = Wharf::start_with(&hub, |config| config.upstreams[0].patience.attempts = 1).await;
    let layer = &image.child("linux/arm64").layers[0];
    let path = format!("/v2/{REPO}/blobs/{}", layer.digest);
    assert_eq!(wharf.get(&tag("1")).await.status, 200);
    assert_eq!(wharf.get(&contents(&image)[0]).await.status, 200);
    hub.fault_next(1, On::Blobs, Fault::StallAfter(150_000));
    let pulled = wharf.get(&path);
    let outage = async {
        hub.until("half of it", |seen| seen.iter().any(|seen| seen.body_bytes_sent == 150_000))
            .await;
        hub.stop().await;
        // Known to be gone: as many attempts as a download has would be over long before it is back.
        crate::support::deadline("the outage to be noticed", async {
            while wharf.metric("wharf_upstream_up{registry=\"docker.io\"}") > 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        hub.resume();
        wharf.clock.advance(LATER);
    };
    let (answer, ()) = tokio::join!(pulled, outage);
    assert_eq!(answer.bytes().len() as u64, layer.bytes.len() as u64);
    assert!(wharf.metric("wharf_download_resumes_total") >= 1.0);
    wharf.end().await;
}
