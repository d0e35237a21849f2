"""A registry on the loopback, as far as its HTTP API is needed: to pull, with or without tokens, blobs served elsewhere; to begin
an upload, at a place that it names; and to ask for a login, or answer what no registry answers."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "for-anybody"


@dataclass
class Registry:
    """What it has. `manifests`: tag or digest -> media type and bytes; `blobs`: digest -> bytes.

    token   whether it wants one
    asked   path and Authorization header of each request for a blob, at the place that it is redirected to
    location where an upload goes on, as the registry says
    seen    method, path and Authorization header of each request
    ways    WWW-Authenticate headers: where there are any, requests need an Authorization header of `good`
    answers path -> status, Content-Type, body, further headers, in place of what a registry answers
    """

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    token: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    base: str = ""
    location: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    ways: tuple[str, ...] = ()
    good: frozenset[str] = frozenset()
    answers: dict[str, tuple[int, str, bytes, tuple[tuple[str, str], ...]]] = field(default_factory=dict)

    def blob(self, content: bytes) -> str:
        """Takes it in; its digest."""
        digest = f"sha256:{sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    def manifest(self, content: object, tag: str = "") -> str:
        """Takes it in under its digest, and a tag if given; its digest."""
        body = json.dumps(content).encode()
        kind = content["mediaType"] if isinstance(content, dict) else "text/html"
        digest = f"sha256:{sha256(body).hexdigest()}"
        self.manifests |= {name: (kind, body) for name in (digest, tag) if name}
        return digest


def name_of(registry: Registry) -> str:
    """The registry's host and port, as images name it."""
    return registry.base.partition("://")[2]


@contextmanager
def serving(registry: Registry, tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """The registry at `base`, under TLS with `tls`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._note()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not self._apart():
                self._answer(202, "text/plain", b"", ("Location", registry.location))

        def do_DELETE(self) -> None:
            self._note()
            if not self._apart():
                self._answer(204, "text/plain", b"")

        def _apart(self) -> bool:
            """Whether the request was answered in another way than a registry that lets everybody in does."""
            path = self.path.partition("?")[0]
            if path in registry.answers:
                status, kind, body, headers = registry.answers[path]
                self._answer(status, kind, body, *headers)
            elif registry.ways and self.headers.get("Authorization") not in registry.good:
                self._answer(401, "application/json", b"{}", *(("WWW-Authenticate", way) for way in registry.ways))
            elif path == "/v2/":
                self._answer(200, "application/json", b"{}")
            else:
                return False
            return True

        def _note(self) -> None:
            registry.seen.append((self.command, self.path, self.headers.get("Authorization", "")))

        def do_GET(self) -> None:
            self._note()
            path = self.path.partition("?")[0]
            if self._apart():
                return
            if path == "/token":
                self._answer(200, "application/json", json.dumps({"token": TOKEN}).encode())
            elif path.startswith("/storage/"):
                registry.asked.append((path, self.headers.get("Authorization", "")))
                self._answer(200, "application/octet-stream", registry.blobs[path.removeprefix("/storage/")])
            elif registry.token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(
                    401, "text/plain", b"", ("WWW-Authenticate", f'Bearer realm="{registry.base}/token",service="x"')
                )
            else:
                self._registry(path.rpartition("/")[2], "/blobs/" in path)

        def _registry(self, which: str, blob: bool) -> None:
            if blob and which in registry.blobs:
                self._answer(307, "text/plain", b"", ("Location", f"{registry.base}/storage/{which}"))
            elif not blob and which in registry.manifests:
                self._answer(200, *registry.manifests[which])
            else:
                self._answer(404, "application/json", b"{}")

        def _answer(self, code: int, kind: str, body: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(code)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        registry.base = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
