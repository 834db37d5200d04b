//! `WHARF_<SECTION>__<KEY>`: the environment as a layer over the file.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

use toml::{Table, Value};

use super::{Config, ConfigError, NOWHERE, raw};

/// The variables of a process.
///
/// No `Debug` shows their values: each may be a secret that `password_env` names.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// The file that `WHARF_CONFIG` names; set but empty is how a compose file says "none".
    pub fn config_file(&self) -> Option<PathBuf> {
        self.0.get("WHARF_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The first of the directories that systemd made for the unit's state.
    pub(super) fn state_directory(&self) -> Option<PathBuf> {
        let list = self.0.get("STATE_DIRECTORY")?;
        std::env::split_paths(list).next().filter(|path| !path.as_os_str().is_empty())
    }

    /// Where systemd put the secrets that the unit names.
    pub(super) fn credentials_directory(&self) -> Option<PathBuf> {
        self.0.get("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The secret in the variable `name`; otherwise what is wrong with it, to be said after its name.
    pub(super) fn secret(&self, name: &str) -> Result<String, &'static str> {
        let text = self.0.get(name).ok_or("is not set: set that variable to the password")?;
        let text = text.to_str().ok_or("is not UTF-8 text")?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err("is empty: set that variable to the password"),
            text if text.contains(['\r', '\n']) => Err("holds more than one line"),
            text => Ok(text.to_owned()),
        }
    }

    /// One layer for each variable that sets a key.
    pub(super) fn layers(&self) -> Result<Vec<raw::Raw>, ConfigError> {
        let known = Table::try_from(raw::Raw::from(&Config::default()))
            .expect("plain tables, keys and values");
        self.0
            .iter()
            .filter_map(|(name, value)| {
                // Without the two underscores it is somebody else's: WHARF_CONFIG, or the WHARF_PORT
                // and WHARF_SERVICE_HOST that Kubernetes sets for a service called wharf.
                let (section, key) = name.strip_prefix("WHARF_")?.split_once("__")?;
                Some((name, section.to_ascii_lowercase(), key.to_ascii_lowercase(), value))
            })
            .map(|(name, section, key, value)| {
                let Some(value) = value.to_str() else {
                    return Err(ConfigError::variable(name, "the value is not UTF-8"));
                };
                if let Some((what, table)) = of_the_file_alone(&section, &key) {
                    let problem = format!(
                        "{what} cannot be set by variables: write [[{table}]] in the file that \
                         WHARF_CONFIG names"
                    );
                    return Err(ConfigError::variable(name, &problem));
                }
                if section == "server" && (key == "tls" || key.starts_with("tls__")) {
                    let problem = "TLS cannot be set by variables: write [server] tls in the file \
                                   that WHARF_CONFIG names";
                    return Err(ConfigError::variable(name, problem));
                }
                if section == "server" && matches!(&*key, "users" | "sign_in" | "users_without_tls") {
                    let problem = format!(
                        "users cannot be set by variables: write [server] {key} in the file that WHARF_CONFIG names"
                    );
                    return Err(ConfigError::variable(name, &problem));
                }
                let like = known.get(&section).and_then(|keys| keys.get(&key));
                let keys = Table::from_iter([(key, typed(value, like))]);
                let layer = Table::from_iter([(section, Value::Table(keys))]).to_string();
                let layer: raw::Raw = toml::from_str(&layer)
                    .map_err(|error| ConfigError::variable(name, error.message()))?;
                let listen = layer.server.listen.as_ref();
                match listen.is_some_and(|listen| listen.get_ref().0.is_empty()) {
                    true => Err(ConfigError::variable(name, NOWHERE)),
                    false => Ok(layer),
                }
            })
            .collect()
    }
}

impl FromIterator<(String, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a table that may come several times is about, and its name, when `section` and `key` mean one.
fn of_the_file_alone(section: &str, key: &str) -> Option<(&'static str, &'static str)> {
    let first = key.split("__").next();
    match (section, first) {
        ("listener", _) => Some(("listeners", "listener")),
        ("access", _) => Some(("who may pull what", "access")),
        ("upstream", _) => Some(("registries", "upstream")),
        ("compose", _) => Some(("composed images", "compose")),
        ("platforms", Some("client")) => Some(("clients", "platforms.client")),
        ("prefetch", Some("image")) => Some(("images to keep warm", "prefetch.image")),
        _ => None,
    }
}

/// `text` as a value of the same type as `like`, the key's default: variables carry no quotes. What does
/// not fit stays a string, and the key's own type says what it wants.
fn typed(text: &str, like: Option<&Value>) -> Value {
    let text = text.trim();
    let string = || Value::String(text.to_owned());
    match like {
        Some(Value::Integer(_)) => text.parse().map_or_else(|_| string(), Value::Integer),
        Some(Value::Boolean(_)) => text.parse().map_or_else(|_| string(), Value::Boolean),
        Some(Value::Array(_)) => array(text).unwrap_or_else(|| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }),
        _ => string(),
    }
}

/// A TOML array; `None` for anything else, such as `[::1]:5000`.
fn array(text: &str) -> Option<Value> {
    let table: Table = toml::from_str(&format!("list = {text}")).ok()?;
    table.get("list").filter(|value| value.is_array()).cloned()
}
