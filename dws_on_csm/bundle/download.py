"""What this machine fetches over HTTP itself, with its own proxies and CAs: https_proxy, no_proxy, SSL_CERT_FILE."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import IO, Any

SILENCE = 30.0
"""Seconds without a byte after which a server is given up."""

PIECE = 1 << 18
SMALL = 8 << 20
"""Bytes that an answer which is kept in memory may have."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there, and those that there will be (0: not known)."""


class SourceError(Exception):
    """A source doesn't give what was asked of it; says which, and why. `status`: the HTTP code, 0 without one."""

    def __init__(self, text: str, status: int = 0, headers: Message | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or Message()


def read(url: str, headers: Mapping[str, str] | None = None) -> tuple[bytes, Message]:
    """A small answer, up to SMALL bytes, and its headers. Raises SourceError."""
    with _Answer(url, headers or {}) as answer:
        content = answer.read(SMALL + 1)
        if len(content) > SMALL:
            raise SourceError(f"{url}: more than {SMALL >> 20} MB, which it can't be")
        return content, answer.headers


def save(
    url: str, target: Path, sha256: str, ends: float, progress: Progress, headers: Mapping[str, str] | None = None
) -> None:
    """The answer as a file, which must have this sha256, all there before `ends` (of time.monotonic). Raises SourceError."""
    digest = hashlib.sha256()
    with _Answer(url, headers or {}) as answer, target.open("wb") as out:
        told = answer.headers.get("Content-Length", "")
        done, total = 0, int(told) if told.isascii() and told.isdigit() and len(told) < 16 else 0
        while piece := answer.read(PIECE):
            out.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done, total)
            if time.monotonic() > ends:
                raise SourceError(f"{url}: not through when its deadline came, with {done >> 20} of {total >> 20} MB")
    if digest.hexdigest() != sha256:
        raise SourceError(f"{url}: what came has the sha256 {digest.hexdigest()}, and not {sha256}")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but none from https:// to anything else: who asked for https:// relies on it to the end."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to follow with. Raises URLError."""
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise urllib.error.URLError(
                f"redirects to {newurl.partition('?')[0]}, which others could change on the way"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Answer:
    """The open answer to a GET; what goes wrong on the way is a SourceError."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        if not url.startswith(("https://", "http://")):
            raise SourceError(f"{url}: neither https:// nor http://")
        self._request = urllib.request.Request(url)  # noqa: S310 - its scheme was looked at just now
        for name, value in headers.items():
            # not sent on to where a redirection leads: a storage service takes a second authorization amiss
            self._request.add_unredirected_header(name, value)

    def __enter__(self) -> _Answer:
        try:
            self._stream: IO[bytes] = urllib.request.build_opener(Redirects).open(self._request, timeout=SILENCE)
        except urllib.error.HTTPError as error:
            with error:
                raise SourceError(f"{self._url}: HTTP {error.code}", error.code, error.headers) from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._url}: {getattr(error, 'reason', None) or error}") from None
        self.headers: Message = self._stream.headers
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        """Up to so many bytes; b"" at the end."""
        try:
            return self._stream.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._url}: {error!r}") from None
