"""What the engine is given: how it reaches hosts and the cluster; and how a step reports what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from dws_on_csm.engine.host_script import BUSY, FENCED, OUTRUN, RETRY, STILL, WAITS
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, SudoRefused, Unreachable
from dws_on_csm.model.events import Began, Event, Line
from dws_on_csm.transport.output import tail


class ClusterLease:
    """That no run through another master changes the cluster.

    elsewhere  the last one to do so worked through another master
    former     that one did not give up its right, or "": it may still believe that it has it
    """

    elsewhere = False
    former = ""

    def check(self) -> None:
        """Raises LockLost where such a run may change the cluster by now."""

    def keep_records(self, controllers: Collection[str]) -> None:
        """Say in the cluster that this run's master has the records of the site with these controllers from now on."""


@dataclass(frozen=True)
class Reach:
    """How a run reaches its hosts and the cluster.

    session  host -> its connection, with run()
    cluster  the API
    of       role -> its first host
    guard    called before each change; raises LockLost where this run may change nothing any more
    outrun   called with the reason when a host's fence says the same: another run has worked there since
    fence    from this call on, API calls that change something are passed on only while this run holds the site's lock
    refused  host -> why sudo there did not start a script of this run, None where it did
    lease    (run, tell) -> a `with` that keeps runs through other masters away from the cluster (cluster_lease.py)
    """

    session: Callable[[str], Any]
    cluster: Callable[[], Any]
    of: Callable[[str], str]
    guard: Callable[[], None] = lambda: None
    outrun: Callable[[str], None] = lambda why: None
    fence: Callable[[str], None] = lambda run: None
    refused: Callable[[str], SudoRefused | None] = lambda host: None
    lease: Callable[[str, Callable[[str], None]], AbstractContextManager[ClusterLease]] = lambda run, tell: nullcontext(
        ClusterLease()
    )

    def change(
        self, host: str, script: str, data: bytes = b"", *, deadline: float, line: Callable[[str], None] | None = None
    ) -> Any:
        """Run a script that begins with host_script.FENCE, and return its answer. Raises LockLost where the fence stops it, and
        what the session raises."""
        answer = self.session(host).run(script, data, deadline=deadline, line=line)
        text = answer.err.decode(errors="replace")
        if answer.code == FENCED and OUTRUN in text:
            why = text.rpartition(OUTRUN)[2].strip()
            self.outrun(why)
            raise LockLost(host, LockLost.text.format(why))
        return answer

    def run_fenced(
        self, host: str, script: str, data: bytes = b"", *, deadline: float, undone: str = "", fix: str = ""
    ) -> str:
        """Run such a script and return its output. Raises Unreachable where it fails, with `undone`: what is not done then."""
        answer = self.change(host, script, data, deadline=deadline + WAITS)
        if answer.code == BUSY:
            raise Unreachable(host, STILL, RETRY)
        if answer.code != 0:
            words = " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}"
            raise Unreachable(host, f"{undone}{words}", fix or f"repair the folder {STATE} there")
        return str(answer.out.decode(errors="surrogateescape"))


@dataclass(frozen=True)
class StepReporter:
    """Reports, as events, what one step does on one host."""

    run: str
    host: str
    stage: str
    step: str
    emit: Callable[[Event], None]
    notes: list[str] = field(default_factory=list)
    """What the step measured, or noticed; shown when it is complete."""

    def began(self, work: str) -> None:
        """Report that an action begins."""
        self.emit(Began(self.host, self.stage, self.step, work, time.time()))

    def line(self, text: str) -> None:
        """Report a line of output."""
        self.emit(Line(self.host, self.stage, self.step, text))
