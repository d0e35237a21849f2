"""How files and objects of the cluster were before a run, as data: what a rollback is to bring back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ABSENT = "absent"

Dws = Literal["leave", "remove", "install"]
"""What a rollback does about DWS itself: nothing, take it away, or install the version that was there."""


@dataclass(frozen=True)
class FileSnapshot:
    """A file as it was before the first of the runs that are undone.

    path          the name by which everybody calls it
    run           the one whose before-image that is
    sum           sha256 of the image, or "absent"
    left          what it may be now: the checksums that the last of these runs left, or found
    text          what is in the image; None where it holds a secret, or nothing was there
    image         where the image lies below the run's folder: the file's real path then
    space         the namespace that it names, where it is a kubeconfig
    certificates  those in it (PEM) where it is a kubeconfig; None where it is none
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
    """An object of the cluster as it was before: `before` None: not there. `left` as for a File; empty: not known."""

    path: str
    before: Mapping[str, Any] | None
    left: frozenset[str]

    @property
    def label(self) -> str:
        """`clusterroles/workload-manager`."""
        return "/".join(self.path.split("/")[-2:])


@dataclass(frozen=True)
class Goal:
    """How it was, and so how it is to be again.

    dws      what is to be done about DWS itself: nothing, take it away, or install the version of the site file
    files    host -> path -> how it was; those that stay as they are now are left out
    slurm    whether slurm.conf or the daemons are to be changed at all
    enabled  controller -> whether its slurmctld has the burst buffer afterwards
    off      whether one loses it now
    renew    whether kubeconfigs are to be made anew instead of being put back
    pods     objects that a slurmctld in a pod is made of, or has as its /etc/slurm
    version  the version of DWS that was there; "" where none was, or it isn't known
    spaces   controller -> the namespace that its kubeconfig names now, and the one that it names afterwards, where these differ
    now      what there was of DWS when this was made (see installed.read); None: nobody looked
    records  host -> a word for what runs had left there when this was made of it (see unchanged.records)
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
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""
    spaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    now: Mapping[str, Any] | None = None
    records: Mapping[str, str] = field(default_factory=dict)


def text_of(content: bytes) -> str:
    """A file's text; bytes that are no UTF-8 stay what they are."""
    return content.decode(errors="surrogateescape")
