"""Actions that change a host, as one script for `sh`; run together with the looks that prove them, in a single exec."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.actions import STATE, Action, Put, Remove, RunScript, Upload
from dws_on_csm.model.secret import Secret

INLINE = 128 * 1024
"""A file up to so many bytes travels inside the script; a larger one behind it, on the script's standard input."""

BUSY = 75
"""Exit code of a script that found another run's script still at work on this host (EX_TEMPFAIL)."""

STILL = "a command of an earlier run, cut off from its operator, is still at work there"
"""What BUSY means, for people."""

FENCED = 76
"""Exit code of a script that found that its run may change nothing here any more, behind OUTRUN and why."""

OUTRUN = "lost its lock: "

FENCE = render.read("lib/fence.sh")

WAITS = 60.0
"""Seconds that the fence waits until other runs' scripts have ended."""

# record: a line of what this run does to files, written before it is done; it is on the disk once `recorded` has ended.
# keep: a before-image, made once a run, so that a second change in the same run doesn't overwrite it.
# left: what this run leaves of a file: a later rollback tells by it whether somebody changed it since.
# secret: that a file has a key or a password in it, now or before.
# All of them name files by their real paths: no link is in them.
# put:  the file is made beside the old one with everything set and its size checked (safe_file.sh), then it is renamed.
# receive: a file that only this script needs, in pieces, so that it can tell how far it is; `forget` takes it away again.
LIBRARY = (
    render.read("lib/written.sh")
    + render.read("lib/safe_file.sh")
    + FENCE
    + r"""
# a signal ends what an action has begun, and this waits until that has cleared away
trap 'exit 143' HUP INT TERM
record() (
    umask 077
    mkdir -p "$STATE/before/$RUN" && cd "$STATE/before/$RUN" || exit 1
    # a line that did not fit on a full disk, or was cut off, ends here
    if [ -e .record ] && [ -n "$(tail -c 1 .record)" ]; then echo >>.record || exit 1; fi
    printf '%s\n' "$*" >>.record
)
recorded() { sync -- "$STATE/before/$RUN/.record" "$STATE/before/$RUN" "$STATE/before"; }
kept() { # behind `into`
    image="$STATE/before/$RUN$folder/$name"
    if [ -e "$image" ] || [ -e "$image.absent" ]; then return 0; fi
    if [ -e "./$name" ]; then what "./$name" || return 1; fi
    mkdir -p "${image%/*}" || return 1
    if [ -e "./$name" ]; then
        copied "./$name" "$image.part" && whole "$image.part" "$image" || return 1
    else
        { : >"$image.absent"; } && lasting "$image.absent" || return 1
    fi
    image=${image%/*}
    while [ "$image" != "$STATE/before" ]; do image=${image%/*}; sync -- "$image" || return 1; done
}
keep() ( umask 077; into "$1" && kept )
left() { record "left $1 $2" && recorded; }
secret() ( path=$(real "$1") && record "secret $path" && recorded )
put() ( # PATH MODE OWNER SIZE secret|plain [CHECK]
    into "$1" make || exit 1
    path=$folder/$name
    [ "$5" = plain ] || record "secret $path" || exit 1
    kept && staged || exit 1
    if ! (set -C; cat >./new) || [ "$(stat -c %s -- ./new)" != "$4" ]; then
        unstaged
        refused "$path did not arrive whole" || exit 1
    fi
    sum=$(checksum ./new)
    if ! chown -h -- "$3" ./new || ! chmod -- "$2" ./new; then unstaged; exit 1; fi
    labelled
    if [ $# -gt 5 ]; then
        # others may come to the file by its name, and to nothing else in this folder
        chmod 711 .
        if ! "$6" "$(pwd -P)/new"; then
            unstaged
            refused "the new $path was tried, and does not do: the old one stays" || exit 1
        fi
        chmod 700 .
    fi
    if record "left $sum $path" && recorded; then placed; else unstaged; exit 1; fi
)
remove() ( # PATH secret|plain
    into "$1" || exit 1
    path=$folder/$name
    [ -e "./$name" ] || exit 0
    [ "$2" = plain ] || record "secret $path" || exit 1
    kept && record "left absent $path" && recorded && rm -f -- "./$name" && sync -- .
)
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
)


def fenced(run: str, script: str = "") -> str:
    """The script, which changes something, behind the fence that lets it begin only while `run` may; else as it would be run."""
    return f"{_of(run)}\n{FENCE}\nset +eu\numask 022\n{script}"


def _of(run: str) -> str:
    return f"STATE={STATE}; RUN={shlex.quote(run)}"


def compile_actions(actions: Sequence[Action], run: str, mark: str, step: str = "") -> tuple[str, bytes]:
    """The script that performs `actions` in order and stops at the first that fails, and its standard input.

    `step`, "STAGE.STEP", is written beside the before-images first: a run that is cut off is known by that.

    Before each action it prints the line "MARK action N", so that the reader knows where it is. Raises TypeError for
    an action that isn't done on a host (Apply, Delete, RunElsewhere, CallApi).
    """
    script = [_of(run), LIBRARY]
    if step:
        script.append(f"record 'step {step}'")
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
        kind = "secret" if action.secret else "plain"
        return f"if [ -e {path} ]; then remove {path} {kind}; fi"
    if isinstance(action, Upload):
        content = action.read()
        data += content
        return f"receive {shlex.quote(action.name)} {len(content)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(action, RunScript):
        data += action.data
        source = f"head -c {len(action.data)} |" if action.data else ""
        stdin = "" if action.data else "</dev/null"
        return f"{source} (\nset -eu\numask 022\n{action.script}\n) {stdin}"
    raise TypeError(f"{type(action).__name__} is not done by a script")


def _put(put: Put, data: bytearray) -> str:
    content = put.content.reveal() if isinstance(put.content, Secret) else put.content
    kind = "secret" if isinstance(put.content, Secret) else "plain"
    call = f"put {shlex.quote(put.path)} {put.mode:04o} {shlex.quote(put.owner)} {len(content)} {kind}"
    if put.check:
        call = f"{{\ntry_new() (\ncd /\nfile=$1\n{put.check}\n)\n{call} try_new; }}"
    if len(content) <= INLINE:
        # printf is part of the shell: what it prints is in no argv; a here-document could be a file in /tmp
        return f"printf %s {base64.b64encode(content).decode()} | base64 -d | {call}"
    data += content
    return f"head -c {len(content)} | {call}"
