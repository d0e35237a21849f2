"""What becomes of a Workflow when its job is cancelled: as seen on Slurm 24.11 with plugin 0.0.5, and as documented."""

from __future__ import annotations

from dataclasses import dataclass

STATES = ("Proposal", "Setup", "DataIn", "PreRun", "PostRun", "DataOut", "Teardown")
"""A Workflow's states in order; a job runs between PreRun and PostRun."""


@dataclass(frozen=True)
class Course:
    """What becomes of a Workflow after `scancel`.

    hurry    whether Slurm asks DWS to hurry (spec.hurry)
    states   the states that it is still taken through
    gone     whether it is taken away at last; else it stays for ever
    job      how the job ends, "" where nobody says
    itself   whether the cancel does nothing, and it goes on only when its state is over by itself
    """

    hurry: bool
    states: tuple[str, ...] = ()
    gone: bool = True
    job: str = "CANCELLED"
    itself: bool = False


@dataclass(frozen=True)
class Case:
    """`scancel`, or `scancel --hurry`, of a job whose Workflow is in a state: `known` is what was seen each time.

    `documented`: what Slurm's documentation says, where that is something else.
    """

    where: str
    hurry: bool
    known: Course
    documented: Course | None = None

    @property
    def command(self) -> str:
        """The command as it is typed, without the job."""
        return "scancel --hurry" if self.hurry else "scancel"

    @property
    def name(self) -> str:
        """What tells it from the others, for people."""
        return f"{self.where}, {self.command}"

    @property
    def reached(self) -> str:
        """What is awaited before the cancel, in words."""
        if self.where in NOT_BEGUN:
            return "wait for its Workflow"
        return f"wait until its Workflow is held in {self.where}" if self.held else "wait until it runs"

    @property
    def held(self) -> bool:
        """Whether the Workflow has to be held in its state, which only a DWS made for tests can do."""
        return self.where in STATES


NOT_BEGUN = ("job held", "not begun")
"""A job that is held, and one whose BeginTime has not come: Slurm has not called the plugin for it but at its submission."""

_STAYS = Course(False, gone=False)
_TORN_DOWN = Course(True, ("Teardown",))
_HURRIED = Course(True, ("Teardown",), job="COMPLETED")


def _by_itself(state: str) -> Course:
    """A job that has run: its Workflow goes through what is left."""
    return Course(False, STATES[STATES.index(state) + 1 :], job="COMPLETED", itself=True)


CASES = (
    *(Case(where, hurry, _STAYS, _TORN_DOWN) for where in NOT_BEGUN for hurry in (False, True)),
    *(Case(state, hurry, _TORN_DOWN) for state in STATES[:4] for hurry in (False, True)),
    Case("running", False, Course(False, STATES[4:]), Course(True, STATES[4:])),
    Case("running", True, _TORN_DOWN),
    Case("PostRun", False, _by_itself("PostRun")),
    Case("PostRun", True, _HURRIED),
    Case("DataOut", False, _by_itself("DataOut")),
    Case("DataOut", True, _HURRIED),
    Case("Teardown", False, _by_itself("Teardown")),
    Case("Teardown", True, _by_itself("Teardown"), Course(True, job="")),
)
"""In the order in which a job comes by."""


COLUMNS = ("in", "command", "hurry", "states passed", "then", "job", "s")


def rows(case: Case, seen: Course, seconds: float) -> tuple[tuple[str, ...], ...]:
    """A case's part of the table: its columns, what was seen, and what is known or documented where that differs."""
    command = case.command.removeprefix("scancel ")
    found = [COLUMNS, (case.where, command, *_cells(seen), f"{seconds:.1f}")]
    if seen != case.known:
        found.append(("  ", "known", *_cells(case.known), ""))
    if case.documented:
        found.append(("  ", "documented", *_cells(case.documented), ""))
    return tuple(found)


def _cells(course: Course) -> tuple[str, ...]:
    states = " ".join(course.states) or "none"
    return ("yes" if course.hurry else "no", states, "gone" if course.gone else "stays", course.job)


def told(course: Course) -> str:
    """A course in words."""
    hurry = "hurry" if course.hurry else "no hurry"
    effect = "nothing until the state was over by itself, then " if course.itself else ""
    states, then = " ".join(course.states) or "no further state", "gone" if course.gone else "stays"
    return f"{effect}{hurry}, {states}, Workflow {then}, job {course.job}"
