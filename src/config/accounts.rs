//! Accounts of a registry: `username` and what goes with it in `[[upstream]]`, or several `[[upstream.account]]`.

use std::{ops::Range, path::PathBuf, time::Duration};

use toml::Spanned;

use super::{
    ConfigError, Environment,
    raw::{self, Document, anywhere},
    values::{CredentialHelper, FilePath, Wait},
};
use crate::{
    oci::RegistryName,
    upstream::{Account, Helper, Secret, Source, read_password},
};

/// What the one account of a registry is called.
const ALONE: &str = "account";
/// Accounts of one registry: each may be tried for one request.
const ACCOUNTS: usize = 16;
const NAME_MAX_BYTES: usize = 64;
/// A helper may have to ask another service.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// What a path of a secret that systemd hands over begins with.
const CREDENTIAL: &str = "credential:";

/// Where accounts are read from.
pub(super) struct Reading<'a> {
    pub(super) file: &'a Document<'a>,
    pub(super) environment: &'a Environment,
    pub(super) registry: &'a RegistryName,
}

impl Reading<'_> {
    /// The accounts that `raw` lists, and where the first stands that is somebody's.
    pub(super) fn accounts(
        &self,
        raw: &raw::Upstream,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<Account>, Option<Range<usize>>), ConfigError> {
        let alone = alone(raw);
        let first = first_key(&alone);
        if let (Some(first), [_, ..]) = (&first, &*raw.account) {
            let problem = "an account beside [[upstream.account]]: write it as one of them, too";
            return Err(self.wrong(first.clone(), problem));
        }
        if raw.account.is_empty() {
            let Some(first) = first else { return Ok((Vec::new(), None)) };
            let source = self.source(&alone, first.clone(), warnings)?;
            return Ok((vec![Account { name: ALONE.to_owned(), source }], Some(first)));
        }
        if let Some(beyond) = raw.account.get(ACCOUNTS) {
            let problem = format!("more than {ACCOUNTS} accounts: leave some out");
            return Err(self.wrong(beyond.span(), &problem));
        }
        let (mut accounts, mut private) = (Vec::<Account>::new(), None);
        for table in &raw.account {
            let (span, table) = (table.span(), table.get_ref());
            let name = self.name(table, span.clone(), &accounts)?;
            let source = if table.anonymous == Some(true) {
                if let Some(first) = first_key(table) {
                    let problem = "an anonymous account has no credentials: leave one of them out";
                    return Err(self.wrong(first, problem));
                }
                if accounts.iter().any(|known| matches!(known.source, Source::Anonymous)) {
                    return Err(self.wrong(span, "a second anonymous account: leave it out"));
                }
                Source::Anonymous
            } else {
                let Some(first) = first_key(table) else {
                    let problem = "an account without credentials: write username and password_file, or \
                                   docker_config, or credential_helper, or anonymous = true";
                    return Err(self.wrong(span, problem));
                };
                private = private.or_else(|| Some(first.clone()));
                self.source(table, first, warnings)?
            };
            accounts.push(Account { name, source });
        }
        Ok((accounts, private))
    }

    fn name(
        &self,
        table: &raw::Account,
        span: Range<usize>,
        known: &[Account],
    ) -> Result<String, ConfigError> {
        let Some(name) = &table.name else {
            let problem = "an account without a name: write name = \"…\", such as \"first\"; metrics call it so";
            return Err(self.wrong(span, problem));
        };
        let text = name.get_ref();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > NAME_MAX_BYTES || !text.bytes().all(plain) {
            let problem = format!(
                "not an account's name: write up to {NAME_MAX_BYTES} letters, digits, - _ and ."
            );
            return Err(self.wrong(name.span(), &problem));
        }
        if known.iter().any(|account| account.name == *text) {
            let problem = format!("a second account {text}: give each its own name");
            return Err(self.wrong(name.span(), &problem));
        }
        Ok(text.clone())
    }

    fn source(
        &self,
        table: &raw::Account,
        first: Range<usize>,
        warnings: &mut Vec<String>,
    ) -> Result<Source, ConfigError> {
        let kinds = [
            table.username.is_some()
                || table.password_file.is_some()
                || table.password_env.is_some(),
            table.docker_config.is_some(),
            table.credential_helper.is_some(),
        ];
        if kinds.iter().filter(|is_there| **is_there).count() > 1 {
            let problem = "two sources for one account: write either username with a password, or docker_config, \
                           or credential_helper";
            return Err(self.wrong(first, problem));
        }
        self.check_helper_keys(table)?;
        let timeout = table.helper_timeout.as_ref().map_or(HELPER_TIMEOUT, |wait| wait.get_ref().0);
        let variables =
            table.helper_env.as_ref().map(|list| list.get_ref().clone()).unwrap_or_default();
        if let Some(helper) = &table.credential_helper {
            let program = helper.get_ref().0.clone();
            return Ok(Source::Helper(Helper { program, timeout, variables }));
        }
        if let Some(path) = &table.docker_config {
            let source = Source::DockerConfig { path: self.path(path)?, timeout, variables };
            source.check(self.registry).map_err(|problem| {
                self.wrong(path.span(), &format!("{} {problem}", path.get_ref()))
            })?;
            return Ok(source);
        }
        self.password(table, first, warnings)
    }

    fn password(
        &self,
        table: &raw::Account,
        first: Range<usize>,
        warnings: &mut Vec<String>,
    ) -> Result<Source, ConfigError> {
        let Some(username) = &table.username else {
            let problem = "a password without a user: write username = \"…\" too";
            return Err(self.wrong(first, problem));
        };
        // RFC 7617 §2: the first colon ends the user-id.
        if username.get_ref().is_empty() || username.get_ref().contains([':', '\r', '\n']) {
            let problem = "not a user name: write at least one character, and no colon";
            return Err(self.wrong(username.span(), problem));
        }
        let username_text = username.get_ref().clone();
        match (&table.password_file, &table.password_env) {
            (Some(_), Some(variable)) => {
                let problem = "a password from a file and from a variable: leave one of them out";
                Err(self.wrong(variable.span(), problem))
            }
            (None, None) => {
                let problem = "a username without a password: write password_file = \"…\" too";
                Err(self.wrong(username.span(), problem))
            }
            (Some(file), None) => {
                let path = self.path(file)?;
                let password = read_password(&path).map_err(|problem| {
                    self.wrong(file.span(), &format!("{} {problem}", file.get_ref()))
                })?;
                if password.world_readable {
                    let file = file.get_ref();
                    warnings.push(format!(
                        "every user of this machine can read {file}: run chmod 600 {file}"
                    ));
                }
                Ok(Source::PasswordFile { username: username_text, path })
            }
            (None, Some(variable)) => {
                let name = variable.get_ref();
                let password = self
                    .environment
                    .secret(name)
                    .map_err(|problem| self.wrong(variable.span(), &format!("{name} {problem}")))?;
                let password = Secret::new(password);
                Ok(Source::Given {
                    username: username_text,
                    variable: Some(name.clone()),
                    password,
                })
            }
        }
    }

    /// Refuses keys about helpers where none can be run, and names that no variable has.
    fn check_helper_keys(&self, table: &raw::Account) -> Result<(), ConfigError> {
        let timeout = table.helper_timeout.as_ref().map(Spanned::span);
        let span = timeout.or_else(|| table.helper_env.as_ref().map(Spanned::span));
        if let (Some(span), None, None) = (span, &table.credential_helper, &table.docker_config) {
            let problem =
                "no helper is run here: write credential_helper = \"…\" too, or leave it out";
            return Err(self.wrong(span, problem));
        }
        let Some(list) = &table.helper_env else { return Ok(()) };
        match list.get_ref().iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            Some(name) => {
                let problem = format!(
                    "\"{name}\" is not a variable's name: write names alone, such as \"AWS_PROFILE\""
                );
                Err(self.wrong(list.span(), &problem))
            }
            None => Ok(()),
        }
    }

    /// The path that is meant; `credential:NAME` is one of the secrets that systemd hands over.
    fn path(&self, path: &Spanned<FilePath>) -> Result<PathBuf, ConfigError> {
        let text = path.get_ref().0.to_string_lossy();
        let Some(name) = text.strip_prefix(CREDENTIAL) else {
            return Ok(self.file.beside(path.get_ref()));
        };
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let problem =
                "not a credential's name: write what LoadCredential= calls it in the unit";
            return Err(self.wrong(path.span(), problem));
        }
        let Some(dir) = self.environment.credentials_directory() else {
            let problem = format!(
                "systemd handed over no credentials: write LoadCredential={name}:/the/file into the unit, or the path \
                 of a file here"
            );
            return Err(self.wrong(path.span(), &problem));
        };
        Ok(dir.join(name))
    }

    fn wrong(&self, span: Range<usize>, problem: &str) -> ConfigError {
        ConfigError::at(self.file, span, problem.to_owned())
    }
}

/// Where the first key stands that gives `raw` an account of wharf's own.
pub(super) fn first(raw: &raw::Upstream) -> Option<Range<usize>> {
    first_key(&alone(raw)).or_else(|| raw.account.first().map(Spanned::span))
}

/// `accounts` in the file's form: one that has no name of its own, and the others.
pub(super) fn shown(accounts: &[Account]) -> (raw::Account, Vec<Spanned<raw::Account>>) {
    match accounts {
        [Account { name, source }] if name == ALONE && !matches!(source, Source::Anonymous) => {
            (table(source), Vec::new())
        }
        _ => {
            let named = |account: &Account| {
                let name = Some(anywhere(account.name.clone()));
                anywhere(raw::Account { name, ..table(&account.source) })
            };
            (raw::Account::default(), accounts.iter().map(named).collect())
        }
    }
}

fn table(source: &Source) -> raw::Account {
    let none = raw::Account::default();
    let helped = |timeout: &Duration, variables: &[String]| raw::Account {
        helper_timeout: Some(anywhere(Wait(*timeout))),
        helper_env: Some(anywhere(variables.to_vec())),
        ..raw::Account::default()
    };
    match source {
        Source::Anonymous => raw::Account { anonymous: Some(true), ..none },
        Source::Given { username, variable, .. } => raw::Account {
            username: Some(anywhere(username.clone())),
            password_env: variable.clone().map(anywhere),
            ..none
        },
        Source::PasswordFile { username, path } => raw::Account {
            username: Some(anywhere(username.clone())),
            password_file: Some(anywhere(FilePath(path.clone()))),
            ..none
        },
        Source::DockerConfig { path, timeout, variables } => raw::Account {
            docker_config: Some(anywhere(FilePath(path.clone()))),
            ..helped(timeout, variables)
        },
        Source::Helper(Helper { program, timeout, variables }) => raw::Account {
            credential_helper: Some(anywhere(CredentialHelper(program.clone()))),
            ..helped(timeout, variables)
        },
    }
}

/// The account that stands among the registry's own keys.
fn alone(raw: &raw::Upstream) -> raw::Account {
    raw::Account {
        name: None,
        anonymous: None,
        username: raw.username.clone(),
        password_file: raw.password_file.clone(),
        password_env: raw.password_env.clone(),
        docker_config: raw.docker_config.clone(),
        credential_helper: raw.credential_helper.clone(),
        helper_timeout: raw.helper_timeout.clone(),
        helper_env: raw.helper_env.clone(),
    }
}

fn first_key(table: &raw::Account) -> Option<Range<usize>> {
    let keys = [
        table.username.as_ref().map(Spanned::span),
        table.password_file.as_ref().map(Spanned::span),
        table.password_env.as_ref().map(Spanned::span),
        table.docker_config.as_ref().map(Spanned::span),
        table.credential_helper.as_ref().map(Spanned::span),
        table.helper_timeout.as_ref().map(Spanned::span),
        table.helper_env.as_ref().map(Spanned::span),
    ];
    keys.into_iter().flatten().next()
}
