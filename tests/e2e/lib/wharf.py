"""wharf itself: one process over a directory, its configuration, its log and its metrics."""

import json

from .net import ask
from .procs import Failed, free_port, read, wait_until


# All that is answered to a GET at the admin address; images and blobs are such as are kept nowhere.
ANSWERS = (
    *("/", "/livez", "/readyz", "/metrics", "/nowhere"),
    *(f"/api/v1/{name}" for name in ("images", "clients", "mismatches", "status", "blobs", "nowhere")),
    *(f"/api/v1/{name}?image=nowhere.invalid/nothing" for name in ("inspect", "explain", "matching")),
    f"/api/v1/blob?digest=sha256:{'0' * 64}",
)


class Wharf:
    """`wharf serve` in front of upstreams: `{registry: [endpoint URL, …]}`.

    `cache` is put into its configuration's [cache], `upstream` into each [[upstream]], `more` at its end; `directory` is a cache
    directory elsewhere.
    """

    def __init__(
        self,
        workspace,
        binary,
        name,
        upstreams,
        tag_ttl="1m",
        cache="",
        upstream="",
        more="",
        directory=None,
        scheme="http",
        host="127.0.0.1",
    ):
        self.workspace = workspace
        self.binary = binary
        self.name = name
        self.dir = directory or workspace.path(name, "cache")
        self.address = f"{host}:{free_port()}"
        self.admin = f"127.0.0.1:{free_port()}"
        self.url = f"{scheme}://{self.address}"
        self.config = workspace.path(name, "wharf.toml")
        text = config_text(self.address, self.admin, self.dir, upstreams, tag_ttl, cache, upstream)
        self.config.write_text(text + more)
        self.answers = workspace.path("log", f"{name}.answers")
        self.service = None
        self.start()

    def start(self):
        """Starts it, on the same addresses and directory as before, and waits until it says that it is ready."""
        words = ("serve", "--config", self.config, "--listen", self.address, "--dir", self.dir)
        self.service = self.workspace.start(self.name, self.binary, *words, "--log-format", "json")
        self.service.wait_until(self.is_ready)

    def is_ready(self):
        words = (self.binary, "healthcheck", "--admin", self.admin)
        return self.workspace.run(*words, timeout=20, check=False).code == 0

    def stop(self):
        """SIGTERM; fails unless wharf ends by itself, within its time, with exit code 0."""
        self.keep_answers()
        code = self.service.stop(seconds=40)
        if code != 0:
            raise Failed(f"after SIGTERM {self.name} ended with {code}, not 0 (None: it had to be killed)")

    def kill(self):
        """SIGKILL: what a power cut leaves, as far as the program goes."""
        self.service.child.kill()
        self.service.child.wait(30)

    def keep_answers(self):
        """Keeps among the logs what the admin address says; of one that is dead, nothing."""
        if not self.service.alive():
            return
        urls = [f"http://{self.admin}{path}" for path in ANSWERS]
        words = ("--silent", "--show-error", "--noproxy", "*", "--include", "--max-time", "10")
        said = self.workspace.run("curl", *words, "--write-out", r"\n%{url}\n\n", *urls, check=False)
        self.workspace.keep(self.answers.name, said.out)

    def command(self, name, *words, **more):
        """Another command of the program, over the same directory."""
        return self.workspace.run(self.binary, name, "--config", self.config, *words, **more)

    def ls(self):
        """What `wharf ls` lists: name -> {platform: whether it is whole}."""
        images = json.loads(self.command("ls", "--json").out)
        return {image["name"]: {one["platform"]: one["whole"] for one in image["platforms"]} for image in images}

    def blobs(self):
        """The digests of the blobs in the cache directory."""
        return {f"sha256:{path.name}" for path in (self.dir / "blobs/sha256").iterdir()}

    def quiet(self):
        """Waits until nothing is being downloaded: a prefetch may go on when its client has all that it asked for."""
        wait_until(lambda: "\nwharf_downloads_in_flight 0\n" in self.metrics(), f"{self.name} still downloads")

    def ask(self, path, **more):
        return ask(self.address, path, **more)

    def ready(self):
        """What /readyz says, whatever its status."""
        return ask(self.admin, "/readyz").body.decode().strip()

    def metrics(self):
        return ask(self.admin, "/metrics").body.decode()

    def log(self):
        """The log's records, in order; every line must be a JSON object."""
        records = []
        for line in read(self.service.err).splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                raise Failed(f"{self.name} was told to log JSON and wrote {line!r}") from None
            records.append(record)
        return records


def config_text(listen, admin, directory, upstreams, tag_ttl, cache="", upstream=""):
    """A configuration file with these upstreams and everything else as shipped."""
    quoted = json.dumps
    text = (
        f"[server]\nlisten = [{quoted(listen)}]\n\n[admin]\nlisten = {quoted(admin)}\n\n"
        f"[cache]\ndir = {quoted(str(directory))}\ntag_ttl = {quoted(tag_ttl)}\nserve_stale = true\n{cache}"
    )
    for registry, endpoints in upstreams.items():
        text += f"\n[[upstream]]\nregistry = {quoted(registry)}\nendpoints = {quoted(endpoints)}\n{upstream}"
    return text
