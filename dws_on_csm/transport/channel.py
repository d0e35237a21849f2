"""One exec channel from its beginning to its end: writes while it reads, and keeps to its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dws_on_csm.model.secret import Secret
from dws_on_csm.transport.output import LineSink, Stream, tail
from dws_on_csm.transport.ssh_writer import InputFeeder

if TYPE_CHECKING:
    from paramiko import Channel

PULSE = 1.0  # the end of the script does not wake the reader, so it is looked for once a second
# A background process may hold the output open. After the script's end so many pulses without a word are awaited, counted
# and not timed (a machine that stood still has heard nothing), and no more seconds of one that goes on talking.
DRAIN, LINGER = 3, 30.0
PIECES = 16  # that are read of each stream before the deadline is looked at again
STATUS = 30.0  # seconds within which the exit code follows the end of the output


@dataclass(frozen=True)
class ExecRequest:
    """What is to be run: the remote command that announces itself with `token`, the script that it reads, its stdin.

    With a `password` that is what is answered when `prompt` appears, and nothing else is sent before `token` does.
    `stay`: the script's stdin is left open after `data`.
    """

    token: str
    command: str
    body: bytes
    data: bytes
    line: LineSink | None
    prompt: str = ""
    password: Secret | None = None
    stay: bool = False


@dataclass
class Exchange:
    """What came of an order. `whole`: it came to its end in time; `code` is None when the channel gave none."""

    out: Stream
    err: Stream
    whole: bool = False
    refused: bool = False  # the password was wrong
    code: int | None = None
    seconds: float = 0.0

    @property
    def flood(self) -> str:
        """Where the output was cut since it was too much, in words; "" as long as it isn't."""
        return self.out.flood or self.err.flood

    def said(self) -> str:
        """What the remote side wrote before the script started, in one line."""
        return " ".join(tail(bytes(self.out.before), bytes(self.err.before), lines=3))


def converse(channel: Channel, order: ExecRequest, talk: Exchange, deadline: float) -> None:
    """Runs `order` on `channel` and fills `talk`; after `deadline` seconds the channel is closed, whatever runs."""
    began = time.monotonic()
    writer = InputFeeder(channel, order.command, order.stay)
    try:
        talk.whole = _read(channel, talk, began + deadline, _Feeder(order, talk, writer).feed)
    finally:
        _finish(channel, talk, writer)
        talk.seconds = time.monotonic() - began


def begin(channel: Channel, order: ExecRequest, talk: Exchange, deadline: float, ready: bytes) -> None:
    """Runs `order`, whose script stays, until it has written a line that begins with `ready` to stderr.

    The channel is left open then. It is closed when that did not come in `deadline` seconds, or can't come any more.
    """
    writer = InputFeeder(channel, order.command, order.stay)
    feeder = _Feeder(order, talk, writer)
    began = time.monotonic()
    talk.whole = _read(channel, talk, began + deadline, lambda: feeder.feed() and ready_line(talk, ready) is None)
    talk.seconds = time.monotonic() - began
    if ready_line(talk, ready) is None:
        _finish(channel, talk, writer)


def _finish(channel: Channel, talk: Exchange, writer: InputFeeder) -> None:
    if (
        talk.whole
        and not talk.refused
        and not talk.flood
        and channel.status_event.wait(STATUS)
        and channel.exit_status >= 0
    ):
        talk.code = channel.exit_status
    writer.end()
    channel.close()
    talk.out.end()
    talk.err.end()


def ready_line(talk: Exchange, ready: bytes) -> str | None:
    """What follows `ready` on its line of stderr; None before that line is there."""
    found = talk.err.line(ready)
    return None if found is None else found.decode(errors="replace").strip()


class _Feeder:
    """Sends what is due: at once, or under sudo's questions only what was asked for."""

    def __init__(self, order: ExecRequest, talk: Exchange, writer: InputFeeder) -> None:
        self._order, self._talk, self._writer = order, talk, writer
        self._sent = order.password is None
        if self._sent:
            writer.send(order.body, order.data)
            writer.end()
        self._answered = False

    def feed(self) -> bool:
        """Called after each read; False: the password was wrong, and there is no sense in trying it again."""
        if self._sent:
            return True
        if self._talk.err.started:
            self._sent = True
            self._writer.send(self._order.body, self._order.data)
            self._writer.end()
        elif prompts := self._talk.err.before.count(self._order.prompt.encode()):
            self._talk.refused = prompts > 1
            self._answer()
        return not self._talk.refused

    def _answer(self) -> None:
        if not self._answered and self._order.password:
            self._answered = True
            self._writer.send(self._order.password.reveal() + b"\n")


class _Wake(threading.Event):
    """What Paramiko's buffers set when something has come. They would clear it too when they are empty, each by itself:
    so does Channel.fileno(), which loses what comes to the other at that moment."""

    def clear(self) -> None:
        pass

    def heard(self) -> None:
        """From now on something new counts."""
        super().clear()


def _read(channel: Channel, talk: Exchange, ends: float, feed: Callable[[], bool]) -> bool:
    """Reads until both streams end or `feed` says no; False when `ends` (of time.monotonic) came first."""
    wake = _Wake()
    channel.in_buffer.set_event(wake)
    channel.in_stderr_buffer.set_event(wake)
    quiet = 0
    while True:
        wake.heard()
        if _drained(channel, talk) or talk.flood or not feed():
            return True
        over = bool(channel.exit_status_ready())
        if over:
            ends = min(ends, time.monotonic() + LINGER)
        left = ends - time.monotonic()
        if left <= 0 or quiet == DRAIN:
            return over
        if channel.recv_ready() or channel.recv_stderr_ready():
            continue
        if not wake.wait(min(left, PULSE)) and over:
            quiet += 1


def _drained(channel: Channel, talk: Exchange) -> bool:
    over = bool(channel.eof_received or channel.closed)  # asked first: what came before the end is still to be read
    # some pieces at a time: one that writes faster than this reads has its deadline, too
    for _ in range(PIECES):
        if channel.recv_ready() and (chunk := channel.recv(1 << 18)):
            talk.out.feed(chunk)
        if channel.recv_stderr_ready() and (chunk := channel.recv_stderr(1 << 18)):
            talk.err.feed(chunk)
    return over and not (channel.recv_ready() or channel.recv_stderr_ready())
