"""Files and objects of the cluster as they were before a run, as data: the state that a rollback restores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ABSENT = "absent"

Dws = Literal["leave", "remove", "install"]
"""What a rollback does with DWS itself: leave it, remove it, or install the former version."""


@dataclass(frozen=True)
class FileSnapshot:
    """A file as it was before the first of the runs that a rollback undoes.

    path          its usual path
    run           the run that saved the before-image
    sum           sha256 of the before-image, or "absent"
    left          checksums that the file may have now: those that the last of these runs wrote or found
    text          content of the before-image; None where it contains a secret, or the file was absent
    image         path of the before-image below the run's folder: the file's real path at that time
    space         for a kubeconfig: its namespace
    certificates  for a kubeconfig: its certificates (PEM); None for other files
    """

    path: str
    run: str
    mode: str
    owner: str
    sum: str
    left: frozenset[str]
    text: bytes | None = None
    image: str = ""
    certificates: Sequence[bytes] | None = None
    space: str = ""


@dataclass(frozen=True)
class ObjectSnapshot:
    """An object of the cluster as it was before; `before` None: absent. `left` as in FileSnapshot; empty: unknown."""

    path: str
    before: Mapping[str, Any] | None
    left: frozenset[str]

    @property
    def label(self) -> str:
        """`clusterroles/workload-manager`."""
        return "/".join(self.path.split("/")[-2:])


@dataclass(frozen=True)
class RollbackTarget:
    """The state that a rollback restores.

    dws      what happens to DWS itself: leave it, remove it, or install the version of the site file
    files    host -> path -> the file's earlier state; files that stay as they are now are left out
    slurm    whether slurm.conf or the daemons change at all
    enabled  controller -> whether its slurmctld has the burst buffer afterwards
    off      whether a slurmctld loses the burst buffer now
    renew    whether kubeconfigs are created again instead of restored
    pods     objects that define a slurmctld in a pod, or its /etc/slurm
    templates  ConfigMaps from which a Job renders that /etc/slurm
    version  the former version of DWS; "" where there was none, or it is unknown
    spaces   controller -> the present and the later namespace of its kubeconfig, where these differ
    now      the DWS installation when this target was computed (see installed.read); None: not checked
    records  host -> a word for the records of runs there when this target was computed (see unchanged.records)
    """

    run: str
    dws: Dws
    files: Mapping[str, Mapping[str, FileSnapshot]]
    things: Sequence[ObjectSnapshot]
    enabled: Mapping[str, bool]
    slurm: bool = False
    off: bool = False
    renew: bool = False
    pods: Sequence[ObjectSnapshot] = ()
    templates: Sequence[ObjectSnapshot] = ()
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""
    spaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    now: Mapping[str, Any] | None = None
    records: Mapping[str, str] = field(default_factory=dict)


def objects_and_templates(
    objects: Sequence[ObjectSnapshot],
) -> tuple[list[ObjectSnapshot], list[ObjectSnapshot]]:
    """The objects to restore by themselves, and the templates among them: ConfigMaps with slurm.conf beside a Job of the records.

    Neither the Job nor what it renders is restored by itself: the templates are, and then the Job runs again.
    """
    spaces = {obj.path.split("/namespaces/")[1].split("/")[0] for obj in objects if _is_job(obj)}
    if not spaces:
        return list(objects), []
    confs = [obj for obj in objects if "slurm.conf" in ((obj.before or {}).get("data") or {})]
    templates = [obj for obj in confs if any(f"/namespaces/{space}/configmaps/" in obj.path for space in spaces)]
    return [obj for obj in objects if obj not in confs and not _is_job(obj)], templates


def _is_job(obj: ObjectSnapshot) -> bool:
    return obj.path.startswith("/apis/batch/")


def decoded(content: bytes) -> str:
    """A file's text; bytes that are not UTF-8 are preserved."""
    return content.decode(errors="surrogateescape")
