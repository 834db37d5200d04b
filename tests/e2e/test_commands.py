"""`wharf pull` and `wharf inspect`: the same beside a running wharf and over the cache of one that is stopped."""

import json

from lib.checks import fetched_exactly, same
from lib.procs import wait_until

DEMO = "docker.io/library/demo:latest"
WANTED = ("linux/amd64", "linux/arm/v7")


def test_a_pull_fills_the_cache_with_wharf_running_and_stopped(site):
    demo = site.hub.images["library/demo", "latest"]
    seen = {}
    for state in ("running", "stopped"):
        hub = site.new_hub(f"hub-{state}")
        wharf = site.new_wharf(f"wharf-{state}", {"docker.io": [hub.url]})
        if state == "stopped":
            wharf.stop()
        first, again = pull(wharf), pull(wharf)
        fetched_exactly(hub, demo.below(*WANTED))
        size = sum(demo.sizes[digest] for digest in demo.below(*WANTED))
        same((first["digest"], first["size"]), (demo.digest, size), f"what wharf pull says, {state}")
        same((again["size"], again["fetched"]), (size, 0), f"what the second wharf pull says, {state}")
        same(wharf.blobs(), demo.below(*WANTED), f"what is in the cache directory, {state}")
        same(wharf.ls(), {DEMO: dict.fromkeys(WANTED, True)}, f"wharf ls, {state}")
        inspected = json.loads(wharf.command("inspect", "--json", "demo").out)
        whole = {entry["platform"]: entry["whole"] for entry in inspected["manifests"]}
        same(whole, {platform: platform in WANTED for platform in demo.platforms}, f"wharf inspect, {state}")
        seen[state] = (first, again, inspected)
        if state == "stopped":
            wharf.start()

        # The uplink is gone: an engine pulls what the command brought.
        hub.stop()
        engine = site.new_engine(wharf)
        engine.pull("demo")
        same(engine.uname("demo"), "x86_64", f"uname -m in demo, brought by a wharf that was {state}")
        same(engine.inspect("demo")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests")
        same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
        engine.stop()
        wharf.stop()
    same(seen["stopped"], seen["running"], "all that the commands said")
    site.nobody_left()


def test_what_engine_and_wharf_have_removed_is_kept_under_its_name_again(site):
    """An engine that removed an image may have its manifests still, and asks for no more than its blobs."""
    hub = site.new_hub("hub-emptied")
    wharf = site.new_wharf("wharf-emptied", {"docker.io": [hub.url]})
    engine = site.new_engine(wharf)
    for _ in range(8):
        engine.pull("demo")
        wharf.quiet()
        wait_until(lambda: wharf.ls() == {DEMO: {"linux/amd64": True}}, "wharf does not list all that the engine has")
        wharf.command("rm", DEMO)
        # The engine forgets the manifests, too, a moment later.
        engine.docker("image", "rm", "demo")
    engine.stop()
    wharf.stop()
    hub.stop()
    site.nobody_left()


def test_a_pull_that_cannot_work_says_so(site):
    result = site.wharf.command("pull", "demo:never", check=False)
    same(result.code, 1, f"exit code\n{result}")
    same(len(result.err.splitlines()), 1, f"lines on standard error\n{result}")
    result = site.wharf.command("pull", "--platform", "linux/s390x", "demo", check=False)
    same(result.code, 1, f"exit code\n{result}")
    same("linux/arm64" in result.err, True, f"the platforms that there are\n{result}")
    site.nobody_left()


def pull(wharf):
    """The last of the events of `wharf pull`."""
    flags = [word for platform in WANTED for word in ("--platform", platform)]
    events = [json.loads(line) for line in wharf.command("pull", "--json", *flags, "demo").out.splitlines()]
    same(events[-1]["event"], "done", "the last event")
    return events[-1]
