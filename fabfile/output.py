"""What comes back from a host: bytes for the one who reads them, lines for the one who watches."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 4096
"""Bytes after which a line is shown although its end has not come."""
_ENDS = re.compile(rb"[\r\n]+")

LineSink = Callable[[str], None]


class Lines:
    """Cuts bytes into lines for `sink`; a carriage return ends a line too, as progress bars use it."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink
        self._rest = b""

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
        text = line.decode(errors="replace").rstrip()
        if text:
            self._sink(text)


class Stream:
    """One of stdout and stderr: what came before the mark TOKEN and its number, and what came after."""

    def __init__(self, token: str, sink: LineSink | None) -> None:
        self._mark = re.compile(rb"%b (\d+)\n" % token.encode())
        self._parts: list[bytes] = []
        self._lines = Lines(sink) if sink else None
        self.before = bytearray()
        self.number: int | None = None
        self.started = False

    def feed(self, chunk: bytes) -> None:
        """Takes what has come."""
        if self.started:
            self._take(chunk)
        else:
            self.before += chunk
            self._seek()

    def _seek(self) -> None:
        if found := self._mark.search(self.before):
            self.started = True
            self.number = int(found[1])
            rest = bytes(self.before[found.end() :])
            del self.before[found.start() :]
            self._take(rest)

    def _take(self, chunk: bytes) -> None:
        if chunk:
            self._parts.append(chunk)
            if self._lines:
                self._lines.feed(chunk)

    def end(self) -> None:
        """Nothing more will come."""
        if self._lines:
            self._lines.end()

    def content(self) -> bytes:
        """Everything after the mark."""
        return b"".join(self._parts)


def tail(*contents: bytes, lines: int = 20) -> tuple[str, ...]:
    """The last `lines` lines of `contents` together."""
    text = b"\n".join(one.rstrip() for one in contents if one.strip()).decode(errors="replace")
    return tuple(text.splitlines()[-lines:])
