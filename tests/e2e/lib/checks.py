"""What stories assert, each failure a sentence that says what was seen."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

from .clients import PROGRAMS
from .procs import Failed

# Directories outside the workspace that the clients have no option for. Only what is listed here, was not there
# before the run, and (a directory) is empty after it, is removed.
HOST_FILES = (
    "/etc/cni/net.d/cni.lock",
    "/var/cache/containers/short-name-aliases.conf.lock",
    "/var/lib/containers/cache/blob-info-cache-v1.boltdb",
)
HOST_DIRECTORIES = (
    "/etc/cni/net.d",
    "/etc/cni",
    "/run/containerd/fifo",
    "/run/containerd/runc/default",
    "/run/containerd/runc",
    "/run/containerd/s",
    "/run/containerd",
    "/run/crun",
    "/run/docker/plugins",
    "/run/docker",
    "/var/cache/containers",
    "/var/lib/containers/cache",
    "/var/lib/containers",
)


def expect(condition, message):
    """Fails with the message unless the condition holds."""
    if not condition:
        raise Failed(message)


def same(seen, wanted, what):
    """Fails unless both are equal."""
    if seen != wanted:
        raise Failed(f"{what}: saw {seen!r}, wanted {wanted!r}")


def missing_programs():
    """`program (Debian package)` for each program that is not on the path."""
    return [f"{program} ({package})" for program, package in PROGRAMS.items() if not shutil.which(program)]


def crossed_once(*upstreams):
    """The main promise: of each digest the upstreams sent the bytes at most once, and only to wharf.

    Gives the digests that were sent.
    """
    times, sizes, known = Counter(), Counter(), {}
    for upstream in upstreams:
        agents = {request.agent for request in upstream.requests() if not request.agent.startswith("wharf/")}
        expect(not agents, f"{upstream.name} was asked by others than wharf: {sorted(agents)}")
        for image in upstream.images.values():
            known.update(image.sizes)
        seen, sent = upstream.fetched()
        times += seen
        sizes += sent
    twice = {digest: number for digest, number in times.items() if number > 1}
    expect(not twice, f"fetched from the upstream more than once: {twice}\n{listing(*upstreams)}")
    wrong = {digest: (size, known.get(digest)) for digest, size in sizes.items() if size != known.get(digest)}
    expect(not wrong, f"bytes sent by the upstream and bytes of the content differ: {wrong}")
    return set(times)


def fetched_exactly(upstream, digests):
    """What crossed is what the clients needed: nothing twice, nothing missing, nothing of another platform."""
    seen = crossed_once(upstream)
    expect(not digests - seen, f"never fetched: {sorted(digests - seen)}\n{listing(upstream)}")
    expect(not seen - digests, f"fetched though nobody asked: {sorted(seen - digests)}\n{listing(upstream)}")


def listing(*upstreams):
    """What the upstreams were asked, for a failure's text."""
    return "\n".join(
        f"{upstream.name}: {request.method} {request.path} {request.status} {request.size}"
        for upstream in upstreams
        for request in upstream.requests()
    )


class Machine:
    """What the machine looked like before the run, to be compared with after."""

    def __init__(self, workspace):
        # Our engines put their control groups below one of this name.
        self.group = workspace.dir.name
        self.interfaces = interfaces()
        self.namespaces = namespaces()
        self.absent = {path for path in (*HOST_FILES, *HOST_DIRECTORIES) if not Path(path).exists()}

    def tidy(self):
        """Takes away what the clients put outside the workspace."""
        for path in HOST_FILES:
            if path in self.absent:
                Path(path).unlink(missing_ok=True)
        for path in HOST_DIRECTORIES:
            if path in self.absent and Path(path).is_dir() and not any(Path(path).iterdir()):
                Path(path).rmdir()
        # A cgroup is removed by rmdir, the innermost first; one with a process in it stays and shows in `leftovers`.
        for path in control_groups(self.group):
            try:
                path.rmdir()
            except OSError:
                continue

    def leftovers(self):
        """Sentences, one for each thing that was not there before."""
        found = [f"network interface {name}" for name in sorted(interfaces() - self.interfaces)]
        found += [f"network namespace {name}" for name in sorted(namespaces() - self.namespaces)]
        found += [f"control group {path}" for path in control_groups(self.group)]
        found += [f"{path} on the machine itself" for path in sorted(self.absent) if Path(path).exists()]
        return found


def interfaces():
    return {path.name for path in Path("/sys/class/net").iterdir()}


def namespaces():
    """Named network namespaces, as `ip netns` knows them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=20, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if line}


def control_groups(name):
    """The control groups of that name in every hierarchy, and those below them, the innermost first."""
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", f"*/{name}*"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return [Path(line) for line in found.stdout.splitlines()]
