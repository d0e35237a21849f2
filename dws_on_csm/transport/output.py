"""A script's output: bytes for its reader, and lines for who watches it."""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST = 4096
"""Bytes of a line that are shown; after so many the line is shown although its end has not come."""
LIMIT = 16_000_000
"""Bytes that a script may write to each of its streams: ten times the largest output of ours."""
BEFORE = LIMIT
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
    """One of stdout and stderr: the bytes before the line `TOKEN NUMBER`, and those from there to `KEY ends CODE`.

    Everybody on the host may know TOKEN; KEY is known to nobody whose text a script may print.

    Before these, `TOKEN login SHELL` says that the login shell has started our command, and `TOKEN rights` that sudo has:
    `reached` is "", "login" or "rights", `shell` the path of the login shell. `ended` is CODE, None before it has come; later
    bytes are dropped. `flood` says where too much output was cut off.
    """

    def __init__(self, token: str, key: str, sink: LineSink | None) -> None:
        self._key = key.encode()
        self._token = token.encode()
        self._mark = re.compile(rb"%b (?:(\d{1,19})|(login|rights) ?([^\n]{0,80}))\n" % self._token)
        self._end = re.compile(rb"%b ends (\d{1,3})\n" % self._key)
        self._overlap = len(token) + 100  # bytes of a mark that may have come already
        self._held = b""
        self._kept = bytearray()
        self._lines = Lines(sink) if sink else None
        self.before = bytearray()
        self.reached = ""
        self.shell = ""
        self.logins = 0  # how often it says so: twice where one stream leads into the other
        self.since = 0  # where in `before` the bytes begin that came after the last mark
        self.number: int | None = None
        self.started = False
        self.ended: int | None = None
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
        self._seek(max(seen - self._overlap, self.since))
        if len(self.before) > BEFORE:
            del self.before[BEFORE:]
            self.flood = (
                f"the login writes without end before the script starts; output cut after {BEFORE // 1_000_000} MB"
            )

    def _seek(self, begin: int) -> None:
        while mark := self._mark.search(self.before, begin):
            begin = self.since = mark.end()
            if mark[1]:
                self.started = True
                self.number = int(mark[1])
                rest = bytes(self.before[mark.end() :])
                del self.before[mark.start() :]
                self._take(rest)
                return
            self.reached = mark[2].decode()
            self.shell = self.shell or mark[3].decode(errors="replace")
            self.logins += mark[2] == b"login"

    def _take(self, chunk: bytes) -> None:
        if self.ended is not None:
            return
        chunk = self._held + chunk
        if end := self._end.search(chunk):
            self._held, self.ended = b"", int(end[1])
            chunk = chunk[: end.start()]
        else:
            split = self._begun_mark(chunk)
            self._held, chunk = chunk[split:], chunk[:split]
        self._keep(chunk)

    def _begun_mark(self, chunk: bytes) -> int:
        """Where the last mark in `chunk` begins if the rest of it may still come; else the end of `chunk`."""
        begin = chunk.rfind(self._key)
        if begin >= 0 and len(chunk) - begin < len(self._key) + len(b" ends 123\n"):
            return begin
        parts = (len(chunk) - size for size in range(len(self._key) - 1, 0, -1) if chunk.endswith(self._key[:size]))
        return next(parts, len(chunk))

    def _keep(self, chunk: bytes) -> None:
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
        held, self._held = self._held, b""
        self._keep(held)
        if self._lines:
            self._lines.end()

    def content(self) -> bytes:
        """Everything between the marks."""
        return bytes(self._kept) + self._held

    def words(self) -> bytes:
        """What was written after the last mark before the script: the login's words, or those of sudo."""
        return re.sub(rb"%b [^\n:]*[\n:]" % self._token, b"", bytes(self.before[self.since :]))

    def says(self, text: str) -> bool:
        """Whether the content ends with the line `TOKEN text`."""
        return self._kept.endswith(self._token + f" {text}\n".encode())

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
