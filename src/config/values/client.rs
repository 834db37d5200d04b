//! How a client is known: by its network, by the address that it came to, by the name it calls wharf.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

use super::{Item, in_quotes, parse_address, unwrapped};
use crate::oci::RegistryName;

/// A network, or one address as a network of its own. One of IPv4 addresses written as IPv6 is the IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Network(pub(in crate::config) IpNet);

/// One of wharf's own addresses; its port is known before it is bound.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Listener(pub(in crate::config) SocketAddr);

/// A host name without a port, in lower case.
#[derive(Clone, Debug)]
pub(in crate::config) struct HostName(pub(in crate::config) String);

/// What certificates call their holder; not empty.
#[derive(Clone, Debug)]
pub(in crate::config) struct Subject(pub(in crate::config) String);

impl Item for Network {
    const LIST: &'static str = "a list of networks, such as [\"10.0.7.0/24\"]";
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address.to_canonical())));
        }
        let net: IpNet = text.parse().map_err(|_| {
            format!(
                "\"{text}\" is not a network: write one such as \"10.0.7.0/24\" or \
                 \"fd00:7::/64\", or a single address"
            )
        })?;
        if net.trunc() != net {
            return Err(format!(
                "\"{text}\" is an address inside a network: write \"{}\" for the network, or \
                 \"{}\" for the address alone",
                net.trunc(),
                net.addr()
            ));
        }
        Ok(Self(canonical(net)))
    }
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

impl FromStr for Listener {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = parse_address(text)?;
        if address.port() == 0 {
            return Err(format!(
                "\"{text}\" names no listener: port 0 is any free one, write a fixed port"
            ));
        }
        Ok(Self(address))
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((host, port)) = text.rsplit_once(':') {
            if port.parse::<u16>().is_ok() && host.parse::<RegistryName>().is_ok() {
                return Err(format!("\"{text}\" has a port: write the name alone, \"{host}\""));
            }
        }
        match text.parse::<RegistryName>() {
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(_) => Err(format!(
                "\"{text}\" is not a host name: write the one that clients call wharf by, such as \
                 \"armv6.wharf.lan\""
            )),
        }
    }
}

impl FromStr for Subject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err("an empty subject names nobody: write the common name or alternative \
                        name that stands in the client's certificate");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

in_quotes! {
    Network: "a network in quotes, such as \"10.0.7.0/24\"";
    Listener: "an address in quotes, such as \"0.0.0.0:5001\"";
    HostName: "a host name in quotes, such as \"armv6.wharf.lan\"";
    Subject: "a name in quotes, as it stands in the client's certificate";
}

unwrapped! {
    Network => IpNet;
    Listener => SocketAddr;
    HostName => String;
    Subject => String;
}
