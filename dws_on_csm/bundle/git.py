"""Run git on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dws_on_csm.bundle.download import SourceError
from dws_on_csm.model.step import Finding, Refused


def text(words: Sequence[str], deadline: float, plain: bool = False, codes: Sequence[int] = (0,)) -> str:
    """What `git WORDS` prints. Raises SourceError when it fails, or is not finished after `deadline` seconds.

    plain   without settings of the user or the system, which could change what git writes
    codes   exit codes that mean success
    """
    return output(words, deadline, plain, codes).decode(errors="replace")


def output(words: Sequence[str], deadline: float, plain: bool = False, codes: Sequence[int] = (0,)) -> bytes:
    """As `text`, as bytes."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} if plain else {}
    # Over plain http or git's own protocol, anybody on the network path could replace the code.
    safe = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:ssh:file"}
    environment = {**os.environ, **safe, "LC_ALL": "C", **own}
    pipe, verb = subprocess.PIPE, _verb(words)
    try:
        process = subprocess.Popen(
            ["git", *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        raise Refused(Finding("git-missing", "git is not installed on this machine", "install git here")) from None
    with _killed_at_end(process):
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise SourceError(f"git {verb} timed out after {deadline:.0f} s") from None
    if process.returncode not in codes:
        raise SourceError(f"git {verb}: {err.decode(errors='replace').strip()}")
    return out


@contextmanager
def _killed_at_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """At the end, kill git and the programs that it started (the ones that fetch), which are in its process group."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _verb(words: Sequence[str]) -> str:
    """The git command in `words`, as "fetch"."""
    rest = iter(words)
    for word in rest:
        if word in ("-C", "-c"):
            next(rest)
        else:
            return word
    return ""
