//! Headers of answers, read as pure values.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RETRY_AFTER},
};
use std::time::{Duration, UNIX_EPOCH};
use url::Url;

use super::Error;
use crate::oci::{Digest, MediaType};

/// No registry is believed to want more than an hour's silence.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// A `Retry-After` from here on is no number of seconds but a point in time: Docker Hub has sent such.
const SURELY_A_TIMESTAMP: u64 = 1_000_000_000;

static DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
static RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// `Content-Range: bytes <first>-<last>/<total>` (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// Offset of the first byte sent.
    pub(super) first: u64,
    /// Offset of the last byte sent.
    pub(super) last: u64,
    /// Length of the whole, if told.
    pub(super) total: Option<u64>,
}

/// The length that the head announces.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    number(text(headers, &CONTENT_LENGTH)?)
}

/// # Errors
/// `Protocol` when there is no `Content-Type` or it is not one.
pub(super) fn media_type(headers: &HeaderMap) -> Result<MediaType, Error> {
    text(headers, &CONTENT_TYPE)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::protocol("no media type in Content-Type"))
}

/// What `Docker-Content-Digest` says.
///
/// # Errors
/// `Protocol` when it says something that is not a digest.
pub(super) fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, Error> {
    headers
        .get(&DOCKER_CONTENT_DIGEST)
        .map(|value| value.to_str().ok().and_then(|value| value.trim().parse().ok()))
        .map(|digest| {
            digest.ok_or_else(|| Error::protocol("Docker-Content-Digest holds no digest"))
        })
        .transpose()
}

/// # Errors
/// `Protocol` when the body is encoded: its bytes would not be those the digest names.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Error> {
    let plain = |value: &HeaderValue| {
        value.as_bytes().trim_ascii().is_empty()
            || value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")
    };
    if headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    Err(Error::protocol("a Content-Encoding that was not asked for"))
}

/// The one range of a 206.
pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (unit, range) = text(headers, &CONTENT_RANGE)?.trim().split_once(' ')?;
    let (range, total) = range.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    let sound = first <= last && total.is_none_or(|total| last < total);
    (unit.eq_ignore_ascii_case("bytes") && sound).then_some(ContentRange { first, last, total })
}

/// How long to wait before asking again, at most an hour: seconds, an HTTP date (RFC 9110 §10.2.3), or a
/// Unix timestamp. `now` is in seconds since 1970.
pub(super) fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        match value.parse().unwrap_or(u64::MAX) {
            at if at >= SURELY_A_TIMESTAMP => at.saturating_sub(now),
            seconds => seconds,
        }
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().saturating_sub(now)
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// `ratelimit-limit` and `ratelimit-remaining` as Docker Hub sends them: `100;w=21600`.
pub(super) fn rate_limit(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let count =
        |name| text(headers, name).and_then(|value| number(value.split(';').next()?.trim()));
    (count(&RATELIMIT_LIMIT), count(&RATELIMIT_REMAINING))
}

/// The `last` and `n` of the page that `Link: <…>; rel="next"` (RFC 8288) leads to from `url`.
pub(super) fn next_page(headers: &HeaderMap, url: &Url) -> Option<(String, Option<u32>)> {
    let target = headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| link_to_next(value))?;
    let target = url.join(target).ok()?;
    let pair = |name| target.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
    let n = pair("n").and_then(|n| n.parse().ok());
    pair("last").map(|last| (last.into_owned(), n))
}

/// The target of the first link with the relation `next` in one `Link` value.
fn link_to_next(mut rest: &str) -> Option<&str> {
    loop {
        let (_, from_target) = rest.split_once('<')?;
        let (target, params) = from_target.split_once('>')?;
        let mut quoted = false;
        let end = params
            .find(|c| {
                quoted ^= c == '"';
                c == ',' && !quoted
            })
            .unwrap_or(params.len());
        let is_next = params[..end]
            .split(';')
            .filter_map(|param| param.split_once('='))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"))
            .flat_map(|(_, relations)| relations.trim().trim_matches('"').split_ascii_whitespace())
            .any(|relation| relation.eq_ignore_ascii_case("next"));
        if is_next {
            return Some(target);
        }
        rest = &params[end..];
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &HeaderName, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a header value");
        HeaderMap::from_iter([(name.clone(), value)])
    }

    #[test]
    fn reads_retry_after_in_every_form_seen_and_never_more_than_an_hour() {
        let now = 1_700_000_000; // Tue, 14 Nov 2023 22:13:20 GMT
        for (value, want) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("3601", Some(3600)),
            ("1700000030", Some(30)),
            ("1600000000", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("Tue, 14 Nov 2023 22:13:30 GMT", Some(10)),
            ("Tue, 14 Nov 2023 22:13:10 GMT", Some(0)),
            ("Tue, 14 Nov 2034 22:13:10 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let got = retry_after(&one(&RETRY_AFTER, value), now);
            assert_eq!(got, want.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn reads_content_ranges_that_can_be_true() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        for (value, want) in [
            ("bytes 0-9/10", range(0, 9, Some(10))),
            ("Bytes 5-9/*", range(5, 9, None)),
            ("bytes 5-4/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("bytes +5-9/10", None),
            ("bytes 5-9", None),
            ("lines 0-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(&one(&CONTENT_RANGE, value)), want, "{value:?}");
        }
    }

    #[test]
    fn finds_the_next_page() {
        let url = "https://r.example/v2/a/tags/list".parse().expect("an address");
        let page = |last: &str, n| Some((last.to_owned(), n));
        for (value, want) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", page("b", Some(2))),
            ("<?last=b%2Bc>; rel=next", page("b+c", None)),
            (
                "</x?last=a>; rel=\"prev\", </x?n=x&last=b>; title=\"a,b\"; Rel=\"up next\"",
                page("b", None),
            ),
            ("</x?last=a>; rel=prev", None),
            ("</x?last=a>; title=\"next\"", None),
            ("</x?n=2>; rel=next", None),
            ("</x?last=a", None),
            ("rel=next", None),
        ] {
            assert_eq!(next_page(&one(&LINK, value), &url), want, "{value:?}");
        }
    }

    #[test]
    fn reads_docker_hubs_limits() {
        let mut headers = one(&RATELIMIT_LIMIT, "100;w=21600");
        assert_eq!(rate_limit(&headers), (Some(100), None));
        headers.extend(one(&RATELIMIT_REMAINING, "76"));
        assert_eq!(rate_limit(&headers), (Some(100), Some(76)));
        assert_eq!(rate_limit(&one(&RATELIMIT_LIMIT, "many")), (None, None));
    }

    #[test]
    fn takes_no_encoding_but_identity() {
        assert!(refuse_encoded(&HeaderMap::new()).is_ok());
        assert!(refuse_encoded(&one(&CONTENT_ENCODING, "Identity")).is_ok());
        assert!(refuse_encoded(&one(&CONTENT_ENCODING, "gzip")).is_err());
        assert!(refuse_encoded(&one(&CONTENT_ENCODING, "identity, gzip")).is_err());
    }
}
