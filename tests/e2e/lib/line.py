"""Slow uplinks: a relay on 127.0.0.1 that lets through so many bytes a second, and a link that can be taken down."""

import re
import socket
import subprocess
import threading
import time

from .procs import Failed

PIECE = 16 << 10
SECONDS = 30
# How long what comes back is held at the most.
HELD_SECONDS = 180
AUTHORIZATION = re.compile(rb"^authorization: (\S+) (\S+)\r$", re.IGNORECASE | re.MULTILINE)


class Line:
    """Relays connections to `address`; what comes back shares one rate, is counted, and may be held."""

    def __init__(self, address, bytes_per_second=1 << 30):
        host, port = address.split(":")
        self.target = (host, int(port))
        self.rate = bytes_per_second
        self.received = 0
        # What was sent there, by connection.
        self.sent = []
        # Connections that are held now.
        self.held = 0
        self._limit = None
        self._since = {}
        self._go_on = threading.Event()
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self._open = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def authorizations(self):
        """`(scheme, credentials)` of each request that had any; of HTTP/1.1 without TLS."""
        with self._lock:
            sent = [bytes(one) for one in self.sent]
        return [(scheme.decode(), word.decode()) for one in sent for scheme, word in AUTHORIZATION.findall(one)]

    def hold_after(self, size):
        """From now on no connection brings more bytes than that, until `release`."""
        with self._lock:
            self._limit = size
            self._since.clear()
            self._go_on.clear()

    def release(self):
        with self._lock:
            self._limit = None
            self._go_on.set()

    def close(self):
        """Ends it and every connection."""
        self.release()
        # Closing alone wakes nobody who accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                _hang_up(one)
        self._thread.join(SECONDS)
        if self._thread.is_alive():
            raise Failed("the slow line does not end")

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=SECONDS)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for source, sink, paced in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._relay, args=(source, sink, paced), daemon=True).start()

    def _relay(self, source, sink, paced):
        sent = bytearray()
        if not paced:
            with self._lock:
                self.sent.append(sent)
        try:
            while piece := source.recv(PIECE):
                if paced:
                    self._wait_for(len(piece))
                    self._hold(source, len(piece))
                else:
                    with self._lock:
                        sent += piece
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            _hang_up(source)
            _hang_up(sink)
            with self._lock:
                self._open -= {source, sink}
                self._since.pop(source, None)

    def _wait_for(self, size):
        with self._lock:
            self.received += size
            now = time.monotonic()
            self._next = max(self._next, now) + size / self.rate
            wait = self._next - now
        time.sleep(wait)

    def _hold(self, source, size):
        """Waits while this connection has brought all that it may."""
        with self._lock:
            self._since[source] = self._since.get(source, 0) + size
            if self._limit is None or self._since[source] <= self._limit:
                return
            self.held += 1
        self._go_on.wait(HELD_SECONDS)
        with self._lock:
            self.held -= 1


def _hang_up(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Link:
    """A network namespace behind a pair of interfaces, with a rate for what comes from there. Packets are lost while it is down."""

    def __init__(self, name, rate):
        self.name = name
        self.near, self.far = "10.231.77.1", "10.231.77.2"
        _ip("netns", "add", name)
        try:
            _ip("link", "add", f"{name}-n", "type", "veth", "peer", "name", f"{name}-f")
            _ip("link", "set", f"{name}-f", "netns", name)
            _ip("addr", "add", f"{self.near}/30", "dev", f"{name}-n")
            _ip("link", "set", f"{name}-n", "up")
            _ip("-n", name, "addr", "add", f"{self.far}/30", "dev", f"{name}-f")
            _ip("-n", name, "link", "set", f"{name}-f", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            shape = ("tc", "-n", name, "qdisc", "add", "dev", f"{name}-f", "root", "tbf", "rate", rate)
            subprocess.run([*shape, "burst", "64kb", "latency", "400ms"], check=True, timeout=SECONDS)
        except BaseException:
            self.close()
            raise

    def down(self):
        _ip("-n", self.name, "link", "set", f"{self.name}-f", "down")

    def up(self):
        _ip("-n", self.name, "link", "set", f"{self.name}-f", "up")

    def close(self):
        subprocess.run(["ip", "link", "del", f"{self.name}-n"], check=False, timeout=SECONDS)
        _ip("netns", "del", self.name)


def _ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=SECONDS)
