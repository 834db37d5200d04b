//! One registry's HTTP client: an exchange with its deadlines, and the redirects it leads through.

use std::{error::Error as _, fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;
use url::Url;

use super::{
    Config, Error, Limits,
    body::Body,
    dial::{Bounds, Connector, LeadsInside, Reach},
    headers,
    health::Asked,
    line::Line,
    pace::{OpenBodies, Pace},
    retry::Failure,
    tls,
};
use crate::{
    clock::Clock,
    documents::Documents,
    metrics::{Limit, Metrics},
    oci::RegistryName,
};

/// Hops of one request; browsers and Docker stop at about as many.
const MAX_REDIRECTS: usize = 10;
/// Bounds the head of an answer, and what is read of a body at once.
const READ_BUFFER: usize = 128 * 1024;
/// Idle connections are closed before most registries and middleboxes forget them.
const KEEP_IDLE: Duration = Duration::from_secs(30);
/// Idle connections that are kept to one host: as many as questions of a kind are asked of a registry at once, by default.
/// With fewer, a crowd of small questions would dial, and shake hands, for most of them.
const KEEP_IDLE_MAX: usize = 64;
const WHARF: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));

/// Talks HTTP to whatever one registry's endpoints lead to.
pub(super) struct Http {
    /// For what may be inside; its connections are not those of `outside`.
    anywhere: Client<Connector, Full<Bytes>>,
    outside: Client<Connector, Full<Bytes>>,
    reach: Reach,
    first_byte: Duration,
    idle: Duration,
    clock: Clock,
    traffic: Traffic,
    shared: Shared,
    least_rate: Option<u64>,
    line: Line,
}

/// What the clients of all registries have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) documents: Documents,
    pub(super) open_bodies: OpenBodies,
    pub(super) limits: Limits,
}

/// Counts what goes to and comes from one registry.
#[derive(Clone)]
pub(super) struct Traffic {
    registry: RegistryName,
    metrics: Metrics,
}

/// A request, apart from where it goes.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// `GET` or `HEAD`, and `POST` of a form.
    pub(super) method: Method,
    /// The kind of endpoint, for the metrics.
    pub(super) kind: &'static str,
    /// Media types, joined by commas.
    pub(super) accept: &'static str,
    /// The offset from which on the body is wanted.
    pub(super) from: u64,
    /// The offset before which it is to end, if not at the end.
    pub(super) until: Option<u64>,
}

/// The head of an answer, and the way to its body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Who answered, after all redirects.
    pub(super) url: Url,
    /// Whether a redirect led away from the endpoint's scheme, host or port: what such a host says about
    /// permissions is not the registry's word.
    pub(super) is_foreign: bool,
}

impl Http {
    /// # Errors
    /// What is wrong with the configured certificates.
    pub(super) fn new(
        config: &Config,
        metrics: &Metrics,
        clock: &Clock,
        shared: &Shared,
        line: &Line,
    ) -> Result<Self, String> {
        let trust = tls::trust(&config.ca_pem)?;
        let client = |bounds| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEEP_IDLE)
                .pool_max_idle_per_host(KEEP_IDLE_MAX)
                .http1_max_buf_size(READ_BUFFER)
                .build(Connector::new(bounds, config.patience.connect, trust.clone()))
        };
        Ok(Self {
            anywhere: client(Bounds::Anywhere),
            outside: client(Bounds::Outside),
            reach: Reach::of(config),
            first_byte: config.patience.first_byte,
            idle: config.patience.idle,
            clock: clock.clone(),
            traffic: Traffic { registry: config.registry.clone(), metrics: metrics.clone() },
            shared: shared.clone(),
            least_rate: config.patience.least_rate,
            line: line.clone(),
        })
    }

    /// Asks `url` of `endpoint`, and wherever it redirects to. `authorization` goes to the scheme, host and port of `url`
    /// only.
    pub(super) async fn follow(
        &self,
        question: &Question,
        endpoint: &Url,
        mut url: Url,
        mut authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let mut is_foreign = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.exchange(question, endpoint, &url, authorization).await?;
            let redirects = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirects {
                answer.is_foreign = is_foreign;
                return Ok(answer);
            }
            let next = next_hop(&url, &answer.headers)?;
            if next.origin() != url.origin() {
                is_foreign = true;
                authorization = None;
            }
            answer.body.discard().await;
            url = next;
        }
        Err(Error::protocol(format!("more than {MAX_REDIRECTS} redirects")).into())
    }

    /// One request to where `endpoint` led, and the head of its answer. Everything that is asked of a registry is asked
    /// here, or not at all while wharf is offline.
    ///
    /// # Errors
    /// `Unavailable` when there is none in time, `Protocol` when it led where it may not, `Offline`.
    pub(super) async fn exchange(
        &self,
        question: &Question,
        endpoint: &Url,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        self.exchange_form(question, endpoint, url, authorization, None).await
    }

    /// The same with a form (`application/x-www-form-urlencoded`), which may hold secrets.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub(super) async fn exchange_form(
        &self,
        question: &Question,
        endpoint: &Url,
        url: &Url,
        authorization: Option<&HeaderValue>,
        form: Option<String>,
    ) -> Result<Answer, Failure> {
        tokio::select! {
            biased;
            () = self.line.offline() => {
                let error = Error::Offline;
                Err(Failure::unasked(error))
            }
            answer = self.exchanged(question, endpoint, url, authorization, form) => answer,
        }
    }

    async fn exchanged(
        &self,
        question: &Question,
        endpoint: &Url,
        url: &Url,
        authorization: Option<&HeaderValue>,
        form: Option<String>,
    ) -> Result<Answer, Failure> {
        let mut exchange = Exchange::begin(&self.traffic, question, url);
        let mut request = request(question, url, authorization, form)?;
        let mut captured = capture_connection(&mut request);
        let client = match self.reach.bounds(endpoint, url) {
            Bounds::Anywhere => &self.anywhere,
            Bounds::Outside => &self.outside,
        };
        let mut answering = client.request(request);
        // The wait for a connection is the connector's to end.
        let connected = async {
            captured.wait_for_connection_metadata().await;
        };
        let answered = tokio::select! {
            biased;
            answered = &mut answering => Ok(answered),
            () = connected => tokio::time::timeout(self.first_byte, answering).await,
        };
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if LeadsInside::caused(&error) => {
                return Err(exchange.leads_inside(endpoint).into());
            }
            Ok(Err(error)) => return Err(Failure::silence(exchange.fail(chain(&error)))),
            Err(_) => {
                let reason = format!("no answer for {:?}", self.first_byte);
                return Err(Failure::silence(exchange.fail(reason)));
            }
        };
        let (head, incoming) = response.into_parts();
        exchange.answered(head.status);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: self.body(incoming),
            url: url.clone(),
            is_foreign: false,
        })
    }

    fn body(&self, incoming: Incoming) -> Body {
        let pace = Pace::begin(self.least_rate, &self.shared.open_bodies, &self.clock);
        Body::new(incoming, self.idle, pace, &self.traffic, &self.shared, &self.line)
    }

    /// What an answer that is no success means; `None` for one that is.
    pub(super) fn refusal(&self, answer: &Answer) -> Option<Failure> {
        let status = answer.status;
        let says = || format!("{} answered {status}", host(&answer.url));
        let retry_after = headers::retry_after(&answer.headers, self.clock.unix_seconds());
        let error = match status.as_u16() {
            200..300 => return None,
            // Storage behind a registry knows presigned addresses, not accounts: a new redirect may do.
            401 | 403 if answer.is_foreign => Error::unavailable(says()),
            401 => Error::Unauthorized,
            403 | 451 => Error::Denied,
            404 | 410 => Error::NotFound,
            429 => Error::RateLimited { retry_after },
            416 => Error::BeyondEnd,
            408 | 500.. => Error::unavailable(says()),
            _ => Error::protocol(says()),
        };
        Some(Failure { retry_after, ..error.into() })
    }
}

impl Traffic {
    /// A limit cut something that came.
    pub(super) fn limit_reached(&self, limit: Limit) {
        self.metrics.limit_reached(limit);
    }

    /// Bytes of a body arrived.
    pub(super) fn received(&self, bytes: u64) {
        self.metrics.upstream_bytes(self.registry.as_str(), bytes);
    }
}

impl Question {
    /// A `GET` of something that is not a blob.
    pub(super) fn get(kind: &'static str, accept: &'static str) -> Self {
        Self { method: Method::GET, kind, accept, from: 0, until: None }
    }

    /// The same, to be asked with a form.
    pub(super) fn posted(self) -> Self {
        Self { method: Method::POST, ..self }
    }

    /// What it counts as where a registry limits how much is asked.
    pub(super) fn asked(&self) -> Asked {
        (self.method == Method::HEAD, self.kind)
    }

    /// Whether it asks for less than the whole.
    pub(super) const fn is_of_a_part(&self) -> bool {
        self.from > 0 || self.until.is_some()
    }

    /// The same, asking for the head only.
    pub(super) fn head_only(self) -> Self {
        Self { method: Method::HEAD, ..self }
    }
}

/// Counts and logs one exchange, also when its future is dropped halfway.
struct Exchange<'a> {
    traffic: &'a Traffic,
    question: &'a Question,
    url: &'a Url,
    begun: Instant,
    status: Option<StatusCode>,
    failure: Option<String>,
}

impl<'a> Exchange<'a> {
    fn begin(traffic: &'a Traffic, question: &'a Question, url: &'a Url) -> Self {
        Self { traffic, question, url, begun: Instant::now(), status: None, failure: None }
    }

    fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    fn fail(&mut self, reason: String) -> Error {
        let error = Error::unavailable(format!("{}: {reason}", host(self.url)));
        self.failure = Some(reason);
        error
    }

    /// It is the registry's word that is not followed: nothing failed that would come right by asking again.
    fn leads_inside(&mut self, endpoint: &Url) -> Error {
        let (registry, led_to) = (&self.traffic.registry, host(self.url));
        let reason = format!(
            "{} leads to {led_to}, which has an address of this site: if that is right, write internal = true in the \
             [[upstream]] of {registry}",
            host(endpoint)
        );
        tracing::warn!(%registry, endpoint = %endpoint, host = led_to, "not followed: {reason}");
        self.failure = Some(LeadsInside.to_string());
        Error::protocol(reason)
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let Self { traffic, question, url, .. } = self;
        let status = self.status.map(|status| status.as_u16());
        traffic.metrics.upstream_request(traffic.registry.as_str(), question.kind, status);
        // Never the query: it may be a presigned right to read.
        tracing::debug!(
            method = %question.method,
            host = host(url),
            path = url.path(),
            status,
            error = self.failure.as_deref(),
            elapsed = ?self.begun.elapsed(),
            "upstream exchange"
        );
    }
}

fn request(
    question: &Question,
    url: &Url,
    authorization: Option<&HeaderValue>,
    form: Option<String>,
) -> Result<Request<Full<Bytes>>, Error> {
    let uri = Uri::try_from(url.as_str())
        .map_err(|_| Error::protocol(format!("no way to ask {}", host(url))))?;
    let has_form = form.is_some();
    let mut request = Request::new(form.map(Full::from).unwrap_or_default());
    *request.method_mut() = question.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(WHARF));
    headers.insert(ACCEPT, HeaderValue::from_static(question.accept));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if question.is_of_a_part() {
        let last = question.until.map(|until| (until - 1).to_string()).unwrap_or_default();
        let range = HeaderValue::try_from(format!("bytes={}-{last}", question.from));
        headers.insert(RANGE, range.expect("digits are a header value"));
    }
    if has_form {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

/// Where a redirect at `url` leads.
///
/// # Errors
/// `Protocol` when nowhere, or from `https` to anything else.
pub(super) fn next_hop(url: &Url, headers: &HeaderMap) -> Result<Url, Error> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| Error::protocol("a redirect without Location"))?;
    let mut next = url
        .join(location)
        .map_err(|error| Error::protocol(format!("a redirect to no address: {error}")))?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, scheme) => {
            return Err(Error::protocol(format!("a redirect from {} to {scheme}", url.scheme())));
        }
    }
    // Neither is sent, but neither should be written down either.
    let no_user = next.set_username("").and_then(|()| next.set_password(None));
    no_user.map_err(|()| Error::protocol("a redirect to no host"))?;
    next.set_fragment(None);
    Ok(next)
}

/// The host of an address, for people.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// An error and what it comes from, in one line.
fn chain(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(from: &str, location: &str) -> Result<String, Error> {
        let location = HeaderValue::from_str(location).expect("a header value");
        let headers = HeaderMap::from_iter([(LOCATION, location)]);
        next_hop(&from.parse().expect("an address"), &headers).map(Into::into)
    }

    #[test]
    fn redirects_lead_from_https_to_https_only() {
        let from = "https://r.example/v2/a/blobs/b";
        for (location, want) in [
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x", "https://r.example/x"),
            ("../c", "https://r.example/v2/a/c"),
            ("https://me:secret@cdn.example/x#y", "https://cdn.example/x"),
        ] {
            assert_eq!(hop(from, location).as_deref(), Ok(want), "{location}");
        }
        for bad in ["http://r.example/x", "ftp://r.example/x", "data:x", "file:///x", "https://"] {
            assert!(matches!(hop(from, bad), Err(Error::Protocol { .. })), "{bad}");
        }
        assert!(hop("http://r.example/", "http://cdn.example/").is_ok());
        assert!(hop("http://r.example/", "https://cdn.example/").is_ok());
        assert!(hop("http://r.example/", "file:///etc/passwd").is_err());
        assert!(next_hop(&from.parse().expect("an address"), &HeaderMap::new()).is_err());
    }
}
