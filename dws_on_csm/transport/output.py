"""What comes back from a host: bytes for the one who reads them, lines for the one who watches."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 4096
"""Bytes of a line that are shown; a line is shown after so many although its end has not come."""
LIMIT = 16_000_000
"""Bytes that a script may write to each of its streams: the largest that one of ours writes has a tenth of it."""
BEFORE = 128_000
"""Bytes that a login may write to each before the script begins."""
MOST = 200_000
"""Lines that a script may write to somebody who watches."""
TAIL = 64_000
"""Bytes of the end of an output in which its last lines are looked for."""
_ENDS = re.compile(rb"[\r\n]+")

LineSink = Callable[[str], None]


class Lines:
    """Cuts bytes into lines for `sink`; a carriage return ends a line too, as progress bars use it."""

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
        """Passes on the last line, which has no end."""
        self._show(self._rest)
        self._rest = b""

    def _show(self, line: bytes) -> None:
        text = line[:LONGEST].decode(errors="replace").rstrip()
        if text and self.shown < MOST:
            self._sink(text)
        self.shown += 1


class Stream:
    """One of stdout and stderr: what came before the mark TOKEN and its number, and what came after.

    `flood` says where it was cut since it was too much; nothing of what comes then is kept.
    """

    def __init__(self, token: str, sink: LineSink | None) -> None:
        self._mark = re.compile(rb"%b (\d{1,19})\n" % token.encode())
        self._overlap = len(token) + 20  # a mark of which the begin has come already
        self._kept = bytearray()
        self._lines = Lines(sink) if sink else None
        self.before = bytearray()
        self.number: int | None = None
        self.started = False
        self.flood = ""

    def feed(self, chunk: bytes) -> None:
        """Takes what has come."""
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
            self.flood = (
                f"its login writes without end before anything is run there; output cut after {BEFORE // 1000} kB"
            )

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
            self.flood = f"what runs there writes without end; output cut after {LIMIT // 1_000_000} MB"
        self._kept += chunk
        if self._lines:
            self._lines.feed(chunk)
            if self._lines.shown > MOST:
                self.flood = f"what runs there writes without end; output cut after {MOST} lines"

    def end(self) -> None:
        """Nothing more will come."""
        if self._lines:
            self._lines.end()

    def content(self) -> bytes:
        """Everything after the mark."""
        return bytes(self._kept)

    def line(self, head: bytes) -> bytes | None:
        """What follows `head` on the first line of the content that begins so; None before that line has come whole."""
        begin = 0 if self._kept.startswith(head) else self._kept.find(b"\n" + head) + 1
        end = self._kept.find(b"\n", begin + len(head))
        return bytes(self._kept[begin + len(head) : end]) if self._kept.startswith(head, begin) and end >= 0 else None


def tail(*contents: bytes, lines: int = 20) -> tuple[str, ...]:
    """The last `lines` lines of `contents` together, for people: what a terminal takes for a line's end is one."""
    ends = (one[-TAIL:] for one in contents)
    text = b"\n".join(one.rstrip() for one in ends if one.strip()).decode(errors="replace")
    return tuple(text.splitlines()[-lines:])
