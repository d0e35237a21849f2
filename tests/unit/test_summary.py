"""How a run ended: its exit code and its last words."""

from __future__ import annotations

import pytest

from fabfile import summary
from fabfile.events import OUTCOMES, Outcome
from fabfile.options import Options

CODES: list[tuple[tuple[Outcome, ...], bool, int]] = [
    (("ok", "fixed"), False, summary.CONVERGED),
    (("ok", "unknown"), False, summary.FAILED),
    (("fixed", "unknown"), False, summary.FAILED),
    (("refused", "unknown"), False, summary.REFUSED),
    (("ok", "skipped"), False, summary.FAILED),
    (("ok",), True, summary.CONVERGED),
    (("ok", "unknown"), True, summary.CHANGES),
    (("ok", "change"), True, summary.CHANGES),
]


@pytest.mark.parametrize(("outcomes", "plan", "code"), CODES)
def test_only_what_is_known_to_be_right_is_success(outcomes: tuple[Outcome, ...], plan: bool, code: int) -> None:
    """A run at whose end something is not known has not converged; a plan has what comes later still to find out."""
    made = {("stage", str(number), "host"): outcome for number, outcome in enumerate(outcomes)}
    assert summary.exit_code(made, plan, unproven=False) == code


def test_what_is_not_known_is_said() -> None:
    """The last words say why such a run is no success."""
    counts: dict[str, int] = {str(outcome): 0 for outcome in OUTCOMES}
    said = summary._message(Options(), summary.FAILED, {**counts, "unknown": 2}, stopped=False)
    assert said.startswith("2 things could not be looked at")
    said = summary._message(Options(), summary.FAILED, {**counts, "unknown": 2, "failed": 1}, stopped=False)
    assert said.startswith("Failed.")
