"""One HTTP request, and the listener that takes everything that tries to leave this machine."""

import http.client
import re
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from .procs import LAN_ADDRESS

# Clients name what they can read; without the list types a registry may answer with a single platform's manifest.
MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
AGENT = "wharf-e2e"


@dataclass
class Answer:
    """Status, headers (names case-insensitive, as `http.client` gives them) and the whole body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(address, path, method="GET", headers=None, timeout=20, agent=AGENT, accept=MANIFEST_TYPES, tls=None):
    """Sends one request to `host:port`, over TLS if a context for it is given, and reads the answer to its end."""
    if tls:
        connection = http.client.HTTPSConnection(address, timeout=timeout, context=tls)
    else:
        connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("User-Agent", agent)
        for media_type in accept:
            connection.putheader("Accept", media_type)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def answers(address, path, status=200):
    """Whether a GET of the path is answered so, within a second."""
    try:
        return ask(address, path, timeout=1).status == status
    except OSError:
        return False


class Half:
    """A GET over TLS whose answer is read in two parts."""

    def __init__(self, address, path, tls, size):
        """Reads the head and the first `size` bytes of the body."""
        self._connection = http.client.HTTPSConnection(address, timeout=60, context=tls)
        try:
            self._connection.request("GET", path, headers={"User-Agent": AGENT})
            self.client = "{}:{}".format(*self._connection.sock.getsockname())
            self.cert = ssl.DER_cert_to_PEM_cert(self._connection.sock.getpeercert(binary_form=True))
            self._response = self._connection.getresponse()
            self.status = self._response.status
            self.body = self._response.read(size)
        except BaseException:
            self.close()
            raise

    def finish(self):
        """Reads the rest; gives the whole body."""
        self.body += self._response.read()
        self.close()
        return self.body

    def close(self):
        self._connection.close()


def received(pid, address):
    """The open connections of a process to `host:port`: `{its own host:port: bytes received}`."""
    words = ("ss", "--no-header", "--oneline", "--tcp", "--numeric", "--processes", "--info", "state", "established")
    listed = subprocess.run([*words, "dst", address], capture_output=True, text=True, timeout=20, check=True).stdout
    lines = (line for line in listed.splitlines() if f"pid={pid}," in line)
    # Without a state in front: two queues, then both ends.
    return {line.split()[2]: sum(map(int, re.findall(r" bytes_received:(\d+)", line))) for line in lines}


@contextmanager
def lan_address(workspace):
    """An address that is not one of 127.0.0.0/8, on the loopback interface all the same."""
    workspace.run("ip", "address", "add", f"{LAN_ADDRESS}/32", "dev", "lo")
    try:
        yield
    finally:
        workspace.run("ip", "address", "del", f"{LAN_ADDRESS}/32", "dev", "lo")


class Tripwire:
    """A proxy that refuses everything and remembers what it was asked for.

    All clients are told to go through it to any host but 127.0.0.1, so a fall-back to a public registry shows here
    and ends at once, on a machine with an uplink as on one without.
    """

    def __init__(self):
        self.asked = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def take(self):
        """What was asked for since the last call, as request lines."""
        asked, self.asked = self.asked, []
        return asked

    def close(self):
        # `accept` is not woken by `close`, but by `shutdown`.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.settimeout(2)
                    self.asked.append(connection.recv(4096).split(b"\r\n")[0].decode(errors="replace"))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    self.asked.append("a connection that broke")
