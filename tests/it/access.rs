//! Who may come, and who may pull what: by certificate, name and password, network and listener.
//!
//! Bug class: a cache gives one client what another had the right to fetch; a password that is sent to a registry, or
//! written into a log; a challenge that makes a Docker Engine give away its user's password.

mod users;

use std::net::SocketAddr;

use wharf::{
    config::{Config, DoorFiles, Listener},
    pull::{Composed, Part},
    server::{Access, AccessRule, ClientAuth, Clients, Door, Tls, Users},
};

use crate::support::{
    FakeHub, Identity, PushedManifest, TestCa, TlsClient, Wharf, blob_path,
    client::{self, Answer},
};

const ARM64: (&str, &str, Option<&str>) = ("linux", "arm64", None);

/// Users whose passwords are "U*U" and "U*U*", of the test vectors of crypt_blowfish.
const HTPASSWD: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
                        bob:$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK\n";

const ANY: &str = "127.0.0.1:0";

fn any() -> SocketAddr {
    ANY.parse().expect("an address")
}

fn rule(change: impl FnOnce(&mut AccessRule), allow: &[&str]) -> AccessRule {
    let allow = allow.iter().map(|glob| glob.parse().expect("a pattern")).collect();
    let mut rule =
        AccessRule { subject: None, user: None, clients: Vec::new(), listener: None, allow };
    change(&mut rule);
    rule
}

fn subject(name: &str, allow: &[&str]) -> AccessRule {
    rule(|rule| rule.subject = Some(name.parse().expect("a pattern")), allow)
}

fn user(name: &str, allow: &[&str]) -> AccessRule {
    rule(|rule| rule.user = Some(name.parse().expect("a pattern")), allow)
}

fn users() -> Option<Users> {
    Some(Users::parse(HTPASSWD).expect("good lines"))
}

fn tls(ca: &TestCa, devices: &TestCa, auth: ClientAuth) -> Option<Tls> {
    let Identity { cert, key } = ca.server_identity();
    let authorities = devices.pem().as_bytes().to_vec();
    let clients = Some(Clients { authorities, revoked: None, auth });
    Some(Tls::new(cert.as_bytes(), key.as_bytes(), clients).expect("good files"))
}

/// All that can be asked for of an image.
fn paths(repository: &str, image: &PushedManifest) -> Vec<String> {
    vec![
        format!("/v2/{repository}/manifests/1"),
        format!("/v2/{repository}/manifests/{}", image.manifest.digest),
        blob_path(repository, &image.config.digest),
        blob_path(repository, &image.layers[0].digest),
        format!("/v2/{repository}/tags/list"),
        format!("/v2/{repository}/referrers/{}", image.manifest.digest),
    ]
}

fn repositories(answer: &Answer) -> Vec<String> {
    let listed = answer.json()["repositories"].as_array().expect("a list").clone();
    listed.iter().map(|name| name.as_str().expect("text").to_owned()).collect()
}

/// A wharf that knows devices by their certificates.
struct Site {
    hub: FakeHub,
    wharf: Wharf,
    ca: TestCa,
    devices: TestCa,
}

impl Site {
    async fn start(rules: Vec<AccessRule>, change: impl FnOnce(&mut Config)) -> Self {
        let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
        let hub = FakeHub::start().await;
        let wharf = Wharf::start_with(&hub, |config| {
            config.server.door.tls = tls(&ca, &devices, ClientAuth::Optional);
            config.server.access = Access::new(rules);
            change(config);
        });
        let wharf = wharf.await;
        Self { hub, wharf, ca, devices }
    }

    fn device(&self, name: &str) -> TlsClient {
        TlsClient::new(&self.ca, Some(&self.devices.client_identity(name)))
    }

    fn nobody(&self) -> TlsClient {
        TlsClient::new(&self.ca, None)
    }

    /// How often the registry was asked for something of `repository`.
    fn asked_for(&self, repository: &str) -> usize {
        self.hub.count(|seen| seen.path.contains(repository) || seen.query.contains(repository))
    }

    async fn end(self) {
        self.wharf.deserted().await;
        self.wharf.end().await;
    }
}

#[tokio::test]
async fn two_certificates_with_different_rights_get_each_its_own_and_no_more() {
    let (apps, cameras) = ("library/app", "team/camera");
    let rules =
        vec![subject("pi-*", &["docker.io/library/*"]), subject("cam-?", &["docker.io/team/**"])];
    let site = Site::start(rules, |_| ()).await;
    let (wharf, addr) = (&site.wharf, site.wharf.addr);
    let app = site.hub.push_single(apps, "1", ARM64, &[5000]);
    let camera = site.hub.push_single(cameras, "1", ARM64, &[6000]);
    let (pi, cam) = (site.device("pi-7"), site.device("cam-1"));
    let refuses = async |client: &TlsClient, repository: &str, image: &PushedManifest| {
        for path in paths(repository, image) {
            let answer = client.get(addr, &path).await;
            assert_eq!(answer.refusal(), (403, "DENIED".to_owned()), "{path}");
            let message = answer.json()["errors"][0]["message"].to_string();
            assert!(message.contains("not served to this client"), "{path}: {message}");
            assert_eq!(answer.header("www-authenticate"), None, "{path}");
            let head = client.request("HEAD", addr, &path).await;
            assert_eq!((head.status.as_u16(), head.header("docker-content-digest")), (403, None));
        }
        // And however the name is written.
        for path in [
            format!("/v2/docker.io/{repository}/manifests/1"),
            format!("/docker.io/v2/{repository}/manifests/1"),
            format!("/v2/{repository}/manifests/1?ns=docker.io"),
            format!("/v2/platform/linux-arm64/{repository}/manifests/1"),
        ] {
            assert_eq!(client.get(addr, &path).await.status, 403, "{path}");
        }
    };
    // Through the name of a repository that the client may read: that has no such thing.
    let through = async |client: &TlsClient, own: &str, other: &PushedManifest| {
        for path in paths(own, other).iter().skip(1).take(3) {
            assert_eq!(client.get(addr, path).await.status, 404, "{path}");
        }
    };
    for warm in [false, true] {
        let before = (site.asked_for(apps), site.asked_for(cameras));
        refuses(&site.nobody(), apps, &app).await;
        refuses(&site.device("xpi-7"), apps, &app).await;
        let asked = site.asked_for(apps) - before.0;
        assert_eq!(asked, 0, "warm: {warm}: nothing is asked for who may not have it");
        if !warm {
            for (client, repository, image) in [(&pi, apps, &app), (&cam, cameras, &camera)] {
                for path in paths(repository, image) {
                    assert_eq!(client.get(addr, &path).await.status, 200, "{path}");
                }
            }
            wharf.quiet().await;
        }
        refuses(&cam, apps, &app).await;
        refuses(&pi, cameras, &camera).await;
        through(&cam, cameras, &app).await;
        through(&pi, apps, &camera).await;
        // What was said before it was here is forgotten.
        wharf.clock.advance(std::time::Duration::from_secs(3600));
    }
    // A name that does not exist is answered as one that may not be had.
    let unknown = cam.get(addr, "/v2/library/unknown/manifests/1").await;
    assert_eq!(unknown.refusal(), (403, "DENIED".to_owned()));
    assert_eq!(site.asked_for("library/unknown"), 0);
    site.end().await;
}

#[tokio::test]
async fn the_catalogue_names_what_its_reader_may_pull() {
    let rules = vec![subject("pi-*", &["docker.io/library/*"]), subject("all", &["**"])];
    let site = Site::start(rules, |_| ()).await;
    let (addr, all) = (site.wharf.addr, site.device("all"));
    let names = ["library/a", "library/b", "team/a", "team/b", "zoo/c"];
    for name in names {
        site.hub.push_single(name, "1", ARM64, &[100]);
        assert_eq!(all.get(addr, &format!("/v2/{name}/manifests/1")).await.status, 200);
    }
    site.wharf.quiet().await;
    let full =
        |names: &[&str]| names.iter().map(|it| format!("docker.io/{it}")).collect::<Vec<_>>();
    for (client, sees) in [
        (&all, &names[..]),
        (&site.device("pi-1"), &names[..2]),
        (&site.nobody(), &[]),
        (&site.device("cam-1"), &[]),
    ] {
        let whole = client.get(addr, "/v2/_catalog").await;
        assert_eq!((whole.status.as_u16(), repositories(&whole)), (200, full(sees)));
        // Page by page the same, and no page leads to what may not be seen.
        let (mut paged, mut next) = (Vec::new(), Some("/v2/_catalog?n=1".to_owned()));
        while let Some(path) = next {
            assert!(paged.len() <= names.len(), "it does not end");
            let page = client.get(addr, &path).await;
            paged.extend(repositories(&page));
            let link = page.header("link").and_then(|link| link.strip_prefix('<'));
            next = link.and_then(|link| Some(link.split_once('>')?.0.to_owned()));
        }
        assert_eq!(paged, full(sees));
    }
    site.end().await;
}

#[tokio::test]
async fn a_composed_image_goes_by_its_own_name() {
    let full = |name: &str| name.parse().expect("a repository");
    let part = |name| Part { repository: full(name), tag: None };
    let composed = Composed {
        repository: full("docker.io/user/test"),
        tag: None,
        parts: [
            ("linux/amd64".parse().expect("a platform"), part("docker.io/user/test")),
            ("linux/arm64".parse().expect("a platform"), part("docker.io/user/arm64v8-test")),
        ]
        .into(),
    };
    let rules = vec![
        subject("pi-*", &["docker.io/user/test"]),
        subject("other", &["docker.io/user/arm64v8-test"]),
    ];
    let site = Site::start(rules, |config| config.pull.compose = vec![composed]).await;
    site.hub.push_single("user/test", "latest", ("linux", "amd64", None), &[500]);
    let arm64 = site.hub.push_single("user/arm64v8-test", "latest", ARM64, &[700]);
    let (addr, pi, other) = (site.wharf.addr, site.device("pi-1"), site.device("other"));
    let of_arm64 = |name: &str| {
        [
            format!("/v2/{name}/manifests/{}", arm64.manifest.digest),
            blob_path(name, &arm64.layers[0].digest),
        ]
    };
    assert_eq!(pi.get(addr, "/v2/user/test/manifests/latest").await.status, 200);
    assert_eq!(other.get(addr, "/v2/user/test/manifests/latest").await.status, 403);
    for path in of_arm64("user/test") {
        assert_eq!(pi.get(addr, &path).await.status, 200, "{path}");
        assert_eq!(other.get(addr, &path).await.status, 403, "{path}");
    }
    for path in of_arm64("user/arm64v8-test") {
        assert_eq!(pi.get(addr, &path).await.status, 403, "{path}");
        assert_eq!(other.get(addr, &path).await.status, 200, "{path}");
    }
    site.end().await;
}

#[tokio::test]
async fn each_listener_asks_by_its_own_rules() {
    let (ca, devices) = (TestCa::new(), TestCa::named("devices"));
    let hub = FakeHub::start().await;
    let image = hub.push_single("library/app", "1", ARM64, &[500]);
    let listener = |door: Door| Listener { address: any(), door, files: DoorFiles::default() };
    let wharf = Wharf::start_with(&hub, |config| {
        config.listeners = vec![
            listener(Door {
                allow_clients: vec!["127.0.0.2/32".parse().expect("a network")],
                ..Door::default()
            }),
            listener(Door { tls: tls(&ca, &devices, ClientAuth::Required), ..Door::default() }),
            listener(Door { users: users(), sign_in: true, ..Door::default() }),
        ];
    });
    let wharf = wharf.await;
    let [plain, near, secured, asking] = wharf.addrs[..] else { panic!("{:?}", wharf.addrs) };
    let path = "/v2/library/app/manifests/1";
    assert_eq!(client::get(plain, path, &[]).await.bytes(), &image.manifest.bytes);

    let refused = client::get(near, path, &[]).await;
    assert_eq!(refused.refusal(), (403, "DENIED".to_owned()));
    let allowed = client::get_from([127, 0, 0, 2].into(), near, path, &[]).await;
    assert_eq!(allowed.status, 200);

    assert_eq!(client::get(secured, path, &[]).await.status, 400, "it speaks https");
    let device = TlsClient::new(&ca, Some(&devices.client_identity("pi-1")));
    assert_eq!(device.get(secured, path).await.status, 200);
    let nobody = TlsClient::new(&ca, None).send_raw(secured, b"GET /v2/ HTTP/1.1\r\n\r\n").await;
    assert!(nobody.is_err(), "it was let in");

    assert_eq!(client::get(asking, path, &[]).await.status, 401);
    let basic = http_auth::basic::encode_credentials("alice", "U*U");
    let known = client::get(asking, path, &[("authorization", &basic)]).await;
    assert_eq!(known.status, 200);
    // A user of one listener is nobody at another, which does not look.
    assert_eq!(client::get(plain, path, &[("authorization", "Basic x")]).await.status, 200);
    wharf.deserted().await;
    wharf.end().await;
}
