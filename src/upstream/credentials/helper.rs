//! Docker credential helpers: programs that are asked for an account on their standard input
//! ([docker-credential-helpers, "Development"](https://github.com/docker/docker-credential-helpers#development)).

use std::{fmt, path::Path, process::Stdio, str::FromStr, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::docker_config::address;
use crate::{oci::RegistryName, upstream::Claim};

/// A token is a few kilobytes at most.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// The user name that says that what goes with it is an identity token.
const IDENTITY: &str = "<token>";
/// What every program needs to find its own files and others; the rest is named by the operator.
const ALWAYS: [&str; 2] = ["PATH", "HOME"];

/// A program, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// Which one.
    pub program: HelperName,
    /// It is killed when it takes longer.
    pub timeout: Duration,
    /// The variables of wharf's environment that it is given besides `PATH` and `HOME`.
    pub variables: Vec<String>,
}

/// A helper's name (`ecr-login` for `docker-credential-ecr-login`), or the absolute path of such a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperName(String);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    /// What the program says of `registry`.
    ///
    /// # Errors
    /// What went wrong, without a word of what the program said.
    pub(super) async fn ask(&self, registry: &RegistryName) -> Result<Claim, String> {
        let Self { program, timeout: patience, .. } = self;
        let mut running =
            Running::start(self).map_err(|error| format!("{program} cannot be run: {error}"))?;
        match timeout(*patience, running.answer(address(registry))).await {
            Ok(answer) => answer.map_err(|problem| format!("{program} {problem}")),
            Err(_) => Err(format!("{program} took longer than {patience:?} and was killed")),
        }
    }
}

/// A program that runs; what it has started goes with it.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(helper: &Helper) -> std::io::Result<Self> {
        let names = ALWAYS.iter().copied().chain(helper.variables.iter().map(String::as_str));
        let child = Command::new(helper.program.program())
            .arg("get")
            .env_clear()
            .envs(names.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whatever it says there may be a secret.
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self { child, group: id.and_then(Pid::from_raw) })
    }

    async fn answer(&mut self, address: &str) -> Result<Claim, String> {
        let unusable = || "did not answer as a credential helper does".to_owned();
        if let Some(mut stdin) = self.child.stdin.take() {
            // A program may know without reading.
            let _ = stdin.write_all(format!("{address}\n").as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            let mut stdout = stdout.take(ANSWER_MAX_BYTES + 1);
            stdout.read_to_end(&mut said).await.map_err(|_| unusable())?;
        }
        if said.len() as u64 > ANSWER_MAX_BYTES {
            return Err(format!("said more than {ANSWER_MAX_BYTES} bytes and was killed"));
        }
        let status = self.child.wait().await.map_err(|_| unusable())?;
        if !status.success() {
            return Err(format!("knows no account for {address} ({status})"));
        }
        claimed(&said).ok_or_else(unusable)
    }
}

/// What a helper's answer claims; `None` where it is no account. The parser's message could quote the secret.
pub(super) fn claimed(said: &[u8]) -> Option<Claim> {
    let Answer { username, secret } = serde_json::from_slice(said).ok()?;
    let claim = match &*username {
        IDENTITY => Claim::with_identity(secret.trim()),
        "" => Claim::default(),
        // RFC 7617 §2: the first colon ends the user-id.
        name if name.contains(':') => Claim::default(),
        name => Claim::password(name, &secret),
    };
    Some(claim).filter(|claim| !claim.is_none())
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not yet waited for, so that the number is still its own; what is left of the child is then reaped by the runtime.
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl HelperName {
    /// Whether it is a path rather than a name.
    pub fn is_a_path(&self) -> bool {
        self.0.starts_with('/')
    }

    /// The name or path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn program(&self) -> String {
        if self.is_a_path() { self.0.clone() } else { format!("docker-credential-{}", self.0) }
    }
}

impl FromStr for HelperName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !text.is_empty() && text.bytes().all(plain);
        if is_name || (Path::new(text).is_absolute() && !text.contains('\0')) {
            return Ok(Self(text.to_owned()));
        }
        Err(
            "not a credential helper: write what follows docker-credential-, such as \"ecr-login\", \
             or a program's absolute path",
        )
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tokio::time::Instant;

    use super::*;

    /// What a helper that is this shell script says.
    async fn ask(script: &str, patience: Duration) -> Result<Claim, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        let program = path.to_str().expect("text").parse().expect("a path");
        let helper = Helper { program, timeout: patience, variables: Vec::new() };
        helper.ask(&RegistryName::docker_hub()).await
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn is_asked_by_its_protocol_and_given_little() {
        let script = r#"read address
            [ "$1 $address" = "get https://index.docker.io/v1/" ] || exit 3
            [ -z "$CARGO_PKG_NAME$CARGO" ] || exit 4
            echo '{"ServerURL":"x","Username":"alice","Secret":"s3cret"}'"#;
        assert_eq!(ask(script, LONG).await, Ok(Claim::password("alice", "s3cret")));
        let script = r#"echo '{"Username":"<token>","Secret":"refresh"}'"#;
        assert_eq!(ask(script, LONG).await, Ok(Claim::with_identity("refresh")));
    }

    #[tokio::test]
    async fn one_that_misbehaves_is_no_harm_and_gives_nothing_away() {
        for (script, patience) in [
            ("echo s3cret; echo s3cret >&2; exit 1", LONG),
            ("echo s3cret >&2; echo s3cret", LONG),
            (r#"echo '{"Username":7,"Secret":"s3cret"}'"#, LONG),
            (r#"echo '{"Username":"","Secret":"s3cret"}'"#, LONG),
            (r#"echo '{"Username":"a:b","Secret":"s3cret"}'"#, LONG),
            ("head -c 1073741824 /dev/zero", LONG),
            ("echo s3cret; sleep 1000", Duration::from_millis(200)),
            ("sleep 1000 & sleep 1000", Duration::from_millis(200)),
            ("kill -9 $$", LONG),
        ] {
            let begun = Instant::now();
            let problem = ask(script, patience).await.expect_err(script);
            assert!(!problem.contains("s3cret"), "{problem}");
            assert!(begun.elapsed() < LONG, "{script}");
        }
        let missing = "/nowhere/docker-credential-x".parse().expect("a path");
        let helper = Helper { program: missing, timeout: LONG, variables: Vec::new() };
        let problem = helper.ask(&RegistryName::docker_hub()).await.expect_err("missing");
        assert!(problem.contains("docker-credential-x cannot be run"), "{problem}");
    }

    #[tokio::test]
    async fn what_was_killed_is_gone_with_all_that_it_started() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pids = dir.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());
        assert!(ask(&script, Duration::from_secs(2)).await.is_err());
        let pids = fs::read_to_string(&pids).expect("it ran");
        for pid in pids.split_ascii_whitespace() {
            let gone = async {
                // Dead, if perhaps not reaped yet: state Z, or no such process.
                loop {
                    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    if stat.is_empty() || stat.contains(") Z ") {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            timeout(LONG, gone).await.expect("gone");
        }
    }

    #[test]
    fn names_no_shell_and_no_way_out() {
        for bad in ["", "a b", "../x", "x/y", "x;y", "$(x)", "é"] {
            assert!(bad.parse::<HelperName>().is_err(), "{bad}");
        }
        let name: HelperName = "ecr-login".parse().expect("a name");
        assert_eq!(name.to_string(), "docker-credential-ecr-login");
    }
}
