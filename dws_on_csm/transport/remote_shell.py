"""Scripts on one host, each over an exec channel that a session opens: how they get their rights, run and end."""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from dws_on_csm.model.errors import DeadlineExceeded, SudoRefused, Unreachable
from dws_on_csm.transport import bootstrap, channel, sudo
from dws_on_csm.transport.channel import Exchange, ExecRequest
from dws_on_csm.transport.output import LineSink, Stream, tail
from dws_on_csm.transport.result import Result, result
from dws_on_csm.transport.sudo import Rights

if TYPE_CHECKING:
    from paramiko import Channel

SCRIPTS = 4  # at once on one connection: sshd allows 10 sessions, of which the cluster's API takes up to 5
BEGINS = 20.0  # seconds within which a script that was sent to a host says that it has begun
OVERDUE = 3.0  # seconds that the remote end has to keep the deadline itself before the channel is closed


def token() -> str:
    """What a script says first, so that the login's own talk is known from it."""
    return secrets.token_hex(8)


class RemoteShell(ABC):
    """Runs scripts on `host`. `environment` is what each of them sees; with a `password` they run under sudo."""

    def __init__(self, host: str, environment: Mapping[str, str], password: sudo.Password | None) -> None:
        self.host = host
        self._environment = environment
        self._password = password
        self._asks = False  # whether sudo is known to ask here
        self._places = threading.Semaphore(SCRIPTS)
        self._running: list[Exchange] = []
        self._lock = threading.Lock()

    @abstractmethod
    def channel(self) -> Channel:
        """A new session channel; raises Lost or Unreachable."""

    def run(self, script: str, data: bytes = b"", *, deadline: float, line: LineSink | None = None) -> Result:
        """Runs `script` with sh, as root where this session uses sudo; `data` is its stdin.

        The script runs as it is (no -eu), in /, with umask 022. After `deadline` seconds it and what it started are
        ended: DeadlineExceeded. `line` gets each line of its stdout and stderr as it comes. Raises Lost when the
        connection breaks, and then the script may have read a shortened `data`: what is to be kept is checked before
        it is put in place. Raises SudoRefused or Unreachable when the script could not be started.
        """

        ends = time.monotonic() + deadline
        if not self._places.acquire(timeout=deadline):
            raise DeadlineExceeded(self.host, deadline, ("other scripts ran here all the time",))
        try:
            return self._run(script, data, max(ends - time.monotonic(), 0.1), line)  # to timeout(1) 0 means for ever
        finally:
            self._places.release()

    def beside(self, script: str, *, deadline: float) -> Result:
        """Like run(), without waiting until others have ended, and stop() does not end it: for the few short scripts that
        can't wait for long ones, and must not go with them.
        """
        return self._run(script, b"", deadline, None, aside=True)

    def _run(self, script: str, data: bytes, deadline: float, line: LineSink | None, aside: bool = False) -> Result:
        body = bootstrap.whole(script, self._environment)

        def converse(rights: Rights) -> Exchange:
            order, talk = self._order(rights, body, data, deadline, line)
            with nullcontext() if aside else self._listed(talk):
                channel.converse(self.channel(), order, talk, deadline + bootstrap.GRACE + OVERDUE)
            return talk

        return result(self.host, self._with_rights(converse), deadline, self._unstarted)

    def pipe(self, script: str, ready: str, *, deadline: float, lifetime: float) -> tuple[Channel, str]:
        """A channel whose two directions are stdin and stdout of `script`, from the line `ready REST` on its stderr.

        Returns the channel and REST. The script is given `deadline` seconds to get so far, and ended after `lifetime`.
        Raises what run() raises, and Unreachable with the script's words when it ends before it is ready.
        """
        body = bootstrap.whole(script, self._environment)
        opened: list[Channel] = []

        def begin(rights: Rights) -> Exchange:
            order, talk = self._order(rights, body, b"", lifetime, None, stay=True)
            opened.append(self.channel())
            channel.begin(opened[-1], order, talk, deadline, ready.encode())
            return talk

        talk = self._with_rights(begin)
        rest = channel.ready_line(talk, ready.encode())
        if rest is not None:
            return opened[-1], rest
        result(self.host, talk, deadline, self._unstarted)
        text = " ".join(tail(talk.err.content(), lines=3)) or "nothing was said"
        raise Unreachable(self.host, f"what was to stay ended at once: {text}", "mend what it complains about")

    def _with_rights(self, attempt: Callable[[Rights], Exchange]) -> Exchange:
        """The attempt as oneself, or under sudo: without a password as long as that is enough."""
        if self._password is None:
            return attempt(sudo.NONE)
        if not self._asks:
            talk = attempt(sudo.FREE)
            if talk.err.started or talk.code != sudo.WOULD_ASK:
                return talk
            self._asks = True
        return attempt(sudo.asking(self._password.get(self.host)))

    def _order(
        self, rights: Rights, body: bytes, data: bytes, seconds: float, line: LineSink | None, stay: bool = False
    ) -> tuple[ExecRequest, Exchange]:
        mark = token()
        command = bootstrap.command(len(body), seconds, mark, rights.words)
        order = ExecRequest(mark, command, body, data, line, rights.prompt, rights.password, stay)
        return order, Exchange(Stream(mark, line), Stream(mark, line))

    @property
    def busy(self) -> bool:
        """Whether a script runs on the host now."""
        return bool(self._running)

    def stop(self) -> None:
        """Ends what runs on the host now, and what it started; also what has been sent there, and did not begin yet."""
        ends = time.monotonic() + BEGINS
        doomed = self._now()
        while doomed and time.monotonic() < ends:
            numbers = {id(talk): talk.out.number or talk.err.number for talk in doomed}
            if groups := [f"-{number}" for number in numbers.values() if number]:
                self.beside(f"kill -s TERM -- {' '.join(groups)}", deadline=30.0)
            else:
                time.sleep(0.05)  # nothing tells when a script says that it has begun
            running = {id(talk) for talk in self._now()}
            doomed = [talk for talk in doomed if id(talk) in running and not numbers[id(talk)]]

    def _now(self) -> list[Exchange]:
        """What runs on the host, or has been sent there."""
        with self._lock:
            return list(self._running)

    @contextmanager
    def _listed(self, talk: Exchange) -> Iterator[None]:
        """Counts `talk` among what runs now: stop() ends it."""
        with self._lock:
            self._running.append(talk)
        try:
            yield
        finally:
            with self._lock:
                self._running = [other for other in self._running if other is not talk]

    def _unstarted(self, talk: Exchange) -> Unreachable:
        if self._password:
            fix = f"make `sudo sh` work for this user on {self.host}, or log in as root (ssh.user)"
            return SudoRefused(self.host, f"sudo refused: {talk.said()}", fix)
        fix = f"see what `ssh {self.host} sh -c true` says: this needs sh, head and timeout on the login's PATH"
        return Unreachable(self.host, f"no script can be started (exit code {talk.code}): {talk.said()}", fix)
