//! The other side of the table: a registry that answers nonsense, once for each row, and is well again afterwards.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use wharf::upstream::Patience;

use super::{
    Gets, assert_all, run,
    site::{REPO, kept},
};
use crate::support::{
    Challenge, FakeHub, Fault, On, Wharf, blob_path,
    client::{self, Answer, NoAnswer},
};

/// What a registry does, and what a client must get.
pub(super) struct Row {
    what: String,
    asks: Asks,
    method: &'static str,
    faults: Vec<(On, Fault)>,
    gets: Gets,
    /// Most requests that it may cost.
    requests: usize,
}

/// What the client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    Tag,
    Manifest,
    Blob,
    Tags,
    Referrers,
    /// Of one artifact type only.
    Filtered,
}

/// Waits for a registry that stalls; attempts are for other tests.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_millis(1500),
    idle: Duration::from_millis(1500),
    least_rate: None,
    attempts: 1,
};

/// No row takes longer, whatever the registry does.
const DEADLINE: Duration = Duration::from_secs(9);

/// One challenge, one token, a question, and an alternative to it.
const REQUESTS: usize = 6;

/// Rows that are tried at one time.
const AT_ONCE: usize = 12;

impl Row {
    pub(super) fn new(
        what: impl Into<String>,
        asks: Asks,
        on: On,
        fault: Fault,
        gets: Gets,
    ) -> Self {
        let faults = vec![(on, fault)];
        Self { what: what.into(), asks, method: "GET", faults, gets, requests: REQUESTS }
    }

    pub(super) fn by_head(self) -> Self {
        Self { method: "HEAD", ..self }
    }

    pub(super) fn within(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    async fn check(&self) -> Result<(), String> {
        let hub = FakeHub::builder().challenge(Challenge::Bearer).start().await;
        timeout(DEADLINE * 2, self.played_by(hub))
            .await
            .unwrap_or_else(|_| Err("hangs".to_owned()))
            .map_err(|wrong| format!("- {} {:?}, {}: {wrong}", self.method, self.asks, self.what))
    }

    async fn played_by(&self, hub: FakeHub) -> Result<(), String> {
        let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[500]);
        let wharf = Wharf::start_with(&hub, |config| config.upstreams[0].patience = PATIENCE).await;
        let layer = &image.layers[0];
        let (path, right) = match self.asks {
            Asks::Tag => (format!("/v2/{REPO}/manifests/latest"), &image.manifest.bytes),
            Asks::Manifest => {
                (format!("/v2/{REPO}/manifests/{}", image.manifest.digest), &image.manifest.bytes)
            }
            Asks::Blob => (blob_path(REPO, &layer.digest), &layer.bytes),
            Asks::Tags => {
                let list = Bytes::from_static(br#"{"name":"library/busybox","tags":["latest"]}"#);
                (format!("/v2/{REPO}/tags/list"), &list.clone())
            }
            Asks::Referrers => {
                (format!("/v2/{REPO}/referrers/{}", image.manifest.digest), &Bytes::new())
            }
            Asks::Filtered => {
                let digest = image.manifest.digest;
                (format!("/v2/{REPO}/referrers/{digest}?artifactType=a/b"), &Bytes::new())
            }
        };
        for (on, fault) in &self.faults {
            hub.fault(on.clone(), fault.clone());
        }
        let ask = async {
            match client::open(self.method, wharf.addr, &path, &[]).await {
                Ok(stream) => self.gets.check(&stream.rest().await, self.method == "HEAD"),
                // The end came before the head had gone out.
                Err(NoAnswer::NoHead) if self.gets.is_cut() => Ok(()),
                Err(why) => Err(format!("{why:?}")),
            }
        };
        timeout(DEADLINE, ask).await.map_err(|_| "no answer in time".to_owned())??;
        self.leaves_nothing(&wharf, &hub).await?;
        recovers(&wharf, &hub, &path, right).await?;
        wharf.deserted().await;
        wharf.end().await;
        Ok(())
    }

    async fn leaves_nothing(&self, wharf: &Wharf, hub: &FakeHub) -> Result<(), String> {
        wharf.quiet().await;
        let asked = hub.count(|_| true);
        if asked > self.requests {
            return Err(format!("it cost {asked} requests"));
        }
        let mut kept = kept(wharf.cache());
        if self.gets.is_cut() {
            // Bytes that were right may serve a later download, which shows whether they were.
            kept.retain(|name| !name.contains("partial"));
        }
        if !kept.is_empty() && !self.gets.is_good() {
            return Err(format!("it is kept: {kept:?}"));
        }
        Ok(())
    }
}

/// Once the registry is well, and what was remembered of it is forgotten, it serves as if nothing had been.
async fn recovers(wharf: &Wharf, hub: &FakeHub, path: &str, right: &Bytes) -> Result<(), String> {
    hub.clear_faults();
    wharf.clock.advance(Duration::from_secs(25 * 3600));
    let Answer { status, body, .. } = wharf.get(path).await;
    let is_right = body.as_ref().is_ok_and(|body| right.is_empty() || body == right);
    if status == 200 && is_right { Ok(()) } else { Err(format!("later: {status}, {body:?}")) }
}

/// Tries all rows.
pub(super) fn all(rows: Vec<Row>, at_least: usize) {
    run(async {
        let results = stream::iter(&rows).map(Row::check).buffer_unordered(AT_ONCE).collect().await;
        assert_all(results, at_least);
    });
}
