"""`wharf setup`: what it prints is all that Docker Engine, containerd and podman need to pull through wharf."""

import json

from lib.checks import crossed_once, same

DEMO = "docker.io/library/demo:latest"
APP = "registry.test/team/app:latest"


def test_what_it_prints_for_docker_is_a_daemon_json(site):
    text = site.wharf.command("setup", "docker").out
    same(json.loads(text)["registry-mirrors"], [site.wharf.url], "the mirrors that wharf setup prints")
    engine = site.new_engine(site.wharf, daemon_json=text)
    engine.pull("demo")
    same(engine.uname("demo"), "x86_64", "uname -m in demo")
    same(engine.endpoints_tried(), {site.wharf.url}, "where the engine went")
    # By wharf's own name, too, which is not a mirror of anything.
    app = f"{site.wharf.address}/registry.test/team/app"
    engine.pull(app)
    same(engine.inspect(app)["Architecture"], "amd64", "the architecture of registry.test's image")
    engine.stop()
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_what_it_writes_for_containerd_are_hosts_files(site):
    root = site.workspace.make_dir("setup-root")
    written = site.wharf.command("setup", "containerd", "--write-to", root).out.split()
    hosts = root / "etc/containerd/certs.d"
    same(written, [str(hosts / registry / "hosts.toml") for registry in ("docker.io", "registry.test")], "the files")
    again = site.wharf.command("setup", "containerd", "--write-to", root, check=False)
    same(again.code, 1, "the exit code where files are there already")
    for image, digest in (
        (DEMO, site.hub.images["library/demo", "latest"].digest),
        (APP, site.other.images["team/app", "latest"].digest),
    ):
        site.containerd.pull(image, hosts=hosts)
        same(site.containerd.image_digest(image), digest, f"the digest of {image}")
    # The platform that the address names is what wharf takes the device for.
    text = site.wharf.command("setup", "containerd", "--registry", "docker.io", "--platform", "linux/arm/v7").out
    (hosts / "docker.io/hosts.toml").write_text(text)
    site.containerd.pull(DEMO, "--platform", "linux/arm/v7", hosts=hosts)
    resolved = 'wharf_platform_resolutions_total{platform="linux/arm/v7",signal="path"}'
    same(any(line.startswith(resolved) for line in site.wharf.metrics().splitlines()), True, resolved)
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_what_it_prints_for_podman_is_a_registries_conf(site):
    text = site.wharf.command("setup", "podman").out
    pod = site.new_pod("pod-setup", text)
    for image, config in (
        (DEMO, site.hub.images["library/demo", "latest"].platforms["linux/amd64"][1]),
        (APP, site.other.images["team/app", "latest"].platforms["linux/amd64"][1]),
    ):
        image_id = pod.podman("pull", image).out.strip()
        same(f"sha256:{image_id}", config, f"podman's image of {image}")
    crossed_once(site.hub, site.other)
    site.nobody_left()
