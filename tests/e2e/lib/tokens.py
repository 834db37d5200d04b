"""A token service as Docker Hub's: who has an account there gets signed tokens, which a registry takes instead."""

import base64
import json
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .certs import RSA, Authority

# Of a token.
SECONDS = 300


class TokenService:
    """Gives a token to each account that asks with its password, for the scope it asks for; plants every one.

    The token is a JWT in the form of the distribution project's "Token Authentication Specification".
    """

    def __init__(self, workspace, name, accounts):
        self.workspace = workspace
        self.name = name
        self.accounts = accounts
        self.authority = Authority(workspace, f"{name}-ca")
        cert, self._key = self.authority.issue(name, RSA)
        self._chain = [base64.b64encode(ssl.PEM_cert_to_DER_cert(cert.read_text())).decode()]
        # `(user, scope, status)` of each request, and the tokens that were given.
        self.asked = []
        self.tokens = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def trust(self):
        """What a registry's configuration says of it."""
        bundle = str(self.authority.cert)
        return {"realm": self.realm, "service": self.name, "issuer": self.name, "rootcertbundle": bundle}

    def _handler(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_GET(self):
                asked = parse_qs(urlsplit(self.path).query)
                status, answer = service._answer(self.headers["Authorization"] or "", asked)
                body = json.dumps(answer).encode()
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", f'Basic realm="{service.name}"')
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler

    def _answer(self, authorization, asked):
        scheme, _, words = authorization.partition(" ")
        user, _, password = base64.b64decode(words).decode().partition(":") if scheme == "Basic" else ("", "", "")
        scopes = asked.get("scope", [])
        if self.accounts.get(user) != password or asked.get("service") != [self.name]:
            self.asked.append((user, *scopes, 401))
            return 401, {"details": f"no token for {authorization}"}
        self.asked.append((user, *scopes, 200))
        return 200, {"token": self._token(user, scopes), "expires_in": SECONDS}

    def _token(self, user, scopes):
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": self.name,
            "sub": user,
            "aud": self.name,
            "exp": now + SECONDS,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        head = {"typ": "JWT", "alg": "RS256", "x5c": self._chain}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = _encoded(self._signature(claims["jti"], signed))
        token = f"{signed}.{signature}"
        self.workspace.planted.add(token)
        # Who has it has the token: the rest can be guessed.
        self.workspace.planted.add(signature)
        self.tokens.append(token)
        return token

    def _signature(self, name, signed):
        message = self.workspace.path(self.name, name)
        message.write_text(signed)
        signature = message.with_suffix(".signature")
        self.workspace.run("openssl", "dgst", "-sha256", "-sign", self._key, "-out", signature, message)
        return signature.read_bytes()


def _encoded(data):
    """base64url without padding, as JWTs have it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
