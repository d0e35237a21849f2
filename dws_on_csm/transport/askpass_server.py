"""What ssh asks a person: a code, a passphrase, a PIN. Its askpass program passes each question on to this process."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

ASKPASS = Path(__file__).with_name("askpass")
LONGEST = 1 << 16
"""Bytes of a question."""
NOTICE = "none"
"""The kind of a question that is only shown: a key waits for a touch."""

Ask = Callable[[str, str], str | None]
"""Host and prompt -> a person's answer, None where nobody answers."""
Waiting = Callable[[str, str, float], object]
"""Tells a person what a host waits for: the host, the words, the seconds left."""
TOUCH = "waiting for your key (touch?)"
PATIENCE = 1.5
"""Seconds that a signature takes at most without a person: after these the run shows what it waits for."""


class Questions:
    """Questions of the ssh processes for `host`, at a socket in `folder`, which only this user may enter."""

    def __init__(self, host: str, folder: Path, ask: Ask | None, waiting: Waiting, seconds: float) -> None:
        self._host, self._ask, self._waiting = host, ask, waiting
        self._deadline_at = time.monotonic() + seconds
        self._path = folder / "q"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(self._path))
        self._listener.listen()
        self._lock = threading.Lock()
        self._since: float | None = None
        self._seconds = 0.0
        self.asked = False
        threading.Thread(target=self._serve, daemon=True, name="questions").start()

    def environment(self) -> Mapping[str, str]:
        """The variables by which ssh asks here. ssh before 8.4 knows no SSH_ASKPASS_REQUIRE, and looks at DISPLAY."""
        named = {"SSH_ASKPASS": str(ASKPASS), "SSH_ASKPASS_REQUIRE": "force"}
        own = {"DWS_ON_CSM_PYTHON": sys.executable, "DWS_ON_CSM_QUESTIONS": str(self._path)}
        return {"DISPLAY": os.environ.get("DISPLAY") or "none:0"} | named | own

    @property
    def seconds(self) -> float:
        """The seconds for which people were asked so far; these do not count as waiting for the host."""
        with self._lock:
            return self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

    def close(self) -> None:
        """No further questions."""
        with suppress(OSError):  # it is closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                link, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(link,), daemon=True, name="question").start()

    def _answer(self, link: socket.socket) -> None:
        with link, suppress(OSError, ValueError, TypeError, KeyError):  # a question that nobody can read has no answer
            text = b""
            while not text.endswith(b"\n") and len(text) < LONGEST and (piece := link.recv(4096)):
                text += piece
            question = json.loads(text)
            if question["kind"] == NOTICE:
                self._waiting(self._host, TOUCH, max(self._deadline_at - time.monotonic(), 0.0))
                link.recv(1)  # ssh ends its askpass when the key was touched
            elif not question["kind"] and self._ask and (answer := self._asked(str(question["prompt"]))) is not None:
                link.sendall(answer.encode(errors="surrogateescape") + b"\n")

    def _asked(self, prompt: str) -> str | None:
        assert self._ask is not None
        with self._lock:
            self.asked = True
            self._since = time.monotonic()
        try:
            return self._ask(self._host, prompt)
        finally:
            with self._lock:
                self._seconds += time.monotonic() - self._since
                self._since = None
