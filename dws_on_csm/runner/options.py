"""How a run is made: what a task asks of it, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dws_on_csm.engine.state import Run
from dws_on_csm.model.step import Stage


@dataclass(frozen=True)
class Options:
    """How a run is made: `plan` only shows; `yes` answers what is asked; `verify` proves even if nothing was changed.

    flags   the task's further words, for the command that goes on from here (" --slurm")
    again   that command, where it isn't `invoke TASK`
    reads   stages that are only looked at, for what the own ones need to know
    done    what a run that changed something has done, in words
    right   what there is to say where nothing was to be done
    undoes  the run before which everything is put back, where that is what this one does
    work    what is done, if the first stage's checks hold, in place of the stages' steps: by the only run at work there
    """

    task: str = "install"
    plan: bool = False
    yes: bool = False
    verify: bool = False
    json: bool = False
    flags: str = ""
    again: str = ""
    reads: Sequence[Stage] = ()
    done: str = "Installed and proven."
    right: str = "Everything is as it should be."
    undoes: str = ""
    work: Callable[[Run], None] | None = None

    @property
    def shown(self) -> str:
        """The task as displays and the journal have it: the plan of any task is a plan."""
        return "plan" if self.plan else self.task
