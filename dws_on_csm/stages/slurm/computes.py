"""slurm.conf on compute nodes that have a copy of their own: made equal to the controllers', or only compared.

Only slurmctld reads BurstBufferType, and slurmd needs no restart for it: a node whose file lacks that line alone runs its
jobs, and slurmctld notes once that the files differ.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Sequence
from typing import TypedDict

from dws_on_csm.config.site import ComputeGroup
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, Put
from dws_on_csm.model.printable import first_few
from dws_on_csm.model.remembered import remembered
from dws_on_csm.model.step import Check, Constant, Fact, Finding, Refused, ShellLook, Stage, Step, StepContext, Value
from dws_on_csm.redaction import slurm_conf_secrets
from dws_on_csm.redaction.diff import difference
from dws_on_csm.stages import facts
from dws_on_csm.stages.slurm import activate, controller, slurmctld

LEGEND = "- present, + expected"
"""What the signs in front of a difference's lines mean."""


class NodeConf(TypedDict):
    """slurm.conf on a node. `acl`: it has an ACL, which gives others rights than its mode says."""

    mode: str
    owner: str
    acl: bool
    text: str


COMPARED: Fact[NodeConf | None] = Fact("preflight", "slurm-conf")
"""On nodes that are only compared; None where there is no file, and on others."""
EDITED: Fact[NodeConf | None] = Fact("computes", "conf")
"""On nodes whose file is edited; None where there is no file, and on others."""


def group(ctx: StepContext) -> ComputeGroup:
    """The group of the site file that this node is in."""
    return next(group for group in ctx.site.computes if any(host.name == ctx.host for host in group.hosts))


def _look(ctx: StepContext) -> ShellLook:
    return COMPARED.shell(
        render.script(
            "lib/safe_file.sh", "lib/holds_secret.sh", "controller/compute_look.sh", file=ctx.site.slurm.conf
        ),
        parse,
    )


def parse(out: bytes) -> NodeConf | None:
    """Parse the look's output; None where there is no file. Raises ValueError."""
    if not out.strip():
        return None
    mode, owner, acl, content = out.decode().split()
    int(mode, 8)  # ValueError: no mode
    text = _shared(slurm_conf.decoded(unpacked(b64decode(content))))
    return {"mode": mode, "owner": owner, "acl": acl != "-", "text": text}


@remembered(slurm_conf.ASKED)
def _shared(text: str) -> str:
    """The same text, kept in memory once for all nodes that have it."""
    return text


def unpacked(content: bytes) -> bytes:
    """Unpack gzip's `content`. Raises ValueError where it is damaged, or larger than slurm_conf reads: a few kilobytes from a node
    could unpack to more than this machine's memory."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(content, slurm_conf.LARGEST + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(text) <= slurm_conf.LARGEST and not unpacking.eof:
        raise ValueError("it is incomplete")
    return text


def wanted(ctx: StepContext) -> str:
    """slurm.conf as the first controller has it after an install. Raises NotYetKnown before that was read."""
    first = StepContext(ctx.site, ctx.facts, ctx.site.first_controller.name)
    return activate.wanted_text(first, activate.current_text(first))


def configless(ctx: StepContext) -> bool:
    """Whether nodes get their slurm.conf from slurmctld, so that copies of their own do not matter."""
    first = StepContext(ctx.site, ctx.facts, ctx.site.first_controller.name)
    setting = controller.setting(controller.state(first)["files"], ctx.site, "SlurmctldParameters")
    return setting is not None and "enable_configless" in setting.value.lower()


# --- compared


def _look_compared(ctx: StepContext) -> ShellLook | Constant:
    return Constant(None) if group(ctx).slurm_conf == "edit" else _look(ctx)


def judge(ctx: StepContext, conf: NodeConf | None) -> Sequence[Finding]:
    """The finding for a node of a group with `check` whose slurm.conf differs in more than BurstBufferType."""
    if group(ctx).slurm_conf != "check":
        return ()
    try:
        if configless(ctx):
            return ()
        lines = _difference(ctx, conf, ours=False)
    except Refused:
        return ()  # the controller's own check says what is wrong there
    if not lines:
        return ()
    if conf is None:
        text = f"{ctx.site.slurm.conf} is missing on {ctx.host}, and a node needs one: the controllers' slurm.conf does not set "
        text += "enable_configless"
        fix = f"copy the controllers' file to {ctx.host}, or set slurm_conf for this group: `edit` copies it; `print` only says "
        fix += "that it is missing, for nodes whose slurmd reads another file"
        return (Finding("slurm-conf-differs", text, fix),)
    text = f"{ctx.site.slurm.conf} on {ctx.host} differs from the controllers' ({LEGEND}): {first_few(lines, noun='lines')}"
    fix = "make the files equal, or set slurm_conf for this group: `edit` makes them equal, `print` only shows the difference"
    return (Finding("slurm-conf-differs", text, fix),)


def _difference(ctx: StepContext, conf: NodeConf | None, ours: bool) -> list[str]:
    """The lines of a node's file and the controllers' that mean something else; without `ours`, BurstBufferType does not count."""
    texts = [conf["text"] if conf else "", wanted(ctx)]
    if not ours:
        texts = [slurm_conf.without_setting(text, activate.KEY) for text in texts]
    here, theirs = slurm_conf.differing_lines(*texts)
    if here == theirs:
        return []
    if not any(slurm_conf.differing_lines(texts[0], "")):  # a file of comments alone says in them why
        here = texts[0]
    lines = difference(*(f"{text.rstrip()}\n" for text in (here, theirs)))
    return [line for line in lines if line[0] in "+-" and line[2:].strip()]


def _difference_status(ctx: StepContext) -> str:
    """The status of a node that is only compared; "" if its file is equal."""
    conf = ctx.facts.all(COMPARED).get(ctx.host)
    lines = [] if configless(ctx) else _difference(ctx, conf, ours=True)
    if lines and conf is None:
        return f"{ctx.site.slurm.conf} is missing"
    if group(ctx).slurm_conf == "check" and not _difference(ctx, conf, ours=False):
        return f"lacks {activate.KEY}={slurmctld.TYPE}, which only slurmctld reads" if lines else ""
    return f"differs from the controllers' ({LEGEND}): {first_few(lines, noun='lines')}" if lines else ""


# --- edited


def _look_edited(ctx: StepContext) -> ShellLook | Constant:
    return _look(ctx) if group(ctx).slurm_conf == "edit" else Constant(None)


def _read(ctx: StepContext, conf: NodeConf | None) -> Value:
    if group(ctx).slurm_conf == "edit":
        return conf["text"] if conf else None
    return {"status": _difference_status(ctx)}


def _want(ctx: StepContext) -> Value:
    if group(ctx).slurm_conf != "edit":
        return {"status": _difference_status(ctx)}
    conf = ctx.facts.all(EDITED)[ctx.host]
    if configless(ctx):
        return _read(ctx, conf)
    same = conf is not None and not any(slurm_conf.differing_lines(conf["text"], wanted(ctx)))
    return conf["text"] if conf and same else wanted(ctx)


def _change(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
    seen = ctx.facts.all(EDITED)[ctx.host]
    if seen and seen["acl"]:
        text = f"{ctx.site.slurm.conf} on {ctx.host} has an ACL, and a new file in its place would not have it"
        fix = f"run `setfacl -b {ctx.site.slurm.conf}` there if nobody needs the ACL, or set slurm_conf: print for this group"
        raise Refused(Finding("slurm-conf-acl", text, fix))
    mode, owner = (seen["mode"], seen["owner"]) if seen else ("644", "root:root")
    opened = _exposed_passwords(str(have or ""), str(want), int(mode, 8), _closed_group(ctx, owner))
    if opened:
        text = (
            f"the controllers' {ctx.site.slurm.conf} contains a password ({', '.join(opened)}), and users can read that file"
            f" on {ctx.host} (mode {mode}, {owner})"
        )
        fix = (
            f"run `chmod 600 {ctx.site.slurm.conf}` there if no user's command needs it, remove the password from the"
            " controllers' file, or set slurm_conf: print for this group"
        )
        raise Refused(Finding("slurm-conf-secret", text, fix))
    content = str(want).encode(errors="surrogateescape")
    return [Put(ctx.site.slurm.conf, content, int(mode, 8), owner)]


def _closed_group(ctx: StepContext, owner: str) -> bool:
    """Whether the group in `owner` (USER:GROUP) is root's, or is named like SlurmUser: users are in no such group."""
    users = {
        controller_state["user"]
        for controller_state in ctx.facts.all(facts.CONTROLLER).values()
        if controller_state["uid"]
    }
    return owner.partition(":")[2] in {"root", *users}


def _exposed_passwords(have: str, want: str, mode: int, closed_group: bool) -> Sequence[str]:
    """The keys of passwords that users could newly read if `want` replaced `have` in a file of this mode."""
    if not mode & (0o007 if closed_group else 0o077):
        return []
    return slurm_conf_secrets.new(have, want)


def _status_text(have: Value) -> str:
    return str(have["status"]) if isinstance(have, dict) else ""


CHECK = Check("slurm-conf", "compute", _look_compared, judge)
STAGE = Stage(
    "computes",
    ("slurm",),
    (Step("conf", "compute", _look_edited, _want, _change, read=_read, status_text=_status_text),),
)
