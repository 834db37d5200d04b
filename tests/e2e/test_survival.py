"""What a cupboard does to a wharf: its disk fills up, and its power goes at any instant."""

import hashlib
import os
import random
import threading
import time

from lib.checks import expect, same
from lib.disk import Disk
from lib.line import Line
from lib.procs import Failed, wait_until
from lib.registry import Upstream
from test_podman_skopeo_buildah import whole_dir

MIB = 1 << 20
ARCHITECTURES = ("amd64", "arm64")
# How often wharf is killed, and what decides when: for a longer run, and for the same one again.
ROUNDS = int(os.environ.get("WHARF_E2E_KILLS", "6"))
SEED = int(os.environ.get("WHARF_E2E_SEED", "0")) or random.SystemRandom().getrandbits(32)
LINE_BYTES_PER_SECOND = 3 * MIB
# All of an image crosses the line in less.
LONGEST_SECONDS = 3.0


def test_a_full_disk_fails_no_pull_and_is_kept_again_when_there_is_room(site):
    demo = site.hub.images["library/demo", "latest"]
    below = demo.below("linux/amd64")
    hub = site.new_hub("hub-full")
    with Disk(site.workspace, "full", 64) as disk:
        limits = 'max_size = "100%"\nmin_free = "0"\n'
        wharf = site.new_wharf("wharf-full", {"docker.io": [hub.url]}, cache=limits, directory=disk.point / "cache")
        try:
            engine = site.new_engine(wharf)
            same(wharf.ready(), "ok", "/readyz on an empty disk")
            disk.fill()
            engine.pull("demo")
            same(engine.uname("demo"), "x86_64", "uname -m in demo, pulled through a full disk")
            same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
            ready = wharf.ready()
            expect(ready.startswith("degraded: "), f"/readyz on a full disk says {ready!r}")
            expect("No space left" in ready, f"/readyz does not say why: {ready!r}")
            refused = metric(wharf, "wharf_store_failures_total") + metric(wharf, "wharf_no_room_total")
            expect(refused > 0, "nothing that was not kept was counted")
            relayed = metric(wharf, 'wharf_requests_total{endpoint="blob",outcome="relay"}')
            expect(relayed > 0, "no blob was counted as relayed")
            wharf.quiet()
            layers = set(demo.platforms["linux/amd64"][2:])
            expect(not layers <= wharf.blobs(), "layers were kept on a full disk")

            disk.clear()
            engine.docker("image", "rm", "demo")
            engine.pull("demo")
            wharf.quiet()
            wait_until(lambda: below <= wharf.blobs(), "the next pull is not kept when there is room again", 20)
            wait_until(lambda: wharf.ready() == "ok", f"/readyz still says {wharf.ready()!r}", 90)
            hub.stop()
            alone = site.new_engine(wharf)
            alone.pull("demo")
            same(alone.uname("demo"), "x86_64", "uname -m in demo, pulled offline")
            same(alone.endpoints_tried(), {wharf.url}, "where the engine went, offline")
            alone.stop()
            engine.stop()
        finally:
            wharf.keep_answers()
            wharf.service.stop()
        same(wharf.service.child.returncode, 0, "wharf's exit code")
        same(wrong_blobs(wharf), [], "blobs that are not what their names say")
    site.nobody_left()


def test_kill_9_at_any_instant_costs_nothing_that_was_whole(site):
    print(f"     {ROUNDS} kills, WHARF_E2E_SEED={SEED}", flush=True)
    chance = random.Random(SEED)
    hub = Upstream(site.workspace, "hub-kill")
    for number in range(ROUNDS):
        site.builder.push_list(hub, f"kill/{number}", ARCHITECTURES, formats=("oci",))
    hub.forget()
    line = Line(hub.address, LINE_BYTES_PER_SECOND)
    wharf = site.new_wharf("wharf-kill", {"docker.io": [line.url]})
    engine = site.new_engine(wharf)
    whole = []
    cut = again = 0
    for number in range(ROUNDS):
        image = hub.images[f"kill/{number}", "latest"]
        before = line.received
        clients = [
            Client(engine.pull, image.repository, check=False),
            Client(copy, site, wharf, image, f"first-{number}", check=False),
        ]
        after = chance.uniform(0.0, LONGEST_SECONDS)
        time.sleep(after)
        wharf.kill()
        cut += any((wharf.dir / "wharf/partial").iterdir())
        what = f"round {number}, killed after {after:.3f} s"
        same(wrong_blobs(wharf), [], f"{what}: blobs that are not what their names say")
        wharf.start()
        # Whoever was in the middle fails or not, as it likes, but ends.
        for client in clients:
            client.join()
        whole += [image] * (clients[1].code == 0)
        listed = wharf.ls()
        for one in whole:
            platforms = listed.get(name_of(one), {})
            same(platforms, dict.fromkeys(one.platforms, True), f"{what}: what is whole of {name_of(one)}")

        engine.pull(image.repository)
        copied = copy(site, wharf, image, f"second-{number}")
        missing = image.below() - whole_dir(copied.target)
        expect(not missing, f"{what}: not in what skopeo copied: {sorted(missing)}")
        whole += [image] * (image not in whole)
        wharf.quiet()
        needed = sum(image.sizes[digest] for digest in image.below())
        # Of each download that was cut, at most the last of its checkpoints; and heads, and documents.
        allowed = needed + (len(image.below()) + 1) * MIB
        crossed = line.received - before
        again += max(0, crossed - needed)
        expect(crossed <= allowed, f"{what}: {crossed} bytes crossed the line for {needed}, at most {allowed} are right")

        # Folded by a clean stop, the directory is read by somebody who knows nothing of wharf.
        wharf.stop()
        same(wrong_blobs(wharf), [], f"{what}: blobs that are not what their names say, after a stop")
        for one in whole:
            read_without_wharf(site, wharf, one)
        wharf.start()
    print(f"     {cut} in the middle of downloads; {again / MIB:.2f} MiB crossed more than once", flush=True)

    hub.stop()
    line.close()
    for image in whole:
        missing = image.below() - whole_dir(copy(site, wharf, image, f"offline-{image.repository[5:]}").target)
        expect(not missing, f"{name_of(image)}, offline: not in what skopeo copied: {sorted(missing)}")
    engine.stop()
    wharf.stop()
    # An engine whose mirror is dead asks Docker Hub, and meets the tripwire.
    asked = site.tripwire.take()
    expect(all("docker.io" in one for one in asked), f"asked for outside of wharf: {asked}")


class Client:
    """A pull on a thread of its own."""

    def __init__(self, pull, *words, **more):
        self.code = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(pull, words, more), daemon=True)
        self._thread.start()

    def _run(self, pull, words, more):
        try:
            self.code = pull(*words, **more).code
        except Failed as error:
            self._error = error

    def join(self):
        # `Workspace.run` has a deadline of its own.
        self._thread.join(90)
        if self._error:
            raise self._error
        if self._thread.is_alive():
            raise Failed("a client does not end")


def copy(site, wharf, image, name, **more):
    """skopeo's copy of all of an image, through wharf, into `target`."""
    source = f"docker://{wharf.address}/docker.io/{image.repository}:latest"
    target = site.workspace.path("survival", name)
    result = site.pod.skopeo("copy", "--all", "--src-tls-verify=false", source, f"dir:{target}", **more)
    result.target = target
    return result


def read_without_wharf(site, wharf, image):
    """skopeo reads the cache directory as an OCI layout, to the last byte."""
    source = f"oci:{wharf.dir}:{name_of(image)}"
    raw = site.pod.skopeo("inspect", "--raw", source).out.encode()
    same(raw, image.raw, f"{name_of(image)} in the layout")
    target = site.workspace.path("survival", f"layout-{random.getrandbits(64):x}")
    site.pod.skopeo("copy", "--all", source, f"dir:{target}")
    missing = image.below() - whole_dir(target)
    expect(not missing, f"{name_of(image)}: not in what skopeo copied out of the cache: {sorted(missing)}")


def wrong_blobs(wharf):
    """Names of blob files whose content has another digest."""
    wrong = []
    for path in (wharf.dir / "blobs/sha256").iterdir():
        with open(path, "rb") as blob:
            if hashlib.file_digest(blob, "sha256").hexdigest() != path.name:
                wrong.append(path.name)
    return sorted(wrong)


def name_of(image):
    return f"docker.io/{image.repository}:{image.tag}"


def metric(wharf, name):
    """A metric's value; 0 when it has none yet."""
    for line in wharf.metrics().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0
