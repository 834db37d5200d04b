//! One question from its first request to its answer: proof of who asks, redirects, then the reading.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::{
    Error, Upstream, Urgency,
    client::{Answer, Question},
    headers,
    health::Endpoint,
    retry::{self, Failure},
};
use crate::{
    metrics::Limit,
    oci::{MANIFEST_MAX_BYTES, RepositoryName},
};

/// A small answer, read to its end.
pub(super) struct Document {
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    /// At most [`MANIFEST_MAX_BYTES`].
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
        self.ask(urgency, |endpoint| async move {
            let answer = self.attempt(question, name, endpoint, endpoint.url(path)).await?;
            Ok(read(answer, endpoint)?)
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
        self.ask(urgency, |endpoint| async move {
            let mut url = endpoint.url(path);
            url.set_query(query);
            let answer = self.attempt(question, name, endpoint, url).await?;
            let bytes = answer.body.whole(MANIFEST_MAX_BYTES, Limit::ManifestBytes).await?;
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
        let answer = retry::ask(&self.endpoints, self.attempts, urgency, attempt).await;
        let is_up = match &answer {
            Ok(_) => true,
            // A registry that says no is there.
            Err(error) => error.is_answer(),
        };
        self.metrics.upstream_up(self.registry.as_str(), is_up);
        answer
    }

    /// One try at one endpoint. The answer is a success, and its body, if any, what was asked for.
    async fn attempt(
        &self,
        question: &Question,
        name: &RepositoryName,
        endpoint: &Endpoint,
        url: Url,
    ) -> Result<Answer, Failure> {
        if let Some(left) = endpoint.cools(question.asked()) {
            let error = Error::RateLimited { retry_after: Some(left) };
            return Err(Failure { error, retry_after: None, is_asked: false });
        }
        let mut proof = self.auth.known(&self.http, endpoint, name).await?;
        let mut refusals = 0;
        loop {
            let authorization = proof.as_ref().map(|proof| &proof.header);
            let base = endpoint.base();
            let answer = self.http.follow(question, base, url.clone(), authorization).await?;
            if answer.status != StatusCode::UNAUTHORIZED || answer.is_foreign {
                return self.checked(question, endpoint, answer).await;
            }
            answer.body.discard().await;
            refusals += u32::from(proof.is_some());
            if refusals > 1 {
                return Err(Error::Unauthorized.into());
            }
            let (http, headers) = (&self.http, &answer.headers);
            let next = self.auth.answer(http, endpoint, name, headers, proof.as_ref()).await?;
            proof = Some(next);
        }
    }

    async fn checked(
        &self,
        question: &Question,
        endpoint: &Endpoint,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        if let Some(refusal) = self.http.refusal(&answer) {
            // What a host says to which a redirect led is not the registry's word.
            if let (Error::RateLimited { retry_after: Some(rest) }, false) =
                (&refusal.error, answer.is_foreign)
            {
                endpoint.cool_down(question.asked(), *rest);
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
