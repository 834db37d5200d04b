//! The control socket as a file: whose it is, and when it is there.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("it is there");
    names.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_its_wharf() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("control.sock");
    let control = Control::bind(&path).expect("bound");
    let metadata = fs::metadata(&path).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(names(dir.path()), ["control.sock"]);
    assert!(Client::at(&path).await.is_ok());

    drop(control);
    assert!(names(dir.path()).is_empty());
    let gone = Client::at(&path).await.err().expect("nobody is there");
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn what_a_killed_wharf_left_is_replaced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("control.sock");
    // Killed while it ran, and another one killed while it bound.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    drop(std::os::unix::net::UnixListener::bind(path.with_extension("new")).expect("bound"));
    let dead = Client::at(&path).await.err().expect("nobody listens");
    assert_eq!(dead.kind(), io::ErrorKind::ConnectionRefused);

    let control = Control::bind(&path).expect("bound");
    assert!(Client::at(&path).await.is_ok());
    assert_eq!(names(dir.path()), ["control.sock"]);
    drop(control);
}

#[tokio::test]
async fn a_directory_with_a_long_name_has_a_socket_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let deep = dir.path().join("a".repeat(100)).join("b".repeat(200));
    fs::create_dir_all(&deep).expect("made");
    let path = deep.join("control.sock");
    let control = Control::bind(&path).expect("bound");
    assert!(path.exists() && Client::at(&path).await.is_ok());
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    drop(control);
    assert!(names(&deep).is_empty());

    for path in [deep.join("missing/control.sock"), dir.path().join("missing/control.sock")] {
        assert_eq!(Control::bind(&path).expect_err("no place").kind(), io::ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn the_socket_is_served_until_the_shutdown_and_then_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("control.sock");
    let control = Control::bind(&path).expect("bound");
    let ready = Arc::new(|| Readiness::Ready);
    let admin = Admin::new(Metrics::new(), ready, Arc::new(Script::default()));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(admin.run_control(control, shutdown.clone()));

    let client = Client::at(&path).await.expect("it listens");
    assert_eq!(client.images().await.expect("answered").len(), 1);
    let idle = UnixStream::connect(&path).await.expect("connected");
    shutdown.cancel();
    running.await.expect("no panic");
    assert!(names(dir.path()).is_empty());
    assert!(matches!(client.images().await, Err(CallError::Unreachable(_))));
    drop(idle);
}
