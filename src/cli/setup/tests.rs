use super::*;

fn target(tls: Option<Mutual>, platform: Option<&str>) -> Target {
    Target {
        address: "wharf.lan:5000".to_owned(),
        tls,
        signs_in: false,
        platform: platform.map(|platform| platform.parse().expect("a platform")),
        registries: ["docker.io", "ghcr.io"].map(|name| name.parse().expect("a name")).to_vec(),
    }
}

fn plain() -> Target {
    target(None, None)
}

/// All that is printed to standard output.
fn text(guide: &Guide) -> String {
    guide.files.iter().map(File::commented).collect::<Vec<_>>().join("\n")
}

fn says(guide: &Guide, words: &str) -> bool {
    guide.steps.iter().any(|step| step.contains(words))
}

#[test]
fn docker() {
    let guide = docker::daemon(&plain());
    assert_eq!(
        text(&guide),
        r#"{
  "registry-mirrors": ["http://wharf.lan:5000"],
  "insecure-registries": ["wharf.lan:5000"]
}
"#
    );
    assert_eq!(guide.files[0].path, "/etc/docker/daemon.json");
    assert!(says(&guide, "wharf.lan:5000/ghcr.io/…"), "{guide:?}");
    assert!(!says(&guide, "Engine 24"), "{guide:?}");

    let guide = docker::daemon(&target(Some(Mutual::Always), Some("linux/arm/v7")));
    assert_eq!(
        text(&guide),
        r#"{
  "registry-mirrors": ["https://wharf.lan:5000/platform/linux-arm-v7"]
}
"#
    );
    assert!(says(&guide, "/etc/docker/certs.d/wharf.lan:5000/client.key"), "{guide:?}");
    assert!(says(&guide, "Engine 24"), "{guide:?}");
}

#[test]
fn docker_is_given_json() {
    for tls in [None, Some(Mutual::Never), Some(Mutual::Maybe)] {
        for platform in [None, Some("linux/arm64")] {
            let text = text(&docker::daemon(&target(tls, platform)));
            let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read["registry-mirrors"].as_array().expect("a list").len(), 1);
        }
    }
}

#[test]
fn docker_from_28_on() {
    let guide = docker::hosts(&target(Some(Mutual::Maybe), None));
    assert_eq!(
        text(&guide),
        r#"# /etc/docker/certs.d/docker.io/hosts.toml
server = "https://registry-1.docker.io"

[host."https://wharf.lan:5000"]
  capabilities = ["pull", "resolve"]
  ca = "/etc/docker/certs.d/wharf.lan:5000/ca.crt"
  client = [["/etc/docker/certs.d/wharf.lan:5000/client.cert", "/etc/docker/certs.d/wharf.lan:5000/client.key"]]

# /etc/docker/certs.d/ghcr.io/hosts.toml
server = "https://ghcr.io"

[host."https://wharf.lan:5000"]
  capabilities = ["pull", "resolve"]
  ca = "/etc/docker/certs.d/wharf.lan:5000/ca.crt"
  client = [["/etc/docker/certs.d/wharf.lan:5000/client.cert", "/etc/docker/certs.d/wharf.lan:5000/client.key"]]
"#
    );
}

#[test]
fn containerd() {
    let mut one = target(None, Some("linux/arm64"));
    one.registries.truncate(1);
    let guide = clients::containerd(&one);
    assert_eq!(
        text(&guide),
        r#"# /etc/containerd/certs.d/docker.io/hosts.toml
server = "https://registry-1.docker.io"

[host."http://wharf.lan:5000/platform/linux-arm64"]
  capabilities = ["pull", "resolve"]
"#
    );
    assert!(says(&guide, "config_path"));
}

#[test]
fn k3s() {
    assert_eq!(
        text(&clients::k3s(&plain())),
        r#"# /etc/rancher/k3s/registries.yaml
mirrors:
  "docker.io":
    endpoint:
      - "http://wharf.lan:5000"
  "ghcr.io":
    endpoint:
      - "http://wharf.lan:5000"
"#
    );
    let mut one = target(Some(Mutual::Always), Some("linux/arm64"));
    one.registries.truncate(1);
    assert_eq!(
        text(&clients::k3s(&one)),
        r#"# /etc/rancher/k3s/registries.yaml
mirrors:
  "docker.io":
    endpoint:
      - "https://wharf.lan:5000/platform/linux-arm64/v2"
configs:
  "wharf.lan:5000":
    tls:
      ca_file: /etc/rancher/k3s/wharf/ca.crt
      cert_file: /etc/rancher/k3s/wharf/client.cert
      key_file: /etc/rancher/k3s/wharf/client.key
"#
    );
}

#[test]
fn podman_and_crio() {
    let guide = clients::podman(&plain());
    assert_eq!(
        text(&guide),
        r#"# /etc/containers/registries.conf.d/wharf.conf
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "wharf.lan:5000/docker.io"
insecure = true

[[registry]]
location = "ghcr.io"
[[registry.mirror]]
location = "wharf.lan:5000/ghcr.io"
insecure = true
"#
    );
    assert_eq!(text(&clients::crio(&plain())), text(&guide));
    let mut one = target(Some(Mutual::Never), Some("linux/arm/v6"));
    one.registries.truncate(1);
    let guide = clients::crio(&one);
    assert_eq!(
        text(&guide),
        r#"# /etc/containers/registries.conf.d/wharf.conf
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "wharf.lan:5000/platform/linux-arm-v6/docker.io"
"#
    );
    assert!(says(&guide, "/etc/containers/certs.d/wharf.lan:5000/ca.crt"), "{guide:?}");
    assert!(says(&guide, "systemctl reload crio"), "{guide:?}");
}

#[test]
fn buildkit() {
    assert_eq!(
        text(&clients::buildkit(&plain())),
        r#"# /etc/buildkit/buildkitd.toml
[registry."docker.io"]
  mirrors = ["wharf.lan:5000"]
[registry."ghcr.io"]
  mirrors = ["wharf.lan:5000"]
[registry."wharf.lan:5000"]
  http = true
"#
    );
    let text = text(&clients::buildkit(&target(Some(Mutual::Always), Some("linux/arm64"))));
    assert!(text.contains(r#"mirrors = ["wharf.lan:5000/platform/linux-arm64"]"#), "{text}");
    assert!(
        text.ends_with(
            r#"[registry."wharf.lan:5000"]
  ca = ["/etc/buildkit/wharf/ca.crt"]
  [[registry."wharf.lan:5000".keypair]]
    key = "/etc/buildkit/wharf/client.key"
    cert = "/etc/buildkit/wharf/client.cert"
"#
        ),
        "{text}"
    );
}

#[test]
fn certificates_are_asked_for_as_wharf_asks_for_them() {
    assert_eq!(plain().certificates("/d"), None);
    let said = |mutual| target(Some(mutual), None).certificates("/d").expect("TLS");
    assert!(!said(Mutual::Never).contains("/d/client.key"));
    assert!(said(Mutual::Maybe).contains("wharf asks for none"));
    assert!(said(Mutual::Always).contains("nobody without"));
}

#[test]
fn who_has_to_sign_in_is_told_how() {
    let all = [Client::Containerd, Client::K3s, Client::Podman, Client::Buildkit, Client::Crio];
    let asking = Target { signs_in: true, ..target(Some(Mutual::Never), None) };
    for client in all {
        assert_eq!(plain().sign_in(client), None);
        let said = asking.sign_in(client).expect("a step");
        assert!(said.contains("wharf.lan:5000"), "{client:?}: {said}");
    }
}
