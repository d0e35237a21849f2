"""One call of the Kubernetes API: asked, asked again where the server puts it off, and its answer read. Raises ClusterError."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from fabfile.api import CONFLICT, ClusterError
from fabfile.faults import DeadlineExceeded, Lost, Unreachable

Json = dict[str, Any]
JSON = "application/json"
Request = tuple[str, str, Mapping[str, str], Mapping[str, Any] | None, str]
"""Method, path, query, body, the body's content type."""
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What is asked for where the objects' metadata is enough (Kubernetes 1.15 and later)."""
ANSWER = 60.0  # seconds within which the API server answers a request
NOT_FOUND, LATER = 404, 429
RUN = "Dws-On-Csm-Run"
"""The header by which a request that changes something names its run: see apirelay.py."""


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
        if answer.status != LATER or not later.isdigit() or time.monotonic() + int(later) > ends:
            return answer
        answer.drain_conn()
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
    """The whole body of a response."""
    try:
        return response.data
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the answer broke off: {error}") from error


def parsed(content: bytes) -> Json:
    """What an answer in JSON says."""
    try:
        parsed: Json = json.loads(content)
    except ValueError as error:
        raise ClusterError(0, f"the answer is no JSON: {content[:200].decode(errors='replace')}") from error
    return parsed


def message(content: bytes) -> str:
    """The server's own words: of a Status object, or of the proxy in between."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()


def outrun(status: int, content: bytes) -> str:
    """Why the master did not pass the request on: its run has lost the site's lock. "" where it did."""
    found = parsed(content) if status == CONFLICT and b'"LockLost"' in content else {}
    return str(found["message"]) if found.get("reason") == "LockLost" else ""


def events(response: urllib3.HTTPResponse) -> Iterator[Json]:
    """The events of a watch, one JSON object a line."""
    rest = b""
    try:
        for chunk in response.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for event in map(parsed, lines):
                if event["type"] == "ERROR":
                    raise ClusterError(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(0, f"the watch broke off: {error}") from error
