"""containerd with hosts.toml: the registry comes as `?ns=`, and there may be several."""

from lib.checks import crossed_once, expect, same

DEMO = "docker.io/library/demo:latest"
APP = "registry.test/team/app:latest"


def test_a_list_and_two_of_its_platforms(site):
    demo = site.hub.images["library/demo", "latest"]
    for platform in ("linux/amd64", "linux/arm64"):
        site.containerd.pull(DEMO, "--platform", platform)
        same(site.containerd.image_digest(DEMO), demo.digest, f"demo's digest for {platform}")
        missing = demo.below(platform) - site.containerd.content()
        expect(not missing, f"not in containerd's store after a pull for {platform}: {missing}")
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_a_second_registry_behind_the_same_address(site):
    app = site.other.images["team/app", "latest"]
    site.containerd.pull(APP)
    same(site.containerd.image_digest(APP), app.digest, "app's digest")
    missing = app.below("linux/amd64") - site.containerd.content()
    expect(not missing, f"not in containerd's store: {missing}")
    astray = [request for request in site.hub.requests() if "team/app" in request.path]
    expect(not astray, f"docker.io was asked for registry.test's image: {astray}")
    # The busybox layer is docker.io's as well: whichever image came first, its bytes crossed once.
    crossed_once(site.hub, site.other)
    site.nobody_left()


def test_ns_is_a_key_not_an_address(site):
    answer = site.wharf.ask("/v2/team/app/manifests/latest?ns=registry.test")
    same((answer.status, answer.headers["OCI-Namespace"]), (200, "registry.test"), "a registry that is configured")
    answer = site.wharf.ask("/v2/team/app/manifests/latest?ns=elsewhere.test")
    same(answer.status, 404, "a registry that is not configured")
    expect(b"NAME_UNKNOWN" in answer.body, f"wanted the code NAME_UNKNOWN: {answer.body!r}")
    site.nobody_left()
