"""Values of secrets in the lines of slurm.conf, in whatever form Slurm's own parser takes them: over several lines, with
`*=`, with backslashes in the key. Also where the lines are those of a difference.
"""

from __future__ import annotations

import re

from dws_on_csm.domain.slurm_conf import lines_of
from dws_on_csm.model.secret import GONE
from dws_on_csm.redaction import secret_forms
from dws_on_csm.redaction.secret_names import HINT, secret

_ODD = re.compile(r"[*/+-]=|\\")
"""What a line has that is none in the form which every search for settings knows."""
_KEY = re.compile(r"[+-]?\s*([a-z0-9_.]+)\s*[-*+/]?=", re.ASCII | re.IGNORECASE)


def taken_out(said: str) -> str:
    """The text without such values. What a line goes on with behind one goes with it."""
    if "=" not in said or not _ODD.search(said) or not HINT.search(said.replace("\\", "")):
        return said
    return "".join(_clean(line.raw, line.text) for line in lines_of(said))


def _clean(raw: str, meant: str) -> str:
    key = _KEY.match(meant) if "=" in raw and _ODD.search(raw) else None
    if key is None or not secret(key[1]):
        return raw
    begin = raw.index("=") + 1
    value = raw[begin:]
    if value.lstrip().startswith(GONE):
        return raw
    return f"{raw[:begin]}{GONE}" + ("\n" if raw.endswith("\n") else "")


def new(have: str, want: str) -> list[str]:
    """The keys of those lines of a slurm.conf that are not in another one, and hold a password.

    A path is none: AccountingStoragePass may be that of a socket.
    """
    there = {line.text.strip() for line in lines_of(have)}
    lines = [line for line in lines_of(want) if line.value() and line.text.strip() not in there]
    return [line.words()[0] for line in lines if _holds_secret(line.words()[0], line.value())]


def _holds_secret(key: str, value: str) -> bool:
    return (secret(key) and not value.startswith("/")) or secret_forms.taken_out(value) != value
