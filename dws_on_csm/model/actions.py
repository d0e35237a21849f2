"""Actions as data: the only ways to change anything on a host or in the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dws_on_csm.model.cluster_api import Cluster
from dws_on_csm.model.secret import Secret

STATE = "/var/lib/dws-on-csm"
"""The folder on every host for before-images, journals and the last proof: root's alone."""

PROOF = f"{STATE}/proof.json"
"""The last proof, on the submitter. It holds until something is changed: a run removes it before its first change."""

PARTS = f"{STATE}/parts"
"""Where files lie that are brought only for the script that needs them."""


@dataclass(frozen=True)
class RunScript:
    """A script that changes something, for `sh` with -eu; `title` is its readable form for people.

    Its output's lines are shown while it runs. Exit code 0 or the step has failed.
    """

    title: str
    script: str
    deadline: float = 120.0
    data: bytes = b""
    """What the script reads from its standard input."""
    objects: tuple[str, ...] = ()
    """API paths of the objects that it changes in the cluster: how they were is kept on the master."""
    note: str = ""
    """What the step says of it once it is through, beside what differs now."""


@dataclass(frozen=True)
class Put:
    """A file with this content, replaced atomically; the one that was there is kept as a before-image.

    check   a script for `sh` (without -e) that tries the new file, $file, which lies beside the old one with its owner
            and mode already. Only if it ends with 0 does the new file take the old one's place
    """

    path: str
    content: bytes | Secret
    mode: int = 0o644
    owner: str = "root:root"
    check: str = ""


@dataclass(frozen=True)
class Upload:
    """A file that the actions behind it need on the host, as PARTS/NAME; it is gone when they are through.

    `read` gives the content when it is sent, and raises Refused where it can't; NAME has letters, digits and . _ - only.
    """

    name: str
    title: str
    read: Callable[[], bytes]
    deadline: float = 600.0


@dataclass(frozen=True)
class Remove:
    """No such file; the one that was there is kept as a before-image.

    secret  whether it has a key or a password in it: the record beside the before-image says so
    """

    path: str
    secret: bool = False


@dataclass(frozen=True)
class Apply:
    """A Kubernetes object as the manifest says (server-side apply, field manager dws-on-csm)."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """No such Kubernetes object, waited for until it is gone.

    uid    that very one, and no other of its name
    still  judges the object as it is right before; raises Refused where it may not go. What somebody changes of it since then is
           a conflict, and judged again
    """

    path: str
    deadline: float = 60.0
    uid: str = ""
    still: Callable[[Cluster, Mapping[str, Any]], None] | None = None


@dataclass(frozen=True)
class RunElsewhere:
    """A script on another role's host whose output makes the next actions here (a CSR that the master's CA signs).

    told     whether its lines are shown while it runs
    objects  as a RunScript has them
    """

    title: str
    role: str
    script: str
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    deadline: float = 60.0
    told: bool = False
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class CallApi:
    """Calls of the Kubernetes API whose answer makes the next actions here (a certificate that the cluster signs).

    objects  as a RunScript has them
    """

    title: str
    ask: Callable[[Cluster], bytes]
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    objects: tuple[str, ...] = ()


Action = RunScript | Put | Upload | Remove | Apply | Delete | RunElsewhere | CallApi


def title(action: Action) -> str:
    """The action in a form for people."""
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


def within(actions: Sequence[Action]) -> float:
    """Seconds after which performing `actions` has failed: the sum of theirs, a minute for each file."""
    return sum(a.deadline if isinstance(a, RunScript | Upload) else 60.0 for a in actions) + 60.0
