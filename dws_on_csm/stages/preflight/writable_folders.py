"""Files and folders of Slurm that other users than root and SlurmUser can write: they could replace slurm.conf or the plugin."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Check, Constant, Finding, Look, ShellLook, StepContext, Value
from dws_on_csm.stages import controller_library
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.pod import discover

STICKY = 0o1000
"""In such a folder only the owner of a file can move it."""


def look(ctx: StepContext) -> Look:
    """slurm.conf and its includes, and the folders of these, of the plugin and of its kubeconfig; a pod's are read-only."""
    if discover.pod_of(ctx):
        return Constant({"files": [], "folders": [], "members": {}, "acls": [], "links": [], "dangling": []})
    slurm = ctx.site.slurm
    own = (f"{slurm.folder}/{name}" for name in (names.PLUGIN_LUA, names.PLUGIN_CONF))
    files = [slurm.conf, *own, names.KUBECONFIG]
    script = render.script("controller/slurm_folders.sh", files=shlex.join(files))
    return ShellLook(script, parse, controller_library.text(ctx))


def parse(out: bytes) -> Value:
    """{"folders": [whether a file lies in it, user, group, mode, path], "files": the same of slurm.conf and its includes,
    "members": group -> users, "acls": paths whose ACL lets others write, "links": reasons,
    "dangling": [path, target] of links to nothing}."""
    files, folders = list[list[Any]](), list[list[Any]]()
    members, acls, links = dict[str, list[str]](), list[str](), list[str]()
    dangling = list[list[str]]()
    for line in lines(out, "surrogateescape"):
        word, _, rest = line.partition(" ")
        if word in ("file", "folder", "above"):
            user, group, mode, path = rest.split("\t", 3)
            (files if word == "file" else folders).append([word != "above", user, group, int(mode, 8), path])
        elif word == "acl":
            acls.append(rest)
        elif word == "member":
            group, _, user = rest.partition("\t")
            members.setdefault(group, []).append(user)
        elif word == "link":
            links.append(rest)
        elif word == "dangling":
            dangling.append(rest.split("\t", 1))
    own = {row[-1] for row in folders if row[0]}
    folders = [row for row in folders if row[0] or row[-1] not in own]
    return {"files": files, "folders": folders, "members": members, "acls": acls, "links": links, "dangling": dangling}


def judge(ctx: StepContext, folders: Value) -> Sequence[Finding]:
    """Findings for each file or folder that others can write, and for each link that root must not follow."""
    seen = ctx.facts.known(CONTROLLER).get(ctx.host)
    allowed = {"root", seen["user"] if seen and seen["uid"] else "root"}
    fix = "replace the link by the file itself, or let only root write the folder (`chown root`, `chmod go-w`)"
    linked = [Finding("slurm-file-link", f"on {ctx.host}: {reason}", fix) for reason in folders["links"]]
    files = (finding for row in folders["files"] if (finding := _file(ctx, row, folders, allowed)))
    return [
        *linked,
        *(_dangling(ctx, *pair) for pair in folders["dangling"]),
        *files,
        *(finding for row in folders["folders"] if (finding := _folder(ctx, row, folders, allowed))),
    ]


def _dangling(ctx: StepContext, path: str, target: str) -> Finding:
    text = f"{path} on {ctx.host} is a link to {target}, which does not exist: Slurm finds no file there, "
    text += "and none is written through it"
    fix = f"run `rm -- {shlex.quote(path)}` on {ctx.host}, then `invoke install`; or bring back what it points to"
    return Finding("slurm-file-link", text, fix)


def _file(ctx: StepContext, row: Value, folders: Value, allowed: set[str]) -> Finding | None:
    _, user, _, _, path = row
    if not (others := _others(row, folders, allowed)):
        return None
    text = f"{path} on {ctx.host} can be written by {others}, who could make slurmctld, and slurmd on all nodes, run any program"
    return Finding("slurm-file-writable", text, _fix(path, "SlurmUser" if user not in allowed else ""))


def _folder(ctx: StepContext, row: Value, folders: Value, allowed: set[str]) -> Finding | None:
    lies_in, user, _, mode, path = row
    if (not lies_in and mode & STICKY) or not (others := _others(row, folders, allowed)):
        return None
    text = f"{path} on {ctx.host} can be written by {others}, who could replace slurm.conf or the plugin there"
    owner = "" if user in allowed else "SlurmUser" if lies_in else "root"
    return Finding("slurm-folder-writable", text, _fix(path, owner))


def _others(row: Value, folders: Value, allowed: set[str]) -> str:
    """Who can write it besides root and SlurmUser, in words; "" for nobody. A group without other members does not count."""
    _, user, group, mode, path = row
    others = [user] if user not in allowed else []
    more = set(folders["members"].get(group, ())) - allowed if mode & 0o020 else set()
    others += [f"group {group} ({', '.join(sorted(more))})"] if more else []
    others += ["users in its ACL"] if path in folders["acls"] else []
    others += ["everybody"] if mode & 0o002 else []
    return ", ".join(others)


def _fix(path: str, owner: str) -> str:
    """The fix with its command, which root will paste: SlurmUser may have chosen the path, and may make it a link meanwhile."""
    quoted = shlex.quote(path)
    return f"let only root and SlurmUser write to it: `{f'chown -h {owner} -- {quoted}; ' if owner else ''}chmod go-w -- {quoted}`"


CHECK = Check("folders", "controller", look, judge)
