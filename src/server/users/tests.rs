use futures_util::future::join_all;
use tokio::time::advance;

use super::*;

/// "U*U", of the test vectors of crypt_blowfish.
const ALICE: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn users(text: &str) -> Users {
    Users::parse(text).unwrap_or_else(|(line, problem)| panic!("line {line} {problem}"))
}

async fn verify(users: &Users, name: &str, password: &str) -> Result<String, NotSignedIn> {
    verify_from(users, HERE, name, password).await
}

async fn verify_from(
    users: &Users,
    client: IpAddr,
    name: &str,
    password: &str,
) -> Result<String, NotSignedIn> {
    let credentials = Credentials { name: name.to_owned(), password: password.into() };
    users.verify(credentials, client).await.map(|name| name.to_string())
}

#[tokio::test]
async fn who_knows_a_password_is_who_has_it() {
    let users = users(&format!("# site\n\n{ALICE}\r\n{}\n", ALICE.replace("alice", "bob")));
    assert_eq!(verify(&users, "alice", "U*U").await, Ok("alice".to_owned()));
    assert_eq!(verify(&users, "bob", "U*U").await, Ok("bob".to_owned()));
    for (name, password) in [("alice", "u*u"), ("Alice", "U*U"), ("carol", "U*U"), ("", "U*U")] {
        assert_eq!(verify(&users, name, password).await, Err(NotSignedIn::Wrong), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_changes_counts_at_once() {
    let users = users(ALICE);
    assert!(verify(&users, "alice", "U*U").await.is_ok());
    assert!(!users.adopt(&Users::parse(ALICE).expect("good")), "the same");
    let other = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK";
    assert!(users.adopt(&Users::parse(other).expect("good")));
    assert_eq!(verify(&users, "alice", "U*U").await, Err(NotSignedIn::Wrong), "it was right");
    assert!(verify(&users, "alice", "U*U*").await.is_ok());
    assert!(users.adopt(&Users::parse(&other.replace("alice", "bob")).expect("good")));
    assert_eq!(verify(&users, "alice", "U*U*").await, Err(NotSignedIn::Wrong), "she is gone");
}

#[tokio::test]
async fn who_is_wrong_too_often_waits_and_who_is_known_does_not() {
    let users = users(ALICE);
    assert!(verify(&users, "alice", "U*U").await.is_ok());
    for _ in 0..5 {
        assert_eq!(verify(&users, "alice", "guess").await, Err(NotSignedIn::Wrong));
    }
    let slowed = verify(&users, "alice", "guess").await;
    assert!(matches!(slowed, Err(NotSignedIn::TooOften(_))), "{slowed:?}");
    assert!(verify(&users, "alice", "U*U").await.is_ok(), "it was found right before");
    let elsewhere = IpAddr::from([127, 0, 0, 2]);
    let other = verify_from(&users, elsewhere, "alice", "guess").await;
    assert_eq!(other, Err(NotSignedIn::Wrong), "another client");
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_for_their_turn_and_no_more_and_none_for_ever() {
    let users = users(ALICE);
    let inner = &users.0;
    let taken = Arc::clone(&inner.verifying).acquire_many_owned(VERIFIED_AT_ONCE as u32);
    let _taken = taken.await.expect("open");
    let waiting = (0..WAITING_MAX + VERIFIED_AT_ONCE).map(|_| verify(&users, "alice", "U*U"));
    let mut waiting = Box::pin(join_all(waiting));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!(verify(&users, "alice", "U*U").await, Err(NotSignedIn::Busy), "one too many");
    advance(DEADLINE).await;
    assert!(waiting.await.iter().all(|verdict| *verdict == Err(NotSignedIn::Busy)));
    assert_eq!(inner.waiting.available_permits(), WAITING_MAX + VERIFIED_AT_ONCE, "given back");
}

#[tokio::test]
async fn many_at_once_are_verified_few_at_a_time_and_then_known() {
    let users = users(ALICE);
    let verdicts = join_all((0..30).map(|_| verify(&users, "alice", "U*U"))).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    let inner = &users.0;
    assert_eq!(inner.verifying.available_permits(), VERIFIED_AT_ONCE);
}

#[test]
fn a_line_that_will_not_do_is_told_by_its_number() {
    for (text, line, why) in [
        ("", 1, "and all others name nobody"),
        ("# nobody\n", 1, "and all others name nobody"),
        ("alice", 1, "is no user"),
        (":x", 1, "has no name"),
        (&format!("{ALICE}\n\nbob:hunter2"), 3, "has a password that is kept by nothing"),
        (&format!("{ALICE}\n{ALICE}"), 2, "has a name that stands above"),
    ] {
        let (at, problem) = Users::parse(text).map(|_| ()).expect_err(text);
        assert_eq!(at, line, "{text}");
        assert!(problem.starts_with(why) && !problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    assert_eq!(format!("{:?}", users(ALICE)), "Users { .. }");
}
