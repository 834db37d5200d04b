"""The uplink is gone: what was pulled once is pulled again, what was not fails soon and clearly."""

import signal
import time

from lib.checks import expect, same
from lib.net import answers
from lib.procs import wait_until

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
