//! Addresses: where to listen, whom to ask.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};
use url::Url;

use super::{in_quotes, unwrapped};
use crate::upstream::Host;

/// `[server] listen`: addresses, none twice.
#[derive(Clone, Debug)]
pub(in crate::config) struct Listen(pub(in crate::config) Vec<SocketAddr>);

/// `[admin] listen`: an address, or `"off"`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct AdminListen(pub(in crate::config) Option<SocketAddr>);

/// The base address of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Endpoint(pub(in crate::config) Url);

/// A host that may see an account, with its port if no other one is meant.
#[derive(Clone, Debug)]
pub(in crate::config) struct Realm(pub(in crate::config) Host);

/// An IP address and a port.
struct Address(SocketAddr);

/// Reads an IP address and a port.
///
/// # Errors
/// One sentence that says what to write instead.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{text}\" is not an address: write an IP address and a port, such as \
             \"0.0.0.0:5000\" or \"[::]:5000\""
        )
    })
}

/// The first value that comes again; port 0 stands for any free one, and may.
pub(in crate::config) fn first_repeated(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let mut rest = addresses;
    while let Some((first, behind)) = rest.split_first() {
        if first.port() != 0 && behind.contains(first) {
            return Some(*first);
        }
        rest = behind;
    }
    None
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_address(text).map(Self)
    }
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match parse_address(text) {
            Ok(address) => Ok(Self(Some(address))),
            Err(problem) => Err(format!("{problem}; or \"off\" for none")),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What may hold a password is not repeated: neither user info nor a query.
        if text.contains('@') {
            let problem = "an address with credentials: write username and password_file instead";
            return Err(problem.to_owned());
        }
        if text.contains(['?', '#']) {
            let problem =
                "an address with a query or a fragment: leave out '?' or '#' and the rest";
            return Err(problem.to_owned());
        }
        let mut url = match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            _ => {
                return Err(format!(
                    "\"{text}\" is not the address of a registry: write one such as \
                     \"https://registry.example\""
                ));
            }
        };
        // "…/mirror/" and "…/mirror" are one base address.
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl FromStr for Realm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "\"{text}\" is not a host: write one such as \"auth.example\" or \
                 \"auth.example:8443\""
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

in_quotes! {
    Address: "an address in quotes, such as \"0.0.0.0:5000\"";
    AdminListen: "an address in quotes, such as \"127.0.0.1:5001\", or \"off\"";
    Endpoint: "an address in quotes, such as \"https://registry.example\"";
    Realm: "a host in quotes, such as \"auth.example\"";
}

unwrapped! {
    Listen => Vec<SocketAddr>;
    AdminListen => Option<SocketAddr>;
    Endpoint => Url;
    Realm => Host;
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, such as [\"0.0.0.0:5000\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listen, A::Error> {
                let mut addresses = Vec::new();
                while let Some(Address(address)) = list.next_element()? {
                    addresses.push(address);
                }
                match first_repeated(&addresses) {
                    Some(twice) => Err(de::Error::custom(format!(
                        "{twice} is given twice: write each address once"
                    ))),
                    None => Ok(Listen(addresses)),
                }
            }
        }
        deserializer.deserialize_seq(List)
    }
}
