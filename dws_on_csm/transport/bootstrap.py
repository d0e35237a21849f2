"""The command that sshd is asked to run: always the same few words, which read the script itself from stdin.

A script in argv would be seen by everybody on the host (`ps`), and sudo would log it; so only its length goes there.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

WHOLE = "#whole"
"""A script's last line. One that was cut on its way lacks it, and nothing of it is run."""

GRACE = 20.0
"""Seconds between the signals TERM and KILL: for what exceeds its deadline or is to stop, and still has to clear away."""


def command(size: int, seconds: float, token: str, sudo: tuple[str, ...] = ()) -> str:
    """The remote command for a script of `size` bytes that ends after `seconds`, under `sudo` (its words) if any.

    It writes `token PGID` to stdout and stderr when it is ready for the script; what comes before that is the login
    shell's own talk. Any login shell can run it: sh, csh and fish read these quotes alike.
    """
    read = f's=$(head -c {size}); case $s in *"{WHOLE}") eval "$s";; *) echo "script cut off" >&2; exit 125;; esac'
    inner = f"echo {token} $PPID; echo {token} $PPID >&2; {read}"
    bounded = f"timeout -k {GRACE:g} {seconds:.3f} sh -c {shlex.quote(inner)}; exit $?"
    return shlex.join(("exec", *sudo, "sh", "-c", bounded))


def whole(script: str, environment: Mapping[str, str]) -> bytes:
    """`script` as it is sent: with a stated environment, umask and folder, and the mark of its end."""
    return f"{exports(environment)}umask 022\ncd /\n{script}\n{WHOLE}".encode()


def exports(environment: Mapping[str, str]) -> str:
    """The lines of sh that set `environment`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
