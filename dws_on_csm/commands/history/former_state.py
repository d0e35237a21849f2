"""What of DWS and of its objects was there before a run, as a state: derived from what runs noted, not from what they did.

What is to be reached depends on that state alone, never on what is there now. So a rollback that was cut off, one that
failed and one that succeeded can all be run again, and end in the same state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.commands.history.host_record import Trail
from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.snapshot import Dws, ObjectSnapshot
from dws_on_csm.runner.past_runs import Past
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import installed, persistent_storage

BINDING = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{names.BINDING}"

ROLE = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{names.ROLE}"

_OF_DWS = ("deploy.", "previous.", "undeploy.")
"""Steps whose objects come and go with a version of DWS as a whole."""

REMOVED = ("previous.removed", "undeploy.removed")
"""The steps that take a version of DWS away as a whole, without a record of each object."""

_WORKFLOWS = f"/apis/{names.GROUP}/"


class Halfway(Exception):
    """Before the run an undeploy had been cut off: that state can't be brought back. `version`: what it was taking away."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True)
class Former:
    """What of DWS was there before a run.

    known     whether anybody looked
    there     whether DWS itself was there
    half      whether an undeploy had been cut off, and had left something
    marked    whether an undeploy had been cut off, whatever it had left
    version   its version; "" where there was none, or its image's tag doesn't say
    tag       its image's tag
    crds      the plurals of the CRDs that were there
    replaced  whether that DWS was taken away as a whole since, even if it is there again
    """

    known: bool = False
    there: bool = False
    half: bool = False
    marked: bool = False
    version: str = ""
    tag: str = ""
    crds: frozenset[str] = frozenset()
    replaced: bool = False

    @property
    def lost(self) -> bool:
        """Whether it was taken away since, and can't come back, as nobody knows which version it was."""
        return self.there and self.replaced and not self.version


def former(wanted: Past, every: Sequence[Past], master: str, now: Mapping[str, Any]) -> Former:
    """What was there before the run `wanted`. `every`: all runs; `now`: what is there (see installed.read).

    A run that did not look changed nothing of DWS: what the next one found was there before it, too.
    """
    since = [one for one in every if one.id >= wanted.id]
    seen = [one.installed for one in since if one.installed is not None]
    if not seen:
        return Former()
    was, half = seen[0], bool(seen[0]["unfinished"] and (seen[0]["traces"] or seen[0]["crds"]))
    steps = {step for one in since for step in one.changed.get(master, ())}
    return Former(
        known=True,
        there=bool(was["traces"]) and not half,
        half=half,
        marked=bool(was["unfinished"]),
        version=installed.release(was["tag"] or was["unfinished"]),
        tag=was["tag"],
        crds=frozenset(was["crds"]),
        replaced=bool(steps.intersection(REMOVED)) or any(_other(was, one) for one in (*seen, now)),
    )


def _other(was: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether what was found is not the DWS that was there: another version, none, or half of one."""
    same = installed.release(found["tag"]) == installed.release(was["tag"])
    return not same or bool(found["traces"]) != bool(was["traces"]) or bool(found["unfinished"])


def work(was: Former, now: Mapping[str, Any]) -> Dws:
    """What is to be done about DWS: where it wasn't there it goes, where another version was that one comes.

    It is installed also where it seems to be there again: what brought it may have been cut off.
    Raises Halfway where half of one was there, and more than that is there now.
    """
    there = bool(now["traces"] or now["crds"] or now["unfinished"])
    if not was.known:
        return "leave"
    if was.half:
        if there and not now["unfinished"]:
            raise Halfway(was.version)
        return "leave"
    if was.there:
        return "install" if was.replaced and was.version else "leave"
    there = there if not was.marked else bool(now["traces"] or now["crds"])
    return "remove" if there and not was.crds else "leave"


def said(was: Former, now: Mapping[str, Any]) -> list[str]:
    """What stays as it is of DWS itself, and why, in sentences."""
    if was.half:
        rest = "it still is" if now["unfinished"] else "none is there now, and none comes back"
        return [f"An undeploy of DWS {was.version} had been cut off before it: {rest}."]
    if was.lost:
        there = f"DWS {installed.release(now['tag']) or now['tag']}" if now["tag"] else "no DWS"
        return [
            f"DWS stays as it is now ({there}): the image that was there before had the tag {was.tag or '(none)'}, which names no "
            "version to go back to. If you know which version it was, set versions.dws to it in the site file, and run "
            "`invoke install`; it asks, and takes the one for the other."
        ]
    return []


# --- objects


def things(
    master: Trail, was: Former, dws: Dws, bound: Mapping[str, Any] | None, gone: frozenset[str]
) -> tuple[list[ObjectSnapshot], list[str]]:
    """The objects that are to be as they were before a run; what stays and why.

    bound  the plugin's binding as it is now
    gone   the names that were revoked
    """
    made: list[ObjectSnapshot] = []
    told: list[str] = []
    for path, one in master.objects.items():
        kept = _stays(path, one, was, dws, gone)
        if kept is not None:
            told += [kept] if kept else []
        elif path == BINDING and one["before"] is not None:
            made.append(_binding(one, _left(path, one, was, dws), bound, gone))
            told += _rights(one["before"], gone)
        else:
            made.append(_thing(path, _unmarked(one["before"]), _left(path, one, was, dws)))
    return made, told


def _thing(path: str, then: Any, left: frozenset[str]) -> ObjectSnapshot:
    """An object that is to be so; it may be so already."""
    return ObjectSnapshot(path, then, left and left | {objects.fingerprint(then)})


def _unmarked(then: Any) -> Any:
    """An object without the mark of an undeploy that was under way: there is none any more."""
    marks = (then or {}).get("metadata", {}).get("annotations") or {}
    if installed.UNFINISHED not in marks:
        return then
    rest = {key: value for key, value in marks.items() if key != installed.UNFINISHED}
    meta = {key: value for key, value in then["metadata"].items() if key != "annotations"}
    return {**then, "metadata": {**meta, **({"annotations": rest} if rest else {})}}


def of_dws(path: str, one: Mapping[str, Any]) -> bool:
    """Whether an object comes and goes with a version of DWS as a whole, whichever run or rollback recorded it."""
    if one["step"].startswith(_OF_DWS) or _crd(path) or path == installed.NAMESPACE:
        return True
    if "/namespaces/" in path:
        return f"/namespaces/{names.NAMESPACE}/" in path
    return path.rpartition("/")[2].startswith("dws-")


def _stays(path: str, one: Mapping[str, Any], was: Former, dws: Dws, gone: frozenset[str]) -> str | None:
    """Why an object stays as it is, in a sentence ("": no need to say it); None where it is to be as it was."""
    then, label = one["before"], path.rpartition("/")[2]
    if path.startswith(_WORKFLOWS) and "/workflows/" in path:
        return f"{label} is not created again: Slurm no longer knows its job."
    if path.startswith(_WORKFLOWS) and one["step"].endswith(".storage"):
        return f"{label} is not created again: an object of its name would not bring back what users had stored."
    if path == persistent_storage.CLOSED_PATH:
        return ""  # what closed DWS was left by a removal that was cut off; a rollback never closes DWS
    if path == revoked_names.PATH:
        return f"What was revoked stays revoked: {', '.join(sorted(gone))}." if gone else ""
    if was.lost and path in (BINDING, ROLE):
        return ""  # they belong to the version that is there
    if of_dws(path, one) and (why := _of_dws(path, then, was, dws)) is not None:
        return why
    if then is not None and then.get("withheld"):
        return f"{path} stays as it is: what was in a Secret isn't kept."
    return None


def _of_dws(path: str, then: Any, was: Former, dws: Dws) -> str | None:
    """Why an object of DWS stays. Where DWS was there before, none is ever taken away; what a version is made of comes with it.

    A CRD, with all objects of its kind, goes with an undeploy alone, which looks what they hold.
    """
    if was.half or not was.known or (was.there and was.replaced):
        return ""
    label = "/".join(path.split("/")[-2:])
    if then is None and was.there:
        return f"{label} stays, though it wasn't there: DWS was, and needs it."
    if then is None and _crd(path) and dws != "remove":
        return "" if _crd(path) in was.crds else f"{label} stays: `invoke undeploy` removes CRDs."
    return None


def _crd(path: str) -> str:
    """The plural of DWS's CRD that an object is; "" for another object."""
    folder, _, name = path.rpartition("/")
    plural, _, group = name.partition(".")
    return plural if folder == installed.CRDS and group == names.GROUP else ""


def _left(path: str, one: Mapping[str, Any], was: Former, dws: Dws) -> frozenset[str]:
    """The fingerprints that an object may have; empty where that isn't known, or an undeploy came since or comes before."""
    runs = one["left"]
    last = runs[max(runs)] if runs else []
    if None in last or ((dws == "remove" or was.replaced) and of_dws(path, one)):
        return frozenset()
    return frozenset({last[-1], objects.fingerprint(one["before"])}) if last else frozenset()


# --- the binding


def subjects(binding: Mapping[str, Any] | None) -> frozenset[str]:
    """The names that a binding gives rights to."""
    return frozenset(one["name"] for one in (binding or {}).get("subjects") or [])


def _binding(
    one: Mapping[str, Any], left: frozenset[str], bound: Mapping[str, Any] | None, gone: frozenset[str]
) -> ObjectSnapshot:
    """The binding as it was: with the role that the version of DWS had then, but with no name that was revoked.

    Where a name is left out, those that have rights now keep theirs: kubeconfigs of theirs are in use.
    """
    then = one["before"]
    if not subjects(then) & gone:
        return ObjectSnapshot(BINDING, then, left)
    every = {entry["name"]: entry for entry in [*then["subjects"], *((bound or {}).get("subjects") or [])]}
    some = [every[name] for name in sorted(every.keys() - gone)]
    return _thing(BINDING, {**then, "subjects": some}, left)


def with_subject(things: Sequence[ObjectSnapshot], name: str) -> list[ObjectSnapshot]:
    """The same objects, and the binding among them gives `name` its rights, too: kubeconfigs are made anew for it."""
    return [_giving(one, name) if one.path == BINDING and one.before else one for one in things]


def _giving(one: ObjectSnapshot, name: str) -> ObjectSnapshot:
    assert one.before is not None
    if name in subjects(one.before):
        return one
    entry = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    some = [*(one.before.get("subjects") or []), entry]
    return _thing(one.path, {**one.before, "subjects": some}, one.left)


def left_out(master: Trail, gone: frozenset[str]) -> bool:
    """Whether the binding comes back without a name that had rights then."""
    return bool(subjects(master.objects.get(BINDING, {}).get("before")) & gone)


def _rights(then: Mapping[str, Any], gone: frozenset[str]) -> list[str]:
    back = ", ".join(sorted(subjects(then) & gone))
    return [f"{names.BINDING} gives no rights to {back} again, since it was revoked."] if back else []
