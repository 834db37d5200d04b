"""HTTPS with a site's own authority, devices known by certificates, and an account that nobody gets to see."""

import base64
import hashlib
import shutil
import signal
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

from lib.certs import EC, RSA, Authority, docker_trusts
from lib.checks import expect, same
from lib.clients import Containerd, Dockerd, Libcontainers
from lib.line import Line
from lib.net import Half, ask, lan_address, received
from lib.procs import LAN_ADDRESS, read, wait_until
from lib.registry import Upstream

USER, PASSWORD = "site-account", "planted-Secret-71c2"
DEMO = "docker.io/library/demo:latest"
MIB = 1 << 20


def test_devices_show_certificates_and_these_are_renewed(site):
    workspace = site.workspace
    authority = Authority(workspace, "site-ca")
    device = authority.issue("device-1")
    with lan_address(workspace):
        wharf, line = secured(site, authority)
        with docker_trusts(wharf.address, authority, device):
            pulls_and_renewals(site, wharf, line, authority, device)
        no_secret(site, wharf)
        wharf.stop()
        line.close()
    site.nobody_left()


def pulls_and_renewals(site, wharf, line, authority, device):
    workspace, demo = site.workspace, site.hub.images["library/demo", "latest"]
    engine = Dockerd(workspace, "dockerd-tls", wharf.url)
    containerd = Containerd(
        workspace, "ctrd-tls", mirrors={"docker.io": wharf.url}, tls=(authority.cert, device)
    )
    pod = Libcontainers(workspace, {"docker.io": f"{wharf.address}/docker.io"}, name="pod-tls", insecure=False)
    cert_dir = workspace.make_dir("pod-certs")
    for source, name in zip((authority.cert, *device), ("ca.crt", "client.cert", "client.key")):
        shutil.copy(source, cert_dir / name)

    def pull_by_docker():
        engine.pull("demo")
        same(engine.inspect("demo")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests")
        same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
        engine.docker("image", "rm", "demo")

    def pull_by_containerd():
        containerd.pull(DEMO, "--platform", "linux/arm64")
        same(containerd.image_digest(DEMO), demo.digest, "demo's digest")
        containerd.ctr("images", "rm", "--sync", DEMO)

    def pull_by_podman():
        image_id = pod.podman("pull", "--cert-dir", cert_dir, DEMO).out.strip()
        same(f"sha256:{image_id}", demo.platforms["linux/amd64"][1], "podman's image")
        pod.podman("rmi", image_id)

    clients = (pull_by_docker, pull_by_containerd, pull_by_podman)
    for pull in clients:
        pull()
    # Who shows nothing is not served; nor is who shows what another authority has signed.
    stranger = Authority(workspace, "another-ca").issue("stranger")
    for identity in (None, stranger):
        expect(not is_served(wharf, authority, identity), f"served with {identity}")
    expect(is_served(wharf, authority, device), "a device is not served")
    # One that is stolen is turned away from when its authority says so.
    stolen = authority.issue("stolen")
    expect(is_served(wharf, authority, stolen), "a device is not served before it is stolen")
    authority.list(stolen[0])
    wharf.service.signal(signal.SIGHUP)
    wait_until(lambda: not is_served(wharf, authority, stolen), "a stolen device is served")
    expect(is_served(wharf, authority, device), "a device is not served because another was stolen")
    answers_over_http2(site, wharf, authority, device)
    others = (pull_by_containerd, pull_by_podman)
    changes_in_the_middle_of_pulls(site, wharf, line, engine, others, authority, device)
    for pull in clients:
        pull()
    engine.stop()
    containerd.stop()


def changes_in_the_middle_of_pulls(site, wharf, line, engine, others, authority, device):
    """A new certificate, of another kind: no pull fails, and connections that are opened later have it.

    Docker's pull and an answer that is read half have begun before wharf shows it, and end after it does. The others
    pull again and again until it is there, and once more.
    """
    single = site.hub.images["library/single", "latest"]
    # The one of its layers that has never crossed. The other, a third of its size, is kept.
    layer = single.platforms["linux/amd64"][3]
    path, size = f"/v2/library/single/blobs/{layer}", single.sizes[layer]
    pid, old = engine.service.child.pid, serial(wharf)
    idle = received(pid, wharf.address)

    def docker_has():
        """The most bytes that the engine has got on one connection since, and its own end of that."""
        now = received(pid, wharf.address).items()
        return max(((size - idle.get(at, 0), at) for at, size in now), default=(0, None))

    changed = threading.Event()
    line.hold_after(size // 2)
    with ThreadPoolExecutor(1 + len(others)) as pool:
        try:
            running = [pool.submit(until, changed, pull) for pull in others]
            pull = pool.submit(engine.pull, "single", timeout=150)
            wait_until(lambda: line.held == 1 and docker_has()[0] > size * 2 // 5, "the engine is not in the middle")
            half = Half(wharf.address, path, shows(authority, device), MIB)
            same((half.status, len(half.body), half.cert), (200, MIB, old), "the answer that is read half")
            _, at = docker_has()

            renew(authority, wharf.config.parent, RSA)
            wait_until(lambda: serial(wharf) != old, "wharf shows its old certificate")
            # Nobody can have had the rest: wharf itself has not.
            same(line.held, 1, "connections that the line holds, with the new certificate shown")
            expect(at in received(pid, wharf.address), "the engine's connection has ended")
            expect(not pull.done(), "the engine's pull is over")
            expect(not ended(wharf, layer), f"answers that ended too early: {ended(wharf, layer)}")
        finally:
            changed.set()
            line.release()
        whole = half.finish()
        for pulls in (pull, *running):
            pulls.result()
    same(f"sha256:{hashlib.sha256(whole).hexdigest()}", layer, "the answer that was read half, and then whole")
    same(engine.inspect("single")["RepoDigests"], [f"single@{single.digest}"], "single's RepoDigests")
    # Each got all of it in one answer, on the connection that it had before.
    wanted = {(at, 200, size), (half.client, 200, size)}
    wait_until(lambda: len(ended(wharf, layer)) >= len(wanted), "wharf has not logged the answers")
    same(ended(wharf, layer), wanted, "who asked for the layer, the status and the bytes sent")


def ended(wharf, digest):
    """`(client, status, bytes)` of each answer with this blob, as logged at its end."""
    records = (record for record in wharf.log() if record.get("reference") == digest)
    return {(record["client"], record["status"], record["bytes"]) for record in records}


def answers_over_http2(site, wharf, authority, device):
    """To a client that asks for it; podman and Docker Engine here speak HTTP/1.1."""
    demo = site.hub.images["library/demo", "latest"]
    blobs = demo.below("linux/amd64") - {demo.digest, demo.platforms["linux/amd64"][0]}
    for path, digest in (("manifests/latest", demo.digest), *((f"blobs/{digest}", digest) for digest in sorted(blobs))):
        target = site.workspace.path("http2", "answer")
        accept = ("--header", "Accept: application/vnd.docker.distribution.manifest.list.v2+json")
        trust = ("--cacert", authority.cert, "--cert", device[0], "--key", device[1])
        words = ("--silent", "--show-error", "--fail", "--http2", "--noproxy", "*", "--write-out", "%{http_version}")
        url = f"{wharf.url}/v2/library/demo/{path}"
        same(site.workspace.run("curl", *words, *trust, *accept, "--output", target, url).out, "2", "the version of HTTP")
        same(f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}", digest, f"what came of {path}")


def secured(site, authority):
    """A wharf that speaks TLS to known devices, in front of a registry that needs an account; and the line in between."""
    workspace = site.workspace
    htpasswd = workspace.path("hub-private", "htpasswd")
    site.write_htpasswd(htpasswd, USER, PASSWORD)
    hub = Upstream(workspace, "hub-private", storage=site.hub.storage, htpasswd=htpasswd)
    line = Line(hub.address)
    password = workspace.path("wharf-tls", "password")
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    renew(authority, password.parent)
    wharf = site.new_wharf(
        "wharf-tls",
        {"docker.io": [line.url]},
        scheme="https",
        host=LAN_ADDRESS,
        # What the line holds is waited for.
        upstream=f'username = "{USER}"\npassword_file = "password"\nidle_timeout = "5m"\n',
        more=(
            '\n[server.tls]\ncert = "server.crt"\nkey = "server.key"\n'
            f'client_ca = "{authority.cert}"\nclient_crl = "{authority.list()}"\nclient_auth = "required"\n'
        ),
    )
    return wharf, line


def renew(authority, directory, key=EC):
    """Puts a certificate that is new, and its key, where wharf reads them."""
    for source, name in zip(authority.issue("wharf", key), ("server.crt", "server.key")):
        # As an agent does that renews certificates: by rename, one after the other.
        fresh = directory / f"{name}.new"
        shutil.copy(source, fresh)
        fresh.chmod(0o600)
        fresh.rename(directory / name)


def until(changed, pull):
    """Pulls until the change is seen, and once more."""
    last = False
    while not last:
        last = changed.is_set()
        pull()


def serial(wharf):
    """The certificate that wharf shows now."""
    host, port = wharf.address.split(":")
    return ssl.get_server_certificate((host, int(port)))


def shows(authority, identity):
    """What a client trusts, and the certificate that it shows, if any."""
    context = ssl.create_default_context(cafile=authority.cert)
    if identity:
        context.load_cert_chain(*identity)
    return context


def is_served(wharf, authority, identity):
    try:
        return ask(wharf.address, "/v2/", tls=shows(authority, identity)).status == 200
    except (OSError, EOFError):
        return False


def no_secret(site, wharf):
    """Nothing that wharf says holds the password, in whatever form it is sent."""
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    paths = ("/metrics", "/readyz", "/", "/api/v1/status", "/api/v1/images", "/api/v1/clients", "/api/v1/mismatches")
    said = {path: ask(wharf.admin, path).body.decode(errors="replace") for path in paths}
    said["config show"] = site.workspace.run(site.binary, "config", "show", "--config", wharf.config).out
    said |= {path.name: read(path) for path in site.workspace.path("log", "x").parent.iterdir()}
    for where, text in said.items():
        for secret in (PASSWORD, encoded, "PRIVATE KEY"):
            expect(secret not in text, f"{where} tells a secret")
    expect("library/demo" in read(wharf.service.err), "the log tells nothing at all")
