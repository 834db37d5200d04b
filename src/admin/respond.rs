//! What each path of the admin address answers.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio_util::sync::CancellationToken;

use super::{Access, Admin, Readiness, body::Body};

const TEXT: &str = "text/plain; charset=utf-8";

const CONTENTS: &str = "\
wharf

/metrics  counters and gauges in Prometheus' text format
/livez    200 while the process answers at all
/readyz   200 while pulls can be expected to work; says why when degraded or not ready (503)

JSON, as the command line shows it:
/api/v1/images                       what is kept: wharf ls
/api/v1/inspect?image=NAME           what a name means, and what of it is kept: wharf inspect
/api/v1/explain?image=NAME&client=ADDRESS&user_agent=TEXT
                                     which platform a client gets, and why: wharf explain
/api/v1/clients                      clients of which something was learned
/api/v1/mismatches                   the latest pulls of what a client cannot run
/api/v1/status                       how this wharf is: wharf status
/api/v1/blobs?after=DIGEST           which blobs are kept: wharf ls --digests

POST, on the control socket alone, with what is meant as JSON:
/api/v1/pull                         {\"image\": NAME, \"platforms\": [PLATFORM, ...]}: wharf pull
/api/v1/pin, /unpin, /rm             {\"image\": NAME}: wharf pin, unpin and rm
/api/v1/gc                           wharf gc
/api/v1/export                       {\"images\": [NAME, ...], \"platforms\": [PLATFORM, ...]}: wharf export,
                                     which reads /api/v1/blob?digest=DIGEST&from=BYTE then
/api/v1/import?name=NAME&unpinned&key=KEY
                                     an archive as the body: wharf import
/api/v1/verify                       {\"repair\": true, \"rate\": BYTES}: wharf verify
";

/// The connection that a request came on.
pub(super) struct Caller<'a> {
    pub(super) access: Access,
    /// Lifts the deadline of the whole connection, for answers with deadlines of their own.
    pub(super) may_take_longer: &'a AtomicBool,
    /// Ends what the answer would wait for.
    pub(super) shutdown: CancellationToken,
}

/// Answers one request. Only what the API asks for is read of its body.
pub(super) async fn answer(
    admin: &Admin,
    request: Request<Incoming>,
    caller: &Caller<'_>,
) -> Response<Body> {
    if request.uri().path().starts_with("/api/") {
        return admin.api.answer(request, caller).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response =
            plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => plain(StatusCode::OK, CONTENTS),
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match (admin.readiness)() {
            Readiness::Ready => plain(StatusCode::OK, "ok\n"),
            Readiness::Degraded(why) => plain(StatusCode::OK, format!("degraded: {why}\n")),
            Readiness::Unready(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => {
            let (text, content_type) = admin.metrics.render();
            // The type is written in metrics.rs' own library: plain ASCII.
            let content_type = HeaderValue::try_from(content_type)
                .unwrap_or_else(|_| HeaderValue::from_static(TEXT));
            with_type(StatusCode::OK, content_type, Body::whole(text))
        }
        _ => plain(StatusCode::NOT_FOUND, "nothing here; / lists what there is\n"),
    }
}

/// An answer of this type, for nobody to keep.
pub(super) fn with_type(
    status: StatusCode,
    content_type: HeaderValue,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with_type(status, HeaderValue::from_static(TEXT), Body::whole(text))
}
