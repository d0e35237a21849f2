"""What a step at work is given: how hosts are reached, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dws_on_csm.engine.host_script import BUSY, FENCED, OUTRUN, STILL, WAITS
from dws_on_csm.model.actions import STATE
from dws_on_csm.model.errors import LockLost, Unreachable
from dws_on_csm.model.events import Began, Event, Line
from dws_on_csm.transport.output import tail


@dataclass(frozen=True)
class Reach:
    """How hosts are reached: `session(host)` a connection with run(), `cluster()` the API, `of(role)` a role's first host.
    `guard()` is called before each change, and raises where this run may change nothing any more. `outrun(why)` is called when
    a host says so: another run has been at work there since.
    """

    session: Callable[[str], Any]
    cluster: Callable[[], Any]
    of: Callable[[str], str]
    guard: Callable[[], None] = lambda: None
    outrun: Callable[[str], None] = lambda why: None
    fence: Callable[[str], None] = lambda run: None
    """Calls of the API that change something are passed on from now on only while this run has the site's lock."""

    def change(
        self, host: str, script: str, data: bytes = b"", *, deadline: float, line: Callable[[str], None] | None = None
    ) -> Any:
        """Runs a script that has host_script.FENCE at its head. Raises LockLost where that stops it, and what the session
        raises."""
        answer = self.session(host).run(script, data, deadline=deadline, line=line)
        said = answer.err.decode(errors="replace")
        if answer.code == FENCED and OUTRUN in said:
            why = said.rpartition(OUTRUN)[2].strip()
            self.outrun(why)
            raise LockLost(host, LockLost.text.format(why))
        return answer

    def told(
        self, host: str, script: str, data: bytes = b"", *, deadline: float, undone: str = "", fix: str = ""
    ) -> str:
        """Changes a state of our own there, and returns what that says. Raises Unreachable, with what is `undone` then, where it
        fails.
        """
        answer = self.change(host, script, data, deadline=deadline + WAITS)
        if answer.code == BUSY:
            raise Unreachable(host, STILL, "run again when it is through")
        if answer.code != 0:
            said = " ".join(tail(answer.err, lines=3)) or f"exit code {answer.code}"
            raise Unreachable(host, f"{undone}{said}", fix or f"mend {STATE} there")
        return str(answer.out.decode(errors="surrogateescape"))


@dataclass(frozen=True)
class StepReporter:
    """Which step is at work where, for the events it makes."""

    run: str
    host: str
    stage: str
    step: str
    emit: Callable[[Event], None]
    notes: list[str] = field(default_factory=list)
    """What was measured, or noticed, on the way, for whoever reads that the step is through."""

    def began(self, what: str) -> None:
        """Something begins."""
        self.emit(Began(self.host, self.stage, self.step, what, time.time()))

    def line(self, text: str) -> None:
        """A line of output."""
        self.emit(Line(self.host, self.stage, self.step, text))
