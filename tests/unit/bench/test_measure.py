"""What a command costs, and that none takes longer than it may."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench import measure
from bench.measure import Failed, Spread
from bench.table import Row, table


def cost(tmp_path: Path, script: str, deadline: float = 60.0) -> measure.Cost:
    return measure.run(["sh", "-c", script], cwd=tmp_path, env=dict(os.environ), deadline=deadline)


def test_the_cpu_time_of_children_counts(tmp_path: Path) -> None:
    """CPU time is that of the command and of what it started; what it prints is returned."""
    spent = cost(tmp_path, "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done'; echo end")
    assert spent.out == "end\n"
    assert 0 < spent.cpu <= spent.wall * 2


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """After its deadline nothing of a command is left."""
    with pytest.raises(Failed, match="more than"):
        cost(tmp_path, "sleep 300 & echo $! >child; wait", deadline=0.5)
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    bound = time.monotonic() + 60.0
    while runs(child):  # the kernel ends it a moment after the signal
        assert time.monotonic() < bound


def runs(child: Path) -> bool:
    """Whether a process has not ended yet."""
    try:
        return child.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    """A failed command has no cost; the error has its words."""
    with pytest.raises(Failed, match="broken"):
        cost(tmp_path, "echo broken >&2; exit 3")


def test_the_table_says_whether_a_goal_is_reached() -> None:
    """A median at most as high as its goal reaches it; a client that failed is shown as failed."""
    good, bad = Spread.of([0.7, 0.8, 2.0]), Spread.of([0.9])
    rows = [Row("A", "x", 8, "fast", wall=good, wall_ratio=good, wall_goal=0.8)]
    rows += [Row("A", "x", 8, "slow", wall=bad, wall_ratio=bad, wall_goal=0.8), Row("A", "x", 8, "none", failed="why")]
    fast, slow, none = table(rows, {"fast": "1"}).splitlines()[2:5]
    assert "0.80 (0.70-2.00)" in fast and "0.8: reached" in fast
    assert "0.8: missed" in slow
    assert "failed" in none
