"""Downloads of this machine over HTTP, with its own proxies and CAs: https_proxy, no_proxy, SSL_CERT_FILE."""

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
"""Seconds without a byte after which a download fails."""

PIECE = 1 << 18
SMALL = 8 << 20
"""Largest answer that is kept in memory, in bytes."""

Progress = Callable[[int, int], None]
"""Called with the bytes so far, and the total (0: unknown)."""


class SourceError(Exception):
    """A source failed; the message names it and the reason. `status`: the HTTP code, 0 without one."""

    def __init__(self, text: str, status: int = 0, headers: Message | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or Message()


def read(url: str, headers: Mapping[str, str] | None = None) -> tuple[bytes, Message]:
    """A small answer, up to SMALL bytes, and its headers. Raises SourceError."""
    with _Answer(url, headers or {}) as answer:
        content = answer.read(SMALL + 1)
        if len(content) > SMALL:
            raise SourceError(f"{url}: the answer is larger than {SMALL >> 20} MB")
        return content, answer.headers


def save(
    url: str,
    target: Path,
    sha256: str,
    deadline_at: float,
    progress: Progress,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Write the answer to a file; it must have this sha256, and be complete at `deadline_at` (of time.monotonic). Raises
    SourceError."""
    digest = hashlib.sha256()
    with _Answer(url, headers or {}) as answer, target.open("wb") as out:
        length = answer.headers.get("Content-Length", "")
        done, total = 0, int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0
        while piece := answer.read(PIECE):
            out.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done, total)
            if time.monotonic() > deadline_at:
                raise SourceError(f"{url}: timed out after {done >> 20} of {total >> 20} MB")
    if digest.hexdigest() != sha256:
        raise SourceError(f"{url}: the download has the sha256 {digest.hexdigest()}, not {sha256}")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but none from https:// to another protocol: who asks for https:// relies on it to the end."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to follow with. Raises URLError."""
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise urllib.error.URLError(f"redirects to {newurl.partition('?')[0]}, which is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Answer:
    """The open answer to a GET; every failure is a SourceError."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        if not url.startswith(("https://", "http://")):
            raise SourceError(f"{url}: neither https:// nor http://")
        self._request = urllib.request.Request(url)  # noqa: S310 - its scheme was checked just now
        for name, value in headers.items():
            # Not sent to the target of a redirection: a storage service rejects a second authorization.
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
        """Up to `size` bytes; b"" at the end."""
        try:
            return self._stream.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._url}: {error!r}") from None
