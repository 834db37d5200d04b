"""A registry to which clients bring their own accounts: wharf shows each what the registry would, and keeps no password."""

import base64

from lib.checks import expect, same
from lib.clients import Containerd, Dockerd
from lib.net import ask
from lib.procs import free_port, read
from lib.registry import Upstream

DEMO = "docker.io/library/demo:latest"
USER, PASSWORD = "device-7", "planted-Secret-4e19"
WRONG = "planted-Mistake-90d3"


def test_a_client_pulls_with_its_own_account_and_nobody_without_one(site):
    workspace, demo = site.workspace, site.hub.images["library/demo", "latest"]
    hub = closed_hub(site, "own-accounts")
    wharf = site.new_wharf("own-accounts", {"docker.io": [hub.url]}, upstream='auth = "client"\n')
    containerd = Containerd(workspace, "ctrd-own")
    # wharf alone: what it refuses is asked for nowhere else.
    hosts = f'server = "{wharf.url}"\n[host."{wharf.url}"]\n  capabilities = ["pull", "resolve"]\n'
    workspace.path("ctrd-own", "hosts", "docker.io", "hosts.toml").write_text(hosts)
    image = ("--platform", "linux/arm64", DEMO)

    def pull(*account):
        words = ("images", "pull", "--hosts-dir", containerd.hosts, "--snapshotter", "native", *account, *image)
        return containerd.ctr(*words, check=False).code

    def closed(when):
        for account in ((), ("--user", f"{USER}:{WRONG}"), ("--user", f"stranger:{PASSWORD}")):
            expect(pull(*account) != 0, f"{when}: pulled with {account}")
        for path in (f"manifests/{demo.digest}", *(f"blobs/{layer}" for layer in demo.below("linux/arm64"))):
            status = ask(wharf.address, f"/v2/library/demo/{path}").status
            expect(status in (401, 404), f"{when}: {path} answered {status} without an account")

    closed("cold")
    same(pull("--user", f"{USER}:{PASSWORD}"), 0, "the pull with the account")
    same(containerd.image_digest(DEMO), demo.digest, "demo's digest")
    containerd.ctr("images", "rm", "--sync", DEMO)
    closed("warm")
    # The ping, which older Docker Engines would answer with their password of Docker Hub.
    same(ask(wharf.address, "/v2/").status, 200, "the ping")
    # The registry is gone: its last yes counts on, and nobody else's.
    hub.stop()
    same(pull("--user", f"{USER}:{PASSWORD}"), 0, "the pull without the registry")
    closed("without the registry")

    no_secret(wharf)
    containerd.stop()
    wharf.stop()
    site.nobody_left()


def test_docker_signs_in_at_an_address_that_asks_and_the_registry_judges(site):
    workspace, demo = site.workspace, site.hub.images["library/demo", "latest"]
    hub = closed_hub(site, "signed-in")
    asking = f"127.0.0.1:{free_port()}"
    wharf = site.new_wharf(
        "signed-in",
        {"docker.io": [hub.url]},
        # The registry is asked at each request: without it there is nothing but the time of grace.
        upstream='auth = "client"\nauth_ttl = "0s"\noffline_grace = "1h"\n',
        more=f'\n[[listener]]\naddress = "{asking}"\nsign_in = true\n',
    )
    engine = Dockerd(workspace, "dockerd-own", None, "{}")
    name = f"{asking}/library/demo:latest"
    accounts = {"owner": (USER, PASSWORD), "wrong": (USER, WRONG), "stranger": ("stranger", PASSWORD)}
    signed_in = {who: workspace.make_dir(f"docker-own-{who}") for who in (*accounts, "nobody")}
    for who, (user, password) in accounts.items():
        # wharf knows nobody here. What is signed in with is looked at when something is asked for.
        engine.docker("--config", signed_in[who], "login", "-u", user, "-p", password, asking)

    def pull(who):
        """Whether it succeeds; the image does not stay."""
        if engine.docker("--config", signed_in[who], "pull", name, check=False).code != 0:
            return False
        same(engine.inspect(name)["RepoDigests"], [f"{asking}/library/demo@{demo.digest}"], "demo's RepoDigests")
        engine.docker("image", "rm", name)
        return True

    def only_the_owner(when):
        for who in signed_in.keys() - {"owner"}:
            expect(not pull(who), f"{when}: {who} pulled")

    only_the_owner("cold")
    expect(pull("owner"), "cold: the owner is refused")
    only_the_owner("warm")
    expect(pull("owner"), "warm: the owner is refused")
    hub.stop()
    expect(pull("owner"), "without the registry: the owner is refused")
    only_the_owner("without the registry")
    no_secret(wharf)
    engine.stop()
    wharf.stop()
    site.nobody_left()


def closed_hub(site, name):
    """Docker Hub's images in a registry that shows them to one account."""
    workspace = site.workspace
    htpasswd = workspace.path(f"{name}-hub", "htpasswd")
    site.plant(WRONG)
    site.write_htpasswd(htpasswd, USER, PASSWORD)
    return Upstream(workspace, f"{name}-hub", storage=site.hub.storage, htpasswd=htpasswd)


def no_secret(wharf):
    """Nothing that wharf says holds the password, in whatever form it is sent."""
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    said = [read(wharf.service.err), wharf.metrics(), ask(wharf.admin, "/api/v1/status").body.decode()]
    said += [ask(wharf.admin, f"/api/v1/{path}").body.decode() for path in ("images", "clients", "mismatches")]
    for text in said:
        expect(PASSWORD not in text and encoded not in text, "a password is told")
