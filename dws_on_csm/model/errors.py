"""What can go wrong between here and a host, each with the host, what happened and what to do."""

from __future__ import annotations

MALFORMED: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""What code raises that parses an answer of an unexpected form."""


class RemoteError(Exception):
    """A host, the connection to it, the cluster or this run's lock there failed. The message says what happened.

    host  where it happened, "" for the cluster
    fix   what to do about it, "" if that is unknown
    """

    host = ""
    fix = ""


READ_ERRORS: tuple[type[Exception], ...] = (RemoteError, *MALFORMED)
"""What code raises that only reads: a host or the cluster failed, or its answer has an unexpected form."""


def error_text(error: Exception) -> str:
    """What happened, in a sentence, for one of READ_ERRORS."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"the answer could not be read: {type(error).__name__}: {str(error)[:300]}"


class Unreachable(RemoteError):
    """No command can be run on `host`: `text` says why, `fix` what to do about it."""

    def __init__(self, host: str, text: str, fix: str) -> None:
        super().__init__(f"{host}: {text}")
        self.host = host
        self.text = text
        self.fix = fix


class NoLogin(Unreachable):
    """The host can be reached, and this way of logging in can't: another one may. `short` says why, without details.

    `other_key`: the host may accept another key.
    """

    def __init__(self, host: str, text: str, fix: str, short: str, other_key: bool = True) -> None:
        super().__init__(host, text, fix)
        self.short = short
        self.other_key = other_key


class SudoRefused(Unreachable):
    """The host was reached, and sudo refused to run a command."""


class Crowded(Unreachable):
    """No connection was tried: this process may not open more files."""


class LockLost(RemoteError):
    """This run no longer holds the site's lock: another run may be at work. `host` is where that was found."""

    text = "this run has lost its lock on the site: {}. It changes nothing more."

    def __init__(self, host: str, text: str) -> None:
        super().__init__(text)
        self.host = host


class Lost(RemoteError):
    """The connection broke while a script ran on `host`: whether the script finished is unknown."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(f"{host}: {text}")
        self.host = host
        self.text = text
        self.fix = f"check that `ssh {host} uptime` responds, then run the same command again: it continues from there"


class Flooded(Lost):
    """A script on `host` wrote more than any script of ours does, and its connection was closed. What it did is unknown."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(host, text)
        self.fix = f"log in on {host}, find what writes so much output, then run this again"


class DeadlineExceeded(RemoteError):
    """A script on `host` was ended after `seconds`; `tail` holds the last lines that it wrote."""

    def __init__(self, host: str, seconds: float, tail: tuple[str, ...]) -> None:
        super().__init__(f"{host}: not finished after {seconds:.0f} s")
        self.host = host
        self.seconds = seconds
        self.tail = tail
