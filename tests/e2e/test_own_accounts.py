"""A registry to which clients bring their own accounts: wharf shows each what the registry would, and keeps no password."""

import base64
import crypt

from lib.checks import expect, same
from lib.clients import Containerd
from lib.net import ask
from lib.procs import read
from lib.registry import Upstream

DEMO = "docker.io/library/demo:latest"
USER, PASSWORD = "device-7", "planted-Secret-4e19"


def test_a_client_pulls_with_its_own_account_and_nobody_without_one(site):
    workspace, demo = site.workspace, site.hub.images["library/demo", "latest"]
    htpasswd = workspace.path("own-accounts", "htpasswd")
    htpasswd.write_text(f"{USER}:{crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n")
    hub = Upstream(workspace, "own-accounts-hub", storage=site.hub.storage, htpasswd=htpasswd)
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
        for account in ((), ("--user", f"{USER}:wrong"), ("--user", f"stranger:{PASSWORD}")):
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

    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    said = [read(wharf.service.err), wharf.metrics(), ask(wharf.admin, "/api/v1/status").body.decode()]
    said += [ask(wharf.admin, f"/api/v1/{path}").body.decode() for path in ("images", "clients", "mismatches")]
    for text in said:
        expect(PASSWORD not in text and encoded not in text, "a password is told")
    containerd.stop()
    wharf.stop()
    site.nobody_left()
