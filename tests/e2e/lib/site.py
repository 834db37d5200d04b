"""What the stories share: the upstreams and their images, and one wharf in front of them that all clients use."""

import crypt
import re
import subprocess
from functools import cached_property

from .checks import Machine, expect
from .clients import Containerd, Dockerd, Libcontainers
from .images import Builder
from .net import Tripwire
from .procs import Workspace, read
from .registry import Upstream
from .tokens import TokenService
from .wharf import Wharf

# Rust's, and Go's.
PANIC = re.compile(r"panicked at|^panic: |^fatal error: |^goroutine \d+ \[running\]", re.MULTILINE)
LIST = ("amd64", "arm64", "armhf")


class Site:
    """Everything below is started when a story first asks for it, and stays until `close`."""

    def __init__(self, binary, cache):
        self.binary = binary
        self.cache = cache
        self.workspace = Workspace()
        self.workspace.binary = binary
        self.machine = Machine(self.workspace)
        self.tripwire = Tripwire()
        self.workspace.proxy = self.tripwire.url
        self.wharfs = []
        self.token_services = []
        self.engines = 0
        # The names of all stories, and of those that this run has told so far without a failure.
        self.stories, self.passed = [], []
        self.closed = False

    @cached_property
    def builder(self):
        return Builder(self.workspace, self.cache)

    @cached_property
    def hub(self):
        """Stands for docker.io."""
        upstream = Upstream(self.workspace, "hub")
        self.builder.push_list(upstream, "library/demo", LIST, formats=("v2s2", "oci"))
        self.builder.push_single(upstream, "library/single")
        self.builder.push_single(upstream, "library/arm-only", "arm64")
        # Published under a name per architecture.
        self.builder.push_single(upstream, "user/test")
        self.builder.push_single(upstream, "user/arm64v8-test", "arm64")
        upstream.forget()
        return upstream

    @cached_property
    def other(self):
        """Stands for registry.test. Its image has the busybox layers of docker.io's and layers of its own."""
        upstream = Upstream(self.workspace, "other")
        self.builder.push_list(upstream, "team/app", LIST[:2])
        upstream.forget()
        return upstream

    @cached_property
    def wharf(self):
        """The one that all clients of the stories with an uplink share."""
        return self.new_wharf("wharf", {"docker.io": [self.hub.url], "registry.test": [self.other.url]})

    @cached_property
    def containerd(self):
        return Containerd(
            self.workspace, "ctrd", mirrors={"docker.io": self.wharf.url, "registry.test": self.wharf.url}
        )

    @cached_property
    def pod(self):
        """podman and its kin, sent through wharf by a path prefix per registry."""
        return Libcontainers(
            self.workspace,
            {registry: f"{self.wharf.address}/{registry}" for registry in ("docker.io", "registry.test")},
        )

    def new_hub(self, name):
        """Another registry process over docker.io's images, with an access log of its own."""
        upstream = Upstream(self.workspace, name, storage=self.hub.storage)
        upstream.images = self.hub.images
        upstream.forget()
        return upstream

    def new_wharf(self, name, upstreams, **settings):
        wharf = Wharf(self.workspace, self.binary, name, upstreams, **settings)
        self.wharfs.append(wharf)
        return wharf

    def new_token_service(self, name, accounts):
        """Gives tokens to those who have one of these accounts: `{user: password}`. All of it is planted."""
        self.plant(*accounts.values())
        service = TokenService(self.workspace, name, accounts)
        self.token_services.append(service)
        return service

    def new_engine(self, wharf, daemon_json=None):
        """A dockerd with an empty store."""
        self.engines += 1
        return Dockerd(self.workspace, f"dockerd{self.engines}", wharf.url, daemon_json)

    def new_pod(self, name, registries_conf):
        """podman and its kin with an empty store, and this text in their registries.conf."""
        return Libcontainers(self.workspace, {}, name, text=registries_conf)

    def plant(self, *secrets):
        """Registers what must not be found in anything that is written."""
        for secret in secrets:
            self.workspace.planted.add(secret)

    def write_htpasswd(self, path, user, password, rounds=16):
        """A file that knows the user; the password and its hash are planted."""
        hashed = crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=rounds))
        self.plant(password, hashed)
        path.write_text(f"{user}:{hashed}\n")

    def logs(self):
        """The files of all that services and commands of wharf said so far, and of what its admin addresses answered."""
        return sorted(self.workspace.path("log").iterdir())

    def nobody_left(self):
        """No client tried to reach a registry other than through wharf."""
        asked = self.tripwire.take()
        expect(not asked, f"asked for outside of wharf: {asked}")

    @staticmethod
    def print_logs(services):
        """The ends of these services' logs. A service that was started again goes on in the same files."""
        for service in {service.name: service for service in services}.values():
            print(service.tail(), end="", flush=True)

    def close(self):
        """Ends and removes everything; gives what was not as it must be, as sentences. A second call does nothing."""
        if self.closed:
            return []
        self.closed = True
        problems = [f"{name} did not end by itself" for name in self.workspace.stop_services()]
        problems += [f"{wharf.name} ended with {code}" for wharf in self.wharfs if (code := wharf.service.stop()) != 0]
        for path in self.logs():
            problems += [f"a panic in {path.name}: {found.group()}" for found in PANIC.finditer(read(path))]
        for pid, command in self.workspace.processes():
            problems.append(f"process {pid} was still alive: {command}")
            subprocess.run(["kill", "-KILL", str(pid)], timeout=10, check=False)
        for service in self.token_services:
            service.close()
        self.tripwire.close()
        self.workspace.remove()
        self.machine.tidy()
        problems += [f"still mounted: {point}" for point in self.workspace.mounts()]
        problems += self.machine.leftovers()
        if self.workspace.dir.exists():
            problems.append(f"{self.workspace.dir} is still there")
        return problems
