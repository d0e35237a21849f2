"""What is found on the master before anything is touched."""

from __future__ import annotations

import time

import pytest

from fabfile.inventory import DEFAULT, load
from fabfile.stages import preflight
from fabfile.step import Check, Facts, Place, Shell

ASKED = 1_800_000_000.0


@pytest.mark.parametrize(
    ("told", "took", "found"),
    [
        (0, 2, []),
        (1, 59, []),  # a busy host's other looks took their time
        (59, 59, []),
        (-29, 2, []),
        (-40, 2, ["clock-skew"]),
        (-40, 59, ["clock-skew"]),
        (100, 59, ["clock-skew"]),
    ],
)
def test_a_clock_is_wrong_when_it_told_no_time_between_question_and_answer(
    monkeypatch: pytest.MonkeyPatch, told: int, took: int, found: list[str]
) -> None:
    """`told` is what the host's clock said, and `took` how long its looks did, in seconds after they were asked for."""
    monkeypatch.setattr(time, "time", lambda: ASKED)
    check, place = preflight.STAGE.steps[0], Place(load(DEFAULT), Facts(), "ncn-m001")
    assert isinstance(check, Check)
    look = check.look(place)
    assert isinstance(look, Shell)
    monkeypatch.setattr(time, "time", lambda: ASKED + took)
    have = look.parse(f"uid 0\ntime {ASKED + told:.0f}\n".encode())
    assert [one.name for one in check.judge(place, have)] == found
