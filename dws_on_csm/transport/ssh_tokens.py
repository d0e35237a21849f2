"""The %-tokens and variables that `ssh -G` leaves in its values."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

Tokens = Mapping[str, str]


class UnknownToken(Exception):
    """A value has a token whose meaning is not known here."""


def tokens(name: str, hostname: str, user: str, port: str, alias: str) -> Tokens:
    """What each token stands for, for the host that was asked for as `name`."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": hostname,
        "i": str(os.getuid()),
        "k": alias or name,
        "L": local.partition(".")[0],
        "l": local,
        "n": name,
        "p": port,
        "r": user,
        "u": getpass.getuser(),
    }


def fill(text: str, meaning: Tokens) -> str:
    """`text` with its tokens and ${VARIABLES} filled in; UnknownToken for others."""

    def token(found: re.Match[str]) -> str:
        if found[1] not in meaning:
            raise UnknownToken(f"%{found[1]} in {text!r}")
        return meaning[found[1]]

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UnknownToken(f"${{{found[1]}}} in {text!r} (not set)")
        return os.environ[found[1]]

    return re.sub(r"%(.?)", token, re.sub(r"\$\{(\w+)\}", variable, text))


def paths(values: Iterable[str], meaning: Tokens) -> tuple[Path, ...]:
    """Values that are paths, with ~ and tokens filled in; `none` is no path."""
    return tuple(Path(fill(value, meaning)).expanduser() for value in values if value and value != "none")


def agent(value: str, meaning: Tokens) -> str:
    """The agent's socket by IdentityAgent, "" for none."""
    if value == "SSH_AUTH_SOCK" or not value:
        return os.environ.get("SSH_AUTH_SOCK", "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return "" if value == "none" else str(Path(fill(value, meaning)).expanduser())
