"""Actions that change a host, as one script for `sh`; it runs together with the looks that prove them, in one exec."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence

from dws_on_csm.model import render
from dws_on_csm.model.actions import OWN_STATE, STATE, Action, Put, Remove, RunScript, Upload
from dws_on_csm.model.secret import Secret

INLINE = 128 * 1024
"""A file of up to so many bytes is sent inside the script; a larger one on the script's standard input."""

BUSY = 75
"""Exit code of a script that found another run's script still running on this host (EX_TEMPFAIL)."""

STILL = "a command of an earlier, interrupted run is still running there"
"""What BUSY means, for people."""

RETRY = "run the same command again when it has finished"
"""What to do then."""

FENCED = 76
"""Exit code of a script whose run may change nothing here any more; it prints OUTRUN and the reason."""

OUTRUN = "lost its lock: "

FENCE = render.read("lib/fence.sh")

WAITS = 60.0
"""Seconds for which the fence waits until other runs' scripts have ended."""

# record: writes a line about what this run is about to do to a file; the line is on disk once `sync_record` has ended.
# keep: saves a before-image, once a run, so that a second change in the same run doesn't overwrite it.
# record_left: records what this run leaves of a file: by it a later rollback tells whether the file was changed since.
# record_secret: records that a file has, or had, a key or a password in it.
# All of them name files by their real paths, without links.
# put: makes the file beside the old one with mode and owner set and its size checked (safe_file.sh), then renames it.
# receive: receives a file that only this script needs, in pieces, to report progress; `forget` removes it again.
LIBRARY = (
    render.read("lib/durable.sh")
    + render.read("lib/safe_file.sh")
    + FENCE
    + r"""
# a signal ends the action, and this waits until the action has cleaned up
trap 'exit 143' HUP INT TERM
record() (
    umask 077
    mkdir -p "$STATE/before/$RUN" && cd "$STATE/before/$RUN" || exit 1
    # ends a line that was interrupted or did not fit on a full disk
    if [ -e .record ] && [ -n "$(tail -c 1 .record)" ]; then echo >>.record || exit 1; fi
    printf '%s\n' "$*" >>.record
)
sync_record() { sync -- "$STATE/before/$RUN/.record" "$STATE/before/$RUN" "$STATE/before"; }
keep_current() { # behind `enter_folder_of`
    image="$STATE/before/$RUN$folder/$name"
    if [ -e "$image" ] || [ -e "$image.absent" ]; then return 0; fi
    if [ -e "./$name" ]; then identify "./$name" || return 1; fi
    mkdir -p "${image%/*}" || return 1
    if [ -e "./$name" ]; then
        ( # the next run's fence removes what a lost host leaves of it
            trap 'rm -f -- "$image.part"' EXIT
            trap 'exit 143' HUP INT TERM
            copy_file "./$name" "$image.part" && rename_synced "$image.part" "$image"
        ) || return 1
    else
        { : >"$image.absent"; } && sync_file "$image.absent" || return 1
    fi
    image=${image%/*}
    while [ "$image" != "$STATE/before" ]; do image=${image%/*}; sync -- "$image" || return 1; done
}
keep() ( umask 077; enter_folder_of "$1" && keep_current )
record_left() { record "left $1 $2" && sync_record; }
record_secret() ( path=$(real_path "$1") && record "secret $path" && sync_record )
put() ( # PATH MODE OWNER SIZE secret|plain [CHECK]
    enter_folder_of "$1" make || exit 1
    path=$folder/$name
    [ "$5" = plain ] || record "secret $path" || exit 1
    keep_current && open_stage || exit 1
    if ! (set -C; cat >./new) || [ "$(stat -c %s -- ./new)" != "$4" ]; then
        close_stage
        refuse "$path arrived incomplete" || exit 1
    fi
    sum=$(checksum ./new)
    if ! chown -h -- "$3" ./new || ! chmod -- "$2" ./new; then close_stage; exit 1; fi
    set_label
    if [ $# -gt 5 ]; then
        # other users may reach the file by its name, and nothing else in this folder
        chmod 711 .
        if ! "$6" "$(pwd -P)/new"; then
            close_stage
            refuse "the new $path was tested and does not work: the old one stays" || exit 1
        fi
        chmod 700 .
    fi
    if record "left $sum $path" && sync_record; then install_new; else close_stage; exit 1; fi
)
remove() ( # PATH secret|plain
    enter_folder_of "$1" || exit 1
    path=$folder/$name
    [ -e "./$name" ] || exit 0
    [ "$2" = plain ] || record "secret $path" || exit 1
    keep_current && record "left absent $path" && sync_record || exit 1
    if ! rm -f -- "./$name"; then say_why_it_stays; exit 1; fi
    sync -- .
)
brought=
forget() { for name in $brought; do rm -f -- "$STATE/parts/$name"; done; }
receive() {
    mkdir -p "$STATE/parts"
    brought="$brought $1"; trap forget EXIT; trap 'trap "" HUP INT TERM; exit 143' HUP INT TERM
    at=0; file="$STATE/parts/$1"; : >"$file"
    while [ "$at" -lt "$2" ]; do
        piece=$(($2 - at)); [ "$piece" -le 8388608 ] || piece=8388608
        head -c "$piece" >>"$file"
        at=$((at + piece))
        [ "$(stat -c %s -- "$file")" = "$at" ] || { echo "$1 arrived incomplete" >&2; return 1; }
        echo "$1: $((at / 1000000)) of $(($2 / 1000000)) MB received"
    done
    [ "$(sha256sum <"$file")" = "$3  -" ] || { echo "$1 differs from what was sent" >&2; return 1; }
}
"""
)


def fenced(run: str, script: str = "") -> str:
    """The script behind the fence, which lets it begin only while `run` may change something."""
    return f"{_of(run)}\n{FENCE}\nset +eu\numask 022\n{script}"


def _of(run: str) -> str:
    return f"STATE={STATE}\n{OWN_STATE}RUN={shlex.quote(run)}"


def compile_actions(actions: Sequence[Action], run: str, mark: str, step: str = "") -> tuple[str, bytes]:
    """The script that performs `actions` in order and stops at the first that fails; and its standard input.

    It first records `step`, "STAGE.STEP", beside the before-images: so an interrupted run is known there. Before each action it
    prints the line "MARK action N", for progress. Raises TypeError for an action that isn't done on a host (Apply, Delete,
    RunElsewhere, CallApi).
    """
    script = [_of(run), LIBRARY]
    if step:
        script.append(f"record 'step {step}'")
    data = bytearray()
    for number, action in enumerate(actions):
        script.append(f"printf '\\n%s\\n' '{mark} action {number}'")
        script.append(_compile(action, data))
    script.append("set +eu; exec 9>&-")
    return "\n".join(script) + "\n", bytes(data)


def _compile(action: Action, data: bytearray) -> str:
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
