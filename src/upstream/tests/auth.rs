//! Tokens and passwords: asked for once, shown to nobody else.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::join_all;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// A registry with a token service of its own at `/token`, which is at `realm` for the challenge; it takes the
/// newest token only, and no token before the number `first_good`.
async fn registry(realm: &'static str, first_good: u32) -> (Fake, Arc<AtomicU32>) {
    let tokens = Arc::new(AtomicU32::new(0));
    let given = Arc::clone(&tokens);
    let fake = Fake::start(move |seen| {
        if seen.target.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(200, &[], format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        let newest = given.load(Ordering::SeqCst);
        let good = format!("Bearer t{newest}");
        if newest >= first_good && seen.authorization() == Some(&good) {
            return image();
        }
        let host = seen.header("host")?;
        let realm = realm.replace("HOST", host).replace("PORT", host.rsplit_once(':')?.1);
        let challenge = format!(
            r#"Bearer realm="{realm}/token",service="test",scope="repository:library/alpine:pull""#
        );
        let challenges = [
            ("www-authenticate", r#"Basic realm="x", Negotiate"#),
            ("www-authenticate", &challenge),
        ];
        reply(401, &challenges, "{}")
    })
    .await;
    (fake, tokens)
}

#[tokio::test]
async fn a_token_is_fetched_once_and_then_sent_at_once() {
    let (fake, _) = registry("http://HOST", 1).await;
    let bench = bench(config(&[&fake]));
    for _ in 0..3 {
        assert_eq!(bench.manifest(Urgency::Must).await.expect("the image"), IMAGE);
    }
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    let manifest = "/v2/library/alpine/manifests/3.20";
    let token = "/token?service=test&scope=repository%3Alibrary%2Falpine%3Apull";
    assert_eq!(targets, [manifest, token, manifest, manifest, manifest]);
    assert_eq!(fake.seen()[1].authorization(), None);

    let labels = r#"endpoint="token",registry="registry.example",status="200""#;
    assert!(bench.metric(&format!("wharf_upstream_requests_total{{{labels}}} 1")));
    let labels = r#"endpoint="manifest",registry="registry.example",status="401""#;
    assert!(bench.metric(&format!("wharf_upstream_requests_total{{{labels}}} 1")));
}

#[tokio::test]
async fn all_who_need_a_token_share_one_request() {
    let (fake, tokens) = registry("http://HOST", 1).await;
    let bench = bench(config(&[&fake]));
    let answers = join_all((0..8).map(|_| bench.manifest(Urgency::Must))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(tokens.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_expired_token_is_replaced_without_a_refusal() {
    let (fake, tokens) = registry("http://HOST", 1).await;
    let bench = bench(config(&[&fake]));
    for (step, want) in [(0, 1), (290, 1), (10, 2), (290, 2), (20, 3)] {
        bench.clock.advance(Duration::from_secs(step));
        bench.manifest(Urgency::Must).await.expect("the image");
        assert_eq!(tokens.load(Ordering::SeqCst), want);
    }
    assert_eq!(fake.count("/manifests/"), 1 + 5);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let (fake, tokens) = registry("http://HOST", 1).await;
    let bench = bench(config(&[&fake]));
    bench.manifest(Urgency::Must).await.expect("the image");
    tokens.fetch_add(1, Ordering::SeqCst);
    bench.manifest(Urgency::Must).await.expect("the image");
    assert_eq!((fake.count("/token"), fake.count("/manifests/")), (2, 4));
}

#[tokio::test]
async fn a_token_that_is_not_taken_means_unauthorized() {
    let (fake, _) = registry("http://HOST", u32::MAX).await;
    let bench = bench(config(&[&fake]));
    for requests in [2, 3] {
        assert_eq!(bench.manifest(Urgency::Must).await, Err(Error::Unauthorized));
        assert_eq!(fake.count("/manifests/"), requests);
    }
}

#[tokio::test]
async fn a_registry_may_change_its_mind_on_what_it_wants() {
    let changed = AtomicU32::new(0);
    let fake = Fake::start(move |seen| {
        if seen.target.starts_with("/token") {
            let service = seen.target.split_once("service=")?.1.split_once('&')?.0;
            return reply(200, &[], format!(r#"{{"token":"{service}"}}"#));
        }
        let wanted = if changed.load(Ordering::SeqCst) < 2 { "old" } else { "new" };
        if seen.authorization() == Some(&format!("Bearer {wanted}")) {
            changed.fetch_add(1, Ordering::SeqCst);
            return image();
        }
        let realm = format!("http://{}/token", seen.header("host")?);
        let challenge = format!(r#"Bearer realm="{realm}",service="{wanted}""#);
        reply(401, &[("www-authenticate", &challenge)], "")
    })
    .await;
    let bench = bench(config(&[&fake]));
    for (step, requests) in [(0, 2), (0, 3), (3600, 5), (0, 6)] {
        bench.clock.advance(Duration::from_secs(step));
        bench.manifest(Urgency::Must).await.expect("the image");
        assert_eq!(fake.count("/manifests/"), requests);
    }
}

#[tokio::test]
async fn a_token_service_that_moved_is_found() {
    let images = AtomicU32::new(0);
    let fake = Fake::start(move |seen| {
        let moved = images.load(Ordering::SeqCst) > 0;
        match seen.target.as_str() {
            token if token.starts_with("/old") && moved => return reply(404, &[], ""),
            token if token.starts_with("/old") || token.starts_with("/new") => {
                return reply(200, &[], r#"{"token":"t"}"#);
            }
            _ if seen.authorization().is_some() => {
                images.fetch_add(1, Ordering::SeqCst);
                return image();
            }
            _ => {}
        }
        let place = if moved { "new" } else { "old" };
        let realm = format!(r#"Bearer realm="http://{}/{place}""#, seen.header("host")?);
        reply(401, &[("www-authenticate", &realm)], "")
    })
    .await;
    let bench = bench(config(&[&fake]));
    bench.manifest(Urgency::Must).await.expect("the image");
    bench.clock.advance(Duration::from_secs(3600));
    assert!(is_protocol(&bench.manifest(Urgency::Must).await));
    bench.manifest(Urgency::Must).await.expect("the image, by a token of the new service");
}

#[tokio::test]
async fn a_dropped_call_leaves_no_token_stuck() {
    let stuck = AtomicU32::new(0);
    let fake =
        Fake::start(move |seen| match (seen.target.starts_with("/token"), seen.authorization()) {
            (true, _) if stuck.fetch_add(1, Ordering::SeqCst) == 0 => None,
            (true, _) => reply(200, &[], r#"{"access_token":"t"}"#),
            (false, Some("Bearer t")) => image(),
            (false, _) => {
                let realm = format!(r#"bearer Realm="http://{}/token""#, seen.header("host")?);
                reply(401, &[("www-authenticate", &realm)], "")
            }
        })
        .await;
    let bench = bench(config(&[&fake]));
    let (first, second) = tokio::join!(bench.manifest(Urgency::Fallback(MOMENT)), async {
        // Joins the request that the other is about to give up.
        while fake.count("/token") == 0 {
            tokio::task::yield_now().await;
        }
        bench.manifest(Urgency::Must).await
    });
    assert!(is_unavailable(&first), "{first:?}");
    assert_eq!(second.expect("the image"), IMAGE);
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn the_token_service_of_the_registry_sees_the_credentials_and_another_does_not() {
    for (realm, realms, want) in [
        ("http://HOST", vec![], Some(ACCOUNT)),
        ("http://localhost:PORT", vec![], None),
        ("http://localhost:PORT", vec!["localhost".parse().expect("a host")], Some(ACCOUNT)),
    ] {
        let (fake, _) = registry(realm, 1).await;
        let bench = bench(Config { accounts: account(), realms, ..config(&[&fake]) });
        bench.manifest(Urgency::Must).await.expect("the image");
        let token = fake.seen().into_iter().find(|seen| seen.target.starts_with("/token"));
        assert_eq!(token.expect("asked").authorization(), want, "{realm}");
    }
}

/// A registry that wants this, and what it has seen in `Authorization`.
async fn asking_for(challenge: &'static str) -> Fake {
    Fake::start(move |seen| {
        if seen.target.starts_with("/token") {
            let bought = if seen.authorization().is_some() { "account" } else { "anonymous" };
            return reply(200, &[], format!(r#"{{"token":"{bought}"}}"#));
        }
        let host = seen.header("host")?;
        let challenge = challenge.replace("HOST", host);
        reply(401, &[("www-authenticate", &challenge)], "")
    })
    .await
}

fn authorizations(fake: &Fake) -> Vec<String> {
    fake.seen().iter().filter_map(|seen| seen.authorization().map(ToOwned::to_owned)).collect()
}

#[tokio::test]
async fn cve_2026_33540_ghsa_3p65_cve_2026_65388_a_mirror_gets_neither_the_password_nor_a_token() {
    let mirror_basic = asking_for(r#"Basic realm="x""#).await;
    let mirror_bearer = asking_for(r#"Bearer realm="http://HOST/token""#).await;
    let (own, _) = registry("http://HOST", 1).await;
    let bench =
        bench(Config { accounts: account(), ..config(&[&mirror_basic, &mirror_bearer, &own]) });
    bench.manifest(Urgency::Must).await.expect("the image, without an account");
    assert_eq!(authorizations(&mirror_basic), [""; 0]);
    assert_eq!(authorizations(&mirror_bearer), ["Bearer anonymous"]);
    assert!(!authorizations(&own).contains(&ACCOUNT.to_owned()));
}

#[tokio::test]
async fn cve_2026_33540_a_token_bought_with_the_account_is_not_handed_to_a_mirror() {
    let service = Fake::start(|seen| {
        let bought = if seen.authorization() == Some(ACCOUNT) { "account" } else { "anonymous" };
        reply(200, &[], format!(r#"{{"token":"{bought}"}}"#))
    })
    .await;
    // Both ask for one and the same token, which only the account opens.
    let challenge = format!(r#"Bearer realm="{}/token",service="test""#, service.url());
    let script = move |seen: &Seen| match seen.authorization() {
        Some("Bearer account") => image(),
        _ => reply(401, &[("www-authenticate", &challenge)], ""),
    };
    let (mirror, own) = (Fake::start(script.clone()).await, Fake::start(script).await);
    let at_own = own.url().trim_start_matches("http://").parse().expect("a host");
    let bench = bench(Config {
        accounts: account(),
        account_for: vec![at_own],
        ..config(&[&mirror, &own])
    });
    for _ in 0..3 {
        bench.manifest(Urgency::Must).await.expect("the image");
    }
    assert!(authorizations(&own).iter().all(|sent| sent == "Bearer account"));
    let at_mirror = authorizations(&mirror);
    assert!(!at_mirror.is_empty(), "it is asked with what anybody gets");
    assert!(at_mirror.iter().all(|sent| sent == "Bearer anonymous"), "{at_mirror:?}");
    assert_eq!(authorizations(&service), [ACCOUNT]);
}

#[tokio::test]
async fn a_mirror_that_the_operator_names_gets_the_account() {
    let mirror = Fake::start(|seen| match seen.authorization() {
        Some(ACCOUNT) => image(),
        _ => reply(401, &[("www-authenticate", r#"Basic realm="x""#)], ""),
    })
    .await;
    let other = Fake::start(|_| reply(404, &[], "")).await;
    let config = Config { accounts: account(), ..config(&[&mirror, &other]) };
    let told = bench(config.clone()).manifest(Urgency::Must).await;
    assert_eq!(told, Err(Error::Unauthorized));
    let at_mirror = mirror.url().trim_start_matches("http://").parse().expect("a host");
    let named = bench(Config { account_for: vec![at_mirror], ..config });
    named.manifest(Urgency::Must).await.expect("the image");
}

#[tokio::test]
async fn cve_2026_33540_a_challenge_does_not_choose_the_repository_or_the_actions() {
    let fake = asking_for(
        r#"Bearer realm="http://HOST/token?scope=repository:alice/secret:pull&x=1",service="s",scope="repository:alice/secret:pull,push repository:library/alpine:* registry:catalog:*""#,
    )
    .await;
    let bench = bench(Config { accounts: account(), ..config(&[&fake]) });
    assert_eq!(bench.manifest(Urgency::Must).await, Err(Error::Unauthorized));
    let targets: Vec<_> = fake.seen().into_iter().map(|seen| seen.target).collect();
    let token = "/token?x=1&service=s&scope=repository%3Alibrary%2Falpine%3Apull";
    assert!(
        targets.iter().filter(|target| target.starts_with("/token")).eq([token]),
        "{targets:?}"
    );
}

#[tokio::test]
async fn basic_is_sent_if_there_is_an_account() {
    let fake = Fake::start(|seen| match seen.authorization() {
        Some(ACCOUNT) => image(),
        _ => reply(401, &[("www-authenticate", r#"Basic realm="x""#)], ""),
    })
    .await;
    let with_account = bench(Config { accounts: account(), ..config(&[&fake]) });
    for requests in [2, 3] {
        with_account.manifest(Urgency::Must).await.expect("the image");
        assert_eq!(fake.count(""), requests);
    }
    let without = bench(config(&[&fake]));
    assert_eq!(without.manifest(Urgency::Must).await, Err(Error::Unauthorized));
    assert_eq!(fake.count(""), 4);
}

#[tokio::test]
async fn a_password_that_is_not_taken_is_tried_once() {
    let fake = Fake::start(|_| reply(401, &[("www-authenticate", r#"Basic realm="x""#)], "")).await;
    let bench = bench(Config { accounts: account(), ..config(&[&fake]) });
    assert_eq!(bench.manifest(Urgency::Must).await, Err(Error::Unauthorized));
    assert_eq!(fake.count(""), 2);
}

#[tokio::test]
async fn what_the_token_service_says_is_what_the_call_comes_to() {
    for (status, want) in [
        (401, Error::Unauthorized),
        (403, Error::Denied),
        (429, Error::RateLimited { retry_after: Some(Duration::from_secs(3600)) }),
        (503, Error::unavailable("")),
        (404, Error::protocol("")),
        (200, Error::protocol("")),
    ] {
        let fake = Fake::start(move |seen| {
            if seen.target.starts_with("/token") {
                return reply(status, &[("retry-after", "7200")], r#"{"token":7}"#);
            }
            let realm = format!(r#"Bearer realm="http://{}/token""#, seen.header("host")?);
            reply(401, &[("www-authenticate", &realm)], "")
        })
        .await;
        let got = bench(config(&[&fake])).manifest(Urgency::Must).await.expect_err("no token");
        assert_eq!(std::mem::discriminant(&got), std::mem::discriminant(&want), "{status}: {got}");
        assert_eq!(got.retry_after(), want.retry_after());
    }
}

#[tokio::test]
async fn a_redirect_takes_authorization_along_on_the_same_port_only() {
    let cdn = Fake::start(|_| reply(206, &[("content-range", "bytes 4-9/10")], "456789")).await;
    let to_cdn = format!("{}/cdn?sig=1", cdn.url());
    let fake = Fake::start(move |seen| match seen.target.as_str() {
        _ if seen.authorization() != Some(ACCOUNT) => {
            reply(401, &[("www-authenticate", r#"Basic realm="x""#)], "")
        }
        "/here" => reply(302, &[("location", &to_cdn)], "elsewhere"),
        _ => reply(307, &[("location", "/here")], "here"),
    })
    .await;
    let bench = bench(Config { accounts: account(), ..config(&[&fake]) });
    let mut body = bench.upstream.blob(&name(), &blob(), 4).await.expect("the blob");
    assert_eq!(body.chunk().await.expect("bytes").expect("more"), "456789");
    let seen = cdn.seen();
    assert_eq!((seen.len(), seen[0].target.as_str()), (1, "/cdn?sig=1"));
    assert_eq!(seen[0].authorization(), None);
    assert_eq!(seen[0].header("range"), Some("bytes=4-"));
    assert_eq!(seen[0].header("accept"), Some("*/*"));
    assert_eq!(fake.count("/here"), 1);
}

#[tokio::test]
async fn cve_2026_48978_ghsa_28r5_ghsa_vh4v_authorization_stays_behind_when_scheme_host_or_port_change()
 {
    let (acceptor, ca_pem) = tls::authority();
    let other = Fake::start(|_| image()).await;
    let elsewhere = other.url();
    let script = move |seen: &Seen| {
        let port = seen.header("host")?.rsplit_once(':')?.1;
        let to = match seen.target.rsplit_once('/')?.1 {
            "scheme" => format!("https://127.0.0.1:{port}/end"),
            "host" => format!("http://localhost:{port}/end"),
            "port" => format!("{elsewhere}/end"),
            // What was left behind is not fetched again on the way home.
            "back" => format!("http://localhost:{port}/home"),
            "home" => format!("http://127.0.0.1:{port}/end"),
            _ => return image(),
        };
        if seen.target.starts_with("/v2/") && seen.authorization().is_none() {
            return reply(401, &[("www-authenticate", r#"Basic realm="x""#)], "");
        }
        reply(307, &[("location", &to)], "")
    };
    let fake = Fake::start_over(script, move |stream| tls::either(stream, acceptor.clone())).await;
    let config = Config { accounts: account(), ca_pem, ..config(&[&fake]) };
    for change in ["scheme", "host", "port", "back"] {
        let bench = bench(config.clone());
        let reference = change.parse().expect("a tag");
        let answer = bench.upstream.manifest(&name(), &reference, Urgency::Must).await;
        assert_eq!(answer.expect(change).bytes, IMAGE);
        let at = if change == "port" { &other } else { &fake };
        let seen = at.seen();
        let last = seen.last().expect("asked");
        assert_eq!((last.target.as_str(), last.authorization()), ("/end", None), "{change}");
    }
    let with = fake.seen().into_iter().filter(|seen| seen.authorization().is_some());
    assert!(with.map(|seen| seen.target).all(|target| target.starts_with("/v2/")));
}

#[tokio::test]
async fn a_challenge_from_where_a_redirect_led_is_not_answered() {
    for status in [401, 403] {
        let cdn =
            Fake::start(move |_| reply(status, &[("www-authenticate", r#"Basic realm="x""#)], ""))
                .await;
        let to_cdn = cdn.url();
        let fake = Fake::start(move |_| reply(307, &[("location", &to_cdn)], "")).await;
        let bench = bench(Config { accounts: account(), ..config(&[&fake]) });
        let answer = bench.upstream.blob_head(&name(), &blob()).await;
        assert!(is_unavailable(&answer), "{answer:?}");
        assert_eq!((fake.count(""), cdn.count("")), (1, 1));
    }
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_tells_where_a_request_went_and_no_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // While there is only one dispatcher, an event that first happens on the thread of another test is
    // switched off for all threads.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _logging = tracing::subscriber::set_default(subscriber);

    let cdn = Fake::start(|_| reply(503, &[], "")).await;
    let presigned = format!("{}/object?signature=presigned", cdn.url());
    let fake = Fake::start(move |seen| match seen.target.starts_with("/token") {
        true => reply(200, &[], r#"{"token":"t0ken"}"#),
        false if seen.authorization().is_some() => reply(307, &[("location", &presigned)], ""),
        false => {
            let realm = format!(r#"Bearer realm="http://{}/token""#, seen.header("host")?);
            reply(401, &[("www-authenticate", &realm)], "")
        }
    })
    .await;
    let bench = bench(Config { accounts: account(), ..config(&[&fake]) });
    let told = bench.upstream.blob_head(&name(), &blob()).await.expect_err("the storage is ill");

    let log = String::from_utf8(std::mem::take(&mut *log.0.lock().expect("whole"))).expect("text");
    for part in ["path=\"/object\"", "status=503", "path=\"/token\"", "rests"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    for secret in ["s3cret", ACCOUNT.trim_start_matches("Basic "), "t0ken", "presigned"] {
        assert!(!log.contains(secret), "{secret} in {log}");
        assert!(!format!("{told} {told:?}").contains(secret));
    }
}
