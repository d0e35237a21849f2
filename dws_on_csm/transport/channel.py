"""One exec channel from start to end: it writes while it reads, and ends at its deadline."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from dws_on_csm.model.secret import Secret
from dws_on_csm.transport import sudo
from dws_on_csm.transport.link import Channel
from dws_on_csm.transport.output import LineSink, Stream, tail

PIECE = 1 << 15  # bytes that fit into one SSH packet
PULSE = 1.0  # seconds; the end of the script does not wake the reader, so the reader checks for it
# A background process may keep the output open after the script's end. The reader then waits for DRAIN pulses without output
# (counted, not timed: a machine that was suspended has read nothing meanwhile), and for at most LINGER seconds of output.
DRAIN, LINGER = 3, 30.0
PIECES = 16  # of each stream that are read before the deadline is checked again
STATUS = 30.0  # seconds within which the exit code follows the end of the output
LOGIN = 6.0
"""Seconds after which a login that has not started our command is looked into: it may be slow, or wait for input."""
START = 60.0
"""Seconds from there to the script's start: sudo may wait for name servers."""
STRAY = 5.0
"""Seconds by which what is written to one stream may come after what is written to the other."""


@dataclass(frozen=True)
class ExecRequest:
    """What to run: the remote `command`, which prints `token` when it starts, and its input: a script and that one's input.

    Nothing is sent before `token` has come, except what `answer` returns: the answer to sudo's question, see sudo.Dialog.
    `login`: the seconds that the login shell has to start the command. `stay`: the input stays open. `started` is called when the
    script can be sent: sudo has taken the answer by then.
    """

    token: str
    command: str
    input: bytes
    line: LineSink | None
    answer: sudo.Answer | None = None
    login: float = LOGIN
    stay: bool = False
    started: Callable[[], None] = lambda: None


@dataclass
class Exchange:
    """What came of a request. `whole`: it ended before its deadline; `code` is None where the channel has no exit code.

    A request was given up before its script was sent where one of these is set: `overdue` ("login": the login shell has not
    started the command; "script": nothing has started the script; "stdout": it has, and its output goes elsewhere; "stderr": that
    goes into stdout), `refused` (sudo did not take the answer), `question` (sudo's second question). `asked` is whose password sudo
    wanted, `given` the question and its answer. `began`: when, by time.monotonic(), before the channel was opened: with ssh the
    command begins with its channel.
    """

    out: Stream
    err: Stream
    whole: bool = False
    overdue: str = ""
    refused: bool = False
    question: str = ""
    asked: str = ""
    given: tuple[sudo.Question, Secret] | None = None
    code: int | None = None
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def flood(self) -> str:
        """A sentence that says where too much output was cut off; "" where none was."""
        return self.out.flood or self.err.flood

    @property
    def given_up(self) -> bool:
        """Whether the script was not sent, and never will be."""
        return bool(self.overdue or self.refused or self.question)

    @property
    def reached(self) -> str:
        """How far the command has come: "", "login" or "rights", see Stream."""
        return self.err.reached or self.out.reached

    @property
    def shell(self) -> str:
        """The path of the login shell; "" where it is unknown."""
        return self.err.shell or self.out.shell

    @property
    def ended(self) -> bool:
        """Whether the script has ended, as both streams say."""
        return self.out.ended is not None and self.err.ended is not None

    def login_text(self) -> str:
        """What the login, or sudo, wrote before the script started, in one line."""
        return " ".join(tail(self.out.words(), self.err.words(), lines=3))


def converse(channel: Channel, request: ExecRequest, exchange: Exchange, deadline: float) -> None:
    """Runs `request` on `channel` and fills `exchange`. `deadline` seconds after the script's start it closes the channel in any
    case.
    """
    writer = _InputFeeder(channel, request.stay)
    try:
        exchange.whole = read_until(channel, exchange, math.inf, _Start(request, exchange, writer).feed)
        if exchange.out.started and not exchange.given_up:
            exchange.whole = read_until(channel, exchange, time.monotonic() + deadline, lambda: True)
    finally:
        _finish(channel, exchange, writer)
        exchange.seconds = time.monotonic() - exchange.began


def begin(channel: Channel, request: ExecRequest, exchange: Exchange, deadline: float, ready: bytes) -> None:
    """Runs `request`, whose script stays, until the script has written a line that begins with `ready` to stderr.

    Then the channel stays open. Where the line does not come within `deadline` seconds, the channel is closed.
    """
    writer = _InputFeeder(channel, request.stay)
    try:
        exchange.whole = read_until(channel, exchange, math.inf, _Start(request, exchange, writer).feed)
        if exchange.out.started and not exchange.given_up:
            waits = time.monotonic() + deadline
            exchange.whole = read_until(channel, exchange, waits, lambda: ready_line(exchange, ready) is None)
    finally:
        exchange.seconds = time.monotonic() - exchange.began
        if ready_line(exchange, ready) is None:
            _finish(channel, exchange, writer)


def probe(channel: Channel, exchange: Exchange, seconds: float) -> None:
    """Runs a command without input until the login shell has started it, or has ended, or `seconds` have passed."""
    writer = _InputFeeder(channel, stay=False)
    writer.end()
    began = time.monotonic()
    try:
        exchange.whole = read_until(channel, exchange, began + seconds, lambda: not exchange.reached)
    finally:
        exchange.seconds = time.monotonic() - exchange.began
        _finish(channel, exchange, writer)


def _finish(channel: Channel, exchange: Exchange, writer: _InputFeeder) -> None:
    if exchange.whole and not exchange.given_up and not exchange.flood:
        # the script's own code; the login shell may end with another one
        ends = (exchange.out.ended, exchange.err.ended, channel.exit_code(PULSE if exchange.ended else STATUS))
        exchange.code = next((code for code in ends if code is not None), None)
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


class _Start:
    """Follows a command from the login shell to its script, answers sudo, and then sends the script and its stdin."""

    def __init__(self, request: ExecRequest, exchange: Exchange, writer: _InputFeeder) -> None:
        self._request, self._exchange, self._writer = request, exchange, writer
        self._sudo = sudo.Dialog(request.token, request.answer) if request.answer else None
        self._reached = exchange.reached
        self._since = time.monotonic()

    def feed(self) -> bool:
        """Does what is due after a read. False: the script was sent, or the request was given up."""
        exchange = self._exchange
        if exchange.out.started and exchange.out.logins < 2:
            self._request.started()
            self._writer.send(self._request.input)
            self._writer.end()
            return False
        reached = "script" if exchange.err.started else exchange.reached
        if reached != self._reached:
            self._reached, self._since = reached, time.monotonic()
        if self._sudo and exchange.reached == "login" and not exchange.err.started:
            self._converse(self._sudo)
        exchange.overdue = self._overdue()
        return not exchange.given_up

    def _converse(self, dialog: sudo.Dialog) -> None:
        exchange = self._exchange
        if answer := dialog.feed(bytes(exchange.err.before[exchange.err.since :])):
            self._writer.send(answer.reveal() + b"\n")
            self._since = time.monotonic()  # a person may have thought about it
        exchange.asked, exchange.refused, exchange.question = dialog.asked, dialog.refused, dialog.question

    def _overdue(self) -> str:
        waited = time.monotonic() - self._since
        if self._exchange.out.logins > 1:
            return "stderr"
        if self._exchange.err.started:
            return "stdout" if waited > STRAY else ""
        if self._exchange.reached:
            return "script" if waited > START else ""
        return "login" if waited > self._request.login else ""


def read_until(channel: Channel, exchange: Exchange, deadline_at: float, feed: Callable[[], bool]) -> bool:
    """Reads until both streams or the script end, or `feed` returns False. Returns False when `deadline_at` (of time.monotonic)
    came first.
    """
    quiet = 0
    while True:
        if _drained(channel, exchange) or exchange.flood or exchange.ended or not feed():
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
