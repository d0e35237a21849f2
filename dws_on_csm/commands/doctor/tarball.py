"""Texts in a .tar.gz for its owner alone: without the secrets that are in them, and whole or not there at all."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

from dws_on_csm.redaction import redact
from dws_on_csm.redaction.known_secrets import Known


def write(path: Path, members: Iterable[tuple[str, str]], known: Known = redact.NOTHING) -> None:
    """Writes `members`, each a name and its text, to `path`, which must not be there. OSError if it can't be written.

    `known`: what is known to be secret, and is taken out wherever it stands.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with (
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for name, said in members:
                _add(archive, f"{path.name.removesuffix('.tar.gz')}/{name}", redact.text(said, known))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, said: str) -> None:
    content = said.encode(errors="replace")
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))
