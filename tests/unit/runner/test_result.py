"""How a run ended: its exit code and its last words."""

from __future__ import annotations

from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import Run
from dws_on_csm.model import exit_codes
from dws_on_csm.model.events import OUTCOMES, Outcome
from dws_on_csm.model.step import Constant, Stage, Step
from dws_on_csm.runner import result
from dws_on_csm.runner.connections import Sessions
from dws_on_csm.runner.options import Options
from dws_on_csm.transport.connect import Jumps

NOBODY = Sessions(Jumps())

CODES: list[tuple[tuple[Outcome, ...], bool, int]] = [
    (("ok", "changed"), False, exit_codes.CONVERGED),
    (("ok", "unknown"), False, exit_codes.FAILED),
    (("changed", "unknown"), False, exit_codes.FAILED),
    (("refused", "unknown"), False, exit_codes.REFUSED),
    (("changed", "deferred"), False, exit_codes.CONVERGED),
    (("deferred", "failed"), False, exit_codes.FAILED),
    (("ok", "deferred"), True, exit_codes.CONVERGED),
    (("ok", "skipped"), False, exit_codes.FAILED),
    (("ok",), True, exit_codes.CONVERGED),
    (("ok", "unknown"), True, exit_codes.CHANGES),
    (("ok", "would change"), True, exit_codes.CHANGES),
]


@pytest.mark.parametrize(("outcomes", "plan", "code"), CODES)
def test_only_a_known_correct_state_is_success(outcomes: tuple[Outcome, ...], plan: bool, code: int) -> None:
    """A run with an unknown outcome has not converged; in a plan, unknown outcomes are changes."""
    by_step = {("stage", str(number), "host"): outcome for number, outcome in enumerate(outcomes)}
    assert result.exit_code(by_step, plan, unproven=False) == code


def a_run(*outcomes: tuple[str, str, str, Outcome]) -> Run:
    """A run with these outcomes, by stage, step and host."""
    around = Stage("close", (), (), around=("slurm",))
    opened = Step("open", "master", lambda place: Constant(""), lambda place: "", lambda *_: (), hint="DWS is closed")
    last = Stage("open", (), (opened,), ends="close")
    stages = (around, Stage("slurm", (), ()), last)
    reach = Reach(lambda host: None, lambda: None, lambda role: "m")
    run = Run("1", load(DEFAULT), stages, reach, lambda event: None, {"master": ("m",)})
    run.outcomes.update({(stage, step, host): outcome for stage, step, host, outcome in outcomes})
    return run


CLOSED: tuple[tuple[str, str, str, Outcome], ...] = (("close", "dws", "m", "changed"), ("open", "open", "m", "changed"))
SLURM: tuple[tuple[str, str, str, Outcome], ...] = (
    ("slurm", "conf", "c1", "changed"),
    ("slurm", "conf", "c2", "changed"),
)
REFUSED: tuple[tuple[str, str, str, Outcome], ...] = (("plugin", "jobs", "c1", "refused"),)


@pytest.mark.parametrize(
    ("outcomes", "refused", "message"),
    [
        (REFUSED, "", "Refused. Nothing was changed."),
        ((*CLOSED, *REFUSED), "", "Refused. Nothing was changed."),
        (
            (*CLOSED, *SLURM, *REFUSED),
            "",
            "Refused. Already changed by this run: slurm.conf (c[1-2]).",
        ),
        (
            (CLOSED[0], ("open", "open", "m", "failed"), *REFUSED),
            "",
            "Failed. Run the same command again to continue. Already changed by this run: close.dws (m)."
            " open.open was not done: DWS is closed.",
        ),
        (
            (("close", "dws", "m", "failed"), ("open", "open", "m", "failed")),
            "",
            "Failed. Run the same command again to continue. open.open was not done: DWS is closed.",
        ),
        (SLURM, "Nothing was removed.", "Nothing was removed. Already changed by this run: slurm.conf (c[1-2])."),
        ((), "Nothing was removed.", "Nothing was removed."),
    ],
)
def test_a_run_that_was_refused_says_what_it_had_changed(
    outcomes: tuple[tuple[str, str, str, Outcome], ...], refused: str, message: str
) -> None:
    """It names what it changed; what it has taken back itself does not count."""
    assert result.summary(a_run(*outcomes), Options(), refused, (), NOBODY, 0.0, Path("page")).message == message


def test_leaving_at_once_reports_the_last_steps() -> None:
    """The message names the steps that were not done, with what that means."""
    run = a_run(CLOSED[0])
    run.changing = run.holding = True
    message = result.summary_at_once(run.site, Options(), (run, NOBODY), (), "1", 0.0, Path("page")).message
    assert message.endswith("open.open was not done: DWS is closed.")
    run.outcomes.update({("open", "open", "m"): "changed"})
    assert (
        "not done" not in result.summary_at_once(run.site, Options(), (run, NOBODY), (), "1", 0.0, Path("page")).message
    )


def test_unknown_states_are_reported() -> None:
    """The message says why such a run did not succeed."""
    counts: dict[str, int] = {str(outcome): 0 for outcome in OUTCOMES}
    message = result.result_message(Options(), exit_codes.FAILED, {**counts, "unknown": 2}, stopped=False)
    assert message.startswith("The state of 2 steps is unknown")
    message = result.result_message(Options(), exit_codes.FAILED, {**counts, "unknown": 2, "failed": 1}, stopped=False)
    assert message.startswith("Failed.")


def test_a_run_that_prepared_says_what_is_left() -> None:
    """The message names the steps, and the next command is the one for the change window."""
    run = a_run(("slurm", "conf", "c1", "deferred"), ("slurm", "conf", "c2", "deferred"))
    end = result.summary(run, Options(prepare=True, yes=True), "", (), NOBODY, 0.0, Path("page"))
    assert end.message == "Prepared. Left for the change window: slurm.conf (c[1-2])."
    assert "--prepare" not in end.next and "--yes" in end.next
