"""From the host's login shell to a script in a `sh` of our own: the words of the command, and why it may not get there.

sshd gives its command to the user's login shell, which may be any, and which first reads its start-up files. These can read the
channel's input, run another program in place of the command, and change everything that the command inherits. So:

- The command begins with the full path of sh, in quotes: aliases and functions of the login shell do not apply to it.
- `env -i` drops everything inherited, functions too, except the variables of KEPT. The same is done behind sudo.
- Each program of ours says that it has begun, with a random token; nothing is sent before the last of them has. What is sent is
  checked there by length and checksum before any of it runs. The exit code comes marked, too, as what the login shell does at
  its end may change its own.
- The token is in argv: every user of the host can read it (`ps`). So it counts only until the script begins; what a script prints
  may be any user's text. The mark of the end has a key of its own, which comes with the script and is in no argv.

The programs contain no quotes but double ones, no backslash, no exclamation mark and no line end: all login shells, csh and fish
too, take them unchanged in single quotes. BSD's csh takes at most a thousand bytes as one word.
"""

from __future__ import annotations

import base64
import shlex
import zlib

from dws_on_csm.transport import sudo

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are sought first until the script sets its own PATH."""

KEPT = ("USER", "LOGNAME", "SUDO_USER", "SSH_AUTH_SOCK", "KRB5CCNAME", "SLURM_CONF")
"""What a script has of the login's environment (or sudo's) where that has it; besides HOME and SHELL. SSH_AUTH_SOCK is a
forwarded agent, KRB5CCNAME a forwarded Kerberos ticket, SLURM_CONF tells Slurm's programs where slurm.conf is (as
templates/lib/as.sh does)."""

CHECKED = 4_000_000
"""Bytes of a script's input that are checked with it; of a larger input the rest is the script's to check."""

INCOMPLETE = "arrived incomplete"
"""What a script that differs from what was sent is reported with, behind the token, in place of being run; no mark of an end
follows then."""

_KEEP = " ".join(f'${{{name}+"{name}=${name}"}}' for name in KEPT)
_CLEAN = f'PATH="{PATH}:${{PATH-}}"; exec env -i PATH="$PATH" LC_ALL=C HOME="${{HOME-/}}" SHELL="${{SHELL-}}" {_KEEP} sh -c "$@"'
_LOGIN = 'echo "$1 login $SHELL"; echo "$1 login $SHELL" >&2; '
_EXEC = 'shift; exec "$@"'
_RIGHTS = f'echo "$1 rights" >&2; shift; {_CLEAN}'
_ON_TERMINAL = 'exec 3<&0 4>&1 5>&2; exec script -qec "exec $2 <&3 >&4 2>&5" /dev/null </dev/null >/dev/null 2>&1'
_BEGUN = 'echo "$1 $PPID"; echo "$1 $PPID" >&2; '
_TAKEN = 'read -r sum len n; s=$(head -c "$len" 2>/dev/null); if [ "$(printf %s "$s" | cksum)" = "$sum $len" ]; then '
_LOST = f'else echo "$1 {INCOMPLETE}" >&2; exit 125; fi'
# Reads from the channel, and passes on what is whole: the key to descriptor 3; the script's length, the script, and its input.
# Another process that the login has left behind may read from the channel, too, but not from the pipe to the script.
_PASS = f'{_TAKEN}echo "${{s%% *}}" >&3; exec 3>&-; echo "$n"; printf %s "${{s#* }}" | base64 -d; exec cat; fi'
_RUN = f'{_BEGUN}if read -r n; then s=$(head -c "$n"); shift; eval "$s"; {_LOST}'
_RUN_STAYING = f'{_BEGUN}{_TAKEN}shift; eval "$(printf %s "${{s#* }}" | base64 -d)"; {_LOST}'
_BOUNDED = 'timeout -k "$2" "$3" sh -c "$4" sh "$1"'
_PIPED = (
    f'exec 3>&1; sh -c "$5" 4>&- | {{ {_BOUNDED} >&4 3>&- 4>&-; echo "$?" >&3; }}'  # writes the key and the exit code
)
_ENDED = 'if [ "$#" = 3 ]; then echo "$2 ends $3"; echo "$2 ends $3" >&2; shift; fi; exit "$2"'
_MARKED = f'exec 4>&1; set -- "$1" $({_PIPED}); {_ENDED}'

Code = tuple[str, ...]
"""The arguments of `sh -c`: a program, its name, the token, and what else it gets."""


def script_code(seconds: float, grace: float, token: str, stays: bool = False) -> Code:
    """The code that reads a script and its input, see checked(), and runs it for at most `seconds`; one that ignores the signal
    TERM then is killed after `grace` more.

    It writes `token PGID` to both outputs when it is ready for the script, and `KEY ends CODE`, with the key of checked(), behind
    all that the script wrote. If the script `stays`, the input is the channel itself, and nothing is written behind its output.
    """
    limits = "sh", token, f"{grace:g}", f"{seconds:.3f}"
    return (f"exec {_BOUNDED}", *limits, _RUN_STAYING) if stays else (_MARKED, *limits, _RUN, _PASS)


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
    words = ("/bin/sh", *clean((_LOGIN + code[0], *code[1:]))[1:])
    return " ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words)  # a word without quotes may be an alias


def checked(key: str, script: str, data: bytes = b"") -> bytes:
    """`script` and its input as script_code() reads them: a line with checksum, length, and the script's length; the key of the
    mark that ends the output, a blank, and, in base64, the script and the input's first CHECKED bytes; and the rest of the input.
    """
    body = script.encode()
    text = key.encode() + b" " + base64.b64encode(body + data[:CHECKED])
    return f"{cksum(text)} {len(text)} {len(body)}\n".encode() + text + data[CHECKED:]


def cksum(data: bytes) -> int:
    """The checksum that POSIX's cksum prints. It is zlib's CRC with the bits of each byte, and of the result, in reverse."""
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "little")
    reverse = zlib.crc32((data + length).translate(_REVERSED), 0xFFFFFFFF)
    return int(f"{reverse:032b}"[::-1], 2)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
