"""A slow uplink: a relay on 127.0.0.1 that lets through so many bytes a second."""

import socket
import threading
import time

from .procs import Failed

PIECE = 16 << 10
SECONDS = 30


class Line:
    """Relays connections to `address`; what comes back shares one rate and is counted."""

    def __init__(self, address, bytes_per_second):
        host, port = address.split(":")
        self.target = (host, int(port))
        self.rate = bytes_per_second
        self.received = 0
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self._open = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        """Ends it and every connection."""
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
        try:
            while piece := source.recv(PIECE):
                if paced:
                    self._wait_for(len(piece))
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            _hang_up(source)
            _hang_up(sink)
            with self._lock:
                self._open -= {source, sink}

    def _wait_for(self, size):
        with self._lock:
            self.received += size
            now = time.monotonic()
            self._next = max(self._next, now) + size / self.rate
            wait = self._next - now
        time.sleep(wait)


def _hang_up(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
