"""What a command asks of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dws_on_csm.engine.state import Run
from dws_on_csm.model.step import Stage


@dataclass(frozen=True)
class Options:
    """What a command asks of a run: `plan` only shows; `yes` confirms removals and restarts; `verify` runs the proof even if
    nothing changed; `prepare` leaves what belongs into the change window.

    words           the task's further words, for the command that repeats it ("--slurm")
    host            the one host of `fab -H HOST TASK`; "" for `invoke TASK`
    reads           stages that are only read, because the own ones need their facts
    changed_text    what a run that changed something has done
    unchanged_text  what to say where nothing had to be done
    undoes          the run that this one undoes, if it does
    diff            show differences whole; None: where the command has no option for it, whole except on a terminal
    verbose         show every action and every line that it prints, in lines also on a terminal
    work            done in place of the stages' steps, with the lock, if the first stage's checks hold
    proves          only proves: leaves nothing on the master that a rollback needs, so any of the site's masters will do
    """

    task: str = "install"
    plan: bool = False
    yes: bool = False
    verify: bool = False
    prepare: bool = False
    json: bool = False
    words: Sequence[str] = ()
    host: str = ""
    reads: Sequence[Stage] = ()
    changed_text: str = "Installed and verified."
    unchanged_text: str = "Everything is as it should be."
    undoes: str = ""
    diff: bool | None = None
    verbose: bool = False
    work: Callable[[Run], None] | None = None
    proves: bool = False

    @property
    def shown(self) -> str:
        """The task as displays and the journal name it: the plan of any task is a plan."""
        return "plan" if self.plan else self.task
