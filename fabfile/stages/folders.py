"""Folders that others than root and SlurmUser can write: whoever can may put another slurm.conf or plugin there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from fabfile import names, render
from fabfile.lines import lines
from fabfile.stages import controller, pod
from fabfile.step import Check, Finding, Known, Look, Place, Shell, Value

STICKY = 0o1000
"""Nobody can move what is another one's in such a folder."""


def look(place: Place) -> Look:
    """The folders of slurm.conf and its includes, of the plugin and of its kubeconfig; in a pod nobody can write to them."""
    if pod.of(place):
        return Known({"folders": [], "members": {}, "links": []})
    slurm = place.site.slurm
    files = [slurm.conf, f"{slurm.folder}/burst_buffer.lua", f"{slurm.folder}/burst_buffer.conf", names.KUBECONFIG]
    settings = {"folder": slurm.folder, "unit": slurm.service, "files": shlex.join(files)}
    return Shell(render.script("safe_file.sh", "slurmctld.sh", "slurm_folders.sh", **settings), parse)


def parse(out: bytes) -> Value:
    """{"folders": [whether a file lies in it, user, group, mode, path], "members": group -> users, "links": reasons}."""
    folders, members, links = [], dict[str, list[str]](), []
    for line in lines(out, "surrogateescape"):
        word, _, rest = line.partition(" ")
        if word in ("folder", "above"):
            user, group, mode, path = rest.split("\t", 3)
            folders.append([word == "folder", user, group, int(mode, 8), path])
        elif word == "member":
            group, _, user = rest.partition("\t")
            members.setdefault(group, []).append(user)
        elif word == "link":
            links.append(rest)
    own = {row[-1] for row in folders if row[0]}
    folders = [row for row in folders if row[0] or row[-1] not in own]
    return {"folders": folders, "members": members, "links": links}


def judge(place: Place, found: Value) -> Sequence[Finding]:
    """A finding for each folder that others can write, and for each file that root does not touch for that."""
    seen = place.facts.found.get(controller.FACT, {}).get(place.host)
    allowed = {"root", seen["user"] if seen and seen["uid"] else "root"}
    fix = "put the file itself there, or make the folder root's (`chown root`, `chmod go-w`)"
    linked = [Finding("slurm-file-link", f"on {place.host}: {reason}", fix) for reason in found["links"]]
    return [*linked, *(one for row in found["folders"] for one in _open(place, row, found["members"], allowed))]


def _open(place: Place, row: Value, members: Value, allowed: set[str]) -> Sequence[Finding]:
    lies_in, user, group, mode, path = row
    if not lies_in and mode & STICKY:
        return ()
    others = [user] if user not in allowed else []
    more = set(members.get(group, ())) - allowed if mode & 0o020 else set()
    others += [f"group {group} ({', '.join(sorted(more))})"] if more else []
    others += ["everybody"] if mode & 0o002 else []
    if not others:
        return ()
    text = (
        f"{path} on {place.host} can be written by {', '.join(others)}, who can put another slurm.conf or plugin there"
    )
    owner = f"chown {'SlurmUser' if lies_in else 'root'} {path}; " if user not in allowed else ""
    return (
        Finding("slurm-folder-writable", text, f"let root and SlurmUser alone write to it: `{owner}chmod go-w {path}`"),
    )


CHECK = Check("folders", "controller", look, judge)
