"""A step of the procedure as data: what it reads, what it wants, and how it gets there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dws_on_csm.model.actions import Action
from dws_on_csm.model.cluster_api import Cluster

if TYPE_CHECKING:
    from dws_on_csm.config.site import Site

Value = Any
"""What a look finds and a step wants: None, bool, int, str, Secret, and lists and dicts of them. Compared with ==."""


@dataclass(frozen=True)
class Finding:
    """A problem: its name, the facts, and what to do. config/acceptable.py says which findings a site may accept.

    explains_others  every other problem of the host may follow from it: the host's other checks and steps are skipped
    """

    name: str
    text: str
    fix: str
    explains_others: bool = False


class Refused(Exception):
    """The wanted change is refused; the findings say why and what to do, all at once."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(f"{f.name}: {f.text}" for f in findings))
        self.findings = findings


class NotYetKnown(Exception):
    """A value depends on a stage that has not run yet."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"known after {stage}")
        self.stage = stage


@dataclass(frozen=True)
class Removal:
    """Something that a change removes, for the confirmation.

    words   the text of the confirmation
    things  the things that these words mean, each by a unique name (with its uid, where it has one). A confirmation of the words
            covers these things only, and nothing that takes their place before the change
    """

    words: str
    things: frozenset[str] = frozenset()

    @property
    def confirmed(self) -> frozenset[str]:
        """What a confirmation covers: the things, or the words where there are no things."""
        return self.things or frozenset({self.words})


@dataclass(frozen=True)
class Restart:
    """A restart of a service by a change: a run asks before it, and a plan shows it.

    service  what restarts on the step's host ("slurmctld")
    detail   how, and how long that takes, in words
    effect   what continues meanwhile and what waits, as a sentence
    after    "STAGE.STEP": it restarts only if that step changes something on the same host; "" for always
    """

    service: str
    detail: str
    effect: str = ""
    after: str = ""


# --- looks: the only ways to read


@dataclass(frozen=True)
class ShellLook:
    """A script for `sh` that only reads, and the parser of its output. It runs in a subshell with stdin from /dev/null.

    Any exit code but 0 is a failed look: let the script print what it cannot find instead.

    body     the script, or what follows `library`
    library  a beginning that other looks of this host have too: it runs once for all of them, so it must only read as well
    """

    body: str
    parse: Callable[[bytes], Value]
    library: str = ""

    @property
    def script(self) -> str:
        """The whole script."""
        return f"{self.library}\n{self.body}" if self.library else self.body


@dataclass(frozen=True)
class ApiLook:
    """A read of the Kubernetes API. `watch`: an API path whose events are a reason to look again."""

    read: Callable[[Cluster], Value]
    watch: str = ""


@dataclass(frozen=True)
class Constant:
    """A look that reads nothing: its result is known already."""

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

    def shell(self, body: str, parse: Callable[[bytes], T_co], library: str = "") -> ShellLook:
        """A look by shell that returns this fact."""
        return ShellLook(body, parse, library)

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

    def at_first(self, fact: Fact[T]) -> Mapping[str, T]:
        """Host -> this fact as the first look of this run returned it; empty where no host was looked at yet."""
        return self.first.get(fact.name, {})

    def on(self, fact: Fact[T], host: str) -> T:
        """This fact of `host`. Raises NotYetKnown if it was not looked at."""
        if host not in (everywhere := self.known(fact)):
            raise NotYetKnown(fact.stage)
        return everywhere[host]

    def all(self, fact: Fact[T]) -> Mapping[str, T]:
        """Host -> this fact. Raises NotYetKnown if no host was looked at."""
        if not (everywhere := self.known(fact)):
            raise NotYetKnown(fact.stage)
        return everywhere

    def one(self, fact: Fact[T]) -> T:
        """This fact of the master (or of the first host of its role). Raises NotYetKnown."""
        return next(iter(self.all(fact).values()))

    def one_or_none(self, fact: Fact[T]) -> T | None:
        """As `one`; None where no host was looked at yet."""
        return next(iter(self.known(fact).values()), None)


@dataclass(frozen=True)
class StepContext:
    """The context of a step: the site, the facts so far, and the host."""

    site: Site
    facts: Facts
    host: str


@dataclass(frozen=True)
class Step:
    """One wanted state on every host of `role`, and the way to it.

    look            what it reads; raises NotYetKnown where that depends on an earlier stage (then it is read in its stage)
    want            pure: the wanted state; may raise NotYetKnown or Refused
    read            pure: the look's result -> have, in the form of `want`, where that needs facts of other hosts
    change          pure: have and want -> actions; may raise Refused. None: only wait (`settle_seconds`)
    settle_seconds  how long the step may look again until its state is right
    status_text     pure: have -> the awaited state in words ("0 of 3 webhook pods: pulling the image")
    table           have -> rows of cells for people, the columns' names first
    removes         what the change removes. It is computed before the run, for the confirmation, and again right before the
                    change, where everything unconfirmed is refused. A text (or "") where the confirmation covers exactly these
                    words; Removals where the words may change (an age) or another object could take over a name in them.
                    `want` is None where it is not yet known
    side_effect     what the change does besides the shown difference, in words, for a plan ("slurmctld stops meanwhile")
    restarts        pure: have and want (None: not yet known) -> the service that the change restarts, or None. It is also asked
                    where nothing differs: an earlier step of the same run may make the restart necessary (Restart.after)
    window          pure: have and want (None: not yet known) -> whether this change belongs into the change window, because it
                    interrupts something in use. A run that only prepares leaves it, and what builds on it
    accepted_as     pure: have and want -> the finding that covers their complete difference, or "": where the site accepts that
                    finding, the step changes nothing
    accepted_is_degraded  the difference that `accepted_as` covers leaves the site working with less than it should have: the run
                    says so, and ends with an exit code of its own
    repeat_text     why the step runs again after any other step has changed something: a proof is valid only for the state that
                    it proved
    confirm_after   the stage after which `removes` is complete; that stage runs before the confirmation
    hint            the meaning of a failure of this step, and what to do
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
    restarts: Callable[[StepContext, Value, Value], Restart | None] | None = None
    window: Callable[[StepContext, Value, Value], bool] | None = None
    accepted_as: Callable[[StepContext, Value, Value], str] | None = None
    accepted_is_degraded: bool = False
    repeat_text: str = ""
    confirm_after: str = ""
    hint: str = ""

    def have(self, ctx: StepContext, value: Value) -> Value:
        """What the look returned, in the form of `want`. May raise NotYetKnown or Refused, as `read` may."""
        return self.read(ctx, value) if self.read else value

    def removals(self, ctx: StepContext, have: Value, want: Value) -> tuple[Removal, ...]:
        """`removes`, always as Removals."""
        removed = self.removes(ctx, have, want) if self.removes else ()
        if isinstance(removed, str):
            return (Removal(removed),) if removed else ()
        return tuple(removed)


@dataclass(frozen=True)
class Check:
    """A condition for every change: a look, and a pure judge of its result.

    record  pure: the look's result -> what each run writes on the master before its first change, for a later rollback
    note    pure: what a run says of it although nothing is wrong; "" for nothing
    window  it guards changes of the change window alone: a run that only prepares notes what it finds, and continues
    """

    name: str
    role: str
    look: Callable[[StepContext], Look]
    judge: Callable[[StepContext, Value], Sequence[Finding]]
    record: Callable[[Value], Mapping[str, Any]] | None = None
    note: Callable[[StepContext, Value], str] | None = None
    window: bool = False


@dataclass(frozen=True)
class Stage:
    """A part of the procedure: steps in order on each host of their role.

    needs    what must be finished on all its hosts before this stage begins: "STAGE", or "STAGE.STEP" for one step
    serial   one host first; the others begin when it is finished
    order    pure: what is known, and the hosts of a role -> these hosts, the one that is first before the others
    around   the stages that this stage prepares: where none of them has anything to do, this stage does nothing either
    ends     the stage whose work this stage undoes. It runs last, whatever the result of the others: also where one of them
             failed or was refused, and where the run was stopped
    proves   it proves what the others installed, and changes nothing that outlasts it. A run that fails in such a stage alone
             has installed everything
    """

    name: str
    needs: tuple[str, ...]
    steps: tuple[Step | Check, ...]
    serial: bool = False
    order: Callable[[Facts, tuple[str, ...]], tuple[str, ...]] | None = None
    around: tuple[str, ...] = ()
    ends: str = ""
    proves: bool = False

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The names of the stages in `needs`, including those of single steps."""
        return tuple(dict.fromkeys(need.partition(".")[0] for need in self.needs))


def all_needs(stages: Sequence[Stage], name: str) -> frozenset[str]:
    """The names of all stages that `name` builds on, directly or not."""
    direct = {stage.name: stage.builds_on for stage in stages}
    needed: set[str] = set()
    waiting = list(direct[name])
    while waiting:
        stage = waiting.pop()
        if stage not in needed and stage in direct:
            needed.add(stage)
            waiting.extend(direct[stage])
    return frozenset(needed)
