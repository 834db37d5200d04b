//! A name and a password as a request carries them
//! ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

/// Longest name of a user.
pub(super) const NAME_MAX_BYTES: usize = 255;

/// Longest password that is looked at.
const PASSWORD_MAX_BYTES: usize = 1024;

/// What a client says of who it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing.
    None,
    /// Something that is no name with a password.
    Other,
    /// A name and a password.
    Basic(Credentials),
}

/// A name and a password, of which nothing is known yet.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Claim {
    /// Takes the claim out of `headers`: behind this nobody can pass it on.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        let several = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
        match headers.remove(AUTHORIZATION) {
            None => Self::None,
            Some(_) if several => Self::Other,
            Some(value) => read(value.as_bytes()).map_or(Self::Other, Self::Basic),
        }
    }
}

fn read(value: &[u8]) -> Option<Credentials> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = STANDARD.decode(encoded.trim()).ok()?;
    // The first colon ends the name (RFC 7617 §2).
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.split_off(colon + 1);
    decoded.truncate(colon);
    let name = String::from_utf8(decoded).ok()?;
    let fits = (1..=NAME_MAX_BYTES).contains(&name.len()) && password.len() <= PASSWORD_MAX_BYTES;
    fits.then_some(Credentials { name, password })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn claim(values: &[&str]) -> Claim {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        let claim = Claim::take(&mut headers);
        assert!(headers.is_empty(), "nobody gets it behind this");
        claim
    }

    fn basic(text: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        for (text, name, password) in [
            (&b"alice:secret"[..], "alice", &b"secret"[..]),
            (b"alice:", "alice", b""),
            (b"alice:a:b", "alice", b"a:b"),
            ("jürgen:pässe".as_bytes(), "jürgen", "pässe".as_bytes()),
            (b"a:\xff", "a", b"\xff"),
        ] {
            let wanted = Credentials { name: name.to_owned(), password: password.to_vec() };
            assert_eq!(claim(&[&basic(text)]), Claim::Basic(wanted));
        }
        assert!(matches!(claim(&["bAsIc YTpi"]), Claim::Basic(_)));
    }

    #[test]
    fn what_is_no_name_with_a_password_is_something_else() {
        assert_eq!(claim(&[]), Claim::None);
        let long_name = basic(&[&[b'a'; NAME_MAX_BYTES + 1][..], b":b"].concat());
        let long_password = basic(&[b"a:", &[b'b'; PASSWORD_MAX_BYTES + 1][..]].concat());
        let (good, no_colon) = (basic(b"a:b"), basic(b"alice"));
        for values in [
            &["Bearer abc"][..],
            &["Basic"],
            &["Basic "],
            &["Basic !!!"],
            &[&no_colon],
            &[&basic(b":b")],
            &[&basic(b"\xff:b")],
            &[&long_name],
            &[&long_password],
            &[&good, &good],
            &["", &good],
        ] {
            assert_eq!(claim(values), Claim::Other, "{values:?}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let shown = format!("{:?}", claim(&[&basic(b"alice:hunter2")]));
        assert!(!shown.contains("hunter2") && !shown.contains("alice"), "{shown}");
    }
}
