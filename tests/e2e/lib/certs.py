"""A site's own certificate authority, by OpenSSL."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from .procs import LAN_ADDRESS

# Kinds of keys.
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


class Authority:
    """Issues certificates for wharf and for devices."""

    def __init__(self, workspace, name):
        self.workspace = workspace
        self.dir = workspace.make_dir(name)
        self.cert = self.dir / "ca.crt"
        self._new("ca", EC, "-x509", "-subj", f"/CN={name}", "-days", "30", "-out", self.cert)

    def issue(self, name, key=EC):
        """A certificate for `name` and the addresses of this machine, and its key: `(certificate, key)`."""
        signed_by = ("-CA", self.cert, "-CAkey", self.dir / "ca.key", "-days", "30")
        names = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName=IP:127.0.0.1,IP:{LAN_ADDRESS}")
        cert = self.dir / f"{name}.crt"
        self._new(name, key, "-x509", *signed_by, "-subj", f"/CN={name}", *names, "-out", cert)
        return cert, self.dir / f"{name}.key"

    def list(self, *revoked):
        """The path of its list of the certificates it has taken back, with these added."""
        config, kept = self.dir / "ca.conf", self.dir / "index.txt"
        if not config.exists():
            kept.touch()
            (self.dir / "number").write_text("01\n")
            config.write_text(
                "[ca]\ndefault_ca = site\n[site]\ndefault_md = sha256\ndefault_crl_days = 30\n"
                f"database = {kept}\ncrlnumber = {self.dir / 'number'}\n"
            )
        words = ("openssl", "ca", "-config", config, "-cert", self.cert, "-keyfile", self.dir / "ca.key")
        for cert in revoked:
            self.workspace.run(*words, "-revoke", cert)
        path = self.dir / "ca.crl"
        self.workspace.run(*words, "-gencrl", "-out", path)
        return path

    def _new(self, name, key, *words):
        path = self.dir / f"{name}.key"
        self.workspace.run("openssl", "req", *key, "-nodes", "-keyout", path, *words)
        self.workspace.planted.add_key(path)


@contextmanager
def docker_trusts(address, authority, device=None):
    """Where Docker Engine looks for a registry's certificates, which no flag changes. `device`: what it is to show."""
    directory = Path("/etc/docker/certs.d") / address
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True)
    try:
        for source, name in zip((authority.cert, *(device or ())), ("ca.crt", "client.cert", "client.key")):
            shutil.copy(source, directory / name)
        yield
    finally:
        shutil.rmtree(directory)
        for path in made[1:]:
            path.rmdir()
