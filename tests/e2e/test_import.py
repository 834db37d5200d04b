"""What other tools pack, wharf takes in and serves with no registry at all; what wharf packs, too, across a real air gap."""

import json
import tarfile

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
    ctrd = Containerd(workspace, "ctrd-home", mirrors={"docker.io": home.url})
    ctrd.pull(DEMO, "--platform", "linux/amd64")
    ctrd.ctr("images", "export", "--platform", "linux/amd64", made / "ctr.tar", DEMO)
    ctrd.stop()
    site.pod.podman("pull", DEMO)
    for form in ("docker-archive", "oci-archive"):
        site.pod.podman("save", "--format", form, "--output", made / f"podman-{form}.tar", DEMO)
    site.pod.buildah("push", DEMO, f"oci-archive:{made / 'buildah.tar'}:{DEMO}")
    hub.stop()
    home.stop()

    lists = ("wharf", "skopeo", "ctr")
    for name in (*lists, "docker", "saved", "podman-docker-archive", "podman-oci-archive", "buildah"):
        # Nobody answers where its registry should be.
        wharf = site.new_wharf(f"wharf-{name}", DARK)
        said = json.loads(
            wharf.command("import", "--json", "--name", DEMO, made / f"{name}.tar").out
        )
        (image,) = said["images"]
        expect(image["name"].startswith("docker.io/library/demo-oci:"), f"{name}: imported as {image}")
        digest = digest_in(made / f"{name}.tar")
        if digest:
            same(image["digest"], digest, f"{name}: the digest, beside the one in the archive")
        same(image["digest"] == demo.digest, name in lists, f"{name}: whether it is the digest that the registry had")
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


def digest_in(archive):
    """The digest of the one image of an archive, if its format has one."""
    with tarfile.open(archive) as members:
        if "index.json" not in members.getnames():
            return None
        (entry,) = json.load(members.extractfile("index.json"))["manifests"]
    return entry["digest"]


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
