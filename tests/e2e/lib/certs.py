"""A site's own certificate authority, by OpenSSL."""

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

    def _new(self, name, key, *words):
        self.workspace.run("openssl", "req", *key, "-nodes", "-keyout", self.dir / f"{name}.key", *words)
