"""Looks at the API that need no fact are made while the host's own looks run; nothing else of them changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.engine.looks import Board, Item, LookFailed, refresh, stale
from dws_on_csm.engine.reach import Reach
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import Lost
from dws_on_csm.model.step import ApiLook, Check, Fact, Look, NotYetKnown, ShellLook, StepContext
from tests.unit.conftest import Answer, LocalHost

SHELL = Fact[str]("a", "shell")


def a_check(look: Callable[[StepContext], Look]) -> Check:
    """A check with this look, which finds nothing."""
    return Check("it", "master", look, lambda ctx, have: ())


def in_api(read: Callable[[Any], object]) -> Check:
    """A check whose look at the API needs no fact."""
    return a_check(lambda ctx: ApiLook(read))


def by_shell(script: str = "echo new") -> Check:
    """A check whose look runs a script on the host."""
    return a_check(lambda ctx: ShellLook(script, lambda out: out.decode().strip()))


def a_reach(session: object) -> Reach:
    """A way to one host with this session, and to an API that answers nothing."""
    return Reach(lambda name: session, lambda: None, lambda role: "m")


def test_the_api_is_read_while_the_script_runs(local_host: LocalHost) -> None:
    """The script ends only once the API was read."""
    board = Board(load(DEFAULT))

    def read(cluster: object) -> str:
        (local_host.folder / "read").touch()
        return "read"

    waits = "for i in $(seq 600); do [ ! -e read ] || exec echo met; sleep 0.05; done"
    refresh(a_reach(local_host), board, "m", {"a.shell": by_shell(waits), "a.api": in_api(read)})
    assert (board.have("a.shell", "m"), board.have("a.api", "m")) == ("met", "read")


@pytest.mark.parametrize("late", [False, True])
def test_a_look_that_can_do_without_a_fact_waits_for_it_all_the_same(local_host: LocalHost, late: bool) -> None:
    """Whether the fact is asked for by the look or by what reads the API: it is what the script has just found."""

    def fact(ctx: StepContext) -> str:
        try:
            return ctx.facts.on(SHELL, ctx.host)
        except NotYetKnown:
            return "nothing"

    def look(ctx: StepContext) -> Look:
        found = None if late else fact(ctx)
        return ApiLook(lambda cluster: found or fact(ctx))

    board = Board(load(DEFAULT))
    board.store("a.shell", "m", "former")
    refresh(a_reach(local_host), board, "m", {"a.shell": by_shell(), "a.api": a_check(look)})
    assert board.have("a.api", "m") == "new"


def test_a_look_that_is_made_early_is_made_once(local_host: LocalHost) -> None:
    """Its answer, or its refusal, is what the look has found."""
    made: list[str] = []

    def read(cluster: object) -> str:
        made.append("read")
        return "read"

    def refused(cluster: object) -> str:
        made.append("refused")
        raise ClusterError(403, "you may not")

    board = Board(load(DEFAULT))
    items = {"a.refused": in_api(refused), "a.shell": by_shell(), "a.api": in_api(read)}
    refresh(a_reach(local_host), board, "m", items)
    assert made == ["refused", "read"] and board.have("a.api", "m") == "read"
    with pytest.raises(LookFailed, match=r"the check a\.refused was refused by the API server: you may not"):
        board.have("a.refused", "m")


def test_a_silent_api_server_is_an_error_once_the_script_has_ended(local_host: LocalHost) -> None:
    """What the script found is kept, and the server is not asked again for each look."""
    asked: list[str] = []

    def silent(cluster: object) -> str:
        asked.append("api")
        raise ClusterError(0, "no answer")

    board = Board(load(DEFAULT))
    items: dict[str, Item] = {"a.one": in_api(silent), "a.shell": by_shell(), "a.two": in_api(silent)}
    with pytest.raises(ClusterError, match="no answer"):
        refresh(a_reach(local_host), board, "m", items)
    assert board.have("a.shell", "m") == "new" and asked == ["api"]
    assert not board.looked("a.one", "m") and not board.looked("a.two", "m")


def test_a_host_that_is_lost_does_not_wait_for_the_api() -> None:
    """The error comes at once, also while the API server takes its time; then nothing more is asked of it."""
    asking, answers = threading.Event(), threading.Event()
    asked: list[str] = []

    class Broken:
        def run(self, script: str, *, deadline: float) -> Answer:
            assert asking.wait(30)
            raise Lost("m", "the connection broke")

    def slow(cluster: object) -> str:
        asked.append(threading.current_thread().name)
        asking.set()
        assert answers.wait(30)
        return ""

    items: dict[str, Item] = {"a.one": in_api(slow), "a.shell": by_shell(), "a.two": in_api(slow)}
    with pytest.raises(Lost):
        refresh(a_reach(Broken()), Board(load(DEFAULT)), "m", items)
    (reading,) = [thread for thread in threading.enumerate() if thread.name in asked]
    answers.set()
    reading.join(30)
    assert len(asked) == 1


def test_a_change_after_an_early_look_makes_it_stale(local_host: LocalHost) -> None:
    """The look was made before the change, although its answer is stored after it."""
    board = Board(load(DEFAULT))

    def read(cluster: object) -> str:
        board.note("before")
        return ""

    refresh(a_reach(local_host), board, "m", {"a.shell": by_shell(), "a.api": in_api(read)})
    assert stale(board, ["a.api"], "m", ["before"])
