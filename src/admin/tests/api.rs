//! Questions to the API: what it answers on the admin address, on the control socket, and within the process.

use super::{
    site::{Site, exchange, get, image, post},
    *,
};

#[tokio::test]
async fn questions_are_answered_alike_on_both_addresses() {
    let site = Site::start().await;
    for (path, says) in [
        ("/api/v1/images", "[{\"name\":\"docker.io/library/alpine:3.20\""),
        ("/api/v1/inspect?image=alpine", "{\"name\":\"docker.io/library/alpine:latest\""),
        ("/api/v1/inspect?image=a.example%3A5000%2Fapp%3A1", "{\"name\":\"a.example:5000/app:1\""),
        ("/api/v1/explain?image=alpine", "\"client\":null"),
        ("/api/v1/explain?image=alpine&client=10.0.7.12", "\"client\":\"10.0.7.12\""),
        ("/api/v1/explain?image=alpine&client=::ffff:10.0.7.12", "\"client\":\"10.0.7.12\""),
        ("/api/v1/explain?user_agent=docker%2F1+x%26y&image=alpine", r#"says \"docker/1 x&y\""#),
        ("/api/v1/clients", "[{\"client\":\"10.0.7.12\""),
        ("/api/v1/mismatches", "[]"),
        ("/api/v1/mismatches?", "[]"),
        (
            "/api/v1/status",
            "{\"version\":\"1.2.3\",\"mode\":\"auto\",\"degraded\":null,\"cache\":{\"bytes\":7,",
        ),
    ] {
        let answers = [site.on_tcp(&get(path)).await, site.on_control(&get(path)).await];
        for answer in answers {
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert!(answer.body.contains(says), "{path}: {}", answer.body);
            assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
            assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
        }
    }
    let head = site.on_tcp("HEAD /api/v1/clients HTTP/1.1\r\nHost: wharf\r\n\r\n").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    site.stop().await;
}

/// For them a registry is asked for all that it has, with wharf's account or a client's.
#[tokio::test]
async fn tags_that_match_are_told_on_the_control_socket_alone() {
    let site = Site::start().await;
    for (path, says) in [
        ("/api/v1/matching?image=nginx:%5E1.27&newest=1", "[\"docker.io/library/nginx:1.28\"]"),
        ("/api/v1/matching?image=nginx:1.2*", "nginx:1.28\",\"docker.io/library/nginx:1.27\"]"),
    ] {
        let answer = site.on_control(&get(path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
        let refused = site.on_tcp(&get(path)).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.body);
        assert!(refused.error().contains("control.sock"), "{path}: {}", refused.error());
    }
    site.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_a_sentence() {
    let site = Site::start().await;
    let long = format!("/api/v1/inspect?image={}", "a".repeat(300));
    for (path, status, says) in [
        ("/api/v1/inspect", 400, "no image is named"),
        ("/api/v1/inspect?", 400, "no image is named"),
        ("/api/v1/inspect?image", 400, "image \"\": not a repository name"),
        ("/api/v1/inspect?image=", 400, "image \"\": not a repository name"),
        ("/api/v1/inspect?image=Alpine", 400, "image \"Alpine\": not a repository name"),
        ("/api/v1/inspect?image=alpine:", 400, "not a tag"),
        ("/api/v1/inspect?image=alpine:3%202", 400, "not a tag"),
        ("/api/v1/inspect?image=alpine@sha256:12", 400, "image \"alpine@sha256:12\""),
        ("/api/v1/inspect?image=a..b/c", 400, "not a registry host"),
        ("/api/v1/inspect?image=../../etc/passwd", 400, "image \"../../etc/passwd\""),
        ("/api/v1/inspect?image=%ff", 400, "not a repository name"),
        ("/api/v1/inspect?image=%zz", 400, "not a repository name"),
        ("/api/v1/inspect?image=%00", 400, "not a repository name"),
        (&long, 400, "not a repository name"),
        ("/api/v1/inspect?image=alpine&image=alpine", 400, "\"image\" is given twice"),
        ("/api/v1/inspect?name=alpine", 400, "\"name\" in the query: write image"),
        ("/api/v1/inspect?image=alpine&client=10.0.0.1", 400, "\"client\" in the query"),
        ("/api/v1/explain?client=10.0.0.1", 400, "no image is named"),
        ("/api/v1/explain?image=alpine&client=", 400, "client \"\": not an address"),
        ("/api/v1/explain?image=alpine&client=pi.local", 400, "not an address such as 10.0.7.12"),
        ("/api/v1/explain?image=alpine&client=10.0.0.0/8", 400, "not an address"),
        ("/api/v1/explain?image=alpine&client=10.0.0.1:80", 400, "not an address"),
        ("/api/v1/explain?image=alpine&Client=10.0.0.1", 400, "\"Client\" in the query: write"),
        ("/api/v1/matching?image=alpine:3", 400, "one image, and no pattern"),
        ("/api/v1/matching?image=alpine:%5Ex", 400, "no pattern of tags"),
        ("/api/v1/matching?image=alpine:*&newest=0", 400, "not a number from 1 to 1000"),
        ("/api/v1/images?image=alpine", 400, "nothing is asked by query here"),
        ("/api/v1/clients?x", 400, "\"x\" in the query"),
        ("/api/v1/mismatches?&&=", 400, "\"\" in the query"),
        ("/api/v1/", 404, "nothing here"),
        ("/api/v2/images", 404, "nothing here"),
        ("/api/v1/images/", 404, "nothing here"),
        ("/api/v1/../v1/images", 404, "nothing here"),
    ] {
        let answer = site.on_tcp(&get(path)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.error().contains(says), "{path}: {}", answer.error());
    }
    site.stop().await;
}

#[tokio::test]
async fn a_failure_has_the_status_of_whose_side_failed() {
    let site = Site::start().await;
    for (name, status, says) in [
        ("blob", 404, "no such blob"),
        ("busy", 503, "too many requests"),
        ("denied", 403, "denies access"),
        ("invalid", 502, "upside down"),
        ("unknown", 404, "no such manifest"),
        ("nameless", 404, "no such repository"),
        ("limited", 429, "pull limit"),
        ("elsewhere", 404, "registry docker.io is not configured here"),
        ("closed", 500, "being closed"),
        ("offline", 502, "no route"),
    ] {
        for path in ["inspect", "explain"] {
            let answer = site.on_tcp(&get(&format!("/api/v1/{path}?image={name}"))).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
            assert!(answer.error().contains(says), "{name}: {}", answer.error());
            let waits = answer.head.contains("retry-after: ");
            assert_eq!(waits, matches!(name, "busy" | "limited"), "{name}: {}", answer.head);
        }
        for client in site.clients().await {
            let refused = client.inspect(&image(name)).await.expect_err("refused");
            assert!(
                matches!(&refused, CallError::Refused { status: code, sentence }
                    if code.as_u16() == status && sentence.contains(says)),
                "{refused}"
            );
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn each_path_takes_its_own_methods() {
    let site = Site::start().await;
    let questions =
        ["images", "inspect?image=alpine", "inspect", "explain", "clients", "mismatches", "status"];
    for path in questions {
        for request in
            [post(&format!("/api/v1/{path}"), ""), post(&format!("/api/v1/{path}"), "{}")]
        {
            for answer in [site.on_tcp(&request).await, site.on_control(&request).await] {
                assert_eq!(answer.status, 405, "{path}: {}", answer.body);
                assert!(answer.head.contains("allow: GET, HEAD"), "{}", answer.head);
                answer.error();
            }
        }
    }
    for path in ["pull", "pin", "unpin", "rm", "gc", "verify"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "BREW"] {
            let request = format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: wharf\r\n\r\n");
            for answer in [site.on_tcp(&request).await, site.on_control(&request).await] {
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.body);
                assert!(answer.head.contains("allow: POST"), "{}", answer.head);
            }
        }
    }
    let missing = site.on_control(&post("/api/v1/sink", "{}")).await;
    assert_eq!(missing.status, 404);
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_question_has_an_answer_in_time() {
    let ready = Arc::new(|| Readiness::Ready);
    let admin = Admin::new(Metrics::new(), ready, Arc::new(Script::default()));
    for (access, seconds) in [(Access::Look, 25), (Access::Change, 180)] {
        let (near, far) = tokio::io::duplex(1024);
        let serving = admin.clone().serve(Box::new(far), access, CancellationToken::new());
        let request = get("/api/v1/inspect?image=never");
        let (answer, ()) = tokio::join!(exchange(near, &request), serving);
        assert_eq!(answer.status, 504, "{}", answer.body);
        assert_eq!(answer.error(), format!("no answer within {seconds} s"));

        let (near, far) = tokio::io::duplex(1024);
        let serving = admin.clone().serve(Box::new(far), access, CancellationToken::new());
        let begun = time::Instant::now();
        tokio::join!(serving, async {
            let mut silent = near;
            let mut rest = Vec::new();
            // The end of the connection: nothing was asked.
            let _ = silent.read_to_end(&mut rest).await;
        });
        assert!(begun.elapsed() <= CONNECTION_TIMEOUT, "a silent connection ends");
    }
}
