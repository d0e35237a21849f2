"""Many looks in one exec: each snippet in a subshell of its own, what it printed framed by a marker nobody can guess."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """What one snippet printed on its standard output and on standard error, and how it ended."""

    out: bytes
    err: bytes
    code: int


def marker() -> str:
    """A new marker; 128 random bits, so that no file's content can pass for a frame."""
    return f"--dws-on-csm-{secrets.token_hex(16)}"


def compose(snippets: Mapping[str, str], mark: str) -> str:
    """A script for `sh` that runs every snippet, whatever becomes of the others; their keys name the frames."""
    return "\n".join(_framed(name, snippet, mark) for name, snippet in snippets.items()) + "\n"


def _framed(name: str, snippet: str, mark: str) -> str:
    begin = f"printf '\\n%s\\n' '{mark} {name}'"
    return f"{begin}; {begin} >&2\n(\n{snippet}\n) </dev/null\nprintf '\\n%s %d\\n' '{mark} =' $?"


def split(out: bytes, err: bytes, mark: str) -> dict[str, Frame]:
    """The frames that `compose`'s script printed, by name; a snippet that never ended is left out."""
    errors = dict(_sections(err, mark))
    frames: dict[str, Frame] = {}
    name, text = "", b""
    for title, content in _sections(out, mark):
        if title.startswith("= "):
            code = title[2:]
            if code.isascii() and code.isdigit() and len(code) < 4:
                frames[name] = Frame(text, errors.get(name, b""), int(code))
        else:
            name, text = title, content
    return frames


def last_words(err: bytes, mark: str) -> str:
    """What the snippet that was at work last, or `sh` itself, wrote to standard error."""
    words = (_sections(err, mark) or [("", err)])[-1][1]
    return words.decode(errors="replace").strip()[-500:]


def _sections(stream: bytes, mark: str) -> list[tuple[str, bytes]]:
    parts = re.split(rb"\n" + re.escape(mark.encode()) + rb" ([^\n]+)\n", stream)
    return [(parts[i].decode(errors="replace"), parts[i + 1]) for i in range(1, len(parts) - 1, 2)]
