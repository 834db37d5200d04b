//! What is asked of those who come to an address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Tls, access::is_among, users::Users};

/// What is asked of those who come to one of wharf's addresses.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Networks whose clients are served; empty: all.
    pub allow_clients: Vec<IpNet>,
    /// How TLS is spoken; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Who may sign in with name and password; `None`: what clients send of that is for registries to judge.
    pub users: Option<Users>,
    /// Whether who has not signed in is answered with a challenge, and nothing else. Old Docker Engines answer one of their
    /// mirror with their user's password for Docker Hub.
    pub sign_in: bool,
}

impl Door {
    /// Whether whoever reaches the address is let in.
    pub fn is_open(&self) -> bool {
        let Self { allow_clients, tls, users, sign_in } = self;
        let wants_certificate = tls.as_ref().is_some_and(Tls::wants_certificate);
        allow_clients.is_empty() && !wants_certificate && !(users.is_some() && *sign_in)
    }

    /// Whether a client from there is among those that are served.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        is_among(&self.allow_clients, client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_allowed_is_let_in() {
        let nets = ["10.0.0.0/30", "2001:db8::/64"];
        let nets = nets.iter().map(|net| net.parse().expect("a network")).collect();
        let door = Door { allow_clients: nets, ..Door::default() };
        let allows = |text: &str| door.allows(text.parse().expect("an address"));
        for text in ["10.0.0.3", "::ffff:10.0.0.3", "2001:db8::7"] {
            assert!(allows(text), "{text}");
        }
        for text in ["10.0.0.4", "::ffff:10.0.0.4", "2001:db8:0:1::7", "127.0.0.1", "::1"] {
            assert!(!allows(text), "{text}");
        }
        assert!(Door::default().allows([10, 0, 0, 4].into()));
    }
}
