"""What other tools pack, wharf takes in and serves with no registry at all; what wharf packs, too, across a real air gap."""

import json

from lib.checks import expect, same
from lib.clients import Containerd

DEMO = "docker.io/library/demo-oci:latest"
DARK = {"docker.io": ["http://127.0.0.1:9"]}


def test_bundles_and_archives_of_others_are_taken_in_and_pulled(site):
    workspace, demo = site.workspace, site.hub.images["library/demo-oci", "latest"]
    hub = site.new_hub("hub-import")
    home = site.new_wharf("wharf-home", {"docker.io": [hub.url]})
    made = workspace.make_dir("import", "made")
    home.command("export", "--platform", "linux/amd64", "--platform", "linux/arm64", "-o", made / "wharf.tar", "demo-oci")
    # Every platform, as skopeo packs it; and what old and new archives of docker hold: one.
    source = f"docker://{home.address}/docker.io/library/demo-oci:latest"
    site.pod.skopeo("copy", "--all", "--src-tls-verify=false", source, f"oci-archive:{made / 'skopeo.tar'}:latest")
    site.pod.skopeo("copy", "--src-tls-verify=false", source, f"docker-archive:{made / 'docker.tar'}:library/demo-oci:old")
    engine = site.new_engine(home)
    engine.pull("demo-oci")
    engine.docker("save", "--output", made / "saved.tar", "demo-oci")
    engine.stop()
    hub.stop()
    home.stop()

    for name, keeps_digest in (("wharf", True), ("skopeo", True), ("docker", False), ("saved", False)):
        # Nobody answers where its registry should be.
        wharf = site.new_wharf(f"wharf-{name}", DARK)
        said = json.loads(
            wharf.command("import", "--json", "--name", DEMO, made / f"{name}.tar").out
        )
        (image,) = said["images"]
        expect(image["name"].startswith("docker.io/library/demo-oci:"), f"{name}: imported as {image}")
        if keeps_digest:
            same(image["digest"], demo.digest, f"{name}: the list's digest")
        again = json.loads(wharf.command("import", "--json", "--name", DEMO, made / f"{name}.tar").out)
        same((again["blobs"], again["bytes"]), (0, 0), f"{name}: written again")
        ctrd = Containerd(workspace, f"ctrd-{name}")
        hosts = f'server = "{wharf.url}"\n[host."{wharf.url}"]\n  capabilities = ["pull", "resolve"]\n'
        workspace.path(f"ctrd-{name}", "hosts", "docker.io", "hosts.toml").write_text(hosts)
        ctrd.pull(image["name"], "--platform", "linux/amd64")
        same(ctrd.image_digest(image["name"]), image["digest"], f"{name}: the digest that containerd pulled")
        ctrd.stop()
        if name == "wharf":
            pulled = site.new_engine(wharf)
            pulled.pull("demo-oci")
            same(pulled.uname("demo-oci"), "x86_64", "the image that docker pulled without a registry")
            pulled.stop()
            missing = demo.below("linux/arm64") - wharf.blobs()
            expect(not missing, f"not taken in: {missing}")
        wharf.stop()
    site.nobody_left()


def test_volumes_are_taken_in_in_another_order_with_a_stop_between(site):
    workspace, demo = site.workspace, site.hub.images["library/demo-oci", "latest"]
    hub = site.new_hub("hub-volumes")
    home = site.new_wharf("wharf-volumes-home", {"docker.io": [hub.url]})
    made = workspace.make_dir("import", "volumes")
    home.command(
        "export", "--platform", "linux/amd64", "--platform", "linux/arm64", "--volume-size", "400KiB",
        "-o", made / "b.tar", "demo-oci",
    )
    hub.stop()
    home.stop()
    volumes = sorted(made.glob("b.tar.[0-9]*"))
    expect(len(volumes) >= 3, f"only {len(volumes)} volumes")

    wharf = site.new_wharf("wharf-volumes", DARK)
    # The last first, a stop and a kill between, and one twice.
    order = [volumes[-1], *volumes[1:-1], volumes[1], volumes[0]]
    for number, volume in enumerate(order[:-1]):
        said = json.loads(wharf.command("import", "--json", volume).out)
        expect(not said["images"] and 1 in said["volume"]["missing"], f"{volume.name}: {said}")
        if number == 0:
            wharf.stop()
            wharf.start()
        elif number == 1:
            wharf.kill()
            wharf.start()
    (waits,) = json.loads(wharf.command("status", "--json").out)["volume_sets"]
    same((waits["missing"], waits["here"]), ([1], len(volumes) - 1), "what is still to be brought")
    said = json.loads(wharf.command("import", "--json", order[-1]).out)
    (image,) = said["images"]
    same(image["digest"], demo.digest, "the list's digest")
    same(json.loads(wharf.command("status", "--json").out)["volume_sets"], [], "nothing waits")
    ctrd = Containerd(workspace, "ctrd-volumes")
    hosts = f'server = "{wharf.url}"\n[host."{wharf.url}"]\n  capabilities = ["pull", "resolve"]\n'
    workspace.path("ctrd-volumes", "hosts", "docker.io", "hosts.toml").write_text(hosts)
    ctrd.pull(DEMO, "--platform", "linux/amd64")
    same(ctrd.image_digest(DEMO), demo.digest, "the digest that containerd pulled")
    ctrd.stop()
    missing = demo.below("linux/arm64") - wharf.blobs()
    expect(not missing, f"not taken in: {missing}")
    wharf.stop()
    site.nobody_left()
