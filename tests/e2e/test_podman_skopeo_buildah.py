"""podman, skopeo and buildah, which name the registry as the first part of the path."""

import hashlib
import json

from lib.checks import crossed_once, expect, same


def test_podman_pulls_from_a_mirror_with_a_path(site):
    demo = site.hub.images["library/demo", "latest"]
    for platform in ("linux/arm64", "linux/amd64"):
        image_id = site.pod.podman("pull", "--platform", platform, "docker.io/library/demo:latest").out.strip()
        # The id is the config's digest; running it is left to dockerd and buildah, since crun refuses hybrid
        # control groups, which some test machines have.
        same(f"sha256:{image_id}", demo.platforms[platform][1], f"podman's image for {platform}")
    app = site.other.images["team/app", "latest"]
    image_id = site.pod.podman("pull", "registry.test/team/app:latest").out.strip()
    same(f"sha256:{image_id}", app.platforms["linux/amd64"][1], "podman's image of registry.test")
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_skopeo_copies_a_list_whole(site):
    for repository, layout in (("library/demo", "dir"), ("library/demo-oci", "oci")):
        image = site.hub.images[repository, "latest"]
        source = f"docker://{site.wharf.address}/docker.io/{repository}:latest"
        raw = site.pod.skopeo("inspect", "--raw", "--tls-verify=false", source).out.encode()
        same(raw, image.raw, f"{repository}'s list, byte for byte")
        target = site.workspace.path("copy", layout)
        site.pod.skopeo("copy", "--all", "--src-tls-verify=false", source, f"{layout}:{target}")
        copied = whole_dir(target) if layout == "dir" else whole_oci(target)
        missing = image.below() - copied
        expect(not missing, f"{repository}: not in skopeo's {layout}: {missing}")
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_buildah_builds_on_an_image(site):
    source = f"docker://{site.wharf.address}/docker.io/library/demo:latest"
    container = site.pod.buildah("from", "--tls-verify=false", source).out.strip().splitlines()[-1]
    uname = site.pod.buildah("run", "--isolation", "chroot", container, "/bin/busybox", "uname", "-m")
    same(uname.out.strip(), "x86_64", "uname -m in buildah's container")
    site.pod.buildah("rm", container)
    pulled = site.pod.buildah("pull", "--tls-verify=false", "--platform", "linux/arm/v7", source).out.split()[-1]
    demo = site.hub.images["library/demo", "latest"]
    same(f"sha256:{pulled}", demo.platforms["linux/arm/v7"][1], "buildah's image for linux/arm/v7")
    crossed_once(site.hub, site.other)
    site.nobody_left()


def whole_dir(directory):
    """Digests of the files of skopeo's `dir:` layout, whose names are their digests or say `manifest`."""
    found = set()
    for path in directory.iterdir():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = path.name.removesuffix(".manifest.json")
        if name not in ("version", "manifest.json"):
            same(digest, name, f"the content of {path.name}")
        found.add(f"sha256:{digest}")
    return found


def whole_oci(directory):
    """Digests of the blobs of an OCI layout, and of the one image its index names."""
    found = set()
    for path in (directory / "blobs/sha256").iterdir():
        same(hashlib.sha256(path.read_bytes()).hexdigest(), path.name, f"the content of {path.name}")
        found.add(f"sha256:{path.name}")
    (entry,) = json.loads((directory / "index.json").read_text())["manifests"]
    expect(entry["digest"] in found, f"index.json names {entry['digest']}, which is not there")
    return found
