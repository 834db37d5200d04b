"""From a wharf with an uplink by a bundle to a place without any network, where wharf and all its clients are."""

import json

from lib.checks import expect, same
from lib.clients import Containerd, Dockerd, Libcontainers
from lib.island import Island
from lib.wharf import Wharf

DEMO = "docker.io/library/demo-oci"
# As shipped: a registry whose name nobody resolves there.
UPSTREAM = {"docker.io": ["https://registry-1.docker.io"]}


def test_what_a_bundle_brought_is_pulled_and_run_where_there_is_no_network(site):
    demo = site.hub.images["library/demo-oci", "latest"]
    hub = site.new_hub("hub-ashore")
    ashore = site.new_wharf("wharf-ashore", {"docker.io": [hub.url]})
    bundles = site.workspace.make_dir("airgap")
    for arch in ("amd64", "arm64"):
        ashore.command("export", "--platform", f"linux/{arch}", "-o", bundles / f"{arch}.tar", "demo-oci")
    ashore.stop()
    hub.stop()

    island = Island(site.workspace, "wharfe2e-air")
    try:
        same(island.interfaces(), {"lo"}, "the network interfaces on the island")
        for arch in ("amd64", "arm64"):
            feed_and_pull(site, island, demo, arch, bundles / f"{arch}.tar")
    finally:
        for service in reversed(island.services):
            if service.alive() and service.command[0] == "nsenter":
                service.stop()
        island.close()
    site.nobody_left()


def feed_and_pull(site, island, demo, arch, bundle):
    """A site of one platform: its bundle, and dockerd, containerd and podman by all names that the image has."""
    platform = f"linux/{arch}"
    child, config, *_ = demo.platforms[platform]
    wharf = Wharf(island, site.binary, f"wharf-air-{arch}", UPSTREAM)
    site.wharfs.append(wharf)
    said = json.loads(wharf.command("import", "--json", bundle).out)
    same([(image["name"], image["digest"]) for image in said["images"]], [(f"{DEMO}:latest", demo.digest)], "taken in")

    names = (f"{DEMO}:latest", f"{DEMO}@{demo.digest}", f"{DEMO}@{child}")
    engine = Dockerd(island, f"dockerd-air-{arch}", wharf.url)
    for name in names:
        engine.pull(name, "--platform", platform)
        same(engine.inspect(name)["Id"], config, f"docker's image of {name}")
        if arch == "amd64":
            same(engine.uname(name), "x86_64", f"uname -m in {name}")
        # The next one is pulled, not found.
        engine.docker("image", "rm", "--force", config)
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")

    ctrd = Containerd(island, f"ctrd-air-{arch}", mirrors={"docker.io": wharf.url})
    for name in names:
        ctrd.pull(name, "--platform", platform)
    same(ctrd.image_digest(f"{DEMO}:latest"), demo.digest, "the list that containerd pulled")
    missing = demo.below(platform) - ctrd.content()
    expect(not missing, f"not in containerd's store: {missing}")

    pod = Libcontainers(island, {"docker.io": f"{wharf.address}/docker.io"}, f"pod-air-{arch}")
    for name in names:
        pulled = pod.podman("pull", "--platform", platform, name).out.split()[-1]
        same(f"sha256:{pulled}", config, f"podman's image of {name}")
        pod.podman("image", "rm", "--force", pulled)

    # To the byte what this platform needs, and nothing of another.
    same(wharf.blobs(), demo.below(platform), "what the site keeps")
    same(wharf.ls()[f"{DEMO}:latest"].get(platform), True, f"whether wharf ls says that {platform} is whole")
    ctrd.stop()
    engine.stop()
    wharf.stop()
