"""The tool's side of a form, in a process of its own: one line of JSON in, one out. Each form gets a fork of it."""

from __future__ import annotations

import encodings.idna
import json
import os
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import cryptography.hazmat.primitives.serialization
import fabric
import paramiko
import rich.console

from dws_on_csm.config.site import Host
from dws_on_csm.display import style
from dws_on_csm.model.errors import RemoteError, Unreachable
from dws_on_csm.redaction import redact
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.transport import connect, fabric_link, known_hosts, session
from tests.ssh.conftest import Deadlines, Site, Ssh

PRELOADED = (
    encodings.idna,
    cryptography,
    fabric,
    paramiko,
    rich,
    style,
    redact,
    connect,
    fabric_link,
    known_hosts,
    session,
)
"""What is imported late, and could not be any more as the second user."""

DATA = b"data\n" * 40_000


def main() -> None:
    """Serves requests until the end of the input."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_forked(json.loads(line))) + "\n")
        sys.stdout.flush()


def _forked(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        child, terminal = os.forkpty() if request["answer"] else (os.fork(), -1)
        if child == 0:
            os.dup2(errors.fileno(), 2)
            os.dup2(2, 1)
            _answer(request, writing)
        os.close(writing)
        if request["answer"]:
            _answer_questions(terminal, request["answer"])
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        errors.seek(0)
        words = errors.read().decode(errors="replace")
    result: dict[str, Any] = json.loads(
        answer or b'{"in": false, "text": "the tool ended without an answer", "fix": ""}'
    )
    return result | {"stderr": words, "seconds": time.monotonic() - began}


def _answer_questions(terminal: int, answer: str) -> None:
    """Types the answer to each question on the terminal, until the process has left it."""
    with suppress(OSError):  # Linux raises this when the other end is closed
        while question := os.read(terminal, 1 << 16):
            if question.rstrip().endswith(b":"):
                os.write(terminal, f"{answer}\n".encode())
    os.close(terminal)


def _answer(request: dict[str, Any], pipe: int) -> None:
    """Writes the answer, and ends the process."""
    try:
        os.environ.clear()
        os.environ.update(request["env"])
        if request["uid"]:
            os.setgroups([])
            os.setgid(request["uid"])
            os.setuid(request["uid"])
        os.write(pipe, json.dumps(_connected(request)).encode())
    except Exception:  # noqa: BLE001  # a form that ends in a traceback has failed: the test finds it in the words
        traceback.print_exc()
    os._exit(0)


def _connected(request: dict[str, Any]) -> dict[str, Any]:
    site = Site(Ssh(Path(request["config"])), Deadlines(request["connect"]))
    host = Host(request["ask"], "controller", "", False)
    sessions = connect_all(site, [host])  # type: ignore[arg-type]
    try:
        session = sessions[host.name]
        if isinstance(session, Unreachable):
            return {"in": False, "text": session.text, "fix": session.fix}
        try:
            came = session.run("cat; echo in", DATA, deadline=60).out
        except RemoteError as error:
            return {"in": False, "text": str(error), "fix": error.fix}
        return {"in": came == DATA + b"in\n", "text": "", "fix": ""}
    finally:
        sessions.close()


if __name__ == "__main__":
    main()
