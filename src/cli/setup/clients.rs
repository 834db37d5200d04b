//! The clients whose files have comments: containerd, k3s, podman and its kin, BuildKit, CRI-O.

use super::{File, Guide, Mutual, Target, quoted};
use crate::oci::RegistryName;

pub(super) fn containerd(target: &Target) -> Guide {
    let dir = format!("/etc/containerd/certs.d/{}", target.address);
    let file = |registry: &RegistryName| {
        let path = format!("/etc/containerd/certs.d/{registry}/hosts.toml");
        File::new(path, hosts_toml(target, registry, &dir))
    };
    let mut steps = Vec::from_iter(target.certificates(&dir));
    steps.push(
        "Have containerd's config.toml name the directory, once, and restart containerd then: config_path = \
         \"/etc/containerd/certs.d\" in [plugins.\"io.containerd.grpc.v1.cri\".registry] (containerd 1.x), in \
         [plugins.\"io.containerd.cri.v1.images\".registry] (2.x). The files themselves are read anew at each pull."
            .to_owned(),
    );
    steps.push(
        "ctr reads them with --hosts-dir /etc/containerd/certs.d, nerdctl by itself. containerd before 1.5 knows no such files."
            .to_owned(),
    );
    Guide { files: target.registries.iter().map(file).collect(), steps }
}

/// What containerd asks for one registry, wharf first and then the registry itself.
pub(super) fn hosts_toml(target: &Target, registry: &RegistryName, dir: &str) -> String {
    let mut text = format!(
        "server = {}\n\n[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n",
        quoted(&format!("https://{}", own_host(registry))),
        quoted(&target.url())
    );
    if let Some(mutual) = target.tls {
        text += &format!("  ca = \"{dir}/ca.crt\"\n");
        if mutual != Mutual::Never {
            text += &format!("  client = [[\"{dir}/client.cert\", \"{dir}/client.key\"]]\n");
        }
    }
    text
}

/// Where a registry itself answers.
fn own_host(registry: &RegistryName) -> &str {
    if registry.is_docker_hub() { "registry-1.docker.io" } else { registry.as_str() }
}

pub(super) fn k3s(target: &Target) -> Guide {
    let dir = "/etc/rancher/k3s/wharf";
    // An address with a path is taken as it stands, without /v2 behind it.
    let end = if target.platform.is_some() { "/v2" } else { "" };
    let mut text = "mirrors:\n".to_owned();
    for registry in &target.registries {
        let url = format!("{}{end}", target.url());
        text +=
            &format!("  {}:\n    endpoint:\n      - {}\n", quoted(registry.as_str()), quoted(&url));
    }
    if let Some(mutual) = target.tls {
        text += &format!(
            "configs:\n  {}:\n    tls:\n      ca_file: {dir}/ca.crt\n",
            quoted(&target.address)
        );
        if mutual != Mutual::Never {
            text +=
                &format!("      cert_file: {dir}/client.cert\n      key_file: {dir}/client.key\n");
        }
    }
    let mut steps = Vec::from_iter(target.certificates(dir));
    steps.push(
        "On every node, then: systemctl restart k3s (on agents, k3s-agent). RKE2 has the same file in /etc/rancher/rke2."
            .to_owned(),
    );
    steps.push(
        "k3s asks the registry itself when wharf does not answer, unless it runs with \
         --disable-default-registry-endpoint."
            .to_owned(),
    );
    Guide { files: vec![File::new("/etc/rancher/k3s/registries.yaml", text)], steps }
}

pub(super) fn podman(target: &Target) -> Guide {
    let mut guide = registries_conf(target);
    guide.steps.push(
        "Nothing is to be restarted: the next pull reads it. So do buildah and skopeo.".to_owned(),
    );
    guide.steps.push(
        "For one user alone, the file may be ~/.config/containers/registries.conf.d/wharf.conf, where podman is 4.0 or later."
            .to_owned(),
    );
    guide
}

pub(super) fn crio(target: &Target) -> Guide {
    let mut guide = registries_conf(target);
    guide.steps.push("systemctl reload crio.".to_owned());
    guide
}

/// For containers/image, which names the registry as the first part of the path.
fn registries_conf(target: &Target) -> Guide {
    let mut tables = Vec::new();
    for registry in &target.registries {
        let mirror = format!("{}{}/{registry}", target.address, target.path());
        let mut table = format!(
            "[[registry]]\nlocation = {}\n[[registry.mirror]]\nlocation = {}\n",
            quoted(registry.as_str()),
            quoted(&mirror)
        );
        if target.tls.is_none() {
            table += "insecure = true\n";
        }
        tables.push(table);
    }
    let dir = format!("/etc/containers/certs.d/{}", target.address);
    Guide {
        files: vec![File::new("/etc/containers/registries.conf.d/wharf.conf", tables.join("\n"))],
        steps: Vec::from_iter(target.certificates(&dir)),
    }
}

pub(super) fn buildkit(target: &Target) -> Guide {
    let dir = "/etc/buildkit/wharf";
    let mirror = quoted(&format!("{}{}", target.address, target.path()));
    let mut text = String::new();
    for registry in &target.registries {
        text += &format!("[registry.{}]\n  mirrors = [{mirror}]\n", quoted(registry.as_str()));
    }
    let address = quoted(&target.address);
    text += &match target.tls {
        None => format!("[registry.{address}]\n  http = true\n"),
        Some(_) => format!("[registry.{address}]\n  ca = [\"{dir}/ca.crt\"]\n"),
    };
    if matches!(target.tls, Some(Mutual::Maybe | Mutual::Always)) {
        text += &format!(
            "  [[registry.{address}.keypair]]\n    key = \"{dir}/client.key\"\n    cert = \"{dir}/client.cert\"\n"
        );
    }
    let mut steps = Vec::from_iter(target.certificates(dir));
    steps.push(
        "Restart buildkitd. For a builder of docker buildx: docker buildx create --buildkitd-config FILE (--config before \
         0.14), which copies the certificates that it names."
            .to_owned(),
    );
    steps.push(
        "Builds by Docker Engine itself take daemon.json instead: wharf setup docker.".to_owned(),
    );
    Guide { files: vec![File::new("/etc/buildkit/buildkitd.toml", text)], steps }
}
