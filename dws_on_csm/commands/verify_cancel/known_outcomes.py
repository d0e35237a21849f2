"""What becomes of a Workflow whose job is cancelled: as seen with Slurm 24.11 and plugin 0.0.5, and as documented."""

from __future__ import annotations

from dataclasses import dataclass

STATES = ("Proposal", "Setup", "DataIn", "PreRun", "PostRun", "DataOut", "Teardown")
"""A Workflow's states in order; its job runs between PreRun and PostRun."""


@dataclass(frozen=True)
class Course:
    """What becomes of a Workflow after `scancel`.

    hurry           whether Slurm tells DWS to hurry (spec.hurry)
    states          the states that the Workflow still passes
    gone            whether it is deleted at the end; otherwise it stays forever
    job             how the job ends; "" where the documentation does not say
    without_effect  whether the cancel does nothing, and the Workflow continues only when its state has ended
    """

    hurry: bool
    states: tuple[str, ...] = ()
    gone: bool = True
    job: str = "CANCELLED"
    without_effect: bool = False


@dataclass(frozen=True)
class Case:
    """`scancel`, or `scancel --hurry`, of a job whose Workflow is in a state. `known`: what was seen each time.

    `documented`: what Slurm's documentation says, where that differs.
    """

    where: str
    hurry: bool
    known: Course
    documented: Course | None = None

    @property
    def command(self) -> str:
        """The command without the job's number."""
        return "scancel --hurry" if self.hurry else "scancel"

    @property
    def name(self) -> str:
        """The case's name for people."""
        return f"{self.where}, {self.command}"

    @property
    def reached(self) -> str:
        """What the run waits for before the cancel, in words."""
        if self.where in NOT_BEGUN:
            return "wait for its Workflow"
        return f"wait until its Workflow is held in {self.where}" if self.held else "wait until it runs"

    @property
    def held(self) -> bool:
        """Whether the Workflow must be held in its state, by a storage driver of our own."""
        return self.where in STATES


NOT_BEGUN = ("job held", "not begun")
"""A held job, and one whose BeginTime has not come: Slurm has called the plugin only at the submission."""

_STAYS = Course(False, gone=False)
_TORN_DOWN = Course(True, ("Teardown",))
_HURRIED = Course(True, ("Teardown",), job="COMPLETED")


def _runs_on(state: str) -> Course:
    """The course of a job that has run: its Workflow passes the remaining states."""
    return Course(False, STATES[STATES.index(state) + 1 :], job="COMPLETED", without_effect=True)


CASES = (
    *(Case(where, hurry, _STAYS, _TORN_DOWN) for where in NOT_BEGUN for hurry in (False, True)),
    *(Case(state, hurry, _TORN_DOWN) for state in STATES[:4] for hurry in (False, True)),
    Case("running", False, Course(False, STATES[4:]), Course(True, STATES[4:])),
    Case("running", True, _TORN_DOWN),
    Case("PostRun", False, _runs_on("PostRun")),
    Case("PostRun", True, _HURRIED),
    Case("DataOut", False, _runs_on("DataOut")),
    Case("DataOut", True, _HURRIED),
    Case("Teardown", False, _runs_on("Teardown")),
    Case("Teardown", True, _runs_on("Teardown"), Course(True, job="")),
)
"""In the order in which a job reaches them."""


COLUMNS = ("in", "command", "hurry", "states passed", "then", "job", "s")


def rows(case: Case, seen: Course, seconds: float) -> tuple[tuple[str, ...], ...]:
    """A case's rows of the table: the columns' names, what was seen, and what is known or documented where that differs."""
    command = case.command.removeprefix("scancel ")
    table = [COLUMNS, (case.where, command, *_cells(seen), f"{seconds:.1f}")]
    if seen != case.known:
        table.append(("  ", "known", *_cells(case.known), ""))
    if case.documented:
        table.append(("  ", "documented", *_cells(case.documented), ""))
    return tuple(table)


def _cells(course: Course) -> tuple[str, ...]:
    states = " ".join(course.states) or "none"
    return ("yes" if course.hurry else "no", states, "gone" if course.gone else "stays", course.job)


def describe(course: Course) -> str:
    """A course in words."""
    hurry = "hurry" if course.hurry else "no hurry"
    effect = "no effect until the state ended, then " if course.without_effect else ""
    states, then = " ".join(course.states) or "no further state", "gone" if course.gone else "stays"
    return f"{effect}{hurry}, {states}, Workflow {then}, job {course.job}"
