"""Clients that sign in with name and password, and those that are never asked to."""

import base64
import json
import shutil

from lib.certs import Authority, docker_trusts
from lib.checks import expect, same
from lib.clients import Containerd, Dockerd, Libcontainers
from lib.net import ask, lan_address
from lib.procs import LAN_ADDRESS, free_port, read

USER, PASSWORD = "alice", "planted-Secret-83f0"
WRONG = "planted-Mistake-b6a2"
HUB_USER, HUB_PASSWORD = "hub-user", "planted-Secret-of-the-hub"
DEMO, SINGLE = "docker.io/library/demo:latest", "docker.io/library/single:latest"


def test_who_signs_in_may_pull_more_and_mirrors_are_never_challenged(site):
    workspace = site.workspace
    site.plant(WRONG, HUB_PASSWORD)
    mirror, asking = (f"127.0.0.1:{free_port()}" for _ in range(2))
    wharf = with_users(site, mirror, asking)
    demo, single = site.hub.images["library/demo", "latest"], site.hub.images["library/single", "latest"]
    path = "/v2/library/single/manifests/latest"

    # A Docker Engine whose user has signed in at Docker Hub pulls through a mirror that knows users, and tells it nothing.
    engine = Dockerd(workspace, "dockerd-users", f"http://{mirror}")
    hub_login = docker_config(workspace, "docker-hub", "https://index.docker.io/v1/", HUB_USER, HUB_PASSWORD)
    engine.docker("--config", hub_login, "pull", "demo")
    same(engine.inspect("demo")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests")
    same(engine.endpoints_tried(), {f"http://{mirror}"}, "where the engine went")
    engine.docker("image", "rm", "demo")
    expect("wharf_sign_ins_total{" not in wharf.metrics(), "the engine has sent a password to its mirror")
    same(statuses(wharf), {200}, "what its requests were answered with")

    # What nobody may pull is refused there without a challenge.
    refused = ask(mirror, path)
    same((refused.status, refused.headers.get("WWW-Authenticate")), (403, None), "the answer to nobody")

    # containerd has the mirror's password in its configuration.
    containerd = Containerd(workspace, "ctrd-users", mirrors={"docker.io": f"http://{mirror}"})
    hosts = workspace.path("ctrd-users", "hosts", "docker.io", "hosts.toml")
    hosts.write_text(f'{hosts.read_text()}  [host."http://{mirror}".header]\n    authorization = "{basic()}"\n')
    containerd.pull(SINGLE, "--platform", "linux/amd64")
    same(containerd.image_digest(SINGLE), single.digest, "single's digest")
    containerd.stop()

    # By wharf's own name, where it asks for a password: docker login, then docker pull.
    same(ask(asking, "/v2/").status, 401, "the answer to nobody where a password is asked for")
    own = workspace.make_dir("docker-own")
    wrong = engine.docker("--config", own, "login", "-u", USER, "-p", WRONG, asking, check=False)
    expect(wrong.code != 0, "docker login took a wrong password")
    name = f"{asking}/library/single:latest"
    anonymous = engine.docker("--config", own, "pull", name, check=False)
    expect(anonymous.code != 0, "docker pulled without having signed in")
    engine.docker("--config", own, "login", "-u", USER, "-p", PASSWORD, asking)
    engine.docker("--config", own, "pull", name)
    same(engine.inspect(name)["RepoDigests"], [f"{asking}/library/single@{single.digest}"], "single's RepoDigests")
    engine.stop()

    # podman, by a password on the command line, and by podman login.
    pod = Libcontainers(workspace, {}, name="pod-users")
    name = f"{asking}/docker.io/library/demo:latest"
    insecure = "--tls-verify=false"
    image_id = pod.podman("pull", insecure, "--creds", f"{USER}:{PASSWORD}", name).out.strip()
    same(f"sha256:{image_id}", demo.platforms["linux/amd64"][1], "podman's image")
    pod.podman("rmi", image_id)
    authfile = ("--authfile", workspace.path("pod-users-auth", "auth.json"))
    anonymous = pod.podman("pull", insecure, *authfile, name, check=False)
    expect(anonymous.code != 0, "podman pulled without having signed in")
    wrong = pod.podman("login", insecure, *authfile, "-u", USER, "-p", WRONG, asking, check=False)
    expect(wrong.code != 0, "podman login took a wrong password")
    pod.podman("login", insecure, *authfile, "-u", USER, "-p", PASSWORD, asking)
    pod.podman("pull", insecure, *authfile, name)

    no_secret(site, wharf)
    wharf.stop()
    site.nobody_left()


def test_passwords_cross_the_network_under_tls_of_the_sites_own_authority(site):
    workspace, single = site.workspace, site.hub.images["library/single", "latest"]
    site.plant(WRONG)
    authority = Authority(workspace, "users-ca")
    cert, key = authority.issue("wharf")
    at = f"{LAN_ADDRESS}:{free_port()}"
    name = f"{at}/library/single:latest"
    with lan_address(workspace), docker_trusts(at, authority):
        wharf = site.new_wharf(
            "wharf-users-tls",
            {"docker.io": [site.new_hub("hub-users-tls").url]},
            more=(
                f'\n[[listener]]\naddress = "{at}"\nusers = "{htpasswd(site, "wharf-users-tls")}"\nsign_in = true\n'
                f'tls = {{ cert = "{cert}", key = "{key}" }}\n'
                f'\n[[access]]\nuser = "{USER}"\nallow = ["docker.io/library/*"]\n'
            ),
        )
        for pull in (by_docker, by_podman, by_containerd):
            refused, digest = pull(workspace, authority, at, name)
            expect(refused, f"{pull.__name__}: pulled with a wrong password, or with none")
            expect(digest in {single.digest, *single.below("linux/amd64")}, f"{pull.__name__}: got {digest}")
        plain = ask(at, "/v2/", headers={"Authorization": basic()})
        same(plain.status, 400, "the answer to a password over plain HTTP")
        no_secret(site, wharf)
        wharf.stop()
    site.nobody_left()


def by_docker(workspace, _authority, at, name):
    engine = Dockerd(workspace, "dockerd-users-tls", None, "{}")
    own = workspace.make_dir("docker-users-tls")
    docker = ("--config", own)
    refused = engine.docker(*docker, "login", "-u", USER, "-p", WRONG, at, check=False).code != 0
    refused &= engine.docker(*docker, "pull", name, check=False).code != 0
    engine.docker(*docker, "login", "-u", USER, "-p", PASSWORD, at)
    engine.docker(*docker, "pull", name)
    digests = engine.inspect(name)["RepoDigests"]
    engine.stop()
    return refused, digests[0].split("@")[1]


def by_podman(workspace, authority, at, name):
    pod = Libcontainers(workspace, {}, name="pod-users-tls", insecure=False)
    certs = workspace.make_dir("pod-users-tls-certs")
    shutil.copy(authority.cert, certs / "ca.crt")
    words = ("--cert-dir", certs, "--authfile", workspace.path("pod-users-tls-auth", "auth.json"))
    refused = pod.podman("login", *words, "-u", USER, "-p", WRONG, at, check=False).code != 0
    refused &= pod.podman("pull", *words, name, check=False).code != 0
    pod.podman("login", *words, "-u", USER, "-p", PASSWORD, at)
    return refused, f'sha256:{pod.podman("pull", *words, name).out.strip()}'


def by_containerd(workspace, authority, at, name):
    containerd = Containerd(workspace, "ctrd-users-tls", mirrors={at: f"https://{at}"}, tls=(authority.cert, None))

    def pull(*account):
        words = ("--hosts-dir", containerd.hosts, "--snapshotter", "native", "--platform", "linux/amd64")
        return containerd.ctr("images", "pull", *words, *account, name, check=False)

    refused = all(pull(*account).code != 0 for account in ((), ("--user", f"{USER}:{WRONG}")))
    pulled = pull("--user", f"{USER}:{PASSWORD}")
    same(pulled.code, 0, f"containerd's pull: {pulled}")
    digest = containerd.image_digest(name)
    containerd.stop()
    return refused, digest


def with_users(site, mirror, asking):
    """A wharf that knows one user at `mirror`, where it asks nobody, and at `asking`, where it asks everybody."""
    htpasswd(site, "wharf-users")
    more = (
        f'\n[[listener]]\naddress = "{mirror}"\nusers = "htpasswd"\n'
        f'\n[[listener]]\naddress = "{asking}"\nusers = "htpasswd"\nsign_in = true\n'
        '\n[[access]]\nallow = ["docker.io/library/demo"]\n'
        f'\n[[access]]\nuser = "{USER}"\nallow = ["docker.io/library/*"]\n'
    )
    return site.new_wharf("wharf-users", {"docker.io": [site.new_hub("hub-users").url]}, more=more)


def htpasswd(site, name):
    """A file that knows the user."""
    path = site.workspace.path(name, "htpasswd")
    site.write_htpasswd(path, USER, PASSWORD, rounds=2**10)
    path.chmod(0o600)
    return path


def basic():
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def docker_config(workspace, name, registry, user, password):
    """A directory for `docker --config` in which somebody has signed in at a registry."""
    directory = workspace.make_dir(name)
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {registry: {"auth": encoded}}}))
    return directory


def statuses(wharf):
    return {record["status"] for record in wharf.log() if record.get("target") == "wharf::request"}


def no_secret(site, wharf):
    """Neither wharf nor the registry behind it has written down a password, in whatever form it was sent."""
    paths = ("/metrics", "/readyz", "/", "/api/v1/status", "/api/v1/images", "/api/v1/clients")
    said = {path: ask(wharf.admin, path).body.decode(errors="replace") for path in paths}
    said["config show"] = site.workspace.run(site.binary, "config", "show", "--config", wharf.config).out
    logs = site.workspace.path("log", "x").parent
    said |= {path.name: read(path) for path in logs.iterdir() if path.name.startswith(("wharf-users", "hub-users"))}
    for where, text in said.items():
        for secret in (PASSWORD, basic().split()[1], HUB_PASSWORD):
            expect(secret not in text, f"{where} tells a secret")
    expect(f'"{USER}"' in read(wharf.service.err), "the log does not tell who has signed in")
