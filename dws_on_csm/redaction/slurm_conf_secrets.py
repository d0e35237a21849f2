"""Secrets in lines of slurm.conf, in every form that Slurm's own parser accepts: over several lines, with `*=`, with
backslashes in the key; also where the lines are those of a difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dws_on_csm.domain.slurm_conf import ASKED, lines_of
from dws_on_csm.model.remembered import remembered
from dws_on_csm.model.secret import REDACTED
from dws_on_csm.redaction import secret_forms
from dws_on_csm.redaction.secret_names import HINT, names_secret

_ODD = re.compile(r"[*/+-]=|\\")
"""Marks of a line that named_values would not recognize as a setting."""
_KEY = re.compile(r"[+-]?\s*([a-z0-9_.]+)\s*[-*+/]?=", re.ASCII | re.IGNORECASE)


def redacted(text: str) -> str:
    """The text with such values replaced, each up to the end of its line."""
    if "=" not in text or not _ODD.search(text) or not HINT.search(text.replace("\\", "")):
        return text
    return "".join(_clean(line.raw, line.text) for line in lines_of(text))


def _clean(raw: str, meant: str) -> str:
    key = _KEY.match(meant) if "=" in raw and _ODD.search(raw) else None
    if key is None or not names_secret(key[1]):
        return raw
    begin = raw.index("=") + 1
    value = raw[begin:]
    if value.lstrip().startswith(REDACTED):
        return raw
    return f"{raw[:begin]}{REDACTED}" + ("\n" if raw.endswith("\n") else "")


@remembered(ASKED)
def new(have: str, want: str) -> Sequence[str]:
    """The keys of those lines in `want`, a slurm.conf, that are not in `have` and hold a password.

    A path is no password: AccountingStoragePass may be a socket's path.
    """
    there = {line.text.strip() for line in lines_of(have)}
    lines = [line for line in lines_of(want) if line.value() and line.text.strip() not in there]
    return tuple(line.words()[0] for line in lines if _holds_secret(line.words()[0], line.value()))


def _holds_secret(key: str, value: str) -> bool:
    return (names_secret(key) and not value.startswith("/")) or secret_forms.redacted(value) != value
