"""A script's output: bytes for its reader, and lines for who watches it."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 4096
"""Bytes of a line that are shown; after so many the line is shown although its end has not come."""
LIMIT = 16_000_000
"""Bytes that a script may write to each of its streams: ten times the largest output of ours."""
BEFORE = 128_000
"""Bytes that a login may write to each stream before the script begins."""
MOST = 200_000
"""Lines of a watched script."""
TAIL = 64_000
"""Bytes at the end of an output in which tail() looks for its last lines."""
_ENDS = re.compile(rb"[\r\n]+")

LineSink = Callable[[str], None]


class Lines:
    """Splits bytes into lines for `sink`; a carriage return ends a line, too, for progress bars."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink
        self._rest = b""
        self.shown = 0

    def feed(self, chunk: bytes) -> None:
        """Passes on the lines that `chunk` completes."""
        *lines, self._rest = _ENDS.split(self._rest + chunk)
        for line in lines:
            self._show(line)
        if len(self._rest) > LONGEST:
            self.end()

    def end(self) -> None:
        """Passes on the last line, which has no line end."""
        self._show(self._rest)
        self._rest = b""

    def _show(self, line: bytes) -> None:
        text = line[:LONGEST].decode(errors="replace").rstrip()
        if text and self.shown < MOST:
            self._sink(text)
        self.shown += 1


class Stream:
    """One of stdout and stderr: the bytes before the line `TOKEN NUMBER`, and after it.

    `flood` says where too much output was cut off; later bytes are dropped.
    """

    def __init__(self, token: str, sink: LineSink | None) -> None:
        self._mark = re.compile(rb"%b (\d{1,19})\n" % token.encode())
        self._overlap = len(token) + 20  # bytes of a mark that may have come already
        self._kept = bytearray()
        self._lines = Lines(sink) if sink else None
        self.before = bytearray()
        self.number: int | None = None
        self.started = False
        self.flood = ""

    def feed(self, chunk: bytes) -> None:
        """Adds the bytes that have come."""
        if self.flood:
            return
        if self.started:
            self._take(chunk)
            return
        seen = len(self.before)
        self.before += chunk
        self._seek(max(seen - self._overlap, 0))
        if len(self.before) > BEFORE:
            del self.before[BEFORE:]
            self.flood = f"the login writes without end before the script starts; output cut after {BEFORE // 1000} kB"

    def _seek(self, begin: int) -> None:
        if found := self._mark.search(self.before, begin):
            self.started = True
            self.number = int(found[1])
            rest = bytes(self.before[found.end() :])
            del self.before[found.start() :]
            self._take(rest)

    def _take(self, chunk: bytes) -> None:
        if len(self._kept) + len(chunk) > LIMIT:
            chunk = chunk[: LIMIT - len(self._kept)]
            self.flood = f"the script writes without end; output cut after {LIMIT // 1_000_000} MB"
        self._kept += chunk
        if self._lines:
            self._lines.feed(chunk)
            if self._lines.shown > MOST:
                self.flood = f"the script writes without end; output cut after {MOST} lines"

    def end(self) -> None:
        """Passes on the last line: no more bytes will come."""
        if self._lines:
            self._lines.end()

    def content(self) -> bytes:
        """Everything after the mark."""
        return bytes(self._kept)

    def line(self, head: bytes) -> bytes | None:
        """The rest of the first complete line of the content that begins with `head`; None where there is none yet."""
        begin = 0 if self._kept.startswith(head) else self._kept.find(b"\n" + head) + 1
        end = self._kept.find(b"\n", begin + len(head))
        return bytes(self._kept[begin + len(head) : end]) if self._kept.startswith(head, begin) and end >= 0 else None


def tail(*contents: bytes, lines: int = 20) -> tuple[str, ...]:
    """The last `lines` lines of `contents` together, for people: all that ends a line on a terminal does so here."""
    ends = (content[-TAIL:] for content in contents)
    text = b"\n".join(end.rstrip() for end in ends if end.strip()).decode(errors="replace")
    return tuple(text.splitlines()[-lines:])
