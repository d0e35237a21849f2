"""A file that others read is never seen half written: it is complete before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def why_unwritable(file: Path) -> str:
    """Why a file cannot be written there, before anything is done for it; "" if it can."""
    writable = file.parent.is_dir() and os.access(file.parent, os.W_OK)
    return "" if writable else f"{file.parent} is not a folder that you can write to. Choose another one."


@contextmanager
def beside(path: Path, text: str) -> Iterator[Path]:
    """A new file next to `path` with this text, synced, for the caller to give it that name; it does not outlive the `with`.

    Every user may read it, whatever the umask: no secret belongs there. Raises OSError.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):  # of a process with this number that was killed
        part.unlink()
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        yield part
    finally:
        with suppress(OSError):
            part.unlink()
