"""The state of DWS and of its objects before a run, derived from what runs noted, not from what they did.

A rollback's target depends on that state alone, never on the present one. So a rollback that was interrupted, failed or
succeeded can be run again, and ends in the same state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.commands.history.host_record import HostRecord
from dws_on_csm.domain import names
from dws_on_csm.kube import objects
from dws_on_csm.model.snapshot import Dws, ObjectSnapshot
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import closing, installed, slurm_clusters

BINDING = f"{names.RBAC}/clusterrolebindings/{names.BINDING}"
INTERIM_BINDING = f"{names.RBAC}/clusterrolebindings/{names.INTERIM_BINDING}"

ROLE = f"{names.RBAC}/clusterroles/{names.ROLE}"

_OF_DWS = ("deploy.", "replace.", "previous.", "undeploy.")
"""Steps whose objects come and go with a version of DWS; earlier versions of this tool called `replace` `previous`."""

REMOVED = ("replace.removed", "previous.removed", "undeploy.removed")
"""The steps that remove a version of DWS completely, without a record of each object."""

_WORKFLOWS = f"/apis/{names.GROUP}/"


class HalfRemoved(Exception):
    """Before the run, an undeploy of `version` had been interrupted: that state cannot be restored."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True)
class FormerState:
    """The state of DWS before a run.

    known         whether a run has read that state
    installed     whether DWS was installed
    half_removed  whether an undeploy had been interrupted, and part of DWS was left
    unfinished    whether an undeploy had been interrupted, even if nothing was left
    version       its version; "" where DWS was not installed, or its image's tag is no version
    tag           its image's tag
    crds          the plurals of its CRDs
    replaced      whether DWS was removed since, even if the same version is installed again
    """

    known: bool = False
    installed: bool = False
    half_removed: bool = False
    unfinished: bool = False
    version: str = ""
    tag: str = ""
    crds: frozenset[str] = frozenset()
    replaced: bool = False

    @property
    def lost(self) -> bool:
        """Whether DWS was removed since and cannot be restored, because its version is unknown."""
        return self.installed and self.replaced and not self.version


def before_run(wanted: PastRun, runs: Sequence[PastRun], master: str, now: Mapping[str, Any]) -> FormerState:
    """The state before the run `wanted`. `runs`: all runs; `now`: the present state (see installed.read).

    A run that did not read the state changed nothing of DWS: what the next run read was the state before it, too.
    """
    since = [run for run in runs if run.id >= wanted.id]
    states = [run.installed for run in since if run.installed is not None]
    if not states:
        return FormerState()
    was = states[0]
    half_removed = bool(was["unfinished"] and (was["traces"] or was["crds"]))
    steps = {step for run in since for step in run.changed.get(master, ())}
    return FormerState(
        known=True,
        installed=bool(was["traces"]) and not half_removed,
        half_removed=half_removed,
        unfinished=bool(was["unfinished"]),
        version=installed.release(was["tag"] or was["unfinished"]),
        tag=was["tag"],
        crds=frozenset(was["crds"]),
        replaced=bool(steps.intersection(REMOVED)) or any(_differs(was, state) for state in (*states, now)),
    )


def _differs(was: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether `state` has another DWS than `was`: another version, none, or an unfinished undeploy."""
    same = installed.release(state["tag"]) == installed.release(was["tag"])
    return not same or bool(state["traces"]) != bool(was["traces"]) or bool(state["unfinished"])


def dws_action(was: FormerState, now: Mapping[str, Any]) -> Dws:
    """What to do about DWS: remove it where it was not installed, install the former version where there was one.

    It is installed also where it seems to be complete: the run that installed it may have been interrupted.
    Raises HalfRemoved where DWS was half removed before the run, and is installed now.
    """
    present = bool(now["traces"] or now["crds"] or now["unfinished"])
    if not was.known:
        return "leave"
    if was.half_removed:
        if present and not now["unfinished"]:
            raise HalfRemoved(was.version)
        return "leave"
    if was.installed:
        return "install" if was.replaced and was.version else "leave"
    present = present if not was.unfinished else bool(now["traces"] or now["crds"])
    return "remove" if present and not was.crds else "leave"


def describe_dws(was: FormerState, now: Mapping[str, Any]) -> list[str]:
    """What of DWS stays as it is, and why, in sentences."""
    if was.half_removed:
        rest = (
            "it is still half removed" if now["unfinished"] else "DWS is not installed now, and is not installed again"
        )
        return [f"Before that run, an undeploy of DWS {was.version} had been interrupted: {rest}."]
    if was.lost:
        present = f"DWS {installed.release(now['tag']) or now['tag']}" if now["tag"] else "not installed"
        return [
            f"DWS stays as it is now ({present}): its image before that run had the tag {was.tag or '(none)'}, which is not a "
            "version that could be installed again. If you know the version, set versions.dws to it in the site file and run "
            "`invoke install`: after a confirmation it installs that version."
        ]
    return []


# --- objects


def object_targets(
    master: HostRecord, was: FormerState, dws: Dws, bound: Mapping[str, Any] | None, revoked: frozenset[str]
) -> tuple[list[ObjectSnapshot], list[str]]:
    """The objects to restore to their state before a run; and those that stay and why, in sentences.

    bound    the plugin's binding as it is now
    revoked  the names that were revoked
    """
    targets: list[ObjectSnapshot] = []
    sentences: list[str] = []
    for path, record in master.objects.items():
        reason = _why_it_stays(path, record, was, dws, revoked)
        if reason is not None:
            sentences += [reason] if reason else []
        elif path in (BINDING, INTERIM_BINDING) and record["before"] is not None:
            targets.append(_binding_target(path, record, _fingerprints(path, record, was, dws), bound, revoked))
            sentences += _describe_binding(record["before"], revoked)
        else:
            targets.append(_target(path, _without_mark(record["before"]), _fingerprints(path, record, was, dws)))
    return targets, sentences


def _target(path: str, then: Any, left: frozenset[str]) -> ObjectSnapshot:
    """An object as it was then; it may be in that state already."""
    return ObjectSnapshot(path, then, left and left | {objects.fingerprint(then)})


def _without_mark(then: Any) -> Any:
    """An object without the mark of an unfinished undeploy: after a rollback there is none."""
    marks = (then or {}).get("metadata", {}).get("annotations") or {}
    if installed.UNFINISHED not in marks:
        return then
    rest = {key: value for key, value in marks.items() if key != installed.UNFINISHED}
    meta = {key: value for key, value in then["metadata"].items() if key != "annotations"}
    return {**then, "metadata": {**meta, **({"annotations": rest} if rest else {})}}


def belongs_to_dws(path: str, record: Mapping[str, Any]) -> bool:
    """Whether an object comes and goes with a version of DWS, whichever run or rollback recorded it."""
    if record["step"].startswith(_OF_DWS) or _crd_plural(path) or path == installed.NAMESPACE:
        return True
    if "/namespaces/" in path:
        return f"/namespaces/{names.NAMESPACE}/" in path
    return path.rpartition("/")[2].startswith("dws-")


def _why_it_stays(
    path: str, record: Mapping[str, Any], was: FormerState, dws: Dws, revoked: frozenset[str]
) -> str | None:
    """Why an object stays as it is, in a sentence ("": not worth saying); None for an object to restore."""
    then, name = record["before"], path.rpartition("/")[2]
    if path.startswith(_WORKFLOWS) and "/workflows/" in path:
        return f"Workflow {name} is not recreated: Slurm no longer knows its job."
    if path.startswith(_WORKFLOWS) and record["step"].endswith(".storage"):
        return (
            f"{name} is not recreated: a new object of this name would not bring back the data that users had stored."
        )
    if path == closing.PATH:
        return ""  # an interrupted removal had left DWS closed; a rollback never closes DWS
    if path == revoked_names.PATH:
        return f"Revoked names stay revoked: {', '.join(sorted(revoked))}." if revoked else ""
    if path == slurm_clusters.PATH and slurm_clusters.users(then) & revoked:
        return ""  # the binding does not get that name back either
    if was.lost and path in (BINDING, INTERIM_BINDING, ROLE):
        return ""  # they belong to the version that is installed
    if belongs_to_dws(path, record) and (why := _why_it_stays_with_dws(path, then, was, dws)) is not None:
        return why
    if then is not None and then.get("withheld"):
        return f"{path} stays as it is: the content of a Secret is not saved, and so cannot be restored."
    return None


def _why_it_stays_with_dws(path: str, then: Any, was: FormerState, dws: Dws) -> str | None:
    """The same for an object of DWS. Where DWS was installed before, none is removed; a version's objects come with it.

    Only an undeploy removes a CRD with all objects of its kind, since it checks what they hold.
    """
    if was.half_removed or not was.known or (was.installed and was.replaced):
        return ""
    label = "/".join(path.split("/")[-2:])
    if then is None and was.installed:
        return f"{label} stays, although it did not exist before: DWS was installed, and needs it."
    if then is None and _crd_plural(path) and dws != "remove":
        return "" if _crd_plural(path) in was.crds else f"{label} stays: only `invoke undeploy` removes CRDs."
    return None


def _crd_plural(path: str) -> str:
    """The plural of DWS's CRD at `path`; "" for another object."""
    folder, _, name = path.rpartition("/")
    plural, _, group = name.partition(".")
    return plural if folder == installed.CRDS and group == names.GROUP else ""


def _fingerprints(path: str, record: Mapping[str, Any], was: FormerState, dws: Dws) -> frozenset[str]:
    """The fingerprints that an object may have now; empty where they are unknown, or an undeploy came since or comes first."""
    runs = record["left"]
    last = runs[max(runs)] if runs else []
    if None in last or ((dws == "remove" or was.replaced) and belongs_to_dws(path, record)):
        return frozenset()
    return frozenset({last[-1], objects.fingerprint(record["before"])}) if last else frozenset()


# --- the binding


def subjects(binding: Mapping[str, Any] | None) -> frozenset[str]:
    """The names that a binding gives rights to."""
    return frozenset(subject["name"] for subject in (binding or {}).get("subjects") or [])


def accounts(binding: Mapping[str, Any] | None) -> frozenset[str]:
    """The namespaces of the ServiceAccounts that a binding gives rights to."""
    every = (binding or {}).get("subjects") or []
    return frozenset(subject["namespace"] for subject in every if subject.get("kind") == "ServiceAccount")


def _binding_target(
    path: str,
    record: Mapping[str, Any],
    left: frozenset[str],
    bound: Mapping[str, Any] | None,
    revoked: frozenset[str],
) -> ObjectSnapshot:
    """The binding at `path` as it was, with the role of the version of DWS then, but without revoked names.

    Where it loses a name, the names that have rights now keep them: kubeconfigs use them.
    """
    then = record["before"]
    if not subjects(then) & revoked:
        return ObjectSnapshot(path, then, left)
    every = [*then["subjects"], *((bound or {}).get("subjects") or [])]
    entries = {(entry["name"], entry.get("kind", ""), entry.get("namespace", "")): entry for entry in every}
    kept = [entries[key] for key in sorted(entries) if key[0] not in revoked or key[1] == "ServiceAccount"]
    return _target(path, {**then, "subjects": kept}, left)


def with_subject(targets: Sequence[ObjectSnapshot], name: str) -> list[ObjectSnapshot]:
    """The same objects; the binding among them also gives rights to `name`, for which kubeconfigs are recreated."""
    return [_giving(target, name) if target.path == BINDING and target.before else target for target in targets]


def _giving(binding: ObjectSnapshot, name: str) -> ObjectSnapshot:
    assert binding.before is not None
    if name in subjects(binding.before):
        return binding
    entry = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    entries = [*(binding.before.get("subjects") or []), entry]
    return _target(binding.path, {**binding.before, "subjects": entries}, binding.left)


def loses_a_name(master: HostRecord, revoked: frozenset[str]) -> bool:
    """Whether the restored binding lacks a name that had rights then."""
    return bool(subjects(master.objects.get(BINDING, {}).get("before")) & revoked)


def _describe_binding(then: Mapping[str, Any], revoked: frozenset[str]) -> list[str]:
    without = ", ".join(sorted(subjects(then) & revoked))
    return [f"{names.BINDING} is restored without {without}: revoked names get no rights again."] if without else []
