"""A step of the procedure as data: what it reads, what it wants, and how to get there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fabfile.inventory import Site

Value = Any
"""What a look finds and a step wants: None, bool, int, str, Secret, and lists and dicts of them. Compared with ==."""


class Secret:
    """Bytes that show themselves to nobody: not in str, repr, an exception or a diff. `reveal()` is the only way in."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def reveal(self) -> bytes:
        """The bytes themselves, for the one who writes them to their destination."""
        return self._content

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not written anywhere")


@dataclass(frozen=True)
class Finding:
    """Something that stands in the way: its name (a site file may accept it), what is so, and what to do."""

    name: str
    text: str
    fix: str


class Refused(Exception):
    """What is wanted must not be done now; says why and what to do, all of it at once."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(f"{f.name}: {f.text}" for f in findings))
        self.findings = findings


class Unknown(Exception):
    """What is wanted can't be known before STAGE ran."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"known after {stage}")
        self.stage = stage


# --- actions: the only ways to change anything


@dataclass(frozen=True)
class Sh:
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
class Bring:
    """A file that the actions behind it need on the host, as actions.PARTS/NAME; it is gone when they are through.

    `read` gives the content when it is sent, and raises Refused where it can't; NAME has letters, digits and . _ - only.
    """

    name: str
    title: str
    read: Callable[[], bytes]
    deadline: float = 600.0


@dataclass(frozen=True)
class Remove:
    """No such file; the one that was there is kept as a before-image."""

    path: str


@dataclass(frozen=True)
class Apply:
    """A Kubernetes object as the manifest says (server-side apply, field manager dws-on-csm)."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """No such Kubernetes object, waited for until it is gone."""

    path: str
    deadline: float = 60.0


@dataclass(frozen=True)
class Ask:
    """A script on another role's host whose output makes the next actions here (a CSR that the master's CA signs).

    told     whether its lines are shown while it runs
    objects  as a Sh has them
    """

    title: str
    role: str
    script: str
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    deadline: float = 60.0
    told: bool = False
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class AskApi:
    """Calls of the Kubernetes API whose answer makes the next actions here (a certificate that the cluster signs).

    objects  as a Sh has them
    """

    title: str
    ask: Callable[[Cluster], bytes]
    then: Callable[[bytes], Sequence[Action]] = lambda answer: ()
    objects: tuple[str, ...] = ()


Action = Sh | Put | Bring | Remove | Apply | Delete | Ask | AskApi


# --- looks: the only ways to read


class Cluster(Protocol):
    """The Kubernetes API as stages see it; paths as in the API (`/api/v1/nodes`), objects as parsed JSON."""

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """The object or list at `path`; None where there is none (404)."""

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """POST; `dryRun="All"` for a server-side dry run. Raises ClusterError with the server's own message."""

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON merge patch; with a resourceVersion in it only as long as nobody else has changed the object."""

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of one object, field manager dws-on-csm."""

    def delete(self, path: str, deadline: float) -> None:
        """Delete the object and wait until it is gone; none there is fine."""

    def await_event(self, path: str, seconds: float) -> bool:
        """Wait until something below `path` has changed since the last call for it; False after `seconds`.

        The first call for a path only marks the present and returns True.
        """


class ClusterError(Exception):
    """The API server refused or failed; `status` is the HTTP code (0: not reached), the message the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Shell:
    """A snippet for `sh` that only reads, and what its output means. It runs in a subshell with stdin from /dev/null.

    A snippet that exits with another code than 0 is a failed look: let it print what it can't find instead.
    """

    script: str
    parse: Callable[[bytes], Value]


@dataclass(frozen=True)
class Api:
    """A read of the Kubernetes API. `watch`: an API path whose events say that looking again is worthwhile."""

    read: Callable[[Cluster], Value]
    watch: str = ""


@dataclass(frozen=True)
class Known:
    """Nothing has to be read: what would be found is known already."""

    value: Value


Look = Shell | Api | Known


@dataclass
class Facts:
    """What the looks found so far: by step name, then by host."""

    found: dict[str, dict[str, Value]] = field(default_factory=dict)

    def all(self, step: str) -> Mapping[str, Value]:
        """Host -> what was found there by `STAGE.STEP`; Unknown if no host was looked at."""
        if not self.found.get(step):
            raise Unknown(step.partition(".")[0])
        return self.found[step]

    def one(self, step: str) -> Value:
        """What `STAGE.STEP` found on the master (or on the first host of its role)."""
        return next(iter(self.all(step).values()))


@dataclass(frozen=True)
class Place:
    """Where a step is at work: the site, what is known so far, and the host."""

    site: Site
    facts: Facts
    host: str


@dataclass(frozen=True)
class Step:
    """One thing that is to be so on every host of `role`, and how it is made so.

    look    what it reads; raises Unknown where that can't be said yet (looked at in its stage then)
    want    pure; may raise Unknown or Refused
    read    pure: what was found -> have, in the words of `want`, where that takes what is known of other hosts
    change  pure: have and want -> actions; may raise Refused. None: nothing can be done but to wait (`settle`)
    undo    pure: the have from before -> actions that give it back; what rollback replays
    settle  seconds during which the proof may look again
    why     what is awaited, in words, while it settles ("0 of 3 webhook pods: pulling the image")
    table   what was found -> rows of cells for people, the columns' names first: what was measured
    takes   what the change takes away, in words, or "": asked before (an older version, an orphan)
    means   what the change does beside what is shown to differ, in words, for a plan ("slurmctld stops meanwhile")
    after   the stage after which `takes` can tell everything; it is run before anybody is asked
    hint    what a failure of this step means, and what to do
    """

    name: str
    role: str
    look: Callable[[Place], Look]
    want: Callable[[Place], Value]
    change: Callable[[Place, Value, Value], Sequence[Action]] | None = None
    read: Callable[[Place, Value], Value] | None = None
    undo: Callable[[Value], Sequence[Action]] | None = None
    settle: Callable[[Site], float] | None = None
    why: Callable[[Value], str] | None = None
    table: Callable[[Value], tuple[tuple[str, ...], ...]] | None = None
    takes: Callable[[Place, Value, Value], str] | None = None
    means: Callable[[Place, Value, Value], str] | None = None
    after: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Check:
    """Something that must hold before anything is touched: a look, and a pure judge of what was found."""

    name: str
    role: str
    look: Callable[[Place], Look]
    judge: Callable[[Place, Value], Sequence[Finding]]


@dataclass(frozen=True)
class Stage:
    """A paragraph of the procedure: steps in order on each host of their role.

    needs    stages that must be through on all their hosts before this one begins
    serial   one host first, and the others only when it is through
    """

    name: str
    needs: tuple[str, ...]
    steps: tuple[Step | Check, ...]
    serial: bool = False
