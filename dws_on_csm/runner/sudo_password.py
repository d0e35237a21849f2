"""Where the password for sudo comes from: a command of the site file that prints it, or a person on the terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
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

KEY = "ssh.sudo_password_command"


def password(command: str, paused: Callable[[], AbstractContextManager[None]] = nullcontext) -> sudo.Password:
    """The answers to sudo's questions in a run, by the site file's command, or where that is "", by the person on the terminal,
    which `paused` frees meanwhile."""
    if command:
        printed: dict[tuple[str, ...], str] = {}

        def ask_command(question: sudo.Question) -> str:
            words = tuple(expanded(command, question))
            if words not in printed:
                printed[words] = from_command(words, question)
            return printed[words]

        return sudo.Password(ask_command, each="%h" in command)

    def ask_person(question: sudo.Question) -> str:
        with paused():
            return ask_terminal(question)

    return sudo.Password(ask_person, sudo.TRIES if sys.stdin.isatty() else 1)


def ask_terminal(question: sudo.Question) -> str:
    """The answer to sudo's question, asked for on the terminal. Raises SudoRefused where there is no terminal."""
    asks = _asks(question)
    if not sys.stdin.isatty():
        fix = f"run this on a terminal, set {KEY} in the site file, give the user NOPASSWD in sudoers, or log in as root (ssh.user)"
        raise SudoRefused(question.host, f"{asks}, and there is no terminal to ask on", fix)
    if question.again:
        console.note(f"sudo on {question.host} did not accept the password. Try again.")
    return console.password(f"{asks} (used for all hosts of this run): ")


def _asks(question: sudo.Question) -> str:
    if question.user:
        return f"sudo on {question.host} asks for the password of {question.user}"
    return f"sudo on {question.host} asks: {question.text}"


def expanded(command: str, question: sudo.Question) -> list[str]:
    """The command's words: %h is the host, %u the account whose password sudo asks for ("" where sudo does not name it)."""
    return [word.replace("%h", question.host).replace("%u", question.user) for word in shlex.split(command)]


def from_command(words: tuple[str, ...], question: sudo.Question) -> str:
    """What the command prints, without its last newline. Raises SudoRefused where it fails, or prints no password.

    It runs without a shell and without a terminal, in a session of its own that is ended after SECONDS.
    """

    def refused(why: str) -> SudoRefused:
        text = f"{_asks(question)}, and {KEY} {why}"
        return SudoRefused(
            question.host, text, f"correct {KEY} in the site file: `{shlex.join(words)}` must print the password"
        )

    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise refused(f"cannot be run: {error.strerror}") from None
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(SECONDS, end)
    timer.start()
    try:
        out, err = process.communicate()
    except BaseException:  # as Ctrl-C, which a session of its own does not get
        end()
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise refused(f"did not end within {SECONDS:.0f} s")
    if process.returncode:
        words_ = " ".join(tail(err, lines=3)) or "it wrote nothing"
        raise refused(f"ended with exit code {process.returncode}: {words_}")
    text = out.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text or len(out) > LONGEST:
        raise refused("printed nothing" if not text else "printed more than one line, or too much")
    return text
