"""Days in the life of a site (tests/soak, `make soak`): what is lost, or grows, is noticed; and the page tells each act."""

from __future__ import annotations

from typing import Any

import pytest

from dws_on_csm.config.load import ROOT
from tests.lab.product import Answer, Told
from tests.soak import __main__ as soak
from tests.soak.acts import ACTS, ended
from tests.soak.users import Users


class Site:
    """A site of which only `scontrol show jobs` is asked."""

    def __init__(self, said: str) -> None:
        self.said = said

    def on(self, host: str, command: str, feed: str = "", deadline: float = 240) -> str:
        """What was said."""
        return self.said


def test_a_job_that_did_not_complete_is_lost() -> None:
    """Also one that Slurm no longer knows; jobs of others are nobody's business."""
    said = "JobId=7 JobName=a JobState=COMPLETED Reason=None\nJobId=8 JobName=b JobState=FAILED Reason=None\n"
    world: Any = Site(said + "JobId=70 JobName=c JobState=FAILED Reason=None\n")
    users = Users(world, 1, states={"7": "PENDING", "8": "PENDING", "9": "PENDING"})
    users.look()
    assert users.lost() == ["8 FAILED", "9 PENDING"]


@pytest.mark.parametrize(
    ("now", "failures"), [([30, 400, 300, 900], []), ([90, 400, 300, 900], ["ctl: processes grew from 20 to 90"])]
)
def test_what_grows_is_noticed(now: list[int], failures: list[str]) -> None:
    """Of each host, against what it was after the first act."""
    assert list(soak.grown({"ctl": [20, 300, 250, 800]}, {"ctl": now})) == failures


@pytest.mark.parametrize(
    ("code", "err", "failures"), [(0, "", 0), (3, "", 0), (1, "", 1), (0, "Traceback (most recent call last):", 1)]
)
def test_a_run_that_fails_or_shows_a_traceback_is_noticed(code: int, err: str, failures: int) -> None:
    """A rollback may be refused (3)."""
    answer = Answer(code, (), Told({}, code, err), "", err, 1.0, None)
    assert len(list(ended(answer, "rollback", 3))) == failures


def test_the_page_has_each_act() -> None:
    """By its name, as the program prints it."""
    page = (ROOT / "docs/faults.md").read_text().partition("## Soak")[2]
    assert [act.name for act in ACTS if f"`{act.name}`" not in page] == []
