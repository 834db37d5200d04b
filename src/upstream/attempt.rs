//! One question from its first request to its answer: proof of who asks, redirects, then the reading.

use std::{future::Future, pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::{
    Claim, Error, Upstream, Urgency,
    account::Asker,
    auth::Proof,
    client::{Answer, Question},
    headers,
    health::Endpoint,
    line::SILENCE,
    retry::{self, Failure},
};
use crate::oci::RepositoryName;

/// A small answer, read to its end.
pub(super) struct Document {
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    /// As many as [`super::Limits::manifest_bytes`], at most.
    pub(super) bytes: Bytes,
}

impl Upstream {
    /// Asks for `path` below an endpoint; what `read` makes of the head is the answer.
    pub(super) async fn ask_head<T>(
        &self,
        question: &Question,
        name: &RepositoryName,
        path: &str,
        urgency: Urgency,
        read: impl Fn(Answer, &Arc<Endpoint>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let read = &read;
        let lent = &self.auth.lent(name);
        self.ask(urgency, |endpoint| async move {
            let answer =
                self.attempt(question, name, lent.as_ref(), endpoint, endpoint.url(path)).await?;
            Ok(read(answer, endpoint)?)
        })
        .await
    }

    /// Asks for `path` and `query` below an endpoint with that account, and reads no more of the answer than that it is
    /// one.
    pub(super) async fn ask_as(
        &self,
        account: &Claim,
        question: &Question,
        name: &RepositoryName,
        (path, query): (&str, Option<&str>),
        urgency: Urgency,
    ) -> Result<(), Error> {
        self.ask(urgency, |endpoint| async move {
            let mut url = endpoint.url(path);
            url.set_query(query);
            self.attempt(question, name, Some(account), endpoint, url).await?.body.discard().await;
            Ok(())
        })
        .await
    }

    /// Asks for `path` and `query` below an endpoint; what `read` makes of the whole answer is the answer.
    pub(super) async fn ask_document<T>(
        &self,
        question: &Question,
        name: &RepositoryName,
        path: &str,
        query: Option<&str>,
        urgency: Urgency,
        read: impl Fn(Document) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let read = &read;
        let lent = &self.auth.lent(name);
        self.ask(urgency, |endpoint| async move {
            let mut url = endpoint.url(path);
            url.set_query(query);
            let answer = self.attempt(question, name, lent.as_ref(), endpoint, url).await?;
            let bytes = answer.body.document().await?;
            Ok(read(Document { headers: answer.headers, url: answer.url, bytes })?)
        })
        .await
    }

    async fn ask<'a, T, F>(
        &'a self,
        urgency: Urgency,
        attempt: impl Fn(&'a Arc<Endpoint>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let asking = async {
            let mut asking = pin!(retry::ask(&self.endpoints, self.attempts, urgency, attempt));
            if let Ok(answer) = timeout(SILENCE, &mut asking).await {
                return answer;
            }
            self.line.doubt();
            asking.await
        };
        let answer = match urgency {
            // One question has found out that nobody answers, or will: the others need not, each by waiting.
            Urgency::Fallback(_) => tokio::select! {
                biased;
                () = self.line.should_be_spared() => {
                    return Err(Error::unavailable("no endpoint of the registry answers just now"));
                }
                answer = asking => answer,
            },
            Urgency::Must => asking.await,
        };
        match &answer {
            Err(Error::Offline) => return answer,
            Err(_) if self.endpoints.iter().all(|endpoint| endpoint.is_mute()) => self.line.lost(),
            // A registry that says no is there.
            _ => self.line.found(),
        }
        self.tell_whether_up();
        answer
    }

    /// Has the metrics tell what is [`Self::seen`].
    pub(super) fn tell_whether_up(&self) {
        if let Some((is_up, _)) = self.seen() {
            self.metrics.upstream_up(self.registry.as_str(), is_up);
        }
    }

    /// One try at one endpoint: with the account that a client lent, or with wharf's own, one after the other until one
    /// is neither refused nor limited. The answer is a success, and its body, if any, what was asked for.
    async fn attempt(
        &self,
        question: &Question,
        name: &RepositoryName,
        lent: Option<&Claim>,
        endpoint: &Endpoint,
        url: Url,
    ) -> Result<Answer, Failure> {
        let askers = self.auth.askers(endpoint, question.asked(), lent);
        let mut failed: Option<Failure> = None;
        for asker in &askers {
            let failure = match self.attempt_by(asker, question, name, endpoint, &url).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let is_its_own = !failure.is_asked
                || matches!(
                    failure.error,
                    Error::Unauthorized | Error::Denied | Error::RateLimited { .. }
                );
            failed = Some(match failed {
                Some(before) if is_its_own => before.or(failure),
                _ => failure,
            });
            if !is_its_own {
                break;
            }
        }
        Err(failed.unwrap_or_else(|| Error::Unauthorized.into()))
    }

    /// The same with one account; with what its source has by now, if the registry does not take what it had.
    async fn attempt_by(
        &self,
        asker: &Asker,
        question: &Question,
        name: &RepositoryName,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<Answer, Failure> {
        if let Some(left) = endpoint.cools(asker.who(), question.asked()) {
            return Err(Failure::unasked(Error::RateLimited { retry_after: Some(left) }));
        }
        // The log has the reason: it names files of this machine.
        let claim = asker.claim().await.map_err(|_| {
            Failure::unasked(Error::unavailable(
                "the account's credentials are not to be had just now",
            ))
        })?;
        let failure = match self.attempt_as(asker, &claim, question, name, endpoint, url).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        match &failure.error {
            Error::Unauthorized | Error::Denied => {
                if let Some(claim) = asker.renewed(&claim).await {
                    let renewed = self.attempt_as(asker, &claim, question, name, endpoint, url);
                    return self.heard_of(asker, renewed.await);
                }
                if failure.error == Error::Unauthorized {
                    asker.is_last();
                }
            }
            Error::RateLimited { retry_after: None } => asker.is_last(),
            _ => {}
        }
        self.heard_of(asker, Err(failure))
    }

    /// The same; that an account was refused is remembered.
    fn heard_of(&self, asker: &Asker, heard: Result<Answer, Failure>) -> Result<Answer, Failure> {
        heard.inspect_err(|failure| {
            if failure.is_of_account {
                self.auth.accounts().refused(asker);
            }
        })
    }

    async fn attempt_as(
        &self,
        asker: &Asker,
        account: &Claim,
        question: &Question,
        name: &RepositoryName,
        endpoint: &Endpoint,
        url: &Url,
    ) -> Result<Answer, Failure> {
        let mut proof = self.auth.known(&self.http, endpoint, name, account).await?;
        let mut refusals = 0;
        loop {
            if proof.as_ref().is_some_and(|proof| proof.is_bought(account)) {
                self.auth.accounts().taken(asker);
            }
            let authorization = proof.as_ref().map(|proof| &proof.header);
            let base = endpoint.base();
            let answer = self.http.follow(question, base, url.clone(), authorization).await?;
            if answer.status != StatusCode::UNAUTHORIZED || answer.is_foreign {
                // What a gateway says, or a host elsewhere that never saw the account, is no word on it.
                let is_judged = !answer.status.is_server_error()
                    && !matches!(answer.status.as_u16(), 408 | 429)
                    && (!answer.is_foreign || answer.status.is_success());
                if is_judged && proof.as_ref().is_some_and(Proof::is_account) {
                    self.auth.accounts().taken(asker);
                }
                return self.checked(asker, question, endpoint, answer).await;
            }
            answer.body.discard().await;
            refusals += u32::from(proof.is_some());
            if refusals > 1 {
                return Err(Error::Unauthorized.into());
            }
            let (http, headers) = (&self.http, &answer.headers);
            let next =
                self.auth.answer(http, endpoint, name, headers, account, proof.as_ref()).await?;
            proof = Some(next);
        }
    }

    async fn checked(
        &self,
        asker: &Asker,
        question: &Question,
        endpoint: &Endpoint,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        if !answer.is_foreign {
            let (limit, remaining) = headers::rate_limit(&answer.headers);
            self.auth.accounts().told(asker, limit, remaining);
        }
        if let Some(refusal) = self.http.refusal(&answer) {
            // What a host says to which a redirect led is not the registry's word.
            if let (Error::RateLimited { retry_after: Some(rest) }, false) =
                (&refusal.error, answer.is_foreign)
            {
                endpoint.cool_down(asker.who(), question.asked(), *rest);
            }
            answer.body.discard().await;
            return Err(refusal);
        }
        headers::refuse_encoded(&answer.headers)?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            StatusCode::PARTIAL_CONTENT if question.is_of_a_part() => Ok(answer),
            status => Err(Error::protocol(format!("an unexpected {status}")).into()),
        }
    }
}
