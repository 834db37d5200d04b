"""Processes and the one directory they live in.

Nothing here waits without a deadline, and nothing is ended that this run did not start: every child carries
`WHARF_E2E_RUN=<directory>` in its environment, which daemons pass on to what they spawn, so that leftovers can
be told from the rest of the machine.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .planted import Planted

MARK = "WHARF_E2E_RUN"
# An address of documentation (RFC 5737) that a story gives to the loopback interface: Docker Engine looks for certificates
# of no registry on 127.0.0.0/8.
LAN_ADDRESS = "192.0.2.10"
POLL_SECONDS = 0.05


class Failed(Exception):
    """A story did not show what it must; the text is for a person."""


@dataclass
class Result:
    """How a command ended. `out` and `err` are text."""

    command: list
    code: int
    out: str
    err: str

    def __str__(self):
        return f"$ {' '.join(map(str, self.command))}\nexit code {self.code}\n{tail(self.out, 25)}{tail(self.err, 25)}"


class Workspace:
    """A temporary directory with a short path (unix socket paths end at 107 bytes) and the children's environment."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="we2e", dir="/tmp"))
        # Another user starts wharf from here in one story.
        self.dir.chmod(0o711)
        for name in ("home", "tmp", "xdg", "log"):
            (self.dir / name).mkdir(mode=0o700)
        # buildah looks for it where DOCKER_CONFIG points, and wants to find it.
        self.path("home/docker/config.json").write_text("{}")
        self.proxy = None
        # The program whose words are kept among the logs.
        self.binary = None
        self.services = []
        self.planted = Planted()

    def env(self, **more):
        """The whole environment of a child: nothing of the caller's but PATH.

        Every way out of this machine that a client honours leads to the tripwire, when there is one.
        """
        env = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(self.dir / "home"),
            "TMPDIR": str(self.dir / "tmp"),
            "XDG_RUNTIME_DIR": str(self.dir / "xdg"),
            "DOCKER_CONFIG": str(self.dir / "home/docker"),
            "LC_ALL": "C.UTF-8",
            MARK: str(self.dir),
        }
        if self.proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
                env[name] = self.proxy
            env["NO_PROXY"] = env["no_proxy"] = f"127.0.0.1,localhost,{LAN_ADDRESS}"
        return env | {name: str(value) for name, value in more.items()}

    def path(self, *parts):
        """A path below the directory, its parent made."""
        path = self.dir.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def make_dir(self, *parts):
        """A directory below the workspace's, made; `root` alone may look inside unless it is opened to others."""
        path = self.path(*parts)
        path.mkdir(mode=0o700)
        return path

    def run(self, *command, timeout=60, check=True, env=None, user=None):
        """Runs a command to its end; a command that overstays is killed with its whole session."""
        command = [str(word) for word in command]
        child = subprocess.Popen(
            command,
            env=env or self.env(),
            cwd=self.dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            result = Result(command, child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
            raise Failed(f"no end within {timeout} s\n{result}") from None
        result = Result(command, child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if str(self.binary) in command:
            self.keep("commands", f"$ {' '.join(command)}\n{result.out}{result.err}")
        if check and result.code != 0:
            raise Failed(str(result))
        return result

    def keep(self, name, text):
        """Adds to what is kept under this name among the logs."""
        with open(self.path("log", name), "a", encoding="utf-8") as kept:
            kept.write(text)

    def start(self, name, *command, env=None):
        """Starts a service that `stop_services` ends at the latest."""
        service = Service(self, name, [str(word) for word in command], env or self.env())
        self.services.append(service)
        return service

    def stop_services(self):
        """Ends what still runs, the youngest first. Gives what would not end by itself."""
        stubborn = []
        for service in reversed(self.services):
            if service.alive() and service.stop() is None:
                stubborn.append(service.name)
        return stubborn

    def processes(self):
        """What carries this run's mark and is alive, as (pid, command line); a zombie is not alive."""
        mark = f"{MARK}={self.dir}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(words):
                found.append((int(entry.name), b" ".join(words).decode(errors="replace").strip()))
        return found

    def mounts(self):
        """Mount points at or below the directory, the innermost first."""
        inside = []
        for line in Path("/proc/mounts").read_text().splitlines():
            point = line.split()[1].encode().decode("unicode_escape")
            if point == str(self.dir) or point.startswith(f"{self.dir}/"):
                inside.append(point)
        return sorted(inside, key=len, reverse=True)

    def remove(self):
        """Unmounts what is below the directory, and only that, and then deletes the directory."""
        for point in self.mounts():
            subprocess.run(["umount", "--no-mtab", "--lazy", point], timeout=20, check=False, capture_output=True)
        if not self.mounts():
            shutil.rmtree(self.dir, ignore_errors=True)


class Service:
    """A process that runs until it is told to end; its output goes to files in `log/`."""

    def __init__(self, workspace, name, command, env):
        self.name = name
        self.command = command
        self.out = workspace.path("log", f"{name}.out")
        self.err = workspace.path("log", f"{name}.err")
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.child = subprocess.Popen(
                command,
                env=env,
                cwd=workspace.dir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def alive(self):
        return self.child.poll() is None

    def wait_until(self, ready, seconds=30):
        """Waits until `ready()` is true; fails when the process ends before, or the time is over."""
        wait_until(lambda: not self.alive() or ready(), f"{self.name} is not ready", seconds)
        if not self.alive():
            raise Failed(f"{self.name} ended with {self.child.returncode}\n{self.tail()}")

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self, seconds=30):
        """SIGTERM, and the exit code; `None` when it had to be killed."""
        if self.alive():
            self.child.terminate()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(seconds)
            return None

    def tail(self, lines=30):
        return "".join(
            f"--- {self.name}: last lines of {kind}\n{tail(text, lines)}"
            for kind, text in (("stdout", read(self.out)), ("stderr", read(self.err)))
            if text
        )


def wait_until(ready, what, seconds=30):
    """Polls until `ready()` is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise Failed(f"{what} after {seconds} s")
        time.sleep(POLL_SECONDS)


_ports_given = set()


def free_port():
    """A port of 127.0.0.1 that nothing listens on.

    Taken from below the range that outgoing connections use, so that none of these takes it before its server does.
    """
    for port in random.sample(range(20000, 30000), 200):
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise Failed("no free port on 127.0.0.1 in 200 tries")


def read(path):
    """A log's text; a log that does not exist is empty."""
    try:
        return Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def tail(text, lines):
    """The last lines, each ended."""
    return "".join(f"{line[:400]}\n" for line in text.splitlines()[-lines:])
