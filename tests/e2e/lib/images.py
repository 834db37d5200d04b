"""The images of the stories: Debian's static busybox of three architectures, and a layer of noise beside it."""

import os
import random
import subprocess
import tempfile
from pathlib import Path

from .procs import Failed

# Debian's name of the architecture -> (OCI architecture, variant).
ARCHITECTURES = {"amd64": ("amd64", None), "arm64": ("arm64", None), "armhf": ("arm", "v7")}
NOISE_BYTES = 3 << 20
ATTEMPTS = 3


class Builder:
    """buildah with a store of its own; what it builds is pushed and the store goes with the workspace."""

    def __init__(self, workspace, cache):
        self.workspace = workspace
        self.busybox = busybox(workspace, cache)
        self.bases = {arch: self._base(arch) for arch in self.busybox}

    def push_list(self, upstream, repository, architectures, formats=("v2s2",)):
        """Builds one image per architecture and pushes them under one list, once per format.

        The first format keeps the repository's name; `oci` beside it gets the suffix `-oci`.
        """
        name = repository.replace("/", "-")
        self._buildah("manifest", "create", name)
        for arch in architectures:
            self._buildah("manifest", "add", name, self._image(repository, arch))
        for form in formats:
            target = repository if form == formats[0] else f"{repository}-{form}"
            destination = f"docker://{upstream.address}/{target}:latest"
            self._buildah("manifest", "push", "--all", "--format", form, "--tls-verify=false", name, destination)
            upstream.read_image(target, "latest")

    def push_single(self, upstream, repository, arch="amd64"):
        """Pushes an image that is no list. Its busybox layer is that of the lists."""
        destination = f"docker://{upstream.address}/{repository}:latest"
        self._buildah("push", "--tls-verify=false", self._image(repository, arch), destination)
        upstream.read_image(repository, "latest", "/".join(filter(None, ("linux", *ARCHITECTURES[arch]))))

    def _base(self, arch):
        container = self._buildah("from", "scratch").out.strip()
        self._buildah("copy", container, self.busybox[arch], "/bin/busybox")
        self._config(container, arch, "--cmd", '["/bin/busybox", "uname", "-m"]')
        return self._commit(container, f"base-{arch}")

    def _image(self, repository, arch):
        """The base and a second layer that no other repository or architecture has, the same in each run."""
        noise = self.workspace.path("build", f"{repository.replace('/', '-')}-{arch}")
        noise.write_bytes(random.Random(f"{repository} {arch}").randbytes(NOISE_BYTES))
        container = self._buildah("from", "--pull-never", self.bases[arch]).out.strip()
        self._buildah("copy", container, noise, "/srv/noise")
        self._config(container, arch)
        return self._commit(container, noise.name)

    def _config(self, container, arch, *more):
        architecture, variant = ARCHITECTURES[arch]
        flags = ["--variant", variant] if variant else []
        self._buildah("config", "--os", "linux", "--arch", architecture, *flags, *more, container)

    def _commit(self, container, name):
        self._buildah("commit", "--format", "docker", "--rm", container, f"localhost/{name}")
        return f"localhost/{name}"

    def _buildah(self, *words):
        store = self.workspace.path("build", "store")
        return self.workspace.run(
            *("buildah", "--root", store, "--runroot", f"{store}-run", "--storage-driver", "vfs"),
            *words,
            env=self.workspace.env(BUILDAH_ISOLATION="chroot"),
        )


def busybox(workspace, cache):
    """Paths of the binaries by Debian architecture, fetched with apt into `cache` if they are not there yet.

    apt works on package lists of its own: the machine's foreign architectures and lists stay as they are.
    """
    paths = {arch: cache / f"busybox-{arch}" for arch in ARCHITECTURES}
    missing = [arch for arch, path in paths.items() if not path.exists()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=workspace.dir) as scratch:
            _download(missing, Path(scratch))
            for arch in missing:
                (package,) = Path(scratch).glob(f"busybox-static_*_{arch}.deb")
                _run(["dpkg-deb", "-x", package, f"{scratch}/{arch}"], scratch)
                # By rename: a run that is broken off leaves no half binary for the next one.
                partial = cache / f".{arch}.{os.getpid()}"
                partial.write_bytes(Path(scratch, arch, "bin/busybox").read_bytes())
                partial.chmod(0o755)
                partial.rename(paths[arch])
    return paths


def _download(architectures, scratch):
    for part in ("lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    (scratch / "status").touch()
    names = " ".join(f'"{arch}";' for arch in ARCHITECTURES)
    (scratch / "apt.conf").write_text(
        f'APT::Architectures {{ {names} }};\nDir::State "{scratch}";\nDir::State::status "{scratch}/status";\n'
        f'Dir::Cache "{scratch}/cache";\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\n'
    )
    packages = [f"busybox-static:{arch}" for arch in architectures]
    for attempt in range(1, ATTEMPTS + 1):
        # A mirror in the middle of its own update makes one list fail and `update` with it; what counts is
        # whether the packages can be had.
        _run(["apt-get", "-q", "update"], scratch, check=False)
        result = _run(["apt-get", "-q", "download", *packages], scratch, check=attempt == ATTEMPTS)
        if result.returncode == 0:
            return


def _run(command, scratch, check=True):
    """apt and dpkg keep the caller's environment: only that knows the way to a mirror."""
    env = os.environ | {"APT_CONFIG": f"{scratch}/apt.conf", "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True, timeout=180, check=False)
    if check and result.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stderr[-3000:]}")
    return result
