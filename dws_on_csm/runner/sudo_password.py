"""Where the password for sudo comes from: a command of the site file that prints it, or a person on the terminal."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from dws_on_csm.display import console
from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.transport import sudo
from dws_on_csm.transport.output import tail

SECONDS = 60.0
"""Seconds that the command has: it may ask a password manager, whose agent may ask the person."""
LONGEST = 4096
"""Bytes of a password: what prints more prints something else."""

ERRORS = 1 << 16
"""Bytes of its complaints that are looked at."""
PULSE = 0.05
"""Seconds between two looks at whether the command has ended: no event says so while another process has its output."""

KEY = "ssh.sudo_password_command"

ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,255}\$?")
"""An account's name. It comes from a host, and becomes part of a command on this machine: it is no option, no path, and nothing
to a shell that the command may start."""


def password(command: str, paused: Callable[[], AbstractContextManager[None]] = nullcontext) -> sudo.Password:
    """The answers to sudo's questions in a run, by the site file's command, or where that is "", by the person on the terminal,
    which `paused` frees meanwhile."""
    if command:
        printed: dict[tuple[str, ...], str] = {}

        def ask_command(question: sudo.Question) -> str:
            if "%u" in command and question.user and not ACCOUNT.fullmatch(question.user):
                text = f"{_asks(question)}, which is not the name of an account, so {KEY} was not run"
                fix = f"run `sudo -k true` on {question.host}, and find out which program asks this"
                raise SudoRefused(question.host, text, fix)
            words = tuple(expanded(command, question))
            if words not in printed:
                printed[words] = from_command(words, question)
            return printed[words]

        return sudo.Password(ask_command, each="%h" in command)

    interrupted = False

    def ask_person(question: sudo.Question) -> str:
        nonlocal interrupted
        with paused():
            try:
                if not interrupted:
                    return ask_terminal(question)
            except (KeyboardInterrupt, EOFError):
                interrupted = True  # the run is being stopped, or nobody answers: no other host asks again
        raise SudoRefused(question.host, f"{_asks(question)}, and got no answer", f"answer it, {_WITHOUT_QUESTION}")

    return sudo.Password(ask_person, sudo.TRIES if sys.stdin.isatty() else 1)


_WITHOUT_QUESTION = f"set {KEY} in the site file, give the user NOPASSWD in sudoers, or log in as root (ssh.user)"
"""What to do so that no person has to answer."""


def ask_terminal(question: sudo.Question) -> str:
    """The answer to sudo's question, asked for on the terminal. Raises SudoRefused where there is no terminal."""
    asks = _asks(question)
    if not sys.stdin.isatty():
        fix = f"run this on a terminal, {_WITHOUT_QUESTION}"
        raise SudoRefused(question.host, f"{asks}, and there is no terminal to ask on", fix)
    if question.refused_by:
        console.note(f"sudo on {question.refused_by} did not accept the password. Try again.")
    for _ in range(sudo.TRIES):
        # an empty answer is never sent: sudo would count it as a wrong one
        if answer := console.password(f"{asks} (used for all hosts of this run): "):
            return answer
    raise SudoRefused(question.host, f"{asks}, and nothing was typed", f"answer it, {_WITHOUT_QUESTION}")


def _asks(question: sudo.Question) -> str:
    if question.user:
        return f"sudo on {question.host} asks for the password of {question.user}"
    return f"sudo on {question.host} asks: {question.text}"


def expanded(command: str, question: sudo.Question) -> list[str]:
    """The command's words: %h is the host, %u the account whose password sudo asks for ("" where sudo does not name it)."""
    return [word.replace("%h", question.host).replace("%u", question.user) for word in shlex.split(command)]


def from_command(words: tuple[str, ...], question: sudo.Question) -> str:
    """What the command prints, without its last newline. Raises SudoRefused where it fails, or prints no password.

    It runs without a shell and without a terminal, in a session of its own that is ended after SECONDS. What it leaves behind
    runs on.
    """

    def refused(why: str) -> SudoRefused:
        text = f"{_asks(question)}, and {KEY} {why}"
        return SudoRefused(
            question.host, text, f"correct {KEY} in the site file: `{shlex.join(words)}` must print the password"
        )

    with tempfile.TemporaryFile() as errors:  # not a pipe: what writes much there, and is not read, would wait
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise refused(f"cannot be run: {error.strerror}") from None
        try:
            out, code = _output(process)
        except subprocess.TimeoutExpired:
            raise refused(f"did not end within {SECONDS:.0f} s") from None
        err = os.pread(errors.fileno(), ERRORS, max(0, os.fstat(errors.fileno()).st_size - ERRORS))
    if len(out) > LONGEST:
        raise refused("printed more than one line, or too much")
    if code:
        words_ = " ".join(tail(err, lines=3)) or "it wrote nothing"
        raise refused(f"ended with exit code {code}: {words_}")
    text = out.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text:
        raise refused("printed nothing" if not text else "printed more than one line, or too much")
    return text


def _output(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    """What the command has printed when it ends, and its exit code. What prints too much is ended, and all after SECONDS: then this
    raises TimeoutExpired.

    What it leaves behind, as the agent of a password manager, may keep its output open forever: the end of the output alone is no
    condition.
    """
    assert process.stdout
    ends, out, is_open = time.monotonic() + SECONDS, b"", True
    try:
        with process.stdout as stdout:
            poll = select.poll()
            poll.register(stdout, select.POLLIN)
            while is_open and len(out) <= LONGEST:
                over = process.poll() is not None  # checked first: what was printed before the end is still read
                if poll.poll(0 if over else PULSE * 1000):
                    piece = os.read(stdout.fileno(), LONGEST)
                    out, is_open = out + piece, bool(piece)
                elif over:
                    break
                if time.monotonic() > ends:
                    raise subprocess.TimeoutExpired(process.args, SECONDS)
        if len(out) > LONGEST:
            _kill(process)
        return out, process.wait(max(ends - time.monotonic(), 0.1))
    except BaseException:  # as Ctrl-C, which a session of its own does not get
        _kill(process)
        process.wait()
        raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
