//! What a site has is left out, and what signs a bundle is known.

use serde_json::json;
use wharf::{
    bundle::{PublicKey, SIGNATURE, verify},
    oci::Digest,
};

use super::{KIB, Opened, Pushed, digest, sorted};
use crate::{
    commands::{BOTH, Site},
    support::FakeHub,
};

const ARM64: [&str; 2] = ["--platform", "linux/arm64"];

#[tokio::test]
async fn a_delta_has_the_layers_that_changed_and_the_new_documents() {
    let seeds = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let mut layers = seeds.map(|seed| (seed, 3000));
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let first = Pushed::to(&hub, "1", &layers);
        layers[4].0 = "new four";
        layers[9].0 = "new nine";
        let second = Pushed::to(&hub, "2", &layers);
        let site = Site::start(&hub, daemon).await;
        site.export(&[&ARM64[..], &["-o", "1.tar", "app:1"]].concat()).await;
        site.export(&[&ARM64[..], &["-o", "1.tar.zst", "app:1"]].concat()).await;
        site.write("inventory", &site.ok(&["ls", "--digests"]).await);
        let new = [
            &second.layers[4],
            &second.layers[9],
            &second.index,
            &second.manifest,
            &second.config,
            &second.attestation,
            &second.statement,
        ];
        let new = sorted(new.into_iter().map(digest));
        let mut deltas = Vec::new();
        for since in ["1.tar", "1.tar.zst", "1.tar.receipt", "inventory"] {
            let to = format!("{since}.delta.tar");
            let said =
                site.export(&[&ARM64[..], &["--since", since, "-o", &to, "app:2"]].concat()).await;
            let bundle = Opened::file(&site.at(&to));
            assert_eq!(bundle.blobs(), new, "{since}");
            let contents = bundle.contents();
            let base = sorted(contents.base.iter().map(|base| base.digest));
            let kept = first.layers.iter().filter(|layer| second.layers.contains(layer));
            assert_eq!(base, sorted(kept.map(digest)), "{since}");
            assert!(
                contents
                    .base
                    .iter()
                    .all(|base| base.image.to_string() == "docker.io/library/app:2")
            );
            assert_eq!(said["base"], json!({ "blobs": 8, "bytes": 8 * 3000 }));
            assert!(!bundle.members.contains_key("manifest.json"), "Docker would miss layers");
            deltas.push(site.bytes(&to));
        }
        assert!(deltas.iter().all(|delta| *delta == deltas[0]));
        // A delta's receipt tells of the base as well: who took it in has all of it.
        let since = ["--since", "inventory.delta.tar.receipt", "-o", "nothing.tar", "app:2"];
        let said = site.export(&[&ARM64[..], &since].concat()).await;
        assert_eq!(
            (&said["blobs"], &said["base"]["blobs"]),
            (&json!(0), &json!(second.all().len()))
        );
        layers = seeds.map(|seed| (seed, 3000));
        site.end().await;
    }
}

#[tokio::test]
async fn an_inventory_lists_what_is_kept_in_order() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = Pushed::to(&hub, "1", &[("a", 3000), ("b", 10)]);
        let site = Site::start(&hub, daemon).await;
        site.pull(&[&ARM64[..], &["app:1"]].concat()).await;
        let listed = site.ok(&["ls", "--digests"]).await;
        let digests: Vec<Digest> = listed
            .lines()
            .map(|line| line.split(' ').next().expect("a digest").parse().expect("one"))
            .collect();
        assert_eq!(digests, image.all());
        let layer = format!("{} 3000", digest(&image.layers[0]));
        assert!(listed.lines().any(|line| line == layer), "{listed}");
        site.end().await;
    }
}

#[tokio::test]
async fn what_is_none_of_the_three_leaves_nothing_out() {
    let hub = FakeHub::start().await;
    Pushed::to(&hub, "1", &[("a", 10)]);
    let site = Site::start(&hub, false).await;
    for (text, why) in [
        ("alpine:3.20\n", "line 1 is not"),
        ("{}", "not of the form"),
        ("{\"wharfBundle\":2}", "a later wharf"),
        ("\u{1}\u{2}", "line 1 is not"),
    ] {
        site.write("since", text);
        let said = site.run(&["export", "--since", "since", "-o", "b.tar", "app:1"]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(why), "{text}: {said:?}");
    }
    let said = site.run(&["export", "--since", "nowhere", "-o", "b.tar", "app:1"]).await;
    assert!(said.code == Some(2) && said.err.contains("nowhere"), "{said:?}");
    assert!(!site.at("b.tar").exists());
    site.end().await;
}

#[tokio::test]
async fn a_signed_bundle_is_known_by_its_key() {
    let hub = FakeHub::start().await;
    Pushed::to(&hub, "1", &[("a", 50 * KIB)]);
    let site = Site::start(&hub, false).await;
    let new = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.args(["key", "new"]).args(arguments).current_dir(site.dir.path()).env_clear();
        command.output().expect("it runs")
    };
    let made = new(&["site.key"]);
    assert!(made.status.success(), "{made:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&site.at("site.key").metadata().expect("made"));
    assert_eq!(mode & 0o777, 0o600);
    let public: PublicKey =
        String::from_utf8(site.bytes("site.key.pub")).expect("text").parse().expect("a key");
    assert!(String::from_utf8_lossy(&made.stdout).contains(&public.to_string()));
    let again = new(&["site.key"]);
    assert_eq!(again.status.code(), Some(1), "a key is not replaced");

    let signed = [&ARM64[..], &["--sign", "site.key", "-o", "b.tar", "app:1"]].concat();
    let said = site.export(&signed).await;
    assert_eq!(said["signed_by"], public.id());
    let bundle = Opened::file(&site.at("b.tar"));
    let signature = String::from_utf8(bundle.members[SIGNATURE].clone()).expect("text");
    let document = &bundle.members["wharf-bundle.json"];
    assert_eq!(verify(std::slice::from_ref(&public), document, &signature), Ok(&public));
    assert_eq!(bundle.names[..3], ["oci-layout", "wharf-bundle.json", SIGNATURE]);
    // Said once more, it is the same, though a signature is another each time it is made.
    let before = site.bytes("b.tar");
    let said = site.export(&signed).await;
    assert_eq!(said["kept"], said["bytes"]);
    assert_eq!(site.bytes("b.tar"), before);
    for (key, why) in [("site.key.pub", "not a secret key"), ("nowhere", "nowhere")] {
        let said = site.run(&["export", "--sign", key, "-o", "c.tar", "app:1"]).await;
        assert!(said.code == Some(2) && said.err.contains(why), "{said:?}");
    }
    site.end().await;
}
