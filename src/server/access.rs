//! Who may pull what: the rules of `[[access]]`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use ipnet::IpNet;

use super::peer::Peer;
use crate::oci::{Glob, RegistryName, Repository};

/// The rules in force; with none, everybody may pull everything. Clones are the same ones, and change together.
#[derive(Clone, Debug, Default)]
pub struct Access(Arc<RwLock<Arc<[AccessRule]>>>);

/// What some clients may pull. A client is meant when all that is said here holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// A name in its verified certificate.
    pub subject: Option<Glob>,
    /// The name by which it has signed in.
    pub user: Option<Glob>,
    /// Where it comes from; empty: anywhere.
    pub clients: Vec<IpNet>,
    /// The address that it came to.
    pub listener: Option<SocketAddr>,
    /// What it may pull, as `<registry>/<repository>`.
    pub allow: Vec<Glob>,
}

impl Access {
    /// These rules.
    pub fn new(rules: Vec<AccessRule>) -> Self {
        Self(Arc::new(RwLock::new(rules.into())))
    }

    /// From the next request on, does as `new`.
    pub fn adopt(&self, new: &Self) {
        let new = new.rules();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// The rules, in the order in which they were given.
    pub fn rules(&self) -> Arc<[AccessRule]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `peer` may pull.
    pub(super) fn of(&self, peer: &Peer) -> Permission {
        let rules = self.rules();
        let meant = (0..rules.len()).filter(|at| rules[*at].means(peer)).collect();
        Permission { rules, meant }
    }

    /// Whether somebody of whom nothing is known may pull what he likes of `registry` through `listener`.
    pub fn opens(&self, registry: &RegistryName, listener: SocketAddr) -> bool {
        let rules = self.rules();
        rules.is_empty()
            || rules.iter().any(|rule| rule.means_anybody(listener) && rule.gives_all_of(registry))
    }
}

/// What one client may pull, while it asks.
pub(super) struct Permission {
    rules: Arc<[AccessRule]>,
    /// Those of them that are about this client.
    meant: Vec<usize>,
}

impl Permission {
    pub(super) fn permits(&self, repository: &Repository) -> bool {
        if self.rules.is_empty() {
            return true;
        }
        let name = repository.to_string();
        self.meant
            .iter()
            .any(|at| self.rules[*at].allow.iter().any(|pattern| pattern.matches(&name)))
    }
}

impl AccessRule {
    fn means(&self, peer: &Peer) -> bool {
        let Self { subject, user, clients, listener, allow: _ } = self;
        let address = peer.address.ip().to_canonical();
        let is_called = |pattern: &Glob| peer.subjects.iter().any(|name| pattern.matches(name));
        subject.as_ref().is_none_or(is_called)
            && user.as_ref().is_none_or(|pattern| {
                peer.user.as_deref().is_some_and(|name| pattern.matches(name))
            })
            && (clients.is_empty() || clients.iter().any(|net| net.contains(&address)))
            && listener.is_none_or(|listener| peer.listener == listener)
    }

    fn means_anybody(&self, at: SocketAddr) -> bool {
        let everywhere = |net: &IpNet| net.prefix_len() == 0;
        let Self { subject, user, clients, listener, allow: _ } = self;
        subject.is_none()
            && user.is_none()
            && (clients.is_empty() || clients.iter().any(everywhere))
            && listener.is_none_or(|listener| listener == at)
    }

    /// Whether that is everything of `registry`, or it is not even named.
    fn gives_all_of(&self, registry: &RegistryName) -> bool {
        self.allow.iter().any(|pattern| {
            let is_wild = |text: &str| text.bytes().all(|byte| b"*?/".contains(&byte));
            match pattern.as_str().split_once('/') {
                None => is_wild(pattern.as_str()),
                Some(("**", _)) => true,
                Some((first, rest)) => {
                    let is_meant =
                        first.parse::<Glob>().is_ok_and(|it| it.matches(registry.as_str()));
                    is_meant && (first != registry.as_str() || is_wild(rest))
                }
            }
        })
    }
}

/// The address of a client that is told by its network alone, for rules that name one.
pub(super) fn is_among(nets: &[IpNet], client: IpAddr) -> bool {
    let client = client.to_canonical();
    nets.is_empty() || nets.iter().any(|net| net.contains(&client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Door;

    fn rule(change: impl FnOnce(&mut AccessRule), allow: &[&str]) -> AccessRule {
        let allow = allow.iter().map(|pattern| pattern.parse().expect("a pattern")).collect();
        let mut rule =
            AccessRule { subject: None, user: None, clients: Vec::new(), listener: None, allow };
        change(&mut rule);
        rule
    }

    fn pattern(text: &str) -> Option<Glob> {
        Some(text.parse().expect("a pattern"))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn peer(change: impl FnOnce(&mut Peer)) -> Peer {
        let door = Arc::new(Door::default());
        let mut peer = Peer::new(address("10.0.7.9:1234"), address("0.0.0.0:5000"), door);
        change(&mut peer);
        peer
    }

    fn permits(rules: &[AccessRule], peer: &Peer, name: &str) -> bool {
        let (registry, name) = name.split_once('/').expect("a registry");
        let repository = Repository::new(registry.parse().expect("a registry"), name);
        Access::new(rules.to_vec()).of(peer).permits(&repository.expect("a name"))
    }

    #[test]
    fn without_rules_everybody_may_pull_everything_and_with_any_only_what_one_says() {
        let anybody = peer(|_| ());
        assert!(permits(&[], &anybody, "docker.io/library/alpine"));
        let rules = [rule(|_| (), &["docker.io/library/*", "ghcr.io/acme/**"])];
        for (name, may) in [
            ("docker.io/library/alpine", true),
            ("docker.io/library/a/b", false),
            ("docker.io/alpine/library", false),
            ("ghcr.io/acme/a", true),
            ("ghcr.io/acme/a/b", true),
            ("ghcr.io/acme", false),
            ("ghcr.io/acmes/a", false),
            ("ghcr.io.example/acme/a", false),
            ("ghcr.io:443/acme/a", false),
        ] {
            assert_eq!(permits(&rules, &anybody, name), may, "{name}");
        }
        assert!(!permits(&[rule(|_| (), &[])], &anybody, "docker.io/library/alpine"));
    }

    #[test]
    fn a_rule_means_those_for_whom_all_of_it_holds() {
        let known = peer(|peer| {
            peer.subjects = vec!["pi-7".to_owned(), "spiffe://site/pi/7".to_owned()].into();
            peer.user = Some("alice".into());
        });
        let net = || vec!["10.0.7.0/24".parse().expect("a network")];
        let other_net = || vec!["10.0.8.0/24".parse().expect("a network")];
        let one = |change: &dyn Fn(&mut AccessRule)| rule(change, &["**"]);
        let means = |rule: &AccessRule, peer: &Peer| {
            permits(std::slice::from_ref(rule), peer, "docker.io/library/alpine")
        };
        let good: [&dyn Fn(&mut AccessRule); 6] = [
            &|rule| rule.subject = pattern("pi-*"),
            &|rule| rule.subject = pattern("spiffe://site/pi/*"),
            &|rule| rule.user = pattern("alice"),
            &|rule| rule.user = pattern("*"),
            &|rule| rule.clients = net(),
            &|rule| rule.listener = Some(address("0.0.0.0:5000")),
        ];
        let bad: [&dyn Fn(&mut AccessRule); 6] = [
            &|rule| rule.subject = pattern("PI-*"),
            &|rule| rule.subject = pattern("pi"),
            &|rule| rule.subject = pattern("spiffe:*"),
            &|rule| rule.user = pattern("bob"),
            &|rule| rule.clients = other_net(),
            &|rule| rule.listener = Some(address("0.0.0.0:5001")),
        ];
        for good in good {
            assert!(means(&one(good), &known), "{:?}", one(good));
        }
        let all = |rule: &mut AccessRule| good.iter().for_each(|good| good(rule));
        assert!(means(&one(&all), &known));
        for bad in bad {
            let all_but_one = one(&|rule| {
                all(rule);
                bad(rule);
            });
            assert!(!means(&one(bad), &known), "{:?}", one(bad));
            assert!(!means(&all_but_one, &known), "{all_but_one:?}");
        }
        // Who has shown no certificate, and has not signed in, has no name at all.
        let nobody = peer(|_| ());
        for named in
            [one(&|rule| rule.subject = pattern("**")), one(&|rule| rule.user = pattern("*"))]
        {
            assert!(!means(&named, &nobody), "{named:?}");
        }
        assert!(means(&one(&|rule| rule.clients = net()), &nobody));
        let mapped = peer(|peer| peer.address = address("[::ffff:10.0.7.9]:1"));
        assert!(means(&one(&|rule| rule.clients = net()), &mapped));
    }

    #[test]
    fn what_is_given_to_anybody_is_told_from_what_is_given_to_some() {
        let ghcr: RegistryName = "ghcr.io".parse().expect("a registry");
        let (here, there) = (address("0.0.0.0:5000"), address("0.0.0.0:5001"));
        let opens = |rule: AccessRule| Access::new(vec![rule]).opens(&ghcr, here);
        assert!(Access::default().opens(&ghcr, here));
        for all in ["**", "*/**", "ghcr.io/**", "ghcr.io/*/*", "gh*/acme/*", "**/acme", "?hcr.io/a"]
        {
            assert!(opens(rule(|_| (), &["docker.io/**", all])), "{all}");
        }
        for some in ["ghcr.io/acme/*", "docker.io/**", "ghcr.io:5000/**", "ghcr.io/a*"] {
            assert!(!opens(rule(|_| (), &[some])), "{some}");
        }
        for to_some in [
            rule(|rule| rule.subject = pattern("**"), &["**"]),
            rule(|rule| rule.user = pattern("**"), &["**"]),
            rule(|rule| rule.clients = vec!["10.0.0.0/8".parse().expect("a network")], &["**"]),
            rule(|rule| rule.listener = Some(there), &["**"]),
        ] {
            assert!(!opens(to_some.clone()), "{to_some:?}");
        }
        assert!(opens(rule(|rule| rule.listener = Some(here), &["**"])));
        let world = vec!["0.0.0.0/0".parse().expect("a network")];
        assert!(opens(rule(|rule| rule.clients = world, &["**"])));
    }

    #[test]
    fn new_rules_count_from_the_next_request_on() {
        let access = Access::new(vec![rule(|_| (), &["docker.io/library/a"])]);
        let shared = access.clone();
        let (a, b) = ("library/a", "library/b");
        let may = |name| {
            let repository = Repository::new(RegistryName::docker_hub(), name);
            shared.of(&peer(|_| ())).permits(&repository.expect("a name"))
        };
        assert!(may(a) && !may(b));
        access.adopt(&Access::new(vec![rule(|_| (), &["docker.io/library/b"])]));
        assert!(may(b) && !may(a));
        access.adopt(&Access::default());
        assert!(may(a) && may(b));
    }
}
