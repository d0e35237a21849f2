"""What can go wrong between here and a host, each with the host, what happened and what to do."""

from __future__ import annotations

from dws_on_csm.model.cluster_api import MALFORMED, ClusterError


class Unreachable(Exception):
    """Nothing can be run on `host`: `text` says why, `fix` what to do about it."""

    def __init__(self, host: str, text: str, fix: str) -> None:
        super().__init__(f"{host}: {text}")
        self.host = host
        self.text = text
        self.fix = fix


class SudoRefused(Unreachable):
    """The host was reached and sudo said no."""


class Crowded(Unreachable):
    """This machine, not the host, is why there is no connection: this process may have no more files open."""


class LockLost(Exception):
    """This run no longer holds the site's lock: another one may be at work by now. `host` is where that was found."""

    text = "this run has lost its lock on the site: {}. It changes nothing more."

    def __init__(self, host: str, text: str) -> None:
        super().__init__(text)
        self.host = host


class Lost(Exception):
    """The connection broke while something ran on `host`: whether that came to its end is not known."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(f"{host}: {text}")
        self.host = host
        self.text = text


class Flooded(Lost):
    """What ran on `host` wrote more than anything of ours does; its connection was closed. What it did is not known."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(host, text)
        self.fix = f"log in on {host} and see what writes so much, then run this again"


class DeadlineExceeded(Exception):
    """What ran on `host` was ended after `seconds`; `tail` are the last lines that it wrote."""

    def __init__(self, host: str, seconds: float, tail: tuple[str, ...]) -> None:
        super().__init__(f"{host}: not finished after {seconds:.0f} s")
        self.host = host
        self.seconds = seconds
        self.tail = tail


TROUBLE: tuple[type[Exception], ...] = (Unreachable, Lost, DeadlineExceeded, ClusterError, LockLost)
"""What can go wrong on the way to a host or in the cluster, or with the lock that a run holds there."""


UNTOLD: tuple[type[Exception], ...] = (*TROUBLE, *MALFORMED)
"""How it ends where something is only read: nobody answers, or what is answered can't be read."""


def untold(error: Exception) -> str:
    """One of UNTOLD, in words."""
    known = isinstance(error, TROUBLE)
    return str(error) if known else f"the answer could not be read: {type(error).__name__}: {str(error)[:300]}"
