//! Where a registry may lead wharf: through few redirects, and from https to nothing less.

use wharf::oci::{Digest, ErrorCode::Unknown};

use super::{Gets, run, site::REPO};
use crate::support::{Challenge, FakeHub, Fault, Host, On, TestCa, Wharf, blob_path};

const NO_ANSWER: Gets = Gets::error(502, Unknown);

#[test]
fn https_leads_to_https_only() {
    run(async {
        let (ca, plain) = (TestCa::new(), FakeHub::start().await);
        let hub = FakeHub::builder().tls(&ca).start().await;
        let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[500]);
        let wharf = Wharf::start_with(&hub, |config| {
            config.upstreams[0].ca_pem = ca.pem().as_bytes().to_vec();
            config.upstreams[0].patience.attempts = 1;
        })
        .await;
        let manifest = format!("/v2/{REPO}/manifests/latest");
        let blob = blob_path(REPO, &image.layers[0].digest);
        let to = |path: &str| Fault::RedirectTo(format!("{}{path}", plain.url(Host::Registry)));
        let realm = format!("Bearer realm=\"{}/token\"", plain.url(Host::Auth));
        let challenge = Fault::Status(401, vec![("www-authenticate", realm)], "".into());
        for (what, on, fault, path) in [
            ("a token service", On::Challenges, challenge, &manifest),
            ("a manifest", On::Manifests, to(&manifest), &manifest),
            ("a blob", On::BlobRedirects, to(&blob), &blob),
            ("the storage's copy", On::Blobs, to(&blob), &blob),
        ] {
            hub.fault(on, fault);
            let answer = wharf.get(path).await;
            NO_ANSWER.check(&answer, false).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
            hub.clear_faults();
        }
        assert_eq!(plain.count(|_| true), 0, "{:?}", plain.log());
        assert_eq!(*wharf.get(&manifest).await.bytes(), image.manifest.bytes);
        assert_eq!(*wharf.get(&blob).await.bytes(), image.layers[0].bytes);
        wharf.end().await;
    });
}

#[test]
fn twenty_hops_are_too_many() {
    run(async {
        let hub = FakeHub::builder().challenge(Challenge::None).start().await;
        let wharf =
            Wharf::start_with(&hub, |config| config.upstreams[0].patience.attempts = 1).await;
        for hop in 0..20 {
            let next = format!("{}/hop/{hop}", hub.url(Host::Cdn));
            hub.fault_next(1, On::Any, Fault::RedirectTo(next));
        }
        let answer = wharf.get(&blob_path(REPO, &Digest::sha256(b"far away"))).await;
        NO_ANSWER.check(&answer, false).expect("too many");
        assert_eq!(hub.count(|_| true), 11);
        wharf.end().await;
    });
}
