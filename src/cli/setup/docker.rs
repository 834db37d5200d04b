//! Docker Engine: `daemon.json`, which every version reads, and `hosts.toml` as containerd has it, from 28 on.

use super::{File, Guide, Target, clients::hosts_toml, quoted};
use crate::oci::RegistryName;

/// `registry-mirrors`, which is about Docker Hub alone.
pub(super) fn daemon(target: &Target) -> Guide {
    let address = &target.address;
    let mut text = format!("{{\n  \"registry-mirrors\": [{}]", quoted(&target.url()));
    if target.tls.is_none() {
        text += &format!(",\n  \"insecure-registries\": [{}]", quoted(address));
    }
    text += "\n}\n";
    let mut steps = vec![
        "If that file is there already, add these keys to what it holds: JSON has no comments, and Docker does not start \
         with two documents."
            .to_owned(),
    ];
    steps.extend(target.certificates(&certificates_dir(target)));
    steps.push("systemctl restart docker, and look for the mirror in docker info.".to_owned());
    if target.tls.is_none() {
        steps.push(
            "insecure-registries lets Docker speak http by this address: Engine 20.10 to 27 needs it for builds and for \
             containerd's image store, and every version to pull by wharf's own name."
                .to_owned(),
        );
    }
    if target.platform.is_some() {
        steps.push(
            "The path in the mirror's address needs Engine 24 or later. Builds of Engine 20.10 to 24 ask without it: \
             for them, write a [[platforms.client]] rule into wharf's configuration."
                .to_owned(),
        );
    }
    let others: Vec<_> =
        target.registries.iter().filter(|registry| !registry.is_docker_hub()).collect();
    if let Some(other) = others.first() {
        let all: Vec<_> = others.iter().map(|registry| registry.as_str()).collect();
        steps.push(format!(
            "Mirrors are about Docker Hub alone. For {}: name images as {address}/{other}/…, or, for Engine 28 and later \
             with containerd's image store, see wharf setup docker --hosts.",
            all.join(", ")
        ));
    } else if target.tls.is_some() {
        steps.push(store_and_tls());
    }
    Guide {
        files: vec![File { path: "/etc/docker/daemon.json".to_owned(), text, has_comments: false }],
        steps,
    }
}

/// `hosts.toml`, one for each registry.
pub(super) fn hosts(target: &Target) -> Guide {
    let dir = certificates_dir(target);
    let file = |registry: &RegistryName| {
        let path = format!("/etc/docker/certs.d/{registry}/hosts.toml");
        File::new(path, hosts_toml(target, registry, &dir))
    };
    let mut steps = Vec::from_iter(target.certificates(&dir));
    steps.push("Nothing is to be restarted: the next pull reads them.".to_owned());
    steps.push(
        "They are read by Engine 28 and later, for containerd's image store (docker info says driver-type: \
         io.containerd.snapshotter.v1) and for builds; for docker.io, registry-mirrors counts no more there. Older engines, \
         and 28 and later with another storage driver, need daemon.json: wharf setup docker."
            .to_owned(),
    );
    Guide { files: target.registries.iter().map(file).collect(), steps }
}

fn store_and_tls() -> String {
    "Engine 28 and later with containerd's image store (docker info says driver-type: io.containerd.snapshotter.v1) looks \
     for certificates elsewhere: see wharf setup docker --hosts."
        .to_owned()
}

fn certificates_dir(target: &Target) -> String {
    format!("/etc/docker/certs.d/{}", target.address)
}
