"""An admission webhook on the loopback, as a policy engine has one: it changes or rejects Deployments as a test says."""

from __future__ import annotations

import copy
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab import pki

Policy = Callable[[dict[str, Any], str], None]
"""Changes an object in place, on "CREATE" or "UPDATE"; raises Rejected."""


class Rejected(Exception):
    """What the policy says."""


@dataclass
class Webhook:
    """policy: of the moment; None for none. dry: whether each request was a dry run."""

    configuration: dict[str, Any]
    policy: Policy | None = None
    dry: list[bool] = field(default_factory=list)


@contextmanager
def serving(folder: Path, ca: pki.Pair) -> Iterator[Webhook]:
    """The webhook, and the configuration with which an API server asks it about Deployments."""
    pair = pki.issue(ca, "policies", "server", names=["127.0.0.1"])
    (folder / "policies.pem").write_bytes(pair.crt + pair.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "policies.pem")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = review["request"]
            webhook.dry.append(request.get("dryRun", False))
            response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
            item = copy.deepcopy(request["object"])
            try:
                if webhook.policy:
                    webhook.policy(item, request["operation"])
            except Rejected as why:
                response |= {"allowed": False, "status": {"message": str(why)}}
            patch = [{"op": "add", "path": f"/{key}", "value": item[key]} for key in ("metadata", "spec")]
            response |= {"patchType": "JSONPatch", "patch": b64encode(json.dumps(patch).encode()).decode()}
            body = json.dumps({**review, "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        client = {"url": f"https://127.0.0.1:{server.server_port}/", "caBundle": b64encode(ca.crt).decode()}
        rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
        webhook = Webhook(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "policies"},
                "webhooks": [
                    {
                        "name": "policies.example.com",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "failurePolicy": "Fail",
                        "timeoutSeconds": 5,
                        "clientConfig": client,
                        "rules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
                    }
                ],
            }
        )
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()
