//! What each path of the admin address answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};

use super::{Admin, Readiness};

const TEXT: &str = "text/plain; charset=utf-8";

const CONTENTS: &str = "\
wharf

/metrics  counters and gauges in Prometheus' text format
/livez    200 while the process answers at all
/readyz   200 while pulls can be expected to work; says why when degraded or not ready (503)
";

/// Answers one request; its body, if it has one, is not read.
pub(super) fn answer<B>(admin: &Admin, request: &Request<B>) -> Response<Full<Bytes>> {
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
            with_type(StatusCode::OK, content_type, text)
        }
        _ => plain(StatusCode::NOT_FOUND, "nothing here; / lists what there is\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, HeaderValue::from_static(TEXT), text)
}

fn with_type(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
