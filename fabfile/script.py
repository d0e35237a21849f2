"""Actions that change a host, as one script for `sh`; run together with the looks that prove them, in a single exec."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence

from fabfile.actions import STATE, Action, Bring, Put, Remove, Sh
from fabfile.secret import Secret

INLINE = 128 * 1024
"""A file up to so many bytes travels inside the script; a larger one behind it, on the script's standard input."""

BUSY = 75
"""Exit code of a script that found another run's script still at work on this host (EX_TEMPFAIL)."""

# keep: a before-image, made once a run, so that a second change in the same run doesn't overwrite it.
# left: what this run leaves of a file, written before it is: a later rollback tells by it whether somebody changed it since.
# put:  a sibling with everything set and its size checked, then a rename; what an interrupted one left is removed first.
# receive: a file that only this script needs, in pieces, so that it can tell how far it is; `forget` takes it away again.
# The lock is shared by a run's own scripts, whose stages are at work side by side, and kept from every other run's. It is
# inherited by whatever a script starts: one that outlived its connection holds it until it ends.
LIBRARY = r"""
set -eu
umask 077
mkdir -p "$STATE"
exec 8>>"$STATE/entry" 9>>"$STATE/busy"
busy() { echo "another run's command is still at work on this host" >&2; exit 75; }
flock -w 90 8 || busy
if [ "$(cat "$STATE/busy")" != "$RUN" ]; then
    flock -w 60 9 || busy
    rm -rf -- "$STATE/parts"
    printf %s "$RUN" >"$STATE/busy"
fi
flock -s -w 60 9 || busy
exec 8>&-
keep() {
    image="$STATE/before/$RUN$1"
    if [ -e "$image" ] || [ -e "$image.absent" ]; then return 0; fi
    mkdir -p "${image%/*}"
    if [ -e "$1" ]; then cp -p -- "$1" "$image.part"; mv -f -- "$image.part" "$image"; else : >"$image.absent"; fi
}
left() { mkdir -p "$STATE/before/$RUN"; printf 'left %s %s\n' "$1" "$2" >>"$STATE/before/$RUN/.record"; }
real() { if [ -L "$1" ]; then readlink -f -- "$1"; else printf '%s\n' "$1"; fi; }
put() {
    path=$(real "$1"); name=${path##*/}; folder=${path%/*}
    [ -d "$folder" ] || { mkdir -p -- "$folder"; chmod 755 -- "$folder"; }
    keep "$path"
    # with the host's name: controllers may share the folder, and be at work in it at the same time
    mine="$folder/.$name.dws-on-csm.$(uname -n)"
    rm -f -- "$mine".*
    sibling="$mine.$$"
    if ! cat >"$sibling" || [ "$(stat -c %s -- "$sibling")" != "$4" ]; then
        rm -f -- "$sibling"
        echo "$path did not arrive whole" >&2
        return 1
    fi
    if ! chown "$3" -- "$sibling" || ! chmod "$2" -- "$sibling"; then rm -f -- "$sibling"; return 1; fi
    if command -v restorecon >/dev/null 2>&1; then restorecon -- "$sibling" || true; fi
    if [ $# -gt 4 ] && ! "$5" "$sibling"; then
        rm -f -- "$sibling"
        echo "the new $path was tried, and does not do: the old one stays" >&2
        return 1
    fi
    left "$(sha256sum <"$sibling" | cut -d' ' -f1)" "$path"
    mv -f -- "$sibling" "$path"
}
brought=
forget() { for one in $brought; do rm -f -- "$STATE/parts/$one"; done; }
receive() {
    mkdir -p "$STATE/parts"
    brought="$brought $1"; trap forget EXIT; trap 'trap "" HUP INT TERM; exit 143' HUP INT TERM
    at=0; file="$STATE/parts/$1"; : >"$file"
    while [ "$at" -lt "$2" ]; do
        piece=$(($2 - at)); [ "$piece" -le 8388608 ] || piece=8388608
        head -c "$piece" >>"$file"
        at=$((at + piece))
        [ "$(stat -c %s -- "$file")" = "$at" ] || { echo "$1 did not arrive whole" >&2; return 1; }
        echo "$1: $((at / 1000000)) of $(($2 / 1000000)) MB are there"
    done
    [ "$(sha256sum <"$file")" = "$3  -" ] || { echo "$1 is not what was sent" >&2; return 1; }
}
"""


def compile_actions(actions: Sequence[Action], run: str, mark: str, step: str = "") -> tuple[str, bytes]:
    """The script that performs `actions` in order and stops at the first that fails, and its standard input.

    `step`, "STAGE.STEP", is written beside the before-images first: a run that is cut off is known by that.

    Before each action it prints the line "MARK action N", so that the reader knows where it is. Raises TypeError for
    an action that isn't done on a host (Apply, Delete, Ask, AskApi).
    """
    script = [f"STATE={STATE}; RUN={shlex.quote(run)}", LIBRARY]
    if step:
        script.append(f'mkdir -p "$STATE/before/$RUN"; echo \'step {step}\' >>"$STATE/before/$RUN/.record"')
    data = bytearray()
    for number, action in enumerate(actions):
        script.append(f"printf '\\n%s\\n' '{mark} action {number}'")
        script.append(_one(action, data))
    script.append("set +eu; exec 9>&-")
    return "\n".join(script) + "\n", bytes(data)


def _one(action: Action, data: bytearray) -> str:
    if isinstance(action, Put):
        return _put(action, data)
    if isinstance(action, Remove):
        path = shlex.quote(action.path)
        return f"if [ -e {path} ] || [ -L {path} ]; then keep {path}; left absent {path}; rm -rf -- {path}; fi"
    if isinstance(action, Bring):
        content = action.read()
        data += content
        return f"receive {shlex.quote(action.name)} {len(content)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(action, Sh):
        data += action.data
        source = f"head -c {len(action.data)} |" if action.data else ""
        stdin = "" if action.data else "</dev/null"
        return f"{source} (\nset -eu\numask 022\n{action.script}\n) {stdin}"
    raise TypeError(f"{type(action).__name__} is not done by a script")


def _put(put: Put, data: bytearray) -> str:
    content = put.content.reveal() if isinstance(put.content, Secret) else put.content
    call = f"put {shlex.quote(put.path)} {put.mode:04o} {shlex.quote(put.owner)} {len(content)}"
    if put.check:
        call = f"{{\ntry_new() (\nfile=$1\n{put.check}\n)\n{call} try_new; }}"
    if len(content) <= INLINE:
        # printf is part of the shell: what it prints is in no argv; a here-document could be a file in /tmp
        return f"printf %s {base64.b64encode(content).decode()} | base64 -d | {call}"
    data += content
    return f"head -c {len(content)} | {call}"
