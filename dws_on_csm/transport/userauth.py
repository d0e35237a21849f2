"""The login's part of the SSH protocol (RFC 4252) for public keys, on Paramiko's transport.

Paramiko's own has no question whether the host takes a key, signs in the thread that reads from the host, where an error ends
the connection, and waits for an answer by an event that it may miss.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from paramiko import Message, SSHException, Transport
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    MSG_USERAUTH_SUCCESS,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

Handlers = dict[int, Callable[[Message], None]]

UNREAD = 100
"""Answers of the host that wait to be read; there is one for each question."""


@dataclass(frozen=True)
class Answer:
    """What a host answers to an attempt: whether the login succeeded, or this part of it; and what may be tried next."""

    success: bool = False
    partial: bool = False
    methods: tuple[str, ...] = ()
    taken: bool = False
    """The host would accept a signature by the key that it was asked about."""


class Disconnected(Exception):
    """The host ended the connection during the login; the message has its words, if it said any."""


class UserAuth(AuthHandler):
    """A login as `user`. Each answer of the host is awaited until `deadline_at` (of time.monotonic); then: TimeoutError."""

    def __init__(self, transport: Transport, user: str, deadline_at: float) -> None:
        super().__init__(transport)
        self._user = user
        self._deadline_at = deadline_at
        self._answers: queue.SimpleQueue[tuple[int, Message] | None] = queue.SimpleQueue()
        transport.auth_handler = self

    def begin(self) -> Answer:
        """Asks for the ways to log in, as ssh does. Raises Disconnected, TimeoutError."""
        service = Message()
        service.add_byte(cMSG_SERVICE_REQUEST)
        service.add_string("ssh-userauth")
        self._send(service)
        kind, _ = self._next()
        if kind != MSG_SERVICE_ACCEPT:
            raise SSHException("the host offers no login")
        return self._request("none")

    def asks(self, blob: bytes, algorithm: str) -> Answer:
        """Asks whether the host takes this key, without a signature. Raises Disconnected, TimeoutError."""
        return self._request("publickey", False, algorithm, blob)

    def signs(self, blob: bytes, algorithm: str, signature: bytes) -> Answer:
        """Logs in with the signature of challenge() by this key. Raises Disconnected, TimeoutError."""
        return self._request("publickey", True, algorithm, blob, signature)

    def challenge(self, blob: bytes, algorithm: str) -> bytes:
        """What the key signs."""
        message = Message()
        assert self.transport.session_id
        message.add_string(self.transport.session_id)
        message.add_bytes(self._words("publickey", True, algorithm, blob).asbytes())
        return message.asbytes()

    def _words(self, method: str, *fields: bool | str | bytes) -> Message:
        message = Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        for text in (self._user, "ssh-connection", method):
            message.add_string(text)
        for field in fields:
            message.add_boolean(field) if isinstance(field, bool) else message.add_string(field)
        return message

    def _request(self, method: str, *fields: bool | str | bytes) -> Answer:
        self.auth_method = method
        self._send(self._words(method, *fields))
        kind, message = self._next()
        if kind == MSG_USERAUTH_FAILURE:
            methods = tuple(method for method in message.get_list() if method)
            return Answer(partial=message.get_boolean(), methods=methods)
        return Answer(success=kind == MSG_USERAUTH_SUCCESS, taken=kind == MSG_USERAUTH_PK_OK)

    def _send(self, message: Message) -> None:
        self.transport._send_message(message)  # type: ignore[attr-defined]

    def _next(self) -> tuple[int, Message]:
        """The host's next answer. Looks now and then whether the connection still stands."""
        while True:
            seconds = self._deadline_at - time.monotonic()
            try:
                answer = self._answers.get(timeout=min(max(seconds, 0.001), 1.0))
            except queue.Empty:
                if self.transport.is_active() and seconds > 0:
                    continue
                if self.transport.is_active():
                    raise TimeoutError("the host did not answer in time") from None
                answer = None
            if answer is None:
                raise Disconnected(getattr(self.transport, "farewell", "")) from self.transport.get_exception()
            return answer

    # what Paramiko's thread calls

    def abort(self) -> None:
        """The connection has ended."""
        self._answers.put(None)

    @property
    def _client_handler_table(self) -> Handlers:
        answers = (MSG_SERVICE_ACCEPT, MSG_USERAUTH_FAILURE, MSG_USERAUTH_PK_OK)
        table: Handlers = {kind: self._putting(kind) for kind in answers}
        return table | {MSG_USERAUTH_SUCCESS: self._succeeded, MSG_USERAUTH_BANNER: lambda message: None}

    def _putting(self, kind: int) -> Callable[[Message], None]:
        def put(message: Message) -> None:
            if self.authenticated or self._answers.qsize() >= UNREAD:
                raise SSHException("the server sent answers that nobody had asked for")
            self._answers.put((kind, message))

        return put

    def _succeeded(self, message: Message) -> None:
        self.authenticated = True
        self.transport._auth_trigger()  # type: ignore[attr-defined]
        self._answers.put((MSG_USERAUTH_SUCCESS, message))
