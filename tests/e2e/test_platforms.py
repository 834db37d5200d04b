"""Hosts of several architectures: each gets its own platform, and the uplink carries no byte of another's."""

import json

from lib.checks import crossed_once, expect, fetched_exactly, same
from lib.clients import Containerd
from lib.procs import wait_until

DEMO = "docker.io/library/demo:latest"
# How Docker Engine names itself.
ENGINE = "docker/20.10.24 go/go1.19.8 git-commit/5d6db84 kernel/6.1.0 os/linux arch/{} UpstreamClient(Docker-Client/20.10)"
V2S2 = "application/vnd.docker.distribution.manifest.v2+json"
# The same twice: what a composed image is must not depend on which wharf makes it.
COMPOSED = """
[[compose]]
name = "docker.io/user/test"
platforms = { "linux/amd64" = "docker.io/user/test", "linux/arm64" = "docker.io/user/arm64v8-test" }
"""


def test_an_engine_costs_its_own_platform_and_no_byte_of_another(site):
    demo = site.hub.images["library/demo", "latest"]
    hub = site.new_hub("hub-own")
    wharf = site.new_wharf("wharf-own", {"docker.io": [hub.url]})
    engine = site.new_engine(wharf)
    engine.pull("demo")
    wharf.quiet()
    fetched_exactly(hub, demo.below("linux/amd64"))
    same(wharf.ls(), {DEMO: {"linux/amd64": True}}, "wharf ls after the engine's own pull")

    # The engine keeps one image per name; wharf keeps both.
    engine.pull("demo", "--platform", "linux/arm64")
    same(engine.inspect("demo")["Architecture"], "arm64", "demo for linux/arm64")
    wharf.quiet()
    fetched_exactly(hub, demo.below("linux/amd64", "linux/arm64"))
    same(wharf.ls(), {DEMO: {"linux/amd64": True, "linux/arm64": True}}, "wharf ls after both")
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
    finish(site, engine, wharf, hub)


def test_a_platform_that_is_not_kept_leaves_nothing_behind(site):
    demo = site.hub.images["library/demo", "latest"]
    hub = site.new_hub("hub-relay")
    more = '\n[platforms]\nkeep = ["linux/amd64"]\nothers = "relay"\n'
    wharf = site.new_wharf("wharf-relay", {"docker.io": [hub.url]}, more=more)
    engine = site.new_engine(wharf)
    engine.pull("demo")
    wharf.quiet()
    kept = demo.below("linux/amd64")
    same(wharf.blobs(), kept, "what is kept after a pull for the platform that is kept")
    for times in (1, 2):
        engine.docker("image", "rm", "demo")
        engine.pull("demo", "--platform", "linux/arm64")
        same(engine.inspect("demo")["Id"], demo.platforms["linux/arm64"][1], "demo for linux/arm64")
        wharf.quiet()
        same(wharf.blobs(), kept, "what is kept after a pull for another platform")
        partial = [path.name for path in (wharf.dir / "wharf/partial").iterdir()]
        expect(not partial, f"left behind of what was passed on: {partial}")
        same(wharf.ls(), {DEMO: {"linux/amd64": True}}, "wharf ls after a pull for another platform")
        seen, _ = hub.fetched()
        # An engine may remember a manifest for a while.
        manifest, *blobs = demo.platforms["linux/arm64"]
        expect(1 <= seen.pop(manifest) <= times, "a manifest that is passed on crossed more often than it was pulled")
        wanted = dict.fromkeys(kept, 1) | dict.fromkeys(blobs, times)
        same(dict(seen), wanted, f"what crossed: what is kept once, what is passed on {times} times")
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
    finish(site, engine, wharf, hub)


def test_a_client_that_tells_nothing_teaches_by_what_it_takes(site):
    demo = site.hub.images["library/demo-oci", "latest"]
    hub = site.new_hub("hub-taught")
    wharf = site.new_wharf("wharf-taught", {"docker.io": [hub.url]})
    containerd = Containerd(site.workspace, "ctrd-taught", mirrors={"docker.io": wharf.url})
    # Not the platform that a client is taken for of which nothing is known.
    containerd.pull(DEMO, "--platform", "linux/arm64")
    wharf.stop()
    wharf.start()

    image = "docker.io/library/demo-oci:latest"
    # The next image: containerd asks for the list and for nothing else.
    hub.forget()
    containerd.ctr("content", "fetch-object", "--hosts-dir", containerd.hosts, image, demo.digest)
    asked = [record for record in wharf.log() if record.get("repository") == "docker.io/library/demo-oci"]
    expect({record["endpoint"] for record in asked} <= {"manifest"}, f"containerd asked for more: {asked}")
    arm64 = set(demo.platforms["linux/arm64"])
    wait_until(lambda: arm64 <= wharf.blobs(), "config and layers that nobody asked for are not in the cache", 15)
    same(wharf.ls()[image], {"linux/arm64": True}, "wharf ls of what was fetched ahead")
    wharf.quiet()
    # The two images share their layers: what of this one was kept by the first pull does not cross again.
    fetched_exactly(hub, {demo.digest, *demo.platforms["linux/arm64"][:2]})

    said = wharf.command("explain", "--client", "127.0.0.1", image).out
    expect("took linux/arm64 from a list before" in said, f"wharf explain does not say why:\n{said}")
    expect(f"gets      {demo.platforms['linux/arm64'][0]} for linux/arm64" in said, f"wharf explain says:\n{said}")
    expect("in cache  whole" in said, f"wharf explain says:\n{said}")
    containerd.stop()
    wharf.stop()
    hub.stop()
    site.nobody_left()


def test_a_client_that_reads_no_list_gets_its_platforms_manifest(site):
    demo = site.hub.images["library/demo", "latest"]
    rule = '\n[[platforms.client]]\nmatch = "127.0.0.1"\nplatform = "linux/arm64"\n'
    hub = site.new_hub("hub-rule")
    wharf = site.new_wharf("wharf-rule", {"docker.io": [hub.url]}, more=rule)
    digest = demo.platforms["linux/arm64"][0]
    for method in ("HEAD", "GET"):
        answer = wharf.ask("/v2/library/demo/manifests/latest", method=method, accept=[V2S2])
        seen = (answer.status, answer.headers["Docker-Content-Digest"], answer.headers["Content-Type"])
        same(seen, (200, digest, V2S2), f"{method} by a client that reads no list")
    layers = {layer["digest"] for layer in json.loads(answer.body)["layers"]}
    same(layers, set(demo.platforms["linux/arm64"][2:]), "the layers that it is told of")

    # Whoever reads lists sees the whole one, rule or not.
    source = f"docker://{wharf.address}/docker.io/library/demo:latest"
    raw = site.pod.skopeo("inspect", "--raw", "--tls-verify=false", source).out.encode()
    same(raw, demo.raw, "the list in skopeo inspect --raw, byte for byte")
    engine = site.new_engine(wharf)
    name = f"{wharf.address}/docker.io/library/demo:latest"
    listed = json.loads(engine.docker("manifest", "inspect", "--insecure", name).out)
    seen = {entry["digest"] for entry in listed["manifests"]}
    same(seen, {digests[0] for digests in demo.platforms.values()}, "docker manifest inspect")
    finish(site, engine, wharf, hub)


def test_an_image_that_the_host_cannot_run_is_told_of(site):
    arm, demo = site.hub.images["library/arm-only", "latest"], site.hub.images["library/demo", "latest"]
    hub = site.new_hub("hub-wrong")
    wharf = site.new_wharf("wharf-wrong", {"docker.io": [hub.url]})
    engine = site.new_engine(wharf)
    # It is told and not refused: who has an emulator may mean it.
    engine.pull("arm-only")
    same(engine.inspect("arm-only")["Architecture"], "arm64", "the image for arm64 alone")
    same(len(wrongs(wharf)), 1, f"log lines of mismatches: {wrongs(wharf)}")
    engine.pull("demo")
    same(len(wrongs(wharf)), 1, "log lines of mismatches after a pull that fits")
    engine.docker("image", "rm", "demo")
    engine.pull("demo", "--platform", "linux/arm64")
    same(len(wrongs(wharf)), 2, f"log lines of mismatches: {wrongs(wharf)}")
    for record, repository in zip(wrongs(wharf), ("arm-only", "demo")):
        expect(record["image"].startswith(f"docker.io/library/{repository}"), f"another image: {record}")
        expect(record["platform"].startswith("linux/arm64"), f"another platform: {record}")
        same((record["client"], record["runs"]), ("127.0.0.1", "linux/amd64"), "who, and what it runs")
    expect('wharf_platform_mismatch_total{platform="linux/arm64"} 2\n' in wharf.metrics(), "not counted")

    for path in ("arm-only/manifests/latest", f"demo/manifests/{demo.platforms['linux/arm64'][0]}"):
        answer = wharf.ask(f"/v2/library/{path}", agent=ENGINE.format("amd64"))
        same(answer.status, 200, path)
        warning = answer.headers["Warning"] or ""
        wanted = "this image is for linux/arm64, and this host runs linux/amd64"
        expect(warning.startswith("299 - ") and wanted in warning, f"{path} warns {warning!r}")
        answer = wharf.ask(f"/v2/library/{path}", agent=ENGINE.format("arm64"))
        same((answer.status, answer.headers["Warning"]), (200, None), f"{path} for a host that runs it")
    wharf.quiet()
    fetched_exactly(hub, arm.below() | demo.below("linux/amd64", "linux/arm64"))
    finish(site, engine, wharf, hub)


def test_two_repositories_are_pulled_under_one_name(site):
    parts = {
        "linux/amd64": site.hub.images["user/test", "latest"].platforms["linux/amd64"],
        "linux/arm64": site.hub.images["user/arm64v8-test", "latest"].platforms["linux/arm64"],
    }
    hub = site.new_hub("hub-one")
    wharf = site.new_wharf("wharf-one", {"docker.io": [hub.url]}, more=COMPOSED)
    engine = site.new_engine(wharf)
    engine.pull("user/test")
    same(engine.uname("user/test"), "x86_64", "uname -m in user/test")
    (name,) = engine.inspect("user/test")["RepoDigests"]
    same(engine.inspect("user/test")["Id"], parts["linux/amd64"][1], "user/test's config")
    wharf.quiet()
    amd64 = crossed_once(hub)
    expect(not amd64 & set(parts["linux/arm64"][1:]), "bytes of arm64's image crossed")

    # An engine binds a list's digest to one image at a time.
    engine.docker("image", "rm", "user/test")
    engine.pull("user/test", "--platform", "linux/arm64")
    same(engine.inspect("user/test")["Id"], parts["linux/arm64"][1], "user/test's config for linux/arm64")
    same(engine.inspect("user/test")["RepoDigests"], [name], "what user/test is for linux/arm64")
    wharf.quiet()
    crossed_once(hub)
    same(wharf.ls()["docker.io/user/test:latest"], dict.fromkeys(parts, True), "wharf ls")
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")

    # Another wharf, which has seen nothing of this, makes the same bytes.
    other = site.new_wharf("wharf-other", {"docker.io": [hub.url]}, more=COMPOSED)
    first, second = (one.ask("/v2/user/test/manifests/latest") for one in (wharf, other))
    same(first.body, second.body, "the index of the other wharf")
    same(second.headers["Docker-Content-Digest"], name.split("@")[1], "its digest, and the engine's")
    # With the upstream gone the name is still there for both.
    hub.stop()
    for platform, digests in parts.items():
        engine.docker("image", "rm", "user/test")
        engine.pull("user/test", "--platform", platform)
        same(engine.inspect("user/test")["Id"], digests[1], f"user/test for {platform}, pulled offline")
    engine.stop()
    wharf.stop()
    other.stop()
    site.nobody_left()


def wrongs(wharf):
    """The log's records of images that a client took and cannot run."""
    return [record for record in wharf.log() if "cannot run" in record.get("message", "")]


def finish(site, engine, wharf, hub):
    engine.stop()
    wharf.stop()
    hub.stop()
    site.nobody_left()
