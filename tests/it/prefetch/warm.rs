//! Images that are kept up to date whether anybody asks or not.

use std::time::Duration;

use wharf::pull::{WarmImage, WarmTags, Window};

use super::{ARM64, until_whole};
use crate::{
    platforms::{Client, OFFICIAL, REPO, asked, by_digest, by_tag, engine, is_there, is_whole},
    support::{FakeHub, Fault, On, Wharf, deadline},
};

fn warm(every: Duration, window: Option<Window>) -> WarmImage {
    WarmImage {
        repository: "docker.io/library/busybox".parse().expect("a name"),
        tags: WarmTags::One("1".parse().expect("a tag")),
        platforms: vec!["linux/arm64".parse().expect("a platform")],
        every,
        window,
    }
}

#[tokio::test]
async fn an_image_is_kept_warm_when_it_is_due_and_in_its_time_of_the_day() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let hour = Duration::from_secs(3600);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(hour, None));
    })
    .await;
    wharf.pull.attend().await;
    until_whole(&wharf, image.child(ARM64)).await;
    wharf.quiet().await;
    assert_eq!(asked(&hub, image.child("linux/amd64")), 0);
    let moved = hub.push_image(REPO, "2", &OFFICIAL, &[2000]);
    hub.move_tag(REPO, "1", moved.index.digest);
    wharf.clock.advance(hour / 2);
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(!is_there(&wharf, moved.child(ARM64)), "not due yet");
    hub.fault(On::Manifests, Fault::status(503));
    wharf.clock.advance(hour / 2);
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(!is_there(&wharf, moved.child(ARM64)), "an outage");
    hub.clear_faults();
    wharf.clock.advance(Duration::from_secs(5 * 60));
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, moved.child(ARM64)), "five minutes later, and not an hour");
    wharf.end().await;

    // A window that is half a day away.
    let now = wharf::clock::Clock::system().minute_of_day();
    let (from, to) = ((now + 720) % 1440, (now + 780) % 1440);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(hour, Some(Window { from, to })));
    })
    .await;
    hub.clear_log();
    for _ in 0..10 {
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert_eq!(hub.log().len(), 0);
        wharf.clock.advance(hour);
    }
    wharf.clock.advance(Duration::from_secs(2 * 3600 + 600));
    wharf.pull.attend().await;
    wharf.quiet().await;
    assert!(is_whole(&wharf, moved.child(ARM64)));
    wharf.end().await;
}

#[tokio::test]
async fn an_image_that_could_not_be_looked_at_is_looked_at_soon() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let week = Duration::from_secs(7 * 24 * 3600);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.images.push(warm(week, None));
    })
    .await;
    // At first nothing is kept, then something that stands in.
    let mut looks = vec![image];
    looks.push(hub.push_image(REPO, "2", &OFFICIAL, &[2000]));
    for image in &looks {
        hub.move_tag(REPO, "1", image.index.digest);
        hub.fault(On::Path("/manifests/1"), Fault::status(503));
        wharf.clock.advance(week);
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert!(!is_there(&wharf, image.child(ARM64)));
        hub.clear_faults();
        wharf.clock.advance(Duration::from_secs(10 * 60));
        wharf.pull.attend().await;
        wharf.quiet().await;
        assert!(is_whole(&wharf, image.child(ARM64)));
    }
    wharf.end().await;
}

#[tokio::test]
async fn a_client_does_not_wait_for_the_time_of_the_day_of_an_image_that_is_kept_warm() {
    let hub = FakeHub::start().await;
    let image = hub.push_image(REPO, "1", &OFFICIAL, &[1000]);
    let hour = Duration::from_secs(3600);
    let now = wharf::clock::Clock::system().minute_of_day();
    let (from, to) = ((now + 1430) % 1440, (now + 30) % 1440);
    let wharf = Wharf::start_with(&hub, |config| {
        config.pull.prefetch.on_pull = true;
        config.pull.prefetch.retry_after = Duration::from_millis(20);
        config.pull.prefetch.images.push(warm(hour * 48, Some(Window { from, to })));
    })
    .await;
    // It begins in its time of the day, and fails until that is over.
    hub.fault(On::Blob(image.child(ARM64).layers[0].digest), Fault::status(503));
    wharf.pull.attend().await;
    let count = async |what, n| {
        let metric = format!("wharf_prefetch_total{{outcome=\"{what}\"}}");
        deadline("a try", async {
            while wharf.metric(&metric) < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    count("retried", 1.0).await;
    wharf.clock.advance(hour);
    count("paused", 1.0).await;
    hub.clear_faults();
    assert!(!is_whole(&wharf, image.child(ARM64)));
    Client::new(&wharf, &engine("arm64")).get(&by_tag("1")).await;
    Client::new(&wharf, "").get(&by_digest(&image.child(ARM64).manifest.digest)).await;
    until_whole(&wharf, image.child(ARM64)).await;
    wharf.end().await;
}
