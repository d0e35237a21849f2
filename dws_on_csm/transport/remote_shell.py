"""Scripts on one host, each over an exec channel: how they start, get their rights, run and end.

sshd always gets the same few words as its command (login_shell.py), and they read the script from stdin. A script in argv would
be visible to every user of the host (`ps`), and sudo would log it. Each script waits until its own command has begun there: a
login may be another one each time. That costs no round trip, as the host first has to accept the command in any case, but the
time in which the login shell starts.
"""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from dws_on_csm.model.errors import DeadlineExceeded, Flooded, Lost, SudoRefused, Unreachable
from dws_on_csm.model.secret import Secret
from dws_on_csm.transport import channel, login_shell, start_errors, sudo
from dws_on_csm.transport.channel import LOGIN, START, Exchange, ExecRequest
from dws_on_csm.transport.link import Channel
from dws_on_csm.transport.output import LineSink, Stream, tail
from dws_on_csm.transport.sudo import Rights

SCRIPTS = 4  # at once on one connection: sshd allows 10 sessions, of which the cluster's API takes up to 5
BEGINS = 20.0  # seconds within which a script that was sent to a host says that it has begun
OVERDUE = 3.0  # seconds that the remote end has to keep the deadline itself before the channel is closed

GRACE = 20.0
"""Seconds between the signals TERM and KILL, in which a script that has to end cleans up."""


@dataclass(frozen=True)
class Result:
    """A script's output, its exit code (128 + N: ended by signal N), and the seconds that it took as seen from here."""

    out: bytes
    err: bytes
    code: int
    seconds: float


def script_body(key: str, script: str, environment: Mapping[str, str], data: bytes = b"") -> bytes:
    """`script` and its input as they are sent: with the script's environment, umask and folder before it, a checksum, and `key`."""
    return login_shell.checked(key, f"{exports(environment)}umask 022\ncd /\n{script}\n", data)


def exports(environment: Mapping[str, str]) -> str:
    """The lines of sh that set `environment`."""
    variables = {"SHELL": "/bin/sh", **environment}
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _new_key() -> str:
    """A new key of the mark that ends a script's output."""
    return secrets.token_hex(16)


class RemoteShell(ABC):
    """Runs scripts on `host`: all that a run needs of a host, however it is reached.

    `environment` is what each script sees; with a `password` they run under sudo. `commands` counts the exec channels that
    were opened, `connects` the host's own connections.
    """

    def __init__(self, host: str, environment: Mapping[str, str], password: sudo.Password | None) -> None:
        self.host = host
        self.commands = 0
        self.connects = 0
        self.password = password
        self.places = threading.Semaphore(SCRIPTS)
        self._environment = environment
        self._login = LOGIN  # seconds that the login shell has to start a command
        self.sudo_refused: SudoRefused | None = None  # why sudo did not start a script
        self._ways = sudo.WAYS  # the ways to call sudo that have not failed here
        self._running: list[Exchange] = []
        self._lock = threading.Lock()

    @abstractmethod
    def open(self, seconds: float) -> None:
        """Connects within `seconds`, or raises Unreachable."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection. A script that still runs on the host ends at its deadline."""

    @abstractmethod
    def channel(self, command: str) -> Channel:
        """A new channel for `command`. Raises Lost or Unreachable."""

    @abstractmethod
    def _command(self, rights: Rights, seconds: float, token: str, stays: bool) -> str:
        """The command for sshd that runs a script; see login_shell.script_code()."""

    @abstractmethod
    def _unstarted(self, exchange: Exchange) -> Unreachable:
        """The error for a script that the login shell, and sudo, have started, and that did not begin."""

    def run(self, script: str, data: bytes = b"", *, deadline: float, line: LineSink | None = None) -> Result:
        """Runs `script` with sh, as root where this session uses sudo; `data` is its stdin.

        The script runs as it is (no -eu), in /, with umask 022. After `deadline` seconds it and its children are ended:
        DeadlineExceeded. `line` gets each line of its stdout and stderr as it comes. Raises Lost when the connection
        breaks. Of `data` beyond login_shell.CHECKED bytes the script may then have read a part only, so it checks these itself.
        Raises Unreachable, or SudoRefused, when the script could not be started: then no part of it ran.
        """

        deadline_at = time.monotonic() + deadline
        if not self.places.acquire(timeout=deadline):
            raise DeadlineExceeded(self.host, deadline, ("other scripts of this run kept the host busy",))
        try:
            # to timeout(1) 0 means forever
            return self._run(script, data, max(deadline_at - time.monotonic(), 0.1), line)
        finally:
            self.places.release()

    def run_aside(self, script: str, *, deadline: float) -> Result:
        """Like run(), without waiting for other scripts, and stop() does not end it: for the few short scripts that can't
        wait for long ones and must not end with them.
        """
        return self._run(script, b"", deadline, None, aside=True)

    def _run(self, script: str, data: bytes, deadline: float, line: LineSink | None, aside: bool = False) -> Result:
        key = _new_key()
        body = script_body(key, script, self._environment, data)

        def converse(rights: Rights) -> Exchange:
            request, exchange = self._request(rights, key, body, deadline, line)
            with nullcontext() if aside else self._listed(exchange):
                channel.converse(self.channel(request.command), request, exchange, deadline + GRACE + OVERDUE)
            return exchange

        return self._result(self._with_rights(converse), deadline)

    def pipe(self, script: str, ready: str, *, deadline: float, lifetime: float) -> tuple[Channel, str]:
        """A channel whose two directions are stdin and stdout of `script`, once it has written `ready REST` to stderr.

        Returns the channel and REST. The script has `deadline` seconds to get ready, and ends after `lifetime`.
        Raises what run() raises, and Unreachable with the script's words when it ends before it is ready.
        """
        key = _new_key()
        body = script_body(key, script, self._environment)
        opened: list[Channel] = []

        def begin(rights: Rights) -> Exchange:
            request, exchange = self._request(rights, key, body, lifetime, None, stay=True)
            opened.append(self.channel(request.command))
            channel.begin(opened[-1], request, exchange, deadline, ready.encode())
            return exchange

        exchange = self._with_rights(begin)
        rest = channel.ready_line(exchange, ready.encode())
        if rest is not None:
            return opened[-1], rest
        self._result(exchange, deadline)
        text = " ".join(tail(exchange.err.content(), lines=3)) or "it wrote nothing"
        raise Unreachable(self.host, f"a script ended before it was ready: {text}", "correct what it complains about")

    def _with_rights(self, attempt: Callable[[Rights], Exchange]) -> Exchange:
        """The attempt as the login's user, or under sudo; again after a wrong password, where there may be another one."""
        if self.password is None:
            return self._behind_login(attempt, sudo.NONE)
        late = sudo.TRIES
        try:
            while True:
                exchange = self._under_sudo(attempt)
                if late and start_errors.is_late_answer(exchange):
                    late -= 1  # the answer is known by now
                    continue
                wrong = exchange.given and start_errors.is_wrong_password(exchange)
                if not (wrong and exchange.given and self.password.rejected(*exchange.given)):
                    return exchange
        except SudoRefused as error:
            # no password to send: nobody can be asked, the run is stopping, or others were wrong
            self.sudo_refused = error
            raise
        finally:
            self.password.tried()

    def _under_sudo(self, attempt: Callable[[Rights], Exchange]) -> Exchange:
        """The attempt in the first of sudo's ways that works here."""
        ways, exchanges = self._ways, []
        for number, rights in enumerate(ways):
            exchanges.append(exchange := self._behind_login(attempt, rights))
            if exchange.code != sudo.REFUSED or exchange.reached != "login" or exchange.asked:
                self._ways = ways[number:]
                return exchange
        return exchanges[-2:][0]  # the last way was tried because of what the one before it said

    def _behind_login(self, attempt: Callable[[Rights], Exchange], rights: Rights) -> Exchange:
        """The attempt, made again with more time where the login is slow. Raises Unreachable where it waits for input: where it is
        fast without input, and then again does not start the command with one.
        """
        exchange = attempt(rights)
        if exchange.overdue != "login":
            return exchange
        alone = self._probe()
        if not alone.reached:
            raise start_errors.not_started(self.host, alone)
        self._login = max(self._login, 3 * alone.seconds)
        exchange = attempt(rights)
        if exchange.overdue == "login":
            raise start_errors.reads_input(self.host, alone.shell)
        return exchange

    def _probe(self) -> Exchange:
        """How far the login gets, and how fast, with a command that does nothing, and without input."""
        token = secrets.token_hex(8)
        exchange = Exchange(Stream(token, token, None), Stream(token, token, None))
        command = login_shell.login_command(token, ("exit 0", "sh", token), sudo.NONE)
        channel.probe(self.channel(command), exchange, START)
        return exchange

    def _request(
        self, rights: Rights, key: str, body: bytes, seconds: float, line: LineSink | None, stay: bool = False
    ) -> tuple[ExecRequest, Exchange]:
        token = secrets.token_hex(8)  # tells the script's output from the login's own
        command = self._command(rights, seconds, token, stay)
        exchange = Exchange(Stream(token, key, line), Stream(token, key, line))

        def answer(user: str, text: str) -> Secret:
            assert self.password is not None
            question = sudo.Question(self.host, user, text)
            exchange.given = question, self.password.get(question)
            return exchange.given[1]

        def started() -> None:
            if self.password and exchange.given:
                self.password.accepted(*exchange.given)

        request = ExecRequest(token, command, body, line, answer if rights.asks else None, self._login, stay, started)
        return request, exchange

    def _result(self, exchange: Exchange, deadline: float) -> Result:
        """What came of a script. Raises Flooded, DeadlineExceeded, Lost, SudoRefused, and Unreachable."""
        if exchange.flood:
            raise Flooded(self.host, exchange.flood)
        if exchange.overdue in ("stdout", "stderr"):
            raise start_errors.redirects(self.host, exchange)
        if exchange.out.started:
            return self._outcome(exchange, deadline)
        if exchange.code is None and not exchange.given_up:
            self._probe()  # raises Lost where the connection broke; here a signal has ended the login shell
        if not exchange.reached:
            raise start_errors.not_started(self.host, exchange)
        if self.password and exchange.reached == "login":
            self.sudo_refused = start_errors.sudo_refused(self.host, exchange)
            raise self.sudo_refused
        raise self._unstarted(exchange)

    def _outcome(self, exchange: Exchange, deadline: float) -> Result:
        out, err = exchange.out.content(), exchange.err.content()
        late = exchange.code in (124, 137) and exchange.seconds >= deadline  # the codes by which timeout(1) says so
        if not exchange.whole or late:
            raise DeadlineExceeded(self.host, deadline, tail(out, err))
        if exchange.code is None:
            raise Lost(self.host, "the connection broke while a script ran")
        if exchange.err.ended is None and exchange.err.says(login_shell.INCOMPLETE):
            raise start_errors.incomplete(self.host, exchange.shell)
        return Result(out, err, exchange.code, exchange.seconds)

    @property
    def busy(self) -> bool:
        """Whether a script runs on the host now."""
        return bool(self._running)

    def stop(self) -> None:
        """Ends the scripts that run on the host now, with their children; also scripts that were sent and have not begun.

        Those that wait for a password which no host has accepted yet do not get it.
        """
        if self.password:
            self.password.stop()
        deadline_at = time.monotonic() + BEGINS
        doomed = self._now()
        while doomed and time.monotonic() < deadline_at:
            groups = {id(exchange): exchange.out.number or exchange.err.number for exchange in doomed}
            if begun := [f"-{number}" for number in groups.values() if number]:
                self.run_aside(f"kill -s TERM -- {' '.join(begun)}", deadline=30.0)
            else:
                time.sleep(0.05)  # no event says that a script has begun
            running = {id(exchange) for exchange in self._now()}
            doomed = [exchange for exchange in doomed if id(exchange) in running and not groups[id(exchange)]]

    def _now(self) -> list[Exchange]:
        """The scripts that run on the host, or were sent there."""
        with self._lock:
            return list(self._running)

    @contextmanager
    def _listed(self, exchange: Exchange) -> Iterator[None]:
        """Counts `exchange` as running, so that stop() ends it."""
        with self._lock:
            self._running.append(exchange)
        try:
            yield
        finally:
            with self._lock:
                self._running = [other for other in self._running if other is not exchange]
