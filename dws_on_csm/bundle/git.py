"""git on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dws_on_csm.bundle.download import SourceError
from dws_on_csm.model.step import Finding, Refused


def says(words: Sequence[str], deadline: float, plain: bool = False, codes: Sequence[int] = (0,)) -> str:
    """What `git WORDS` prints. Raises SourceError when it fails or isn't through after `deadline` seconds.

    plain   without anybody's settings, which could change what it writes
    codes   exit codes that are none of a failure
    """
    return written(words, deadline, plain, codes).decode(errors="replace")


def written(words: Sequence[str], deadline: float, plain: bool = False, codes: Sequence[int] = (0,)) -> bytes:
    """The same as bytes."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} if plain else {}
    # over plain http or git's own protocol anybody on the way could put other code in the place of what was asked for
    safe = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:ssh:file"}
    environment = {**os.environ, **safe, "LC_ALL": "C", **own}
    pipe, verb = subprocess.PIPE, _verb(words)
    try:
        process = subprocess.Popen(
            ["git", *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        raise Refused(Finding("git-missing", "this machine has no git", "install git here")) from None
    with _ended(process):
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise SourceError(f"git {verb} was not through after {deadline:.0f} s") from None
    if process.returncode not in codes:
        raise SourceError(f"git {verb}: {err.decode(errors='replace').strip()}")
    return out


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """With git end the programs that it has started, which are in its group: those that fetch, for instance."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _verb(words: Sequence[str]) -> str:
    """git's command among its words."""
    rest = iter(words)
    for word in rest:
        if word in ("-C", "-c"):
            next(rest)
        else:
            return word
    return ""
