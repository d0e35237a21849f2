"""One call of the Kubernetes API: asked, asked again where the server puts it off, and its answer read. Raises ClusterError."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from dws_on_csm.model.cluster_api import CONFLICT, ClusterError
from dws_on_csm.model.errors import MALFORMED, DeadlineExceeded, Lost, Unreachable

Json = dict[str, Any]
JSON = "application/json"
Request = tuple[str, str, Mapping[str, str], Mapping[str, Any] | None, str]
"""Method, path, query, body, the body's content type."""
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What is asked for where the objects' metadata is enough (Kubernetes 1.15 and later)."""
ANSWER = 60.0  # seconds within which the API server answers a request
LIMIT = 64_000_000
"""Bytes of an answer that is read as a whole: the largest of a real site has a tenth of it."""
LONGEST = 16_000_000
"""Bytes of an event of a watch: etcd takes objects of a tenth of it."""
DEEP = 100
"""Levels of objects and lists within each other in an answer: what goes through one calls itself for each."""
WORDS = 2000
"""Characters that are kept of what an API server gives as its reason."""
PIECE = 1 << 16  # bytes of an answer that are read at once
NOT_FOUND, LATER = 404, 429
RUN = "Dws-On-Csm-Run"
"""The header by which a request that changes something names its run: see api_relay.py."""


def must_open(client: Any, request: Request, seconds: float = ANSWER) -> urllib3.HTTPResponse:
    """The response to a request that is no failure, its body still to be read."""
    response = opened(client, request, seconds)
    if response.status != 200:
        raise ClusterError(response.status, message(read(response)))
    return response


def opened(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    """The response to a request, its body still to be read. What the server puts off is asked again when it says.

    It does so, having done nothing, with the first list of a CRD's objects after that CRD has changed, or when busy.
    """
    ends = time.monotonic() + ANSWER
    while True:
        answer = _once(client, request, seconds)
        later = answer.headers.get("Retry-After", "")
        number = later.isascii() and later.isdigit() and len(later) < 6
        if answer.status != LATER or not number or time.monotonic() + int(later) > ends:
            return answer
        read(answer)
        time.sleep(int(later))


def _once(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    from paramiko import SSHException

    try:
        return _sent(client, request, seconds)
    except (Lost, Unreachable, DeadlineExceeded, SSHException, OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"no answer to {request[0]} {request[1]}: {error}") from error


def _sent(client: Any, request: Request, seconds: float) -> urllib3.HTTPResponse:
    method, path, query, body, kind = request
    headers = {"Accept": kind if kind == METADATA else JSON, "Content-Type": kind}
    parameters = {"query_params": list(query.items()), "header_params": headers, "body": body}
    serialized = client.param_serialize(method, path, **parameters)
    try:
        response = client.call_api(*serialized, _request_timeout=seconds)
    except urllib3.exceptions.ProtocolError:
        if method != "GET":
            raise
        # A kept connection that ends while it is being used again: what only reads may ask once more.
        response = client.call_api(*serialized, _request_timeout=seconds)
    answer: urllib3.HTTPResponse = response.response
    return answer


def read(response: urllib3.HTTPResponse) -> bytes:
    """The whole body of a response, as long as it has no more than LIMIT bytes."""
    content = bytearray()
    for piece in pieces(response, "answer"):
        content += piece
        if len(content) > LIMIT:
            dropped(response)
            raise ClusterError(
                0, f"the API server answered more than {LIMIT // 1_000_000} MB, and was not read any further"
            )
    return bytes(content)


def pieces(response: urllib3.HTTPResponse, what: str) -> Iterator[bytes]:
    """A body as it comes, never more than PIECE bytes of it at once; not unpacked, since nothing packed was asked for.

    How long it may take is seen to where it comes in: see kubeproxy.
    """
    try:
        yield from response.stream(amt=PIECE, decode_content=False)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the {what} broke off: {error}") from error


def dropped(response: urllib3.HTTPResponse) -> None:
    """Nothing more of it is read: its connection is in the middle of an answer, so it is not used again."""
    response.close()
    response.release_conn()


LISTS = frozenset({"groups", "items", "resources", "versions"})
"""What lists and discovery have their parts under."""


def parsed(content: bytes) -> Json:
    """What an answer in JSON says: an object, as all of the API's are."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ClusterError(0, f"the answer is no JSON: {content[:200].decode(errors='replace')}") from error
    if not isinstance(found, dict) or _deep(found):
        raise ClusterError(0, f"the answer is no object of the API: {content[:200].decode(errors='replace')}")
    # Go writes a list that nobody has begun as null: that of a CRD's group, until the first of its kinds is served
    return {key: [] if some is None and key in LISTS else some for key, some in found.items()}


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEP):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for some in inner for one in some if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def message(content: bytes) -> str:
    """The server's own words: of a Status object, or of the proxy in between."""
    try:
        return str(json.loads(content)["message"])[:WORDS]
    except MALFORMED:
        return content[:WORDS].decode(errors="replace").strip()


def outrun(status: int, content: bytes) -> str:
    """Why the master did not pass the request on: its run has lost the site's lock. "" where it did."""
    found = parsed(content) if status == CONFLICT and b'"LockLost"' in content else {}
    return str(found.get("message"))[:WORDS] if found.get("reason") == "LockLost" else ""


def events(response: urllib3.HTTPResponse) -> Iterator[Json]:
    """The events of a watch, one JSON object a line."""
    rest = b""
    for piece in pieces(response, "watch"):
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_event, lines)
        if len(rest) > LONGEST:
            raise ClusterError(0, f"the API server told of something with more than {LONGEST // 1_000_000} MB")


def _event(line: bytes) -> Json:
    event = parsed(line)
    found = event.get("object")
    if not isinstance(found, dict):
        raise ClusterError(0, f"the API server told of no object: {line[:200].decode(errors='replace')}")
    if event.get("type") == "ERROR":
        code = found.get("code")
        raise ClusterError(code if isinstance(code, int) else 0, str(found.get("message", ""))[:WORDS])
    return event
