"""What is known of a site while several hosts are looked at at once."""

import sys
import threading
from collections.abc import Iterator

import pytest

from fabfile.inventory import DEFAULT, load
from fabfile.look import Board
from fabfile.perform import Reach
from fabfile.running import Run
from tests.unit.conftest import LocalHost

HOSTS = 3000


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_one_host_is_noted_while_another_goes_through_all(hurried: None) -> None:
    """What is stored in the meantime neither ends that nor is lost."""
    board = Board(load(DEFAULT))
    board.store("a.step", "first", 0)

    def note(of: str) -> None:
        for number in range(HOSTS):
            board.store("a.step", f"{of}{number}", number)

    noting = [threading.Thread(target=note, args=(of,)) for of in "xy"]
    for one in noting:
        one.start()
    while any(one.is_alive() for one in noting):
        assert sum(1 for value in board.facts.all("a.step").values() if value == 0) >= 1
    assert len(board.facts.all("a.step")) == 2 * HOSTS + 1


def test_one_step_is_through_while_another_asks_what_failed(hurried: None, local_host: LocalHost) -> None:
    """A stage that begins sees to what it needs, whatever is noted of the others at that moment."""
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    run = Run("run-1", load(DEFAULT), [], reach, lambda event: None, {}, ())
    run.done("first", "deploy.step", "failed", 0.0)

    def note() -> None:
        for number in range(HOSTS):
            run.done(f"host{number}", "other.step", "ok", 0.0)

    noting = threading.Thread(target=note)
    noting.start()
    while noting.is_alive():
        assert run.troubled("deploy") == ("first",)


def test_each_change_has_a_number_of_its_own(hurried: None) -> None:
    """A look that is older than any of several changes at once is known to be."""
    board = Board(load(DEFAULT))

    def note() -> None:
        for _ in range(HOSTS):
            board.note("stage")

    noting = [threading.Thread(target=note) for _ in range(4)]
    for one in noting:
        one.start()
    for one in noting:
        one.join()
    assert board.version == 4 * HOSTS
