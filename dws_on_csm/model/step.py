"""A step of the procedure as data: what it reads, what it wants, and how to get there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from dws_on_csm.model.actions import Action
from dws_on_csm.model.cluster_api import Cluster

if TYPE_CHECKING:
    from dws_on_csm.config.site import Site

Value = Any
"""What a look finds and a step wants: None, bool, int, str, Secret, and lists and dicts of them. Compared with ==."""


@dataclass(frozen=True)
class Finding:
    """Something that stands in the way: its name, what is so, and what to do. `acceptable` says which a site may live with."""

    name: str
    text: str
    fix: str


class Refused(Exception):
    """What is wanted must not be done now; says why and what to do, all of it at once."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(f"{f.name}: {f.text}" for f in findings))
        self.findings = findings


class NotYetKnown(Exception):
    """What is wanted can't be known before STAGE ran."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"known after {stage}")
        self.stage = stage


@dataclass(frozen=True)
class Removal:
    """Something that a change takes away, as somebody is asked about it.

    words   what is told
    things  what these words stand for, each by a name that nothing else ever has (with its uid, where it has one). Who agrees to
            the words agrees to these things, and to no other that may have their place when it comes to the deed
    """

    words: str
    things: frozenset[str] = frozenset()

    @property
    def agreed(self) -> frozenset[str]:
        """What is agreed to with it: its things; the words themselves where they say all."""
        return self.things or frozenset({self.words})


# --- looks: the only ways to read


@dataclass(frozen=True)
class ShellLook:
    """A snippet for `sh` that only reads, and what its output means. It runs in a subshell with stdin from /dev/null.

    A snippet that exits with another code than 0 is a failed look: let it print what it can't find instead.
    """

    script: str
    parse: Callable[[bytes], Value]


@dataclass(frozen=True)
class ApiLook:
    """A read of the Kubernetes API. `watch`: an API path whose events say that looking again is worthwhile."""

    read: Callable[[Cluster], Value]
    watch: str = ""


@dataclass(frozen=True)
class Constant:
    """Nothing has to be read: what would be found is known already."""

    value: Value


Look = ShellLook | ApiLook | Constant


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Fact(Generic[T_co]):
    """The name and the type of what the look of one step or check returns. It is declared beside that look."""

    stage: str
    step: str

    @property
    def name(self) -> str:
        """The key in Facts: "STAGE.STEP"."""
        return f"{self.stage}.{self.step}"

    def shell(self, script: str, parse: Callable[[bytes], T_co]) -> ShellLook:
        """A look by shell that returns this fact."""
        return ShellLook(script, parse)

    def api(self, read: Callable[[Cluster], T_co], watch: str = "") -> ApiLook:
        """A look at the Kubernetes API that returns this fact."""
        return ApiLook(read, watch)


@dataclass
class Facts:
    """What the looks have returned so far: by step name, then by host.

    first   what the first look of this run returned: names or a number that somebody typed refer to that alone
    """

    found: dict[str, dict[str, Value]] = field(default_factory=dict)
    first: dict[str, dict[str, Value]] = field(default_factory=dict)

    def known(self, fact: Fact[T]) -> Mapping[str, T]:
        """Host -> this fact; empty where no host was looked at yet."""
        return self.found.get(fact.name, {})

    @overload
    def all(self, fact: Fact[T]) -> Mapping[str, T]: ...
    @overload
    def all(self, fact: str) -> Mapping[str, Value]: ...
    def all(self, fact: Fact[Any] | str) -> Mapping[str, Value]:
        """Host -> this fact. Raises NotYetKnown if no host was looked at. A text, "STAGE.STEP", gives it without its type."""
        name = fact if isinstance(fact, str) else fact.name
        if not self.found.get(name):
            raise NotYetKnown(name.partition(".")[0])
        return self.found[name]

    @overload
    def one(self, fact: Fact[T]) -> T: ...
    @overload
    def one(self, fact: str) -> Value: ...
    def one(self, fact: Fact[Any] | str) -> Value:
        """This fact of the master (or of the first host of its role). Raises NotYetKnown."""
        return next(iter(self.all(fact).values()))

    def one_or_none(self, fact: Fact[T]) -> T | None:
        """As `one`; None where no host was looked at yet."""
        return next(iter(self.known(fact).values()), None)


@dataclass(frozen=True)
class StepContext:
    """Where a step is at work: the site, what is known so far, and the host."""

    site: Site
    facts: Facts
    host: str


@dataclass(frozen=True)
class Step:
    """One thing that is to be so on every host of `role`, and how it is made so.

    look            what it reads; raises NotYetKnown where that cannot be said yet (it is then looked at in its stage)
    want            pure; may raise NotYetKnown or Refused
    read            pure: what the look found -> have, in the terms of `want`, where that takes facts of other hosts
    change          pure: have and want -> actions; may raise Refused. None: nothing to do but wait (`settle_seconds`)
    settle_seconds  how long the proof may look again
    status_text     pure: have -> what is awaited, in words ("0 of 3 webhook pods: pulling the image")
    table           have -> rows of cells for people, the columns' names first
    removes         what the change removes: confirmed before the run, and asked for again right before the change, where whatever
                    nobody confirmed is refused. A text (or ""), where these very words are what is confirmed; Removals, where the
                    words may change (an age in them) or another object could take over a name in them. Asked for with want None
                    where the want is not known yet
    side_effect     what the change does besides the shown difference, in words, for a plan ("slurmctld stops meanwhile")
    accepted_as     pure: have and want -> the name of the finding that their whole difference is, or "": where the site accepts
                    that finding, the step leaves what is there
    repeat_text     why the step runs again once any other step changes something: a proof holds no longer than what it proves
    confirm_after   the stage after which `removes` can tell everything; it runs before anybody is asked
    hint            what a failure of this step means, and what to do
    """

    name: str
    role: str
    look: Callable[[StepContext], Look]
    want: Callable[[StepContext], Value]
    change: Callable[[StepContext, Value, Value], Sequence[Action]] | None = None
    read: Callable[[StepContext, Value], Value] | None = None
    settle_seconds: Callable[[Site], float] | None = None
    status_text: Callable[[Value], str] | None = None
    table: Callable[[Value], tuple[tuple[str, ...], ...]] | None = None
    removes: Callable[[StepContext, Value, Value], str | Sequence[Removal]] | None = None
    side_effect: Callable[[StepContext, Value, Value], str] | None = None
    accepted_as: Callable[[StepContext, Value, Value], str] | None = None
    repeat_text: str = ""
    confirm_after: str = ""
    hint: str = ""

    def removals(self, ctx: StepContext, have: Value, want: Value) -> tuple[Removal, ...]:
        """What the change takes away, each with what is agreed to with it."""
        told = self.removes(ctx, have, want) if self.removes else ()
        if isinstance(told, str):
            return (Removal(told),) if told else ()
        return tuple(told)


@dataclass(frozen=True)
class Check:
    """Something that must hold before anything is touched: a look, and a pure judge of what was found.

    record  pure: what was found -> what each run writes on the master before its first change, for a later rollback
    """

    name: str
    role: str
    look: Callable[[StepContext], Look]
    judge: Callable[[StepContext, Value], Sequence[Finding]]
    record: Callable[[Value], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Stage:
    """A paragraph of the procedure: steps in order on each host of their role.

    needs    what must be through on all its hosts before this one begins: "STAGE", or "STAGE.STEP" for that step alone
    serial   one host first, and the others only when it is through
    around   the stages that it makes way for: where none of them has anything to do, it has nothing to do either
    ends     the stage whose work it takes back. It comes last, behind all others, whatever became of them: also where one of
             them failed or was refused, and where the run was stopped
    proves   it proves what the others installed, and changes nothing that outlasts it. A run that fails in such a stage alone
             has installed everything
    """

    name: str
    needs: tuple[str, ...]
    steps: tuple[Step | Check, ...]
    serial: bool = False
    around: tuple[str, ...] = ()
    ends: str = ""
    proves: bool = False

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The names of the stages in `needs`, also of those of which it needs a step alone."""
        return tuple(dict.fromkeys(need.partition(".")[0] for need in self.needs))
