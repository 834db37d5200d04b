//! Looking for a registry that says nothing, until it does.
//!
//! Nothing is asked while all is well: a metered line stays idle. What is in doubt is asked once, and what is away again and
//! again, by `GET /v2/`, which every registry answers, with 401 if with nothing else.

use std::{convert::Infallible, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Endpoint, Error, Question, Upstream, Upstreams};

/// For an endpoint to answer, a connection and TLS included: some seven round trips.
const PATIENCE: Duration = Duration::from_secs(4);

/// Between two looks, at first and at most: with the time that a look takes, about ten seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

impl Upstreams {
    /// Looks for registries that say nothing, for as long as it is polled.
    pub async fn watch(&self) -> Infallible {
        join_all(self.by_name.values().map(|upstream| upstream.watch())).await;
        // Where there is no registry, there is nothing to look for.
        std::future::pending().await
    }
}

impl Upstream {
    async fn watch(&self) -> Infallible {
        self.line.is_watched();
        loop {
            self.line.doubted().await;
            let mut pause = FIRST_PAUSE;
            loop {
                self.line.online().await;
                if self.is_there().await {
                    break;
                }
                if !self.line.is_offline() {
                    self.line.not_found();
                }
                if !self.line.again(pause).await {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            self.line.settle();
        }
    }

    /// Asks every endpoint whether it is there; whether one is.
    async fn is_there(&self) -> bool {
        let there = join_all(self.endpoints.iter().map(|endpoint| self.says_something(endpoint)));
        let found = there.await.contains(&true);
        if found {
            self.line.found();
        }
        self.tell_whether_up();
        found
    }

    async fn says_something(&self, endpoint: &Endpoint) -> bool {
        let question = Question::get("ping", "application/json");
        let url = endpoint.url("/v2/");
        let asked = self.http.exchange(&question, endpoint.base(), &url, None);
        let error = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                endpoint.spoke(self.line.is_certainly_away());
                answer.body.discard().await;
                return true;
            }
            Ok(Err(failure)) => failure.error,
            Err(_) => Error::unavailable(format!("no answer within {PATIENCE:?}")),
        };
        if error != Error::Offline {
            endpoint.said_nothing();
        }
        false
    }
}
