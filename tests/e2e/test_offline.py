"""The uplink is gone: what was pulled once is pulled again, what was not fails soon and clearly."""

import json
import signal
import threading
import time

from lib.checks import expect, same
from lib.line import Link
from lib.net import answers
from lib.procs import wait_until
from lib.registry import Upstream

# dockerd's own patience with one pull that cannot work; it is a bound against hanging, not a measure of speed.
PATIENCE = 40


def test_what_was_pulled_is_pulled_again_without_the_upstream(site):
    hub = site.new_hub("hub-off")
    # Every use of a tag asks the upstream first: the hardest case for an upstream that is gone.
    wharf = site.new_wharf("wharf-off", {"docker.io": [hub.url]}, tag_ttl="0s")
    first = site.new_engine(wharf)
    first.pull("demo")
    first.pull("demo", "--platform", "linux/arm64")
    first.pull("single")
    first.stop()
    same(wharf.ask("/v2/library/demo/manifests/latest").headers["Warning"], None, "a warning with the upstream up")

    hub.stop()
    expect(not answers(hub.address, "/v2/"), "the upstream still answers")
    second = pulls_alone(site, wharf)

    # A tag never seen: wharf says no, the engine tries Docker Hub itself, and meets the tripwire there.
    started = time.monotonic()
    result = second.pull("demo:never", check=False, timeout=PATIENCE)
    same(result.code, 1, f"a pull of a tag never seen\n{result}")
    expect(result.err.strip(), "the engine said nothing")
    expect(time.monotonic() - started < PATIENCE, "the failure took too long")
    asked = site.tripwire.take()
    expect(asked and all("docker.io" in line for line in asked), f"the engine's fall-back shows as {asked}")
    second.stop()

    wharf.stop()
    wharf.start()
    pulls_alone(site, wharf).stop()
    wharf.stop()
    site.nobody_left()


def test_a_kept_tag_says_that_it_is_stale(site):
    demo = site.hub.images["library/demo", "latest"]
    hub = site.new_hub("hub-stale")
    wharf = site.new_wharf("wharf-stale", {"docker.io": [hub.url]}, tag_ttl="0s")
    path = "/v2/library/demo/manifests/latest"
    answer = wharf.ask(path)
    same((answer.status, answer.headers["Wharf-Cache"], answer.body), (200, "miss", demo.raw), "the first answer")
    same(wharf.ask(path).headers["Wharf-Cache"], "hit", "the second answer, after a HEAD upstream")

    hub.stop()
    for method, body in (("GET", demo.raw), ("HEAD", b"")):
        answer = wharf.ask(path, method=method, timeout=PATIENCE)
        seen = (answer.status, answer.headers["Wharf-Cache"], answer.body)
        same(seen, (200, "stale", body), f"{method} with no upstream")
        same(answer.headers["Docker-Content-Digest"], demo.digest, "the stale tag's digest")
        warning = answer.headers["Warning"] or ""
        expect(warning.startswith('299 - "') and warning.endswith('"'), f"{method} with no upstream warns {warning!r}")
    # A digest cannot go stale.
    answer = wharf.ask(f"/v2/library/demo/manifests/{demo.digest}")
    same((answer.status, answer.headers["Wharf-Cache"], answer.headers["Warning"]), (200, "hit", None), "by digest")
    answer = wharf.ask("/v2/library/demo/manifests/never", timeout=PATIENCE)
    expect(answer.status in (404, 502, 503, 504), f"a tag never seen is answered {answer.status}")
    expect(b'"errors"' in answer.body, f"a failure not in the OCI form: {answer.body!r}")

    hub.start()
    # An endpoint that failed is left in peace for a moment, so the first answers may be stale still.
    wait_until(lambda: cache_says(wharf, path) == "hit", "the upstream is back and the tag still stale", PATIENCE)
    wharf.stop()
    hub.stop()
    site.nobody_left()


def test_an_upstream_that_is_silent_holds_nobody_up_for_ever(site):
    hub = site.new_hub("hub-mute")
    wharf = site.new_wharf("wharf-mute", {"docker.io": [hub.url]}, tag_ttl="0s")
    engine = site.new_engine(wharf)
    engine.pull("demo")
    engine.docker("image", "rm", "demo")
    # Stopped, it is still connected to, and never answers: the uplink that drops every packet.
    hub.service.signal(signal.SIGSTOP)
    try:
        engine.pull("demo", timeout=PATIENCE)
        same(cache_says(wharf, "/v2/library/demo/manifests/latest"), "stale", "Wharf-Cache with a silent upstream")
    finally:
        hub.service.signal(signal.SIGCONT)
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
    engine.stop()
    wharf.stop()
    hub.stop()
    site.nobody_left()


def test_an_uplink_that_is_cut_in_mid_pull_costs_nobody_a_wait_and_is_found_again(site):
    link = Link("wharfe2e", "4mbit")
    hub = wharf = None
    try:
        # demo's layers take a second each at this rate: time to cut the link in the middle of one.
        hub = Upstream(site.workspace, "hub-far", storage=site.hub.storage, link=link)
        hub.images = site.hub.images
        ahead = '[platforms]\ndefault = "linux/arm/v7"\n'
        wharf = site.new_wharf("wharf-far", {"docker.io": [hub.url]}, tag_ttl="0s", more=ahead)
        single = site.hub.images["library/single", "latest"]
        demo = site.hub.images["library/demo", "latest"]
        path = "/v2/library/single/manifests/latest"
        same(wharf.ask(path).status, 200, "single, with the link up")
        for digest in single.below() - {single.digest}:
            wharf.ask(f"/v2/library/single/blobs/{digest}")
        wharf.quiet()

        # What the site's platform needs of the list is fetched ahead. A layer for another one is pulled by a client.
        same(wharf.ask("/v2/library/demo/manifests/latest").status, 200, "demo")
        _, _, *layers = demo.platforms["linux/arm64"]
        same(wharf.ask(f"/v2/library/demo/manifests/{demo.platforms['linux/arm64'][0]}").status, 200, "demo for arm64")
        layer = max(layers, key=lambda digest: demo.sizes.get(digest, 0))
        pulled = {}

        def pull():
            pulled["answer"] = wharf.ask(f"/v2/library/demo/blobs/{layer}", timeout=120)

        client = threading.Thread(target=pull, daemon=True)
        client.start()
        wait_until(lambda: received(wharf) > 50_000, "nothing of the layer came", 20)
        link.down()
        cut = time.monotonic()
        # The first question finds out, in revalidate_timeout; until then nobody knows.
        wharf.ask(path, timeout=10)
        wait_until(lambda: uplink(wharf) is False, "status does not say that the uplink is gone", 10)
        expect(time.monotonic() - cut < 10, "it took more than ten seconds to notice")
        slowest = 0
        for _ in range(50):
            begun = time.monotonic()
            answer = wharf.ask(path)
            slowest = max(slowest, time.monotonic() - begun)
            same((answer.status, answer.headers["Wharf-Cache"], answer.body), (200, "stale", single.raw), "single")
            time.sleep(0.1)
        expect(slowest < 0.05, f"a kept image took {slowest * 1000:.0f} ms with the uplink down")
        same(wharf.ready(), "ok", "/readyz with the uplink down")
        expect('\nwharf_mode{mode="auto"} 1\n' in wharf.metrics(), "the metrics do not tell the mode")
        expect(client.is_alive(), f"the pull was given up: {pulled}")
        expect(not fetched_ahead(wharf), "it was fetched ahead before the link was cut")

        link.up()
        wait_until(lambda: uplink(wharf) is True, "the uplink is back, and status does not say so", 15)
        client.join(60)
        same((pulled["answer"].status, len(pulled["answer"].body)), (200, demo.sizes[layer]), "the pull that was cut")
        wait_until(lambda: fetched_ahead(wharf), "what was being fetched ahead is not taken up again", 60)
        same(cache_says(wharf, path), "hit", "Wharf-Cache with the uplink back")
        wharf.quiet()
        expect('endpoint="ping"' in wharf.metrics(), "it was never looked for")
        wharf.stop()
        hub.stop()
    finally:
        if hub and hub.service.alive():
            hub.stop()
        link.close()
    site.nobody_left()


def fetched_ahead(wharf):
    """Whether demo is whole for the site's platform."""
    return wharf.ls()["docker.io/library/demo:latest"].get("linux/arm/v7")


def received(wharf):
    """Bytes that came over the uplink."""
    lines = [line for line in wharf.metrics().splitlines() if line.startswith("wharf_upstream_bytes_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def uplink(wharf):
    """Whether `wharf status` says that the registry answers."""
    return json.loads(wharf.command("status", "--json").out)["upstreams"][0]["up"]


def cache_says(wharf, path):
    answer = wharf.ask(path, timeout=PATIENCE)
    same(answer.status, 200, path)
    return answer.headers["Wharf-Cache"]


def pulls_alone(site, wharf):
    """An emptied engine gets the list, two of its platforms and the single image from wharf alone."""
    demo = site.hub.images["library/demo", "latest"]
    engine = site.new_engine(wharf)
    engine.pull("demo")
    same(engine.uname("demo"), "x86_64", "uname -m in demo, pulled offline")
    same(engine.inspect("demo")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests, pulled offline")
    engine.pull("single")
    same(engine.uname("single"), "x86_64", "uname -m in single, pulled offline")
    engine.pull("demo", "--platform", "linux/arm64")
    same(engine.inspect("demo")["Architecture"], "arm64", "demo for linux/arm64, pulled offline")
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
    site.nobody_left()
    return engine
