"""A small OpenID provider on this machine, for tests: whoever is named next is signed in at once, nobody is asked.

It has what a login needs: discovery, an authorization that redirects back, a token signed with RS256, and its key.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "attnviz-test", "s" * 40


@dataclass
class Provider:
    """The provider at `url`.

    claims   of whoever signs in next, with at least "sub"
    asked    the addresses that it was asked for
    """

    url: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "1"})
    asked: list[str] = field(default_factory=list)
    _key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k", "use": "sig"}))
    _codes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def secrets_file(self, *names: str) -> str:
        """A secrets.toml with this provider: without a name, or under several."""
        own = (
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
        )
        shared = f'[auth]\nredirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"\ncookie_secret = "{"c" * 40}"\n'
        return shared + ("".join(f"[auth.{name}]\n{own}" for name in names) or own)

    def answer(self, path: str, given: dict[str, str]) -> dict[str, Any] | str:
        """What a request is answered with: JSON, or an address to go to."""
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            ways = {name: f"{self.url}/{name}" for name in ("authorize", "token", "jwks")}
            return {
                "issuer": self.url,
                "authorization_endpoint": ways["authorize"],
                "token_endpoint": ways["token"],
                "jwks_uri": ways["jwks"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        if path == "/jwks":
            return {"keys": [self._key.as_dict(private=False)]}
        if path == "/authorize":
            code = secrets.token_urlsafe(16)
            self._codes[code] = {**self.claims, "nonce": given["nonce"]}
            return f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state']})}"
        assert path == "/token", path
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 600, **self._codes.pop(given["code"])}
        token = jwt.encode({"alg": "RS256", "kid": "k"}, claims, self._key)
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token}


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider on a free port, ended with the block."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._send(provider.answer(parts.path, _first(parts.query)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(provider.answer(urlsplit(self.path).path, _first(body)))

        def _send(self, answer: dict[str, Any] | str) -> None:
            body = b"" if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(302 if isinstance(answer, str) else 200)
            if isinstance(answer, str):
                self.send_header("Location", answer)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _first(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
