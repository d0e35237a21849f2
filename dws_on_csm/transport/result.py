"""What came of a script on a host: its result, or the exception that says what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dws_on_csm.model.errors import DeadlineExceeded, Flooded, Lost, SudoRefused, Unreachable
from dws_on_csm.transport.channel import Exchange
from dws_on_csm.transport.output import tail


@dataclass(frozen=True)
class Result:
    """What a script wrote, its exit code (128 + N: ended by signal N), and how long it took as seen from here."""

    out: bytes
    err: bytes
    code: int
    seconds: float


def result(host: str, talk: Exchange, deadline: float, unstarted: Callable[[Exchange], Unreachable]) -> Result:
    """What came of `talk`. Raises Flooded, DeadlineExceeded, Lost, SudoRefused; or what `unstarted` makes of one that
    never began."""
    if talk.flood:
        raise Flooded(host, talk.flood)
    out, err = talk.out.content(), talk.err.content()
    late = talk.code in (124, 137) and talk.seconds >= deadline  # how timeout(1) says that it ended something
    if not talk.whole or late:
        raise DeadlineExceeded(host, deadline, tail(out, err))
    if talk.refused:
        raise SudoRefused(host, "sudo did not take the password", "try again with the right one")
    if talk.code is None:
        raise Lost(host, "the connection broke while a script ran")
    if not talk.err.started:
        raise unstarted(talk)
    return Result(out, err, talk.code, talk.seconds)
