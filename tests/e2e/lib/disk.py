"""A small file system of its own, which can be filled."""

import os
import subprocess

from .procs import Failed

MIB = 1 << 20


class Disk:
    """An ext4 in a file below the workspace, mounted on `point` until `close`. To be used in a `with`."""

    def __init__(self, workspace, name, mebibytes):
        self.image = workspace.path(name, "disk.img")
        self.point = workspace.make_dir(name, "disk")
        self.ballast = self.point / "ballast"
        with open(self.image, "wb") as image:
            image.truncate(mebibytes * MIB)
        # Nothing is set aside for root, who runs all this.
        _run("mkfs.ext4", "-q", "-m", "0", self.image)
        # The loop device goes with the mount.
        _run("mount", "--no-mtab", "-o", "loop", self.image, self.point)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fill(self):
        """Takes all the room there is, to the last block."""
        with open(self.ballast, "ab", buffering=0) as ballast:
            for size in (MIB, 64 << 10, 4 << 10):
                try:
                    while True:
                        ballast.write(bytes(size))
                        os.fsync(ballast.fileno())
                except OSError:
                    continue
        if self.free() > 64 << 10:
            raise Failed(f"{self.free()} bytes are free on a file system that was filled")

    def clear(self):
        """Gives the room back."""
        self.ballast.unlink()

    def free(self):
        """Bytes that are free."""
        stat = os.statvfs(self.point)
        return stat.f_bavail * stat.f_frsize

    def close(self):
        """Unmounts it, also when somebody still has a file of it open: it is gone with the last of them."""
        _run("umount", "--no-mtab", "--lazy", self.point)
        self.image.unlink()


def _run(*command):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30, check=False)
    if result.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stderr}")
