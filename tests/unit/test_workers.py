"""How the files of a whole run are given to its workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import BY_ITSELF, LONGEST, Scheduling

FILES = (
    *("lab/test_kill", "lab/test_pods", "lab/test_undeploy", "lab/test_drift", "lab/test_lab", "lab/test_verify"),
    *("unit/test_a", "unit/test_b"),
)


class Worker:
    """Takes what it is given, and does it at once."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        """More tests for this one."""
        self.given += indices

    def shutdown(self) -> None:
        """There is nothing more."""
        self.shutting_down = True


def begun(workers: int, files: Sequence[str] = FILES) -> dict[str, list[str]]:
    """The files that each of so many workers gets, in their order, when all tests take the same time."""
    tests = [f"tests/{file}.py::test_{number}" for file in files for number in range(4)]
    option = SimpleNamespace(loadscopereorder=False)
    made: Any = Scheduling(SimpleNamespace(option=option, getvalue=lambda name: ["popen"] * workers))
    every = [Worker(f"gw{number}") for number in range(workers)]
    for worker in every:
        made.add_node(worker)
        made.add_node_collection(worker, tests)
    made.schedule()
    for done in range(len(tests)):
        for worker in every:
            if done < len(worker.given):
                made.mark_test_complete(worker, worker.given[done])
    given = {one.gateway.id: [tests[index].partition("::")[0][6:-3] for index in one.given] for one in every}
    return {name: list(dict.fromkeys(names)) for name, names in given.items()}


def test_a_third_worker_brings_up_no_lab_beside_those_of_the_others() -> None:
    """It has the files that need none, or one of their own; who has nothing left of his kind helps the others."""
    assert begun(3) == {
        "gw0": ["lab/test_kill", "lab/test_drift", "lab/test_verify"],
        "gw1": ["lab/test_undeploy", "lab/test_lab", "unit/test_b"],
        "gw2": ["lab/test_pods", "unit/test_a"],
    }
    assert begun(3, [file for file in FILES if not file.startswith("unit")])["gw2"] == [
        "lab/test_pods",
        "lab/test_verify",
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_lab_is_left_before_all_that_needs_it_is_through(workers: int) -> None:
    """Fewer workers have first what needs a lab, what takes longest before all else, and at last what needs none."""
    needing = [file for file in FILES if file.startswith("lab") and file != "lab/test_pods"]
    order = [*needing, "lab/test_pods", "unit/test_a", "unit/test_b"]
    found = begun(workers)
    assert sorted(name for files in found.values() for name in files) == sorted(FILES)
    assert all(files == sorted(files, key=order.index) for files in found.values())


def test_files_that_are_named_exist() -> None:
    """A file that was renamed keeps its place in the order only if its name is changed there, too."""
    stems = {path.stem for path in Path(__file__).parents[1].rglob("test_*.py")}
    assert {*LONGEST, *BY_ITSELF} <= stems
