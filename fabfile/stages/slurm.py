"""BurstBufferType in slurm.conf and a slurmctld that has read it: one transaction, at work on the controller itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from fabfile import render, slurmconf
from fabfile.actions import STATE, Action, Ask, Sh
from fabfile.site import Site
from fabfile.stages import daemon, pod, rollout
from fabfile.step import Finding, Known, Look, Place, Refused, Shell, Stage, Step, Unknown, Value

KEY = "BurstBufferType"
COMMENT = "set by dws-on-csm: jobs with #DW lines get a Workflow from DataWorkflowServices"


def path(site: Site) -> str:
    """slurm.conf on the controllers."""
    return f"{site.slurm.folder}/slurm.conf"


# --- the transaction


def activation(place: Place, title: str, seen: str, following: str | None, back: str | None) -> Sh | Ask:
    """slurm.conf from `seen` to `following` (None: as it is), slurmctld started again; `back` if it doesn't come up.

    It is refused on the host if slurm.conf is no longer `seen`, and goes on there if the connection breaks.
    """
    if pod.of(place):
        return _rollout(place, title, seen, following, back)
    slurm, deadline = place.site.slurm, place.site.deadlines.slurmctld
    texts = [_bytes(text) if text is not None else b"" for text in (following, back)]
    fixed = {"state": STATE, "folder": slurm.folder, "unit": slurm.service, "seen": _sum(_bytes(seen))}
    fixed |= {"deadline": str(int(deadline)), "log": _log(place, seen)}
    settings = {
        "state": STATE,
        "conf": path(place.site),
        "program": render.script("slurmctld.sh", "activate.sh", **fixed),
    }
    for name, text in zip(("next", "back"), texts, strict=True):
        settings |= {f"{name}_size": str(len(text)), f"{name}_sum": _sum(text) if text else ""}
    # twice: what doesn't come up is put back and started again; each stop may take systemd's own 90 seconds
    return Sh(
        title, render.script("detach.sh", "follow.sh", **settings), 2 * (deadline + 100.0) + 30.0, b"".join(texts)
    )


def _rollout(place: Place, title: str, seen: str, following: str | None, back: str | None) -> Ask:
    """The same for a pod: slurm.conf is a key of a ConfigMap, and another pod reads it."""

    def edit(before: str, after: str) -> dict[str, Value]:
        name = f"configmap/{pod.found(place)['config_map']['name']}"
        return {"object": name, "at": ["data", "slurm.conf"], "seen": before, "value": after}

    edits = [edit(seen, following)] if following is not None else []
    return rollout.action(
        place, title, edits, [edit(seen if following is None else following, back)] if back is not None else []
    )


def _log(place: Place, text: str) -> str:
    said = slurmconf.value(text, "SlurmctldLogFile", _files(place))
    return said.value if said else ""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- an activation of an earlier run


def _look_activation(place: Place) -> Look:
    if pod.of(place):
        return Known("none")  # a rollout waits for one that is still at work
    script = f"lock={STATE}/activation.lock\n" + render.read("activation_look.sh")
    return Shell(script, lambda out: out.decode().strip() or "none")


# --- slurm.conf


def _look_conf(place: Place) -> Shell:
    return Shell(render.script("conf_look.sh", file=path(place.site)), parse_conf)


def parse_conf(out: bytes) -> Value:
    """{"id": which file it is, "text": what is in it}; bytes that are no UTF-8 stay what they are. None: no such file."""
    if not out.strip():
        return None
    which, _, content = out.decode().partition("\n")
    return {"id": which, "text": base64.b64decode(content).decode(errors="surrogateescape")}


def seen(place: Place) -> str:
    """slurm.conf as it was seen on this controller. Raises Unknown if it wasn't."""
    found = place.facts.all("slurm.conf").get(place.host)
    if found is None:
        raise Unknown("slurm")
    return str(found["text"])


def _want_conf(place: Place) -> Value:
    return wanted(place, seen(place))


def wanted(place: Place, text: str) -> str:
    """`text` with the burst buffer enabled: itself where it, or a file that it includes, says so already."""
    other = _files(place)
    said = slurmconf.value(text, KEY, other)
    if said and said.value.lower() == daemon.TYPE:
        return text
    if said and said.value.lower() not in ("", "(null)"):
        found = f"slurm.conf on {place.host} has {KEY}={said.value}, and Slurm takes one only"
        raise Refused(Finding("other-burst-buffer", found, "take it out first, if no job needs it any more"))
    return slurmconf.with_setting(text, KEY, daemon.TYPE, COMMENT)


def ours_again(text: str) -> str:
    """The checksum that slurm.conf would have with our line: where an activation knows it, only that line was taken out."""
    return _sum(_bytes(slurmconf.with_setting(text, KEY, daemon.TYPE, COMMENT)))


def _files(place: Place) -> dict[str, str]:
    """The files that this controller's slurm.conf includes, with their text."""
    everywhere = place.facts.all("preflight.controller")
    files = everywhere.get(place.host, {}).get("files", {})
    return {name: text for name, text in files.items() if name != path(place.site)}


def _change_conf(place: Place, have: Value, want: Value) -> Sequence[Action]:
    if have is None:
        raise Refused(Finding("slurm-conf-missing", f"no {path(place.site)} on {place.host}", "correct slurm.folder"))
    return [activation(place, _title(place, f"set {KEY} in {path(place.site)}"), have, want, back=have)]


def _title(place: Place, what: str) -> str:
    unit = place.site.slurm.service
    then = f"roll {rollout.workload(place)} out" if pod.of(place) else f"start {unit} again"
    return f"{what}, {then}; put back unless it answers within {place.site.deadlines.slurmctld:.0f} s"


def undo(place: Place, before: Value) -> Sequence[Action]:
    """slurm.conf as it was before this tool changed it, and a slurmctld that has read that; what a rollback does."""
    now = seen(place)
    return [] if now == before else [activation(place, _title(place, "put slurm.conf back"), now, before, back=now)]


def disable(place: Place) -> Sequence[Action]:
    """BurstBufferType taken out of slurm.conf, and a slurmctld that has read that; what an undeploy does."""
    now = seen(place)
    without = slurmconf.without_setting(now, KEY)
    if now == without:
        return []
    return [activation(place, _title(place, f"take {KEY} out of {path(place.site)}"), now, without, back=now)]


# --- the daemon


def _read_daemon(place: Place, found: Value) -> Value:
    return {"answers": daemon.answers(found), "not read": daemon.stale(place.site, found)}


def _want_daemon(place: Place) -> Value:
    return {"answers": True, "not read": []}


def _change_daemon(place: Place, have: Value, want: Value) -> Sequence[Action]:
    """Start it again; if it doesn't come up, then without the burst buffer: unless that took it from another one."""
    now = seen(place)
    back = None if _runs_elsewhere(place) else slurmconf.without_setting(now, KEY)
    return [activation(place, f"start {place.site.slurm.service} again", now, None, back)]


def _runs_elsewhere(place: Place) -> bool:
    """Whether a controller that has the same slurm.conf, not only an equal one, runs with what it says now."""
    files, daemons = place.facts.all("slurm.conf"), place.facts.all(daemon.FACT)
    same = [host for host, file in files.items() if file and file["id"] == files[place.host]["id"]]
    good = [host for host in same if host in daemons and daemon.answers(daemons[host])]
    return any(host != place.host and not daemon.stale(place.site, daemons[host]) for host in good)


def _why(have: Value) -> str:
    return "; ".join(have["not read"]) if have["answers"] else "slurmctld does not answer `scontrol ping`"


def _means(place: Place, have: Value, want: Value) -> str:
    return rollout.means(place) if pod.of(place) else f"{place.site.slurm.service} is started again"


STAGE = Stage(
    "slurm",
    ("plugin", "access", "images"),
    (
        Step(
            "activation",
            "controller",
            _look_activation,
            lambda place: "none",
            settle=lambda site: 2 * (site.deadlines.slurmctld + 100.0),
            why=lambda have: "" if have == "none" else f"an activation of an earlier run is {have}",
            hint="see `systemctl status dws-on-csm-activation` there",
        ),
        Step(
            "conf",
            "controller",
            _look_conf,
            _want_conf,
            _change_conf,
            read=lambda place, found: found["text"] if found else None,
            settle=pod.settle(0.0),
            means=_means,
            hint="see above what slurmctld said; what was put back is said there too, and a new run tries again",
        ),
        Step(
            "daemon",
            "controller",
            daemon.look,
            _want_daemon,
            _change_daemon,
            read=_read_daemon,
            settle=lambda site: 10.0,
            why=_why,
            means=_means,
            hint="see `journalctl -u slurmctld` and slurmctld's log on that controller",
        ),
    ),
    serial=True,
)
