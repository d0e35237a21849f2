"""One exec channel from start to end: it writes while it reads, and ends at its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from dws_on_csm.model.secret import Secret
from dws_on_csm.transport.link import Channel
from dws_on_csm.transport.output import LineSink, Stream, tail

PIECE = 1 << 15  # bytes that fit into one SSH packet
PULSE = 1.0  # seconds; the end of the script does not wake the reader, so the reader checks for it
# A background process may keep the output open after the script's end. The reader then waits for DRAIN pulses without output
# (counted, not timed: a machine that was suspended has read nothing meanwhile), and for at most LINGER seconds of output.
DRAIN, LINGER = 3, 30.0
PIECES = 16  # of each stream that are read before the deadline is checked again
STATUS = 30.0  # seconds within which the exit code follows the end of the output


@dataclass(frozen=True)
class ExecRequest:
    """What to run: the remote `command`, which prints `token` when it starts, the script (`body`) that it reads, its stdin.

    `password` answers `prompt`; then nothing else is sent before `token` appears. `stay`: the script's stdin stays open
    after `data`.
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
    """What came of a request. `whole`: it ended before its deadline; `code` is None where the channel has no exit code."""

    out: Stream
    err: Stream
    whole: bool = False
    refused: bool = False  # the password was wrong
    code: int | None = None
    seconds: float = 0.0

    @property
    def flood(self) -> str:
        """A sentence that says where too much output was cut off; "" where none was."""
        return self.out.flood or self.err.flood

    def login_text(self) -> str:
        """What the login wrote before the script started, in one line."""
        return " ".join(tail(bytes(self.out.before), bytes(self.err.before), lines=3))


def converse(channel: Channel, request: ExecRequest, exchange: Exchange, deadline: float) -> None:
    """Runs `request` on `channel` and fills `exchange`. After `deadline` seconds it closes the channel in any case."""
    began = time.monotonic()
    writer = _InputFeeder(channel, request.stay)
    try:
        exchange.whole = _read(channel, exchange, began + deadline, _Dialog(request, exchange, writer).feed)
    finally:
        _finish(channel, exchange, writer)
        exchange.seconds = time.monotonic() - began


def begin(channel: Channel, request: ExecRequest, exchange: Exchange, deadline: float, ready: bytes) -> None:
    """Runs `request`, whose script stays, until the script has written a line that begins with `ready` to stderr.

    Then the channel stays open. Where the line does not come within `deadline` seconds, the channel is closed.
    """
    writer = _InputFeeder(channel, request.stay)
    feeder = _Dialog(request, exchange, writer)
    began = time.monotonic()
    exchange.whole = _read(
        channel, exchange, began + deadline, lambda: feeder.feed() and ready_line(exchange, ready) is None
    )
    exchange.seconds = time.monotonic() - began
    if ready_line(exchange, ready) is None:
        _finish(channel, exchange, writer)


def _finish(channel: Channel, exchange: Exchange, writer: _InputFeeder) -> None:
    if exchange.whole and not exchange.refused and not exchange.flood:
        exchange.code = channel.exit_code(STATUS)
    writer.end()
    channel.close()
    exchange.out.end()
    exchange.err.end()


def ready_line(exchange: Exchange, ready: bytes) -> str | None:
    """The text behind `ready` on its line of stderr; None while that line has not come."""
    text = exchange.err.line(ready)
    return None if text is None else text.decode(errors="replace").strip()


class _InputFeeder:
    """Starts the command, then sends the pieces that send() gets, from a thread of its own.

    Sending blocks until the command is accepted, and while the window is full. Neither may delay reading or the deadline.
    """

    def __init__(self, channel: Channel, stay: bool) -> None:
        self._channel = channel
        self._stay = stay
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="ssh-writer").start()

    def send(self, *pieces: bytes) -> None:
        """Queues `pieces`."""
        for piece in pieces:
            self._pieces.put(piece)

    def end(self) -> None:
        """Ends the thread, once all pieces are sent."""
        self._pieces.put(None)

    def _work(self) -> None:
        try:
            self._channel.start()
            while (piece := self._pieces.get()) is not None:
                view = memoryview(piece)
                for begin in range(0, len(view), PIECE):
                    self._channel.sendall(bytes(view[begin : begin + PIECE]))
            if not self._stay:
                self._channel.end_input()
        except (OSError, EOFError):
            self._channel.close()  # the reader sees that and goes by the exit code: a script need not read all its input


class _Dialog:
    """Sends the script and its stdin: at once, or after sudo has its password."""

    def __init__(self, request: ExecRequest, exchange: Exchange, writer: _InputFeeder) -> None:
        self._request, self._exchange, self._writer = request, exchange, writer
        self._sent = request.password is None
        if self._sent:
            writer.send(request.body, request.data)
            writer.end()
        self._answered = False

    def feed(self) -> bool:
        """Sends what is due after a read. False: the password was wrong, so trying again makes no sense."""
        if self._sent:
            return True
        if self._exchange.err.started:
            self._sent = True
            self._writer.send(self._request.body, self._request.data)
            self._writer.end()
        elif prompts := self._exchange.err.before.count(self._request.prompt.encode()):
            self._exchange.refused = prompts > 1
            self._answer()
        return not self._exchange.refused

    def _answer(self) -> None:
        if not self._answered and self._request.password:
            self._answered = True
            self._writer.send(self._request.password.reveal() + b"\n")


def _read(channel: Channel, exchange: Exchange, deadline_at: float, feed: Callable[[], bool]) -> bool:
    """Reads until both streams end or `feed` returns False. Returns False when `deadline_at` (of time.monotonic) came first."""
    quiet = 0
    while True:
        if _drained(channel, exchange) or exchange.flood or not feed():
            return True
        over = bool(channel.exit_status_ready())
        if over:
            deadline_at = min(deadline_at, time.monotonic() + LINGER)
        left = deadline_at - time.monotonic()
        if left <= 0 or quiet == DRAIN:
            return over
        if channel.recv_ready() or channel.recv_stderr_ready():
            continue
        if not channel.wait(min(left, PULSE)) and over:
            quiet += 1


def _drained(channel: Channel, exchange: Exchange) -> bool:
    over = bool(channel.eof_received or channel.closed)  # checked first: data that came before the end is still read
    # some pieces at a time: a script that writes faster than this reads still meets its deadline
    for _ in range(PIECES):
        if channel.recv_ready() and (chunk := channel.recv(1 << 18)):
            exchange.out.feed(chunk)
        if channel.recv_stderr_ready() and (chunk := channel.recv_stderr(1 << 18)):
            exchange.err.feed(chunk)
    return over and not (channel.recv_ready() or channel.recv_stderr_ready())
