"""A site's own certificate authority, by OpenSSL."""

from .procs import LAN_ADDRESS


class Authority:
    """Issues certificates for wharf and for devices."""

    def __init__(self, workspace, name):
        self.workspace = workspace
        self.dir = workspace.make_dir(name)
        self.cert = self.dir / "ca.crt"
        self._new("ca", "-x509", "-subj", f"/CN={name}", "-days", "30", "-out", self.cert)

    def issue(self, name, *more):
        """A certificate for `name` and the addresses of this machine, and its key: `(certificate, key)`."""
        signed_by = ("-CA", self.cert, "-CAkey", self.dir / "ca.key", "-days", "30")
        names = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName=IP:127.0.0.1,IP:{LAN_ADDRESS}")
        cert = self.dir / f"{name}.crt"
        self._new(name, "-x509", *signed_by, "-subj", f"/CN={name}", *names, *more, "-out", cert)
        return cert, self.dir / f"{name}.key"

    def _new(self, name, *words):
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.dir / f"{name}.key")
        self.workspace.run("openssl", "req", *curve, *words)
