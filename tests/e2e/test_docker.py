"""Docker Engine with `registry-mirrors`: pull, run, another platform, and several engines at once."""

from concurrent.futures import ThreadPoolExecutor

from lib.checks import crossed_once, expect, fetched_exactly, same


def test_an_engine_pulls_and_runs(site):
    demo = site.hub.images["library/demo", "latest"]
    engine = site.new_engine(site.wharf)
    engine.pull("demo:latest")
    same(engine.uname("demo:latest"), "x86_64", "uname -m in demo")
    same(engine.inspect("demo:latest")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests")
    engine.pull("single:latest")
    same(engine.uname("single:latest"), "x86_64", "uname -m in single")
    engine.pull("demo-oci:latest")
    same(engine.uname("demo-oci:latest"), "x86_64", "uname -m in demo-oci")
    # Only wharf knows these names: the mirror is the one endpoint that was tried, no other was fallen back to.
    same(engine.endpoints_tried(), {site.wharf.url}, "where the engine went")
    engine.stop()
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_an_emptied_engine_pulls_for_another_machine(site):
    demo = site.hub.images["library/demo", "latest"]
    engine = site.new_engine(site.wharf)
    for platform, architecture in (("linux/arm64", "arm64"), ("linux/arm/v7", "arm")):
        engine.pull("demo", "--platform", platform)
        image = engine.inspect("demo")
        same(image["Architecture"], architecture, f"demo for {platform}")
        same(image["RepoDigests"], [f"demo@{demo.digest}"], "a foreign platform's RepoDigests")
        same(image["Id"], demo.platforms[platform][1], "the image's id, its config's digest")
        # An engine keeps one image per list digest: the next platform starts from nothing again.
        engine.docker("image", "rm", "demo")
    # By the list's digest, as a pinned deployment does.
    engine.pull(f"demo@{demo.digest}")
    same(engine.uname(f"demo@{demo.digest}"), "x86_64", "uname -m in demo by digest")
    same(engine.endpoints_tried(), {site.wharf.url}, "where the engine went")
    engine.stop()
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_two_engines_at_once_cost_one_download(site):
    hub = site.new_hub("hub-cold")
    wharf = site.new_wharf("wharf-cold", {"docker.io": [hub.url]})
    engines = [site.new_engine(wharf), site.new_engine(wharf)]
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(lambda engine: engine.pull("demo"), engines))
    # What the platform needs crossed once, and nothing of the list's other platforms.
    fetched_exactly(hub, hub.images["library/demo", "latest"].below("linux/amd64"))

    hub.forget()
    third = site.new_engine(wharf)
    third.pull("demo")
    for engine in [*engines, third]:
        same(engine.uname("demo"), "x86_64", "uname -m in demo")
        same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
        engine.stop()
    # Within the tag's life the next device's pull never reaches the upstream.
    expect(not hub.requests(), f"a warm pull asked the upstream: {hub.requests()}")
    wharf.stop()
    hub.stop()
    site.nobody_left()
