"""A bundle is for everybody: the container clients read it as it is, with minisign to say who sent it."""

import json
import tarfile

from lib.checks import expect, same

PLATFORMS = ("--platform", "linux/amd64", "--platform", "linux/arm64")


def test_every_client_reads_the_same_bundle(site):
    hub = site.new_hub("hub-export")
    wharf = site.new_wharf("wharf-export", {"docker.io": [hub.url]})
    demo = site.hub.images["library/demo-oci", "latest"]
    bundle = site.workspace.path("export", "site.tar")
    said = json.loads(wharf.command("export", "--json", *PLATFORMS, "-o", bundle, "demo-oci").out)
    same((said["images"], said["platforms"]), (1, ["linux/amd64", "linux/arm64"]), "what was exported")

    with tarfile.open(bundle) as archive:
        names = archive.getnames()
        raw = archive.extractfile(f"blobs/{demo.digest.replace(':', '/')}").read()
        copied = json.load(archive.extractfile("wharf-bundle.json"))
    same(raw, demo.raw, "the list in the bundle")
    carried = {blob["digest"] for blob in copied["blobs"]}
    same(carried, {name[6:].replace("/", ":") for name in names if name.startswith("blobs/")}, "the blobs in the bundle")
    same(said["left"]["platforms"], 1, "the platforms that were left out")

    # With the uplink gone, a stopped wharf writes the same bytes.
    wharf.stop()
    hub.stop()
    again = site.workspace.path("export", "again.tar")
    wharf.command("export", *PLATFORMS, "-o", again, "demo-oci")
    expect(again.read_bytes() == bundle.read_bytes(), "two exports of the same images differ")

    copy = site.workspace.path("export", "copy")
    site.pod.skopeo("copy", f"oci-archive:{bundle}:latest", f"dir:{copy}")
    expect((copy / "manifest.json").exists(), "skopeo copied nothing")

    engine = site.new_engine(wharf)
    loaded = engine.docker("load", "--input", bundle).out
    expect("demo-oci:latest" in loaded, f"docker load said {loaded}")
    same(engine.uname("demo-oci"), "x86_64", "the image that docker loaded")
    ctrd = engine.containerd
    ctrd.ctr("images", "import", "--snapshotter", "native", bundle)
    same(ctrd.image_digest("docker.io/library/demo-oci:latest"), demo.digest, "the list that containerd imported")
    engine.stop()

    site.pod.podman("load", "--input", bundle)
    listed = json.loads(site.pod.podman("images", "--format", "json").out)
    names = {name for image in listed for name in image.get("Names") or ()}
    expect("docker.io/library/demo-oci:latest" in names, f"podman knows {names}")
    site.nobody_left()


def test_minisign_checks_what_wharf_signs_and_wharf_uses_its_keys(site):
    hub = site.new_hub("hub-signed")
    wharf = site.new_wharf("wharf-signed", {"docker.io": [hub.url]})
    keys = site.workspace.make_dir("export", "keys")
    password = keys / "password"
    password.write_text("correct horse\n")
    site.plant("correct horse")
    run = site.workspace.run
    run(site.binary, "key", "new", keys / "plain")
    run(site.binary, "key", "new", "--password-file", password, keys / "locked", timeout=60)
    # An unprotected key of minisign's own, and one that is as wharf makes them: each program reads the other's.
    run("minisign", "-G", "-W", "-p", keys / "theirs.pub", "-s", keys / "theirs")
    for name in ("plain", "locked", "theirs"):
        site.workspace.planted.add_key(keys / name)
    signed = {"plain": (), "locked": ("--password-file", password), "theirs": ()}
    for name, more in signed.items():
        bundle = keys / f"{name}.tar"
        sign = ("--sign", keys / name, *more)
        wharf.command("export", *sign, "--platform", "linux/arm64", "-o", bundle, "demo", timeout=60)
        with tarfile.open(bundle) as archive:
            for member in ("wharf-bundle.json", "wharf-bundle.json.minisig"):
                (keys / member).write_bytes(archive.extractfile(member).read())
        run("minisign", "-V", "-m", keys / "wharf-bundle.json", "-p", keys / f"{name}.pub")
        (keys / "wharf-bundle.json").write_text("{}")
        other = run("minisign", "-V", "-m", keys / "wharf-bundle.json", "-p", keys / f"{name}.pub", check=False)
        expect(other.code != 0, "minisign accepts something else")
    (keys / "note").write_text("signed by minisign")
    run("minisign", "-S", "-s", keys / "plain", "-m", keys / "note")
    run("minisign", "-V", "-m", keys / "note", "-p", keys / "plain.pub")

    packed = keys / "site.tar.zst"
    wharf.command("export", "--platform", "linux/arm64", "-o", packed, "demo")
    wharf.command("export", "--platform", "linux/arm64", "-o", keys / "site.tar", "demo")
    run("zstd", "-d", "-q", packed, "-o", keys / "unpacked.tar")
    expect((keys / "unpacked.tar").read_bytes() == (keys / "site.tar").read_bytes(), "zstd unpacks something else")
    wharf.stop()
    hub.stop()
    site.nobody_left()
