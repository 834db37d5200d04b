"""The upstream: Debian's docker-registry, whose access log is the evidence of what crossed the uplink."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field

from .net import AGENT, answers, ask
from .procs import Failed, free_port, read

# The Apache combined format that docker-registry writes to its standard output.
LINE = re.compile(r'^\S+ - - \[[^]]+\] "(\S+) (\S+) HTTP/[0-9.]+" (\d+) (\d+) "[^"]*" "([^"]*)"$')
TARGET = re.compile(r"^/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/?]+)(\?.*)?$")


@dataclass(frozen=True)
class Request:
    """One line of the access log. `size` is the body's length in bytes."""

    method: str
    path: str
    status: int
    size: int
    agent: str


@dataclass
class Image:
    """What a tag stands for at the upstream: the document's own bytes and, per platform, everything below it."""

    repository: str
    tag: str
    raw: bytes
    media_type: str
    digest: str
    # "linux/arm/v7" -> digests of [manifest, config, layers…]; an image of one platform has the one.
    platforms: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)

    def below(self, *platforms):
        """The digests that a client of these platforms (all, when none is named) needs, the tag's own included."""
        chosen = platforms or self.platforms
        return {self.digest}.union(*(self.platforms[platform] for platform in chosen))


class Upstream:
    """One docker-registry process over a directory; two may serve the same one."""

    def __init__(self, workspace, name, storage=None, htpasswd=None, link=None, tokens=None):
        """`htpasswd`: a file of accounts, `tokens`: a `TokenService`: without one of its accounts or tokens nothing is
        given. `link`: the `Link` behind which it runs.
        """
        self.workspace = workspace
        self.name = name
        self.storage = storage or workspace.path(name, "storage")
        self.link = link
        self.address = f"{link.far if link else '127.0.0.1'}:{free_port()}"
        self.url = f"http://{self.address}"
        self.service = None
        self.htpasswd = htpasswd
        self.tokens = tokens
        self.images = {}
        self._seen = 0
        self.start()

    def start(self):
        """Starts it on the same address as before."""
        config = self.workspace.path(self.name, "config.yml")
        # JSON is YAML. Without `level` every request fills stderr a second time.
        document = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.address, "secret": "of no use here"},
        }
        if self.htpasswd:
            document["auth"] = {"htpasswd": {"realm": "hub", "path": str(self.htpasswd)}}
        if self.tokens:
            document["auth"] = {"token": self.tokens.trust()}
        config.write_text(json.dumps(document))
        behind = ("ip", "netns", "exec", self.link.name) if self.link else ()
        self.service = self.workspace.start(self.name, *behind, "docker-registry", "serve", config)
        # Who has no account is told so there.
        self.service.wait_until(lambda: answers(self.address, "/v2/", 401 if self.htpasswd or self.tokens else 200))

    def stop(self):
        self.service.stop()

    def requests(self):
        """What was asked since `forget`, by anyone but these tests themselves."""
        lines = read(self.service.out).splitlines()[self._seen :]
        found = []
        for line in lines:
            match = LINE.match(line)
            if not match:
                raise Failed(f"{self.name} wrote an access log line that this parser does not know: {line!r}")
            request = Request(match[1], match[2], int(match[3]), int(match[4]), match[5])
            if request.agent != AGENT:
                found.append(request)
        return found

    def forget(self):
        """Starts the evidence anew: what was logged so far (the images' arrival, say) is not counted."""
        self._seen = len(read(self.service.out).splitlines())

    def fetched(self):
        """How often the content of each digest was sent, and the bytes sent: `(Counter, Counter)` by digest.

        A tag's GET counts for the digest that the tag stands for.
        """
        times, sizes = Counter(), Counter()
        for request in self.requests():
            target = TARGET.match(request.path)
            if request.method != "GET" or request.status not in (200, 206) or not target:
                continue
            digest = target["reference"]
            if not digest.startswith("sha256:"):
                digest = self.images[target["name"], digest].digest
            times[digest] += 1
            sizes[digest] += request.size
        return times, sizes

    def read_image(self, repository, tag, single="linux/amd64"):
        """Reads a tag and everything below it, straight from this registry, and remembers it.

        An image that is no list is for the platform `single`.
        """
        raw, media_type = self._manifest(repository, tag)
        image = Image(repository, tag, raw, media_type, digest_of(raw))
        image.sizes[image.digest] = len(raw)
        document = json.loads(raw)
        if "manifests" in document:
            for entry in document["manifests"]:
                platform = entry["platform"]
                words = (platform["os"], platform["architecture"], platform.get("variant"))
                child, _ = self._manifest(repository, entry["digest"])
                self._add(image, "/".join(filter(None, words)), child)
        else:
            self._add(image, single, raw)
        self.images[repository, tag] = image
        return image

    def _manifest(self, repository, reference):
        answer = ask(self.address, f"/v2/{repository}/manifests/{reference}")
        if answer.status != 200:
            raise Failed(f"{self.name} answers {answer.status} for {repository} {reference}: {answer.body!r}")
        return answer.body, answer.headers["Content-Type"]

    @staticmethod
    def _add(image, platform, raw):
        document = json.loads(raw)
        blobs = [document["config"], *document["layers"]]
        image.platforms[platform] = [digest_of(raw), *(blob["digest"] for blob in blobs)]
        image.sizes[digest_of(raw)] = len(raw)
        image.sizes.update((blob["digest"], blob["size"]) for blob in blobs)


def digest_of(data):
    """The digest as the OCI image-spec writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
