"""One call of the Kubernetes API over HTTP: the request, its retry, and its answer within limits. Raises ClusterError."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3

from dws_on_csm.model.cluster_api import CONFLICT, ClusterError, ClusterSilent
from dws_on_csm.model.errors import MALFORMED, DeadlineExceeded, Lost, Unreachable

Json = dict[str, Any]
JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""The content type for objects' metadata alone (Kubernetes 1.15 and later)."""
ANSWER = 60.0  # seconds within which the API server answers a request
LIMIT = 64_000_000
"""Bytes of the longest answer: ten times the largest of a real site."""
LONGEST = 16_000_000
"""Bytes of the longest event of a watch: ten times the largest object that etcd stores."""
DEEP = 100
"""Levels of objects and lists inside each other in an answer: code that walks through it is recursive."""
WORDS = 2000
"""Characters of an API server's error message that are kept."""
PIECE = 1 << 16  # bytes of an answer that are read at a time
NOT_FOUND, LATER = 404, 429
AUDITED = "Audit-Id"
"""A header of each answer of an API server."""
RUN = "Dws-On-Csm-Run"
"""The header that names the run of a request that changes something; see api_relay.py."""


@dataclass(frozen=True)
class Request:
    """A request. `kind`: the content type of its body; `accept`: that of the answer."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    kind: str = JSON
    accept: str = JSON


def open_success(client: Any, request: Request, seconds: float = ANSWER) -> urllib3.HTTPResponse:
    """The response to a request that succeeded; its body is unread."""
    response = open_response(client, request, seconds)
    if response.status != 200:
        raise failure(response, read_body(response))
    return response


def failure(response: urllib3.HTTPResponse, content: bytes) -> ClusterError:
    """The error for an answer that is no success. An error in plain words without the header that an API server sets in each
    answer is kubectl proxy's: no API server answered it."""
    if response.status >= 500 and AUDITED not in response.headers and not content.lstrip().startswith(b"{"):
        return ClusterSilent(error_message(content).removeprefix(": ") or "the connection was closed")
    return ClusterError(response.status, error_message(content))


def open_response(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    """The response to a request; its body is unread. Where the server asks for a later retry, the request is sent again then.

    The server asks for it, and has done nothing, when it is busy, and for the first list of a CRD's objects after a change of
    the CRD.
    """
    deadline_at = time.monotonic() + ANSWER
    while True:
        answer = _once(client, request, seconds)
        later = answer.headers.get("Retry-After", "")
        number = later.isascii() and later.isdigit() and len(later) < 6
        if answer.status != LATER or not number or time.monotonic() + int(later) > deadline_at:
            return answer
        read_body(answer)
        time.sleep(int(later))


def _once(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    from paramiko import SSHException

    try:
        return _sent(client, request, seconds)
    except (Lost, Unreachable, DeadlineExceeded, SSHException, OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the API server did not answer {request.method} {request.path}: {error}") from error


_STEPS = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x20\x7f%?#\\\\]")
"""What makes a path mean another one: an empty segment, "." or ".." (urllib3 follows these), a query, an escape."""


def _sent(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    if not request.path.startswith("/") or _STEPS.search(request.path[1:]):
        # a name that a host or the cluster chose became part of it
        raise ClusterError(0, f"{request.path[:200]!r} is not the path of an API object: nothing was sent")
    headers = {"Accept": request.accept, "Content-Type": request.kind}
    parameters = {"query_params": list(request.query.items()), "header_params": headers, "body": request.body}
    serialized = client.param_serialize(request.method, request.path, **parameters)
    try:
        response = client.call_api(*serialized, _request_timeout=seconds)
    except urllib3.exceptions.ProtocolError:
        if request.method != "GET":
            raise
        # A kept connection ended while it was reused. Only a read may be sent again.
        response = client.call_api(*serialized, _request_timeout=seconds)
    answer: urllib3.HTTPResponse = response.response
    return answer


def read_body(response: urllib3.HTTPResponse) -> bytes:
    """The complete body of a response, of at most LIMIT bytes."""
    content = bytearray()
    for piece in body_pieces(response, "answer"):
        content += piece
        if len(content) > LIMIT:
            drop(response)
            raise ClusterError(
                0, f"the API server's answer has more than {LIMIT // 1_000_000} MB; the rest was not read"
            )
    return bytes(content)


def body_pieces(response: urllib3.HTTPResponse, noun: str) -> Iterator[bytes]:
    """A body as it comes, at most PIECE bytes at a time, without decompression, since no request asks for any.

    proxy.py limits the time.
    """
    try:
        yield from response.stream(amt=PIECE, decode_content=False)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the {noun} is incomplete: {error}") from error


def drop(response: urllib3.HTTPResponse) -> None:
    """Stop reading a response. Its connection is in the middle of an answer, so it is closed."""
    response.close()
    response.release_conn()


LISTS = frozenset({"groups", "items", "resources", "versions"})
"""The keys of lists in lists of objects and in discovery."""


def parse(content: bytes) -> Json:
    """An answer in JSON: an object, as all of the API's answers are."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ClusterError(
            0, f"the API server's answer is not JSON: {content[:200].decode(errors='replace')}"
        ) from error
    if not isinstance(answer, dict) or _deep(answer):
        raise ClusterError(0, f"the API server's answer is not an API object: {content[:200].decode(errors='replace')}")
    # Go writes an unset list as null: that of a CRD's group, until the first of its kinds is served
    return {key: [] if value is None and key in LISTS else value for key, value in answer.items()}


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEP):
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def error_message(content: bytes) -> str:
    """The server's own error message: from a Status object, or from kubectl proxy."""
    try:
        return str(json.loads(content)["message"])[:WORDS]
    except MALFORMED:
        return content[:WORDS].decode(errors="replace").strip()


def lock_lost(status: int, content: bytes) -> str:
    """Why the master refused the request: its run has lost the site's lock. "" where the master passed it on."""
    answer = parse(content) if status == CONFLICT and b'"LockLost"' in content else {}
    return str(answer.get("message"))[:WORDS] if answer.get("reason") == "LockLost" else ""


def events(response: urllib3.HTTPResponse) -> Iterator[Json]:
    """The events of a watch, one JSON object a line."""
    rest = b""
    for piece in body_pieces(response, "watch"):
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_event, lines)
        if len(rest) > LONGEST:
            raise ClusterError(0, f"the API server sent an event of more than {LONGEST // 1_000_000} MB")


def _event(line: bytes) -> Json:
    event = parse(line)
    changed = event.get("object")
    if not isinstance(changed, dict):
        raise ClusterError(0, f"the API server sent an event without an object: {line[:200].decode(errors='replace')}")
    if event.get("type") == "ERROR":
        code = changed.get("code")
        raise ClusterError(code if isinstance(code, int) else 0, str(changed.get("message", ""))[:WORDS])
    return event
