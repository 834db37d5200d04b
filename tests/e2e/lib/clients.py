"""Container clients, each with a store, a state directory and a socket of its own below the workspace."""

import json

from .procs import Failed, read

PROGRAMS = {
    "curl": "curl",
    "openssl": "openssl",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "podman": "podman",
    "skopeo": "skopeo",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "mkfs.ext4": "e2fsprogs",
    "minisign": "minisign",
    "zstd": "zstd",
    "ip": "iproute2",
    "ss": "iproute2",
    "nsenter": "util-linux",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}


class Containerd:
    """containerd without its CRI half, which wants a network of its own."""

    def __init__(self, workspace, name, mirrors=None, tls=None):
        """`tls`: the path of the authority to trust, and those of the certificate and key to show, if any."""
        self.workspace = workspace
        self.name = name
        self.socket = workspace.path(name, "c.sock")
        ca, device = tls or (None, None)
        secured = f'  ca = "{ca}"\n' if ca else ""
        secured += f'  client = [["{device[0]}", "{device[1]}"]]\n' if device else ""
        self.hosts = workspace.make_dir(name, "hosts")
        for registry, url in (mirrors or {}).items():
            # The registry itself stays the last host in the list, as on a machine that can reach it.
            workspace.path(name, "hosts", registry, "hosts.toml").write_text(
                f'server = "https://{registry}"\n\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'
                + secured
            )
        config = workspace.path(name, "config.toml")
        config.write_text(
            f'version = 2\nroot = "{workspace.path(name, "root")}"\nstate = "{workspace.path(name, "state")}"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{self.socket}"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{workspace.path(name, "opt")}"\n'
        )
        self.service = workspace.start(name, "containerd", "--config", config)
        self.service.wait_until(lambda: self.ctr("version", check=False, timeout=10).code == 0)

    def ctr(self, *words, **more):
        return self.workspace.run("ctr", "--address", self.socket, *words, **more)

    def pull(self, image, *flags, hosts=None):
        """`hosts`: a directory of hosts.toml files other than its own."""
        # The native snapshotter copies: no overlay mount that a failure could leave behind.
        words = ("--hosts-dir", hosts or self.hosts, "--snapshotter", "native")
        return self.ctr("images", "pull", *words, *flags, image)

    def image_digest(self, image):
        for line in self.ctr("images", "list").out.splitlines():
            words = line.split()
            if words[0] == image:
                return words[2]
        raise Failed(f"containerd does not list {image}")

    def content(self):
        """The digests in its content store."""
        return set(self.ctr("content", "list", "--quiet").out.split())

    def stop(self):
        self.service.stop()


class Dockerd:
    """A Docker Engine that starts empty.

    It gets a containerd of ours, since it would otherwise use the machine's own when there is one. The `vfs`
    driver copies instead of mounting. All its paths must be absolute: with a relative data root 20.10 spins for ever.
    """

    def __init__(self, workspace, name, mirror, daemon_json=None):
        """`daemon_json`: the text of a daemon.json, which names the mirror if there is one, instead of a flag."""
        self.workspace = workspace
        self.name = name
        self.containerd = Containerd(workspace, f"{name}-c")
        self.socket = workspace.path(name, "d.sock")
        config = workspace.path(name, "daemon.json")
        keys = json.loads(daemon_json or "{}")
        config.write_text(json.dumps(keys | {"deprecated-key-path": str(workspace.path(name, "key.json"))}))
        mirrors = () if daemon_json else ("--registry-mirror", mirror)
        self.service = workspace.start(
            name,
            *("dockerd", "--debug", "--config-file", config, "--containerd", self.containerd.socket),
            *("--data-root", workspace.path(name, "data"), "--exec-root", workspace.path(name, "exec")),
            *("--pidfile", workspace.path(name, "pid"), "--host", f"unix://{self.socket}"),
            *(*mirrors, "--iptables=false", "--ip6tables=false", "--bridge=none"),
            *("--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--cgroup-parent", workspace.dir.name),
        )
        self.service.wait_until(lambda: self.docker("version", check=False, timeout=10).code == 0)

    def docker(self, *words, timeout=60, check=True):
        env = self.workspace.env(DOCKER_HOST=f"unix://{self.socket}")
        return self.workspace.run("docker", *words, timeout=timeout, check=check, env=env)

    def pull(self, image, *flags, **more):
        return self.docker("pull", *flags, image, **more)

    def uname(self, image):
        """What the image's busybox says of the machine it runs on."""
        run = ("run", "--rm", "--pull", "never", "--network", "none", image)
        return self.docker(*run, "/bin/busybox", "uname", "-m").out.strip()

    def inspect(self, image):
        return json.loads(self.docker("image", "inspect", image).out)[0]

    def endpoints_tried(self):
        """The hosts that pulls went to, from its debug log: `Trying to pull demo from http://… v2`."""
        words = (line.split(" from ", 1)[1] for line in read(self.service.err).splitlines() if "Trying to pull" in line)
        return {word.split()[0].rstrip("/") for word in words}

    def stop(self):
        """Ends the engine, then its containerd."""
        code = self.service.stop()
        self.containerd.stop()
        if code != 0:
            raise Failed(f"{self.name} ended with {code}\n{self.service.tail()}")


class Libcontainers:
    """podman, skopeo and buildah: the same library, one store for the three."""

    def __init__(self, workspace, mirrors, name="pod", insecure=True, text=""):
        """`text`: more of the registries.conf."""
        self.workspace = workspace
        self.store = workspace.path(name, "store")
        config = workspace.path(name, "registries.conf")
        text = f'unqualified-search-registries = []\nshort-name-mode = "disabled"\n{text}'
        for registry, location in mirrors.items():
            text += (
                f'\n[[registry]]\nlocation = "{registry}"\n'
                f'[[registry.mirror]]\nlocation = "{location}"\ninsecure = {str(insecure).lower()}\n'
            )
        config.write_text(text)
        policy = workspace.path("home", ".config/containers/policy.json")
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.env = workspace.env(CONTAINERS_REGISTRIES_CONF=config, BUILDAH_ISOLATION="chroot")

    def podman(self, *words, **more):
        flags = ("--tmpdir", f"{self.store}-tmp", "--cgroup-manager", "cgroupfs")
        return self._run("podman", *self._store(), *flags, *words, **more)

    def buildah(self, *words, **more):
        return self._run("buildah", *self._store(), *words, **more)

    def skopeo(self, *words, **more):
        return self._run("skopeo", *words, **more)

    def _store(self):
        return ("--root", self.store, "--runroot", f"{self.store}-run", "--storage-driver", "vfs")

    def _run(self, *command, **more):
        return self.workspace.run(*command, env=self.env, **more)
