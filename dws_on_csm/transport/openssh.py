"""A connection by the system's own ssh: one master process for each host, and channels through its control socket.

What `ssh HOST` can do works here too: two factors, security keys and smartcards, Kerberos, all of OpenSSH's algorithms, and a
master connection that the person has opened. That is used, and never ended here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dws_on_csm.model.errors import Lost, NoLogin, Unreachable
from dws_on_csm.model.printable import plain_line
from dws_on_csm.transport import mux, ssh_log
from dws_on_csm.transport.askpass_server import PATIENCE, TOUCH, Ask, Questions, Waiting
from dws_on_csm.transport.fabric_link import FREED, too_many_sessions
from dws_on_csm.transport.output import tail
from dws_on_csm.transport.tried_once import TriedOnce

FILES = 24
"""Open files of a connection: the pipes of ssh, and four for each of its channels."""
LONGEST_PATH = (
    60  # bytes of the folder's path; a socket's path has at most 104, and ssh adds 17 while it makes the socket
)
ANSWER = 60.0  # seconds in which a connected host accepts a channel
ENDS = 3.0  # seconds in which ssh ends after its input has ended
ACCEPTED = b"Server accepts key"
"""What ssh writes at LogLevel DEBUG1 before it signs with a key. It only decides whether a person is asked to touch the key."""
CHATTER = (b"debug1: ", b"OpenSSH_", b"Transferred: ", b"Bytes per second: ")
"""How lines begin that ssh writes at that level, and that are for nobody."""
LOG = 1 << 18
"""Bytes of ssh's own words that are looked at."""

KEEP = ("ServerAliveInterval=15", "ServerAliveCountMax=3")
QUIET = (
    *("ControlPersist=no", "ClearAllForwardings=yes", "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none"),
    *("RequestTTY=no", "Tunnel=no", "UpdateHostKeys=no", "VisualHostKey=no", "LogLevel=DEBUG1"),
)
"""Options for a connection that only carries our commands."""

# ssh in a process group of its own, which ends when its standard input does: with this process, however that ends.
SUPERVISE = """
folder=$1; shift
exec 3<&0
ulimit -f 131072 2>/dev/null # its log: 64 MB of a host's own words end the connection
trap : TERM HUP INT
"$@" </dev/null 3<&- & ssh=$!
{ read -r _; kill -s TERM 0; } <&3 &
guard=$!
exec 3<&-
wait "$ssh"; code=$?
while kill -s 0 "$ssh" 2>/dev/null; do wait "$ssh"; code=$?; done
kill "$guard" 2>/dev/null
rm -rf -- "$folder"
exit "$code"
"""


@dataclass(frozen=True)
class SshTarget:
    """How ssh reaches a host.

    name, user  as in the site file; user "": as ssh_config says
    words       further words for ssh, such as -F and the ssh_config
    strict      "yes": unknown host keys are refused; "accept-new": they are added. One that has changed is always refused
    control     the person's own control socket, if there is one
    agent       the agent is forwarded
    ticket      ssh_config forwards the Kerberos ticket, and `words` do not say otherwise
    jump        the last jump host before it; None also where ssh itself has to find the route
    """

    name: str
    user: str
    words: tuple[str, ...]
    strict: Literal["yes", "accept-new"]
    control: Path | None
    agent: bool
    ticket: bool
    jump: SshTarget | None = None


class OpenSshLink:
    """The connection to a host. `jumps`: those to jump hosts, which hosts share, and who can be asked."""

    def __init__(self, target: SshTarget, jumps: OpenSshJumps) -> None:
        self._target, self._jumps = target, jumps
        self._master: _Master | None = None
        self._socket = target.control

    def open(self, seconds: float) -> None:
        """Connects and logs in within `seconds`, not counting questions to a person. Raises Unreachable."""
        if self._socket and self._usable(self._socket, seconds):
            return
        through = self._jumps.control(self._target, seconds)
        self._master = _Master(self._target, through, self._jumps.ask, self._jumps.waiting)
        try:
            self._socket = self._master.open(seconds)
        except BaseException:
            self._master.close()
            raise

    @property
    def control(self) -> Path | None:
        """The control socket, once there is a connection."""
        return self._socket

    def _usable(self, control: Path, seconds: float) -> bool:
        """Whether the person's own master connection works; its process may not know yet that the host is gone."""
        try:
            mux.MuxChannel(control, "exit 0", min(seconds, ANSWER)).close()
        except mux.Refused:
            return True  # it has no free session at this moment
        except OSError:
            return False
        return True

    def channel(self, command: str) -> mux.MuxChannel:
        """A new channel for `command`. Raises Lost or Unreachable."""
        deadline_at = time.monotonic() + FREED
        assert self._socket
        while True:
            try:
                return mux.MuxChannel(self._socket, command, ANSWER, self._target.agent)
            except mux.Refused as error:
                if time.monotonic() > deadline_at:
                    raise too_many_sessions(self._target.name, plain_line(str(error))) from error
            except OSError as error:
                why = self._master.last_words() if self._master else ""
                raise Lost(self._target.name, f"the connection broke: {why or error}") from error
            time.sleep(0.02)  # no event says that sshd has noticed the end of another session

    def close(self) -> None:
        """Ends the connection that was opened here."""
        if self._master:
            self._master.close()


class OpenSshJumps:
    """Connections to jump hosts. Each jump host is tried once, and asks for a code once, however many hosts are behind it.

    `ask` None: nobody can be asked, and ssh does not try.
    """

    def __init__(self, ask: Ask | None, waiting: Waiting) -> None:
        self.ask, self.waiting = ask, waiting
        self._tried = TriedOnce[SshTarget, OpenSshLink | Unreachable]()

    def control(self, to: SshTarget, seconds: float) -> Path | None:
        """The control socket of the connection to the jump host of `to`; None without one. Raises Unreachable."""
        jump = to.jump
        if not jump:
            return None
        # without a limit: who connects keeps to a deadline, or waits for a person
        link = self._tried.get(jump, lambda: self._connected(jump, seconds))
        if isinstance(link, Unreachable):
            text = f"through jump host {link.host}: {link.text}"
            if isinstance(link, NoLogin):
                raise NoLogin(to.name, text, link.fix, f"jump host {link.host}: {link.short}")
            raise Unreachable(to.name, text, link.fix)
        return link.control

    def _connected(self, via: SshTarget, seconds: float) -> OpenSshLink | Unreachable:
        link = OpenSshLink(via, self)
        try:
            link.open(seconds)
        except Unreachable as error:
            return error
        return link

    def __len__(self) -> int:
        return len(self._links())

    def _links(self) -> list[OpenSshLink]:
        return [link for link in self._tried.results() if isinstance(link, OpenSshLink)]

    def close(self) -> None:
        """Ends all connections that were opened here."""
        for link in self._links():
            link.close()


class _Master:
    """A process of ssh that holds a connection, with its control socket in a folder of this user alone."""

    def __init__(self, target: SshTarget, through: Path | None, ask: Ask | None, waiting: Waiting) -> None:
        self._target, self._through, self._ask, self._waiting = target, through, ask, waiting
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # read when ssh has failed
        self._folder = _folder()
        self._questions: Questions | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, seconds: float) -> Path:
        """The control socket, once ssh has logged in. Raises Unreachable."""
        control = self._folder / "m"
        words = ("sh", "-c", SUPERVISE, "sh", str(self._folder), *self._command(control))
        self._questions = questions = Questions(self._target.name, self._folder, self._ask, self._waiting, seconds)
        environment = os.environ | questions.environment()
        self._process = subprocess.Popen(
            words,
            env=environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        began, shown = time.monotonic(), False
        signing: float | None = None
        while not self._listening(control):
            if self._process.poll() is not None:
                raise self._failed()
            waited = time.monotonic() - began - questions.seconds
            if waited > seconds:
                raise self._late(seconds)
            if signing is None and ACCEPTED in self._log():
                signing = waited
            if signing is not None and waited - signing > PATIENCE and not shown:
                shown = True
                self._waiting(self._target.name, TOUCH, seconds - waited)
            time.sleep(0.02)  # no event says that ssh has logged in
        questions.close()
        return control

    def _command(self, control: Path) -> list[str]:
        target = self._target
        options = [f"ControlPath={control}", "ControlMaster=yes", *QUIET, *KEEP]
        options += [f"BatchMode={'no' if self._ask else 'yes'}", f"StrictHostKeyChecking={target.strict}"]
        options += [f"ProxyCommand={_proxy(target.jump, self._through)}"] if target.jump and self._through else []
        named = [word for option in options for word in ("-o", option)]
        return [
            "ssh",
            *target.words,
            "-N",
            "-T",
            *named,
            *(("-l", target.user) if target.user else ()),
            "--",
            target.name,
        ]

    def _listening(self, control: Path) -> bool:
        """Whether ssh has made its control socket: it does so right after the login."""
        if not control.exists():
            return False
        with suppress(OSError):  # ssh does not answer there yet
            return mux.alive(control, ENDS) > 0
        return False

    def _failed(self) -> Unreachable:
        words = self.last_words() or "ssh ended without a message"
        if cause := ssh_log.cause(self._log()):
            text = f"ssh failed: {cause.text}; ssh wrote: {words}"
            return NoLogin(self._target.name, text, cause.fix, cause.text)
        fix = f"make `ssh {self._target.name}` work on this machine, as this user"
        if ssh_log.key_refused(self._log()):
            fix += f" ({ssh_log.of_sshd(self._target.user, self._target.name)})"
        return Unreachable(self._target.name, f"ssh failed: {words}", fix)

    def _late(self, seconds: float) -> Unreachable:
        words = self.last_words()
        text = f"ssh did not log in within {seconds:.0f} s{f': {words}' if words else ''}"
        fix = f"check whether `ssh {self._target.name}` works; for more time, raise deadlines.connect in the site file"
        return Unreachable(self._target.name, text, fix)

    def last_words(self) -> str:
        """The last lines that ssh wrote for people, in one line."""
        lines = [line.strip() for line in self._log().splitlines() if not line.startswith(CHATTER)]
        different = dict.fromkeys(line for line in lines if line)
        return "; ".join(map(plain_line, tail(b"\n".join(different), lines=3)))

    def _log(self) -> bytes:
        """The end of what ssh has written. Its file position is ssh's, too, so it stays where it is."""
        descriptor = self._errors.fileno()
        return os.pread(descriptor, LOG, max(0, os.fstat(descriptor).st_size - LOG))

    def close(self) -> None:
        """Ends ssh, and all that it has started."""
        if self._questions:
            self._questions.close()
        process = self._process
        if process and process.stdin:
            process.stdin.close()
            try:
                process.wait(ENDS)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._errors.close()


def _proxy(via: SshTarget, control: Path) -> str:
    """The ProxyCommand that goes through the connection to a jump host. It never logs in itself."""
    words = ("ssh", *via.words, "-S", str(control), "-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-W")
    return " ".join(shlex.quote(word).replace("%", "%%") for word in words) + f" '[%h]:%p' -- {shlex.quote(via.name)}"


def _folder() -> Path:
    """A new folder of this user alone, whose path is short enough for sockets in it and needs no quotes in ssh's options."""
    base = tempfile.gettempdir()
    plain = re.fullmatch(r"[A-Za-z0-9/._-]+", base) and len(base) < LONGEST_PATH
    return Path(tempfile.mkdtemp(prefix="dws-", dir=base if plain else "/tmp"))  # noqa: S108  # mkdtemp makes it private
