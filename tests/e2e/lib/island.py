"""A place that no network reaches: a network namespace with a loopback interface and nothing else."""

import subprocess

SECONDS = 30


class Island:
    """A workspace for what is in there: the same as the one it is made from, but what it starts and runs is on the island.

    Entered by `nsenter`, not by `ip netns exec`: that lays a new /sys over the old one, and the engines lose their control
    groups.
    """

    def __init__(self, workspace, name):
        self._workspace = workspace
        self._name = name
        self._enter = ("nsenter", f"--net=/run/netns/{name}")
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def __getattr__(self, name):
        return getattr(self._workspace, name)

    def run(self, *command, **more):
        return self._workspace.run(*self._enter, *command, **more)

    def start(self, name, *command, **more):
        return self._workspace.start(name, *self._enter, *command, **more)

    def interfaces(self):
        """The names of its network interfaces."""
        listed = self.run("ip", "-o", "link").out
        return {line.split(": ")[1] for line in listed.splitlines()}

    def close(self):
        """After all that was started there has ended."""
        _ip("netns", "del", self._name)


def _ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=SECONDS)
