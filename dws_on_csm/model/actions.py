"""Actions as data: the only ways to change anything on a host or in the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.model import render
from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.secret import Secret

STATE = "/var/lib/dws-on-csm"
"""The folder on every host for before-images, journals and the last proof; only root has access."""

OWN_STATE = render.read("lib/own_state.sh") + 'STATE=$(own_state "$STATE") || exit 1\n'
"""Shell: another $STATE, in memory, for the user of a container who is not root and cannot write in root's folder. The script
ends there with an explanation where that folder is another user's."""

PARTS = f"{STATE}/parts"
"""The folder for files that are sent only for the script that needs them."""


@dataclass(frozen=True)
class RunScript:
    """A script for `sh` with -eu that changes something; `title` describes it.

    Its output is shown while it runs. The step fails for any exit code but 0.
    """

    title: str
    script: str
    deadline: float = 120.0
    data: bytes = b""
    """The script's standard input."""
    objects: tuple[str, ...] = ()
    """API paths of the objects that it changes in the cluster: their earlier versions are saved on the master."""
    note: str = ""
    """The step's note when it is finished, in addition to the difference."""


@dataclass(frozen=True)
class Put:
    """A file with this content, replaced atomically; the earlier file is saved as a before-image.

    check   a script for `sh` (without -e) that tests the new file, $file, which is next to the old one and already has its owner
            and mode. Only exit code 0 lets the new file replace the old one
    """

    path: str
    content: bytes | Secret
    mode: int = 0o644
    owner: str = "root:root"
    check: str = ""


@dataclass(frozen=True)
class Upload:
    """A file that the next actions need on the host, as PARTS/NAME; it is removed when they are finished.

    `read` returns the content when it is sent, or raises Refused; NAME has only letters, digits and . _ -.
    """

    name: str
    title: str
    read: Callable[[], bytes]
    deadline: float = 600.0


@dataclass(frozen=True)
class Remove:
    """Remove a file; it is saved as a before-image.

    secret  whether it contains a key or a password: the record of the before-image says so
    """

    path: str
    secret: bool = False


@dataclass(frozen=True)
class Apply:
    """Apply a Kubernetes manifest (server-side apply, field manager dws-on-csm)."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """Delete a Kubernetes object, and wait until it is gone.

    uid      delete only the object with this uid
    recheck  judges the object right before its deletion; raises Refused where it may not be deleted. A change of the object after
             that is a conflict, and the object is judged again
    """

    path: str
    deadline: float = 60.0
    uid: str = ""
    recheck: Callable[[Cluster, Mapping[str, Any]], None] | None = None


@dataclass(frozen=True)
class RunElsewhere:
    """A script on a host of another role; its output determines the next actions here (a CSR that the master's CA signs).

    script       or what makes it when it runs: a plan makes no key
    show_output  whether its output is shown while it runs
    objects      as in RunScript
    abandon      its output (b"" where there is none) -> what removes what it left, if it or a later action fails: run in order; one
                 that fails ends that, and is named in the step's failure
    """

    title: str
    role: str
    script: str | Callable[[], str]
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    deadline: float = 60.0
    show_output: bool = False
    objects: tuple[str, ...] = ()
    abandon: Callable[[bytes], Sequence[RunElsewhere]] = lambda answer: ()


@dataclass(frozen=True)
class CallApi:
    """Calls of the Kubernetes API; their answer determines the next actions here (a certificate that the cluster signs).

    objects  as in RunScript
    """

    title: str
    ask: Callable[[Cluster], bytes]
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    objects: tuple[str, ...] = ()


Action = RunScript | Put | Upload | Remove | Apply | Delete | RunElsewhere | CallApi


def title(action: Action) -> str:
    """The action in words."""
    if isinstance(action, Put):
        return f"write {action.path}"
    if isinstance(action, Remove):
        return f"remove {action.path}"
    if isinstance(action, RunScript | Upload):
        return action.title
    return _elsewhere(action)


def _elsewhere(action: Action) -> str:
    if isinstance(action, Apply):
        return f"apply {action.manifest['kind']} {action.manifest['metadata']['name']}"
    if isinstance(action, Delete):
        return f"delete {action.path}"
    assert isinstance(action, RunElsewhere | CallApi)
    return action.title


def total_deadline(actions: Sequence[Action]) -> float:
    """Seconds that `actions` may take together: the sum of their deadlines, and a minute for each file."""
    return sum(action.deadline if isinstance(action, RunScript | Upload) else 60.0 for action in actions) + 60.0
