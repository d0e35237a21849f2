"""ssh-agent: its keys and their signatures, with a deadline for each answer.

Paramiko's own client knows only some kinds of keys, gives all of them up where it does not know one, and reads the agent's
socket from the environment, which all threads share. Source: draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paramiko import Message

from dws_on_csm.transport.askpass_server import PATIENCE
from dws_on_csm.transport.public_keys import PublicKey

_LIST, _LISTED, _SIGN, _SIGNED = 11, 12, 13, 14
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
_LARGEST = 256 * 1024  # bytes of an answer, as OpenSSH has it


class AgentError(Exception):
    """The agent does not answer, or refuses. `late`: it did not answer before the deadline."""

    def __init__(self, text: str, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


class Agent:
    """The agent at the socket `path`. What it does not answer before `deadline_at` (of time.monotonic) raises AgentError.

    `waiting` is called with a key's name where a signature takes so long that it may need a person: a touch, a PIN.
    """

    def __init__(self, path: str, deadline_at: float, waiting: Callable[[str], object]) -> None:
        self._deadline_at = deadline_at
        self._waiting = waiting
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with self._within():
                self._socket.connect(path)
        except AgentError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Closes the connection to the agent."""
        self._socket.close()

    def keys(self) -> list[tuple[str, PublicKey]]:
        """The agent's keys in its order, each with its comment."""
        answer = self._ask(Message(bytes([_LIST])), _LISTED, "the agent did not list its keys")
        keys = []
        for _ in range(answer.get_int()):
            blob, comment = answer.get_binary(), answer.get_binary()
            if not blob and not comment:
                break  # the answer is shorter than it says
            key = PublicKey(blob)
            keys += [(comment.decode(errors="replace") or key.kind, key)] if key.kind else []
        return keys

    def sign(self, name: str, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """The agent's signature for `data`, by its key `blob`, which people know as `name`."""
        request = Message()
        request.add_byte(bytes([_SIGN]))
        request.add_string(blob)
        request.add_string(data)
        request.add_int(_FLAGS.get(algorithm, 0))
        patience = threading.Timer(PATIENCE, self._waiting, (name,))
        patience.daemon = True
        patience.start()
        try:
            return self._ask(request, _SIGNED, "the agent could not sign with it").get_binary()
        finally:
            patience.cancel()

    def _ask(self, request: Message, expected: int, refusal: str) -> Message:
        words = request.asbytes()
        with self._within():
            self._socket.sendall(len(words).to_bytes(4, "big") + words)
            size = int.from_bytes(self._read(4), "big")
            if size > _LARGEST:
                raise AgentError("the agent's answer is too large")
            answer = self._read(size)
        if answer[:1] != bytes([expected]):
            raise AgentError(refusal)
        return Message(answer[1:])

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._socket.settimeout(max(self._deadline_at - time.monotonic(), 0.001))
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise AgentError("the agent closed the connection")
            data += piece
        return data

    @contextmanager
    def _within(self) -> Iterator[None]:
        self._socket.settimeout(max(self._deadline_at - time.monotonic(), 0.001))
        try:
            yield
        except TimeoutError as error:
            raise AgentError("the agent did not answer in time", late=True) from error
        except OSError as error:
            raise AgentError(error.strerror or str(error)) from error
