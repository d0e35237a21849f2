"""From the host's login shell to a script in a `sh` of our own: the words of the command, and why it may not get there.

sshd gives its command to the user's login shell, which may be any, and which first reads its start-up files. These can read the
channel's input, run another program in place of the command, and change everything that the command inherits. So:

- The command begins with the full path of sh, in quotes: aliases and functions of the login shell do not apply to it.
- `env -i` drops everything inherited, functions too, except the variables of KEPT. The same is done behind sudo.
- Each program of ours says that it has begun, with a random token; nothing is sent before the last of them has. What is sent is
  checked there by length and checksum before any of it runs. The exit code comes with the token, too, as what the login shell
  does at its end may change its own.

The programs contain no quotes but double ones, no backslash, no exclamation mark and no line end: all login shells, csh and fish
too, take them unchanged in single quotes. BSD's csh takes at most a thousand bytes as one word.
"""

from __future__ import annotations

import shlex
import zlib

from dws_on_csm.transport import sudo

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are sought first until the script sets its own PATH."""

KEPT = ("USER", "LOGNAME", "SUDO_USER", "SSH_AUTH_SOCK", "SLURM_CONF")
"""What a script has of the login's environment (or sudo's) where that has it; besides HOME and SHELL. SSH_AUTH_SOCK is a
forwarded agent, SLURM_CONF tells Slurm's programs where slurm.conf is (as templates/lib/as.sh does)."""

LAST_LINE = "#whole"
"""A script's last line: `$(...)` drops line ends, so the script may not end with one."""

TORN = "arrived incomplete"
"""What a script that differs from what was sent is reported with, behind the token, in place of being run."""

_KEEP = " ".join(f'${{{name}+"{name}=${name}"}}' for name in KEPT)
_CLEAN = f'PATH="{PATH}:${{PATH-}}"; exec env -i PATH="$PATH" LC_ALL=C HOME="${{HOME-/}}" SHELL="${{SHELL-}}" {_KEEP} sh -c "$@"'
_LOGIN = 'echo "$1 login $SHELL"; echo "$1 login $SHELL" >&2; '
_EXEC = 'shift; exec "$@"'
_RIGHTS = f'echo "$1 rights" >&2; shift; {_CLEAN}'
_ON_TERMINAL = 'exec 3<&0 4>&1 5>&2; exec script -qec "exec $2 <&3 >&4 2>&5" /dev/null </dev/null >/dev/null 2>&1'
_MARKED = (
    'timeout -k {grace} "$2" sh -c "$3" sh "$1"; set -- "$1" "$?"; echo "$1 ends $2"; echo "$1 ends $2" >&2; exit "$2"'
)
_UNMARKED = 'exec timeout -k {grace} "$2" sh -c "$3" sh "$1"'
_READ = (
    'echo "$1 $PPID"; echo "$1 $PPID" >&2; read -r sum; s=$(head -c "${sum#* }"); '
    'if [ "$(printf %s "$s" | cksum)" = "$sum" ]; then shift; eval "$s"; '
    f'else echo "$1 {TORN}" >&2; exit 125; fi'
)

Code = tuple[str, ...]
"""The arguments of `sh -c`: a program, its name, the token, and what else it gets."""


def script_code(seconds: float, grace: float, token: str, marked: bool = True) -> Code:
    """The code that reads a script from stdin, see checked(), and runs it for at most `seconds`; one that ignores the signal
    TERM then is killed after `grace` more.

    It writes `token PGID` to both outputs when it is ready for the script, and, if `marked`, `token ends CODE` behind
    everything that the script wrote.
    """
    code = (_MARKED if marked else _UNMARKED).format(grace=f"{grace:g}")
    return (code, "sh", token, f"{seconds:.3f}", _READ)


def clean(code: Code) -> tuple[str, ...]:
    """The words that run `code` with a clean environment."""
    return ("sh", "-c", _CLEAN, "sh", *code)


def login_command(token: str, code: Code, rights: sudo.Rights) -> str:
    """The command for sshd that runs `code` with these rights.

    It writes `token login SHELL` to both outputs when the login shell has started it, and `token rights` to stderr when sudo has.
    """
    if words := rights.words(token):
        words += ("sh", "-c", _RIGHTS, "sh", token, *code)
        code = (_ON_TERMINAL, "sh", token, shlex.join(words)) if rights.terminal else (_EXEC, "sh", token, *words)
    return shlex.join(("/bin/sh", *clean((_LOGIN + code[0], *code[1:]))[1:]))


def checked(script: str) -> bytes:
    """`script` as script_code() reads it: a line with its checksum and its length, then itself."""
    body = f"{script}\n{LAST_LINE}".encode()
    return f"{cksum(body)} {len(body)}\n".encode() + body


def cksum(data: bytes) -> int:
    """The checksum that POSIX's cksum prints. It is zlib's CRC with the bits of each byte, and of the result, in reverse."""
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "little")
    reverse = zlib.crc32((data + length).translate(_REVERSED), 0xFFFFFFFF)
    return int(f"{reverse:032b}"[::-1], 2)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
