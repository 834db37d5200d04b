//! What registries may say of who is to ask, and what token services may answer.

use bytes::Bytes;
use wharf::oci::ErrorCode::{Denied, NameUnknown, TooManyRequests, Unknown};

use super::{
    Gets,
    upstream::{Asks, Row, all},
};
use crate::support::{Fault, On};

const NO_ANSWER: Gets = Gets::error(502, Unknown);
/// As if the repository were not there.
const NO_LEAVE: Gets = Gets::error(404, NameUnknown);
const GOOD: Gets = Gets::ok(200);

#[test]
fn challenges_that_make_no_sense() {
    let long = "x".repeat(20_000);
    let many = "Basic realm=\"x\", ".repeat(500);
    let rows = [
        ("", NO_LEAVE),
        ("Bearer", NO_ANSWER),
        ("bearer realm", NO_LEAVE),
        ("Bearer realm=", NO_LEAVE),
        ("Bearer realm=\"\"", NO_ANSWER),
        ("Bearer realm=\"unfinished", NO_LEAVE),
        ("Bearer service=\"x\",scope=\"y\"", NO_ANSWER),
        ("Bearer realm=\"/token\"", NO_ANSWER),
        ("Bearer realm=\"token\"", NO_ANSWER),
        ("Bearer realm=\"//127.0.0.1/token\"", NO_ANSWER),
        ("Bearer realm=\"javascript:alert(1)\"", NO_ANSWER),
        ("Bearer realm=\"file:///etc/passwd\"", NO_ANSWER),
        ("Bearer realm=\"ftp://127.0.0.1/\"", NO_ANSWER),
        ("Bearer realm=\"unix:/run/docker.sock\"", NO_ANSWER),
        ("Bearer realm=\"http://\"", NO_ANSWER),
        ("Bearer realm=\"http://:1/\"", NO_ANSWER),
        ("Bearer realm=\"http://127.0.0.1:99999/\"", NO_ANSWER),
        ("Bearer realm=\"http://127.0.0.1:1/\"", NO_ANSWER),
        ("Bearer realm=\"http://nowhere.invalid/\"", NO_ANSWER),
        ("Bearer realm=\"http://me:secret@127.0.0.1:1/\"", NO_ANSWER),
        ("Basic realm=\"x\"", NO_LEAVE),
        ("Basic", NO_LEAVE),
        ("Negotiate", NO_LEAVE),
        ("Digest realm=\"x\", nonce=\"y\"", NO_LEAVE),
        (",,,", NO_LEAVE),
        ("=", NO_LEAVE),
        ("\"\"\"", NO_LEAVE),
        (&long, NO_LEAVE),
        (&format!("Bearer realm=\"http://127.0.0.1:1/\",scope=\"{long}\""), NO_ANSWER),
        (&many, NO_LEAVE),
    ]
    .map(|(challenge, gets)| {
        let fault =
            Fault::Status(401, vec![("www-authenticate", challenge.to_owned())], Bytes::new());
        let what = format!("challenge {:?}", &challenge[..challenge.len().min(60)]);
        Row::new(what, Asks::Tag, On::Challenges, fault, gets).within(2)
    });
    let none = Row::new("no challenge", Asks::Tag, On::Challenges, Fault::status(401), NO_LEAVE);
    all(rows.into_iter().chain([none]).collect(), 30);
}

#[test]
fn token_services_that_fail() {
    let json = |body: String| Fault::Status(200, Vec::new(), body.into());
    let token = |token: &str| json(format!(r#"{{"token":{token}}}"#));
    let deep = format!(r#"{{"x":{}{},"token":"x"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let rows = [
        ("stalls", Fault::Stall, NO_ANSWER),
        ("stalls in the body", Fault::StallAfter(5), NO_ANSWER),
        ("closes", Fault::CloseBeforeHead, NO_ANSWER),
        ("speaks SSH", Fault::GarbageHead, NO_ANSWER),
        ("cuts", Fault::CutAfter(5), NO_ANSWER),
        ("sends 2 MiB", Fault::HugeBody(2 << 20), NO_ANSWER),
        (
            "sends 2 MiB in chunks",
            Fault::All(vec![Fault::HugeBody(2 << 20), Fault::NoLength]),
            NO_ANSWER,
        ),
        ("sends a header of 1 MB", Fault::HugeHeader(1_000_000), NO_ANSWER),
        ("sends an encoding", Fault::ContentEncoding("gzip"), NO_ANSWER),
        ("answers 100", Fault::status(100), NO_ANSWER),
        ("answers 204", Fault::status(204), NO_ANSWER),
        ("answers 304", Fault::status(304), NO_ANSWER),
        ("answers 400", Fault::status(400), NO_ANSWER),
        ("answers 401", Fault::status(401), NO_LEAVE),
        ("answers 403", Fault::status(403), Gets::error(403, Denied)),
        ("answers 404", Fault::status(404), NO_ANSWER),
        ("answers 429", Fault::too_many_requests("never"), Gets::error(429, TooManyRequests)),
        ("answers 500", Fault::status(500), NO_ANSWER),
        ("redirects", Fault::RedirectTo("http://127.0.0.1:1/".into()), NO_ANSWER),
        ("redirects into a file", Fault::RedirectTo("file:///etc/passwd".into()), NO_ANSWER),
        ("redirects in a loop", Fault::RedirectLoop, NO_ANSWER),
        (
            "sends a page",
            Fault::Status(200, vec![("content-type", "text/html".into())], "<html>".into()),
            NO_ANSWER,
        ),
        ("sends nothing", json(String::new()), NO_ANSWER),
        ("sends null", json("null".into()), NO_ANSWER),
        ("sends 100,000 arrays", json("[".repeat(100_000)), NO_ANSWER),
        ("sends an array", json("[]".into()), NO_ANSWER),
        ("sends no token", json("{}".into()), NO_ANSWER),
        ("sends another token", json(r#"{"refresh_token":"x"}"#.into()), NO_ANSWER),
        ("sends an empty token", token("\"\""), NO_ANSWER),
        ("sends null for a token", token("null"), NO_ANSWER),
        ("sends a number for a token", token("5"), NO_ANSWER),
        ("sends a list of tokens", token("[\"a\"]"), NO_ANSWER),
        ("sends a token with a line end", token(r#""a\r\nx-evil: b""#), NO_ANSWER),
        ("sends a token with a zero", token(r#""a\u0000b""#), NO_ANSWER),
        ("sends a token of 100 kB", token(&format!("\"{}\"", "x".repeat(100_000))), NO_ANSWER),
        ("sends 100,000 arrays where nobody looks", json(deep), NO_ANSWER),
        // Tokens that can be sent, and open nothing.
        ("sends a token of another", token("\"x\""), NO_LEAVE),
        ("sends a token that is not ASCII", token("\"\u{fc}\""), NO_LEAVE),
        ("sends a token of no life", json(r#"{"token":"x","expires_in":-1e308}"#.into()), NO_LEAVE),
        (
            "sends a token of eternal life",
            json(r#"{"token":"x","expires_in":1e308}"#.into()),
            NO_LEAVE,
        ),
        (
            "sends a token of odd life",
            json(r#"{"token":"x","expires_in":["soon"]}"#.into()),
            NO_LEAVE,
        ),
        ("says no length", Fault::NoLength, GOOD),
    ]
    .map(|(what, fault, gets)| Row::new(what, Asks::Tag, On::Token, fault, gets));
    all(rows.into(), 40);
}
