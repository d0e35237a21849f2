"""The engine on a host that is a folder: its scripts run in the real sh."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Site
from dws_on_csm.engine import apply, state
from dws_on_csm.engine import pending as engine_pending
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.looks import keyed, refresh
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import DEFECT, Run, stage_graph
from dws_on_csm.model.actions import Action, Put, RunElsewhere, RunScript
from dws_on_csm.model.errors import DeadlineExceeded, LockLost, Lost
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Failure, Line
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import (
    ApiLook,
    Check,
    Constant,
    Fact,
    Finding,
    NotYetKnown,
    Refused,
    Removal,
    ShellLook,
    Stage,
    Step,
    StepContext,
    Value,
)
from dws_on_csm.runner import interrupt
from tests.unit.conftest import LocalHost


def a_file(host: LocalHost, name: str, text: str) -> Step:
    """A step that wants the file NAME with this text."""
    path = host.folder / name

    def look(place: StepContext) -> ShellLook:
        return ShellLook(f"cat {shlex.quote(str(path))} 2>/dev/null || true", bytes.decode)

    def change(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
        return [Put(str(path), text.encode(), owner="root")]

    return Step(name, "master", look, lambda place: text, change)


def a_run(host: LocalHost, *stages: Stage, roles: dict[str, tuple[str, ...]] | None = None) -> tuple[Run, list[Event]]:
    seen: list[Event] = []
    site = load(DEFAULT)
    reach = Reach(lambda name: host, lambda: pytest.fail("no cluster here"), lambda role: "one")
    return Run("run-1", site, stages, reach, seen.append, roles or {"master": ("one",)}), seen


def outcomes(seen: Sequence[Event]) -> dict[str, str]:
    return {f"{e.stage}.{e.step}": e.outcome for e in seen if isinstance(e, Done)}


def install(run: Run) -> None:
    state.first_looks(run)
    apply.install(run)


def stop_at(run: Run, kind: type[Event]) -> None:
    """Stop the run at its first event of this kind."""
    emit = run.emit

    def stop(event: Event) -> None:
        emit(event)
        if isinstance(event, kind):
            run.stopping.set()

    run.emit = stop


def test_wrong_steps_are_corrected_and_correct_ones_unchanged(local_host: LocalHost) -> None:
    """A file that differs is written, and one that is as wanted isn't touched."""
    (local_host.folder / "right").write_text("same")
    run, seen = a_run(
        local_host, Stage("files", (), (a_file(local_host, "right", "same"), a_file(local_host, "wrong", "new")))
    )
    install(run)
    assert outcomes(seen) == {"files.right": "ok", "files.wrong": "changed"}
    assert (local_host.folder / "wrong").read_text() == "new"


def test_a_second_run_takes_one_exec_and_changes_nothing(local_host: LocalHost) -> None:
    """When everything is as wanted, one exec finds that out."""
    stages = (
        Stage("one", (), (a_file(local_host, "a", "1"), a_file(local_host, "b", "2"))),
        Stage("two", ("one",), (a_file(local_host, "c", "3"),)),
    )
    install(a_run(local_host, *stages)[0])
    local_host.scripts.clear()
    run, seen = a_run(local_host, *stages)
    install(run)
    assert set(outcomes(seen).values()) == {"ok"}
    assert local_host.commands == 1


def test_a_plan_says_the_same_and_writes_nothing(local_host: LocalHost) -> None:
    """A plan shows the difference and changes nothing in the folder."""
    run, seen = a_run(local_host, Stage("files", (), (a_file(local_host, "wrong", "new"),)))
    state.first_looks(run)
    engine_plan.plan(run)
    assert outcomes(seen) == {"files.wrong": "would change"}
    assert list(local_host.folder.iterdir()) == []
    assert any("new" in line for e in seen if isinstance(e, Done) for line in e.diff)


def test_a_step_that_stays_wrong_has_failed_whatever_its_exit_code(local_host: LocalHost) -> None:
    """An action that exits with 0 and changes nothing has failed."""
    step = replace(a_file(local_host, "x", "1"), change=lambda place, have, want: [RunScript("do nothing", "true")])
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    install(run)
    assert outcomes(seen) == {"files.x": "failed"}


def test_a_failing_command_is_shown_with_its_last_words_and_what_needs_it_is_skipped(local_host: LocalHost) -> None:
    """The failure has the command's title, exit code and output; stages that need it name it."""
    bad = replace(
        a_file(local_host, "x", "1"), change=lambda place, have, want: [RunScript("fall over", "echo alas >&2; exit 3")]
    )
    run, seen = a_run(
        local_host,
        Stage("first", (), (bad,)),
        Stage("apart", (), (a_file(local_host, "y", "1"),)),
        Stage("second", ("first",), (a_file(local_host, "z", "1"),)),
    )
    install(run)
    assert outcomes(seen) == {"first.x": "failed", "apart.y": "changed", "second.z": "skipped"}
    failure = next(e for e in seen if isinstance(e, Done) and e.outcome == "failed").failures[0]
    assert (failure.command, failure.code, failure.tail) == ("fall over", 3, ("alas",))


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("exit 3", "it printed nothing; its exit code is all that is known"),
        ("echo; exit 3", "it printed nothing; its exit code is all that is known"),
        ("exit 124", "it printed nothing and ran into its time limit"),
        ("exit 137", "it printed nothing; a signal ended it (SIGKILL)"),
    ],
)
def test_a_command_that_says_nothing_fails_with_a_cause(local_host: LocalHost, command: str, cause: str) -> None:
    """What its exit code tells is the cause: no failure is shown without one."""
    action = RunScript("fall silently", f"sh -c '{command}' || exit $?")
    run, seen = a_run(
        local_host, Stage("one", (), (replace(a_file(local_host, "x", "1"), change=lambda *_: [action]),))
    )
    install(run)
    (failure,) = next(event for event in seen if isinstance(event, Done)).failures
    assert failure.meaning == cause


def test_an_exception_without_words_is_a_failure_with_a_cause(local_host: LocalHost) -> None:
    """Whoever raises it: the run's one way to report a step adds what lacks."""
    run, seen = a_run(local_host, Stage("one", (), (a_file(local_host, "x", "1"),)))
    run.done("m", "one.x", "failed", 0.0, failures=(Failure(), Failure(meaning="a"), Failure(tail=("b",))))
    (done,) = [event for event in seen if isinstance(event, Done)]
    assert [failure.meaning for failure in done.failures] == ["no cause was reported", "a", ""]


def test_a_secret_reaches_its_file_and_nothing_else(local_host: LocalHost) -> None:
    """No event contains a secret, and the secret's file has the mode of the action."""
    path = local_host.folder / "key"
    step = Step(
        "key",
        "master",
        lambda place: ShellLook(f"[ ! -e {path} ] || stat -c %a {path}", lambda out: out.decode().strip()),
        lambda place: "600",
        lambda place, have, want: [Put(str(path), Secret(b"hunter2"), 0o600, "root")],
    )
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    install(run)
    assert path.read_bytes() == b"hunter2"
    assert "hunter2" not in repr(seen)
    assert not any("aHVudGVyMg" in e.text for e in seen if isinstance(e, Line))


def test_the_file_that_was_there_is_kept_once_a_run(local_host: LocalHost, tmp_path: Path) -> None:
    """A before-image has the state before the run, not the result of the run's first change."""
    path = local_host.folder / "x"
    path.write_text("old")
    twice = replace(
        a_file(local_host, "x", "new"),
        change=lambda place, have, want: [
            Put(str(path), b"between", owner="root"),
            Put(str(path), b"new", owner="root"),
        ],
    )
    install(a_run(local_host, Stage("files", (), (twice,)))[0])
    assert (tmp_path / "state/before/run-1" / str(path).lstrip("/")).read_text() == "old"


def test_a_large_file_travels_behind_the_script(local_host: LocalHost) -> None:
    """A file too large for the script arrives complete, together with a small one in the same exec."""
    large, small = bytes(range(256)) * 4096, b"small"
    paths = [local_host.folder / "large", local_host.folder / "small"]
    step = Step(
        "both",
        "master",
        lambda place: ShellLook(f"cd {local_host.folder}; ls | sort", bytes.decode),
        lambda place: "large\nsmall\n",
        lambda place, have, want: [Put(str(p), c, owner="root") for p, c in zip(paths, (large, small), strict=True)],
    )
    install(a_run(local_host, Stage("files", (), (step,)))[0])
    assert [p.read_bytes() for p in paths] == [large, small]


def test_all_findings_are_reported_at_once_and_a_site_may_accept_them(local_host: LocalHost) -> None:
    """Every check is judged before the first change, and an accepted finding refuses nothing."""

    def check(name: str) -> Check:
        judged = (Finding(name, "so it is", "mend it"),)
        return Check(name, "master", lambda place: ShellLook("true", bytes.decode), lambda place, have: judged)

    run, seen = a_run(local_host, Stage("preflight", (), (check("a"), check("b"), check("c"))))
    run.site = replace(run.site, accept=frozenset({"b"}))
    run.board.site = run.site
    state.first_looks(run)
    assert not engine_plan.findings(run, run.stages[0])
    assert outcomes(seen) == {"preflight.a": "refused", "preflight.b": "ok", "preflight.c": "refused"}


def test_what_an_earlier_stage_finds_out_is_unknown_in_a_plan_and_known_in_an_install(local_host: LocalHost) -> None:
    """What a step wants may depend on a fact of an earlier stage."""
    source = a_file(local_host, "source", "text")
    copy = a_file(local_host, "copy", "text")

    def want(place: StepContext) -> Value:
        found = place.facts.one(Fact[Any]("first", "source"))
        if not found:
            raise NotYetKnown("first")
        return found

    stages = (Stage("first", (), (source,)), Stage("second", ("first",), (replace(copy, want=want),)))
    run, seen = a_run(local_host, *stages)
    state.first_looks(run)
    engine_plan.plan(run)
    assert outcomes(seen) == {"first.source": "would change", "second.copy": "unknown"}
    run, seen = a_run(local_host, *stages)
    install(run)
    assert outcomes(seen) == {"first.source": "changed", "second.copy": "changed"}


@pytest.mark.parametrize(("accept", "left"), [(frozenset({"file-edited"}), True), (frozenset(), False)])
def test_a_difference_that_the_site_accepts_is_left_as_it_is(
    local_host: LocalHost, accept: frozenset[str], left: bool
) -> None:
    """The step's note says so, in a plan too; a difference that the site file does not accept is corrected."""
    (local_host.folder / "x").write_text("mine")
    step = replace(a_file(local_host, "x", "1"), accepted_as=lambda place, have, want: "file-edited")
    run, seen = a_run(local_host, Stage("first", (), (step,)))
    run.site = replace(run.site, accept=accept)
    state.first_looks(run)
    assert engine_pending.pending(run).changes == (frozenset() if left else {"first"})
    apply.install(run)
    (done,) = [event for event in seen if isinstance(event, Done)]
    assert (done.outcome, done.note) == (("ok", "accepted: file-edited; not changed") if left else ("changed", ""))
    assert (local_host.folder / "x").read_text().strip() == ("mine" if left else "1")


@pytest.mark.parametrize("accept", [True, False])
def test_a_degraded_state_that_the_site_accepts_ends_the_wait(local_host: LocalHost, accept: bool) -> None:
    """The step ends at once, without a failure, and the run knows what lacks; otherwise the wait ends with its deadline."""
    step = replace(
        a_file(local_host, "x", "3 of 3"),
        change=lambda ctx, have, want: [RunScript("start pods", f"echo '2 of 3' >{local_host.folder}/x")],
        settle_seconds=lambda site: 600.0 if accept else 0.5,
        status_text=lambda have: "2 of 3 pods",
        accepted_as=lambda place, have, want: "workers-few" if have.startswith("2") else "",
        accepted_is_degraded=True,
    )
    run, seen = a_run(local_host, Stage("first", (), (step,)))
    run.site = replace(run.site, accept=frozenset({"workers-few"} if accept else ()))
    install(run)
    (done,) = [event for event in seen if isinstance(event, Done)]
    assert done.outcome == ("ok" if accept else "failed")
    assert run.degraded == ({"2 of 3 pods"} if accept else set())


def test_a_refusal_names_what_to_do_and_touches_nothing(local_host: LocalHost) -> None:
    """A refusal is reported as refused, not as failed."""

    def refuse(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
        raise Refused(Finding("busy", "3 Workflows remain", "wait for them"))

    run, seen = a_run(local_host, Stage("files", (), (replace(a_file(local_host, "x", "1"), change=refuse),)))
    install(run)
    assert outcomes(seen) == {"files.x": "refused"}


def test_a_serial_stage_stops_after_its_first_host(local_host: LocalHost) -> None:
    """If the first host fails, the others aren't begun; they are reported in any order."""
    bad = replace(
        a_file(local_host, "x", "1"),
        role="controller",
        change=lambda place, have, want: [RunScript("fall over", "exit 1")],
    )
    run, seen = a_run(
        local_host, Stage("slurm", (), (bad,), serial=True), roles={"controller": ("one", "two", "three")}
    )
    install(run)
    first, *others = [(e.host, e.outcome) for e in seen if isinstance(e, Done)]
    assert first == ("one", "failed")
    assert sorted(others) == [("three", "skipped"), ("two", "skipped")]


def test_a_look_that_breaks_is_a_failure_of_its_own_step(local_host: LocalHost) -> None:
    """One failed look doesn't hide the others of its host."""
    broken = replace(a_file(local_host, "x", "1"), look=lambda place: ShellLook("echo why >&2; exit 4", bytes.decode))
    run, seen = a_run(local_host, Stage("a", (), (broken,)), Stage("b", (), (a_file(local_host, "y", "1"),)))
    install(run)
    assert outcomes(seen) == {"a.x": "failed", "b.y": "changed"}
    failure = next(e for e in seen if isinstance(e, Done) and e.outcome == "failed").failures[0]
    assert "exit code 4" in failure.meaning
    assert "why" in failure.meaning


def on_two(host: LocalHost, *stages: Stage) -> tuple[Run, list[Event]]:
    return a_run(host, *stages, roles={"master": ("one", "two")})


def becomes(seen: Sequence[Event]) -> dict[tuple[str, str], str]:
    return {(e.host, f"{e.stage}.{e.step}"): e.outcome for e in seen if isinstance(e, Done)}


def words(text: str) -> dict[str, str]:
    """Host one prints `text`; host two prints a number."""
    return {"one": text, "two": "7"}


def test_a_judge_that_cannot_parse_a_host_fails_there_only(local_host: LocalHost) -> None:
    """It is reported as a defect with host and check; other checks and other hosts are judged all the same."""

    def judge(place: StepContext, have: Value) -> Sequence[Finding]:
        return () if int(have) == 7 else (Finding("none", "no seven", "say seven"),)

    number = Check("number", "master", lambda place: Constant(words("soon")[place.host]), judge)
    other = Check("other", "master", lambda place: Constant("0"), lambda place, have: ())
    for plan in (True, False):
        run, seen = on_two(local_host, Stage("a", (), (number, other)), Stage("b", (), (a_file(local_host, "y", "1"),)))
        state.first_looks(run)
        (engine_plan.plan if plan else apply.install)(run)
        became = becomes(seen)
        assert became["one", "a.number"] == "failed" and became["two", "a.number"] == "ok"
        assert became["two", "a.other"] == "ok" and ("two", "b.y") in became
        told = next(e.failures[0] for e in seen if isinstance(e, Done) and e.outcome == "failed")
        assert told.meaning.startswith(f"{DEFECT}, in a.number: ValueError:") and "soon" in told.meaning
        assert any("judge" in line for line in told.tail)


@pytest.mark.parametrize("part", ["look", "read", "want", "change", "takes", "why", "means"])
def test_a_step_that_cannot_parse_a_host_fails_there_only(local_host: LocalHost, part: str) -> None:
    """Whichever function of the step raises: plan and install continue with the other host, and finish."""

    def breaks(place: StepContext) -> None:
        if place.host == "one":
            raise KeyError("what it said")

    def look(place: StepContext) -> Constant:
        if part == "look":
            breaks(place)
        return Constant(place.host)

    def read(place: StepContext, found: Value) -> Value:
        if part == "read":
            breaks(place)
        return found

    def want(place: StepContext) -> Value:
        if part == "want":
            breaks(place)
        return place.host if place.host == "two" else "else"

    def others(name: str) -> Any:
        def call(place: StepContext, have: Value, want: Value) -> Any:
            if part == name:
                breaks(place)
            return () if name == "change" else ""

        return call

    def why(have: Value) -> str:
        if part == "why" and have == "one":
            raise KeyError("what it said")
        return ""

    step = Step(
        "x",
        "master",
        look,
        want,
        others("change"),
        read=read,
        removes=others("takes"),
        status_text=why,
        side_effect=others("means"),
    )
    for plan in (True, False):
        run, seen = on_two(local_host, Stage("a", (), (step,)))
        state.first_looks(run)
        (engine_plan.plan if plan else apply.install)(run)
        became = becomes(seen)
        assert became["two", "a.x"] == "ok"
        if (plan and part != "why") or (not plan and part != "means"):
            assert became["one", "a.x"] == "failed"
            told = next(e.failures[0] for e in seen if isinstance(e, Done) and e.host == "one")
            assert "a.x" in told.meaning and "what it said" in told.meaning


class Woken(threading.Event):
    """An event that records of each wait whether it was set; the timeout is long, so that only a missing wake-up reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: list[bool] = []

    def wait(self, timeout: float | None = None) -> bool:
        """As Event.wait, with another timeout."""
        self.woken.append(super().wait(60))
        return self.woken[-1]


def test_no_time_is_lost_between_stages_nor_behind_the_last(local_host: LocalHost) -> None:
    """Each completed step wakes the run at once: it never sleeps until a timeout."""
    right = Step("right", "master", lambda place: Constant(1), lambda place: 1)
    run, seen = a_run(local_host, Stage("a", (), (right,)), Stage("b", ("a",), (right,)), Stage("c", ("b",), (right,)))
    run.progressed = woken = Woken()
    install(run)
    assert outcomes(seen) == {"a.right": "ok", "b.right": "ok", "c.right": "ok"}
    assert woken.woken and all(woken.woken)


def test_a_stage_without_hosts_is_not_shown(local_host: LocalHost) -> None:
    """Displays and reports get the stages that have a host to work on, and what these build on."""
    step = a_file(local_host, "x", "1")
    stages = (
        Stage("a", (), (step,)),
        Stage("pod", ("a",), (replace(step, role="pod"),)),
        Stage("b", ("a.x", "pod"), (step,)),
    )
    assert stage_graph(stages, {"master": ("one",)}) == {"a": (), "b": ("a",)}


def test_a_stage_that_needs_a_step_alone_does_not_wait_for_the_rest_of_that_stage(local_host: LocalHost) -> None:
    """The first stage's second step waits for a file that the second stage makes after the first step."""
    awaited = replace(a_file(local_host, "made", "1"), change=None, settle_seconds=lambda site: 60.0)
    first = Stage("a", (), (a_file(local_host, "first", "1"), awaited))
    run, seen = a_run(local_host, first, Stage("b", ("a.first",), (a_file(local_host, "made", "1"),)))
    install(run)
    begun, *through = [(e.stage, e.step, e.outcome) for e in seen if isinstance(e, Done)]
    assert begun == ("a", "first", "changed")
    # whoever looks first sees the file: the stage that made it, or the one that awaits it
    assert sorted(through) == [("a", "made", "changed"), ("b", "made", "changed")]


def test_a_stage_that_needs_a_step_alone_is_stopped_by_that_step_alone(local_host: LocalHost) -> None:
    """A failure after that step does not block the stage; if the step itself fails, the note names it."""
    fails = replace(a_file(local_host, "x", "1"), change=lambda place, have, want: [RunScript("fail", "exit 1")])
    first = Stage("a", (), (a_file(local_host, "first", "1"), fails))
    run, seen = a_run(
        local_host,
        first,
        Stage("b", ("a.first",), (a_file(local_host, "b", "1"),)),
        Stage("c", ("a.x",), (a_file(local_host, "c", "1"),)),
    )
    install(run)
    assert outcomes(seen) == {"a.first": "changed", "a.x": "failed", "b.b": "changed", "c.c": "skipped"}
    assert next(e.note for e in seen if isinstance(e, Done) and e.stage == "c").startswith("needs a.x, which did not")


def test_a_stage_is_looked_at_again_after_something_it_needs_has_changed(local_host: LocalHost) -> None:
    """An earlier stage may break what was as wanted before: the second stage notices."""
    path = local_host.folder / "shared"
    path.write_text("right")
    spoil = replace(
        a_file(local_host, "first", "1"),
        change=lambda place, have, want: [
            Put(str(local_host.folder / "first"), b"1", owner="root"),
            RunScript("spoil", f"echo wrong >{path}"),
        ],
    )
    run, seen = a_run(
        local_host, Stage("a", (), (spoil,)), Stage("b", ("a",), (a_file(local_host, "shared", "right"),))
    )
    install(run)
    assert outcomes(seen) == {"a.first": "changed", "b.shared": "changed"}
    assert path.read_text() == "right"


def test_a_limit_leaves_the_other_hosts_alone(local_host: LocalHost, tmp_path: Path) -> None:
    """A host outside the limit is read and not changed."""
    step = replace(a_file(local_host, "x", "1"), role="controller")
    run, seen = a_run(local_host, Stage("a", (), (step,)), roles={"controller": ("one", "two")})
    site: Site = replace(run.site, limit=frozenset({"two"}))
    run.site = run.board.site = site
    install(run)
    assert [(e.host, e.outcome) for e in seen if isinstance(e, Done)] == [("two", "changed")]


def test_dependent_looks_run_in_a_second_exec(local_host: LocalHost) -> None:
    """A second look may depend on the fact of a first one, before the first change; a Constant needs no exec."""
    (local_host.folder / "name").write_text("other")
    (local_host.folder / "other").write_text("text")
    name = replace(a_file(local_host, "name", "other"), name="name")

    def look(place: StepContext) -> ShellLook:
        return ShellLook(f"cat {local_host.folder}/{place.facts.one(Fact[Any]('one', 'name'))}", bytes.decode)

    def known(place: StepContext) -> Constant:
        return Constant(place.facts.one(Fact[Any]("one", "name")))

    second = Step("second", "master", look, lambda place: "text")
    third = Step("third", "master", known, lambda place: "other")
    run, _ = a_run(local_host, Stage("one", (), (name, second, third)))
    state.first_looks(run)
    assert run.board.have("one.second", "one") == "text"
    assert run.board.have("one.third", "one") == "other"
    assert local_host.commands == 2


def test_each_look_runs_once_and_api_looks_follow_shell_looks(local_host: LocalHost) -> None:
    """When a host is read again, each step is asked for its look once; a look at the API may use facts of the shell's looks."""
    asked: list[str] = []

    def look(place: StepContext) -> ShellLook:
        asked.append("shell")
        return ShellLook("echo new", lambda out: out.decode().strip())

    def in_cluster(place: StepContext) -> ApiLook:
        asked.append("cluster")
        name = place.facts.one(Fact[Any]("one", "shell"))
        return ApiLook(lambda cluster: f"{name} in {cluster}")

    steps = (Step("cluster", "master", in_cluster, str), Step("shell", "master", look, str))
    run, _ = a_run(local_host, Stage("one", (), steps))
    reach = replace(run.reach, cluster=lambda: "the cluster")
    refresh(reach, run.board, "one", keyed(run.stages))
    assert run.board.have("one.cluster", "one") == "new in the cluster"
    assert asked.count("shell") == 1


def test_what_takes_something_away_says_what_to_run_before_asking(local_host: LocalHost) -> None:
    """Confirmation waits for the stage that knows the details, and for it alone; the rest runs once, afterwards."""
    taken = replace(a_file(local_host, "taken", "1"), removes=lambda place, have, want: "it", confirm_after="first")
    stages = (
        Stage("first", (), (a_file(local_host, "source", "1"),)),
        Stage("second", ("first",), (taken,)),
    )
    run, seen = a_run(local_host, *stages)
    state.first_looks(run)
    pending = engine_pending.pending(run)
    assert (pending.removes, pending.before) == (("it",), frozenset({"first"}))
    apply.install(run, pending.before)
    assert outcomes(seen) == {"first.source": "changed"}
    run.confirmed |= engine_pending.pending(run).things
    apply.install(run)
    assert [e.outcome for e in seen if isinstance(e, Done)] == ["changed", "changed"]


def test_removals_are_listed_before_the_change_is_known(local_host: LocalHost) -> None:
    """A step that does not know yet how it changes something, but what it removes, needs confirmation beforehand."""

    def change(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
        raise NotYetKnown("first")

    taken = replace(a_file(local_host, "taken", "1"), change=change, removes=lambda place, have, want: "it")
    run, _ = a_run(local_host, Stage("second", (), (taken,)))
    state.first_looks(run)
    assert engine_pending.pending(run).removes == ("it",)


def test_removals_are_listed_before_the_wanted_state_is_known(local_host: LocalHost) -> None:
    """Its removal needs confirmation before the first change, though an earlier stage decides what replaces it."""

    def want(place: StepContext) -> Value:
        raise NotYetKnown("first")

    (local_host.folder / "taken").write_text("mine")
    taken = replace(
        a_file(local_host, "taken", "1"), want=want, removes=lambda place, have, want: f"it, {have}, {want}"
    )
    run, _ = a_run(local_host, Stage("second", (), (taken,)))
    state.first_looks(run)
    assert engine_pending.pending(run).removes == ("it, mine, None",)


@pytest.mark.parametrize(
    ("agrees", "outcome"),
    [
        ({}, "refused"),
        ({"yes": True}, "changed"),
        ({"confirmed": {("second.x", "one", "mine")}}, "changed"),
        (
            {"confirmed": {("second.x", "one", "yours"), ("second.x", "two", "mine"), ("second.y", "one", "mine")}},
            "refused",
        ),
    ],
)
def test_unconfirmed_removals_are_refused(local_host: LocalHost, agrees: dict[str, object], outcome: str) -> None:
    """A removal that becomes known only during the run is refused, unless it was confirmed."""
    (local_host.folder / "x").write_text("mine")
    ready = a_file(local_host, "ready", "1")
    x = replace(
        a_file(local_host, "x", "1"),
        look=lambda place: ShellLook(f"cd {local_host.folder}; [ -e ready ] && cat x", bytes.decode),
        removes=lambda place, have, want: have,
    )
    run, seen = a_run(local_host, Stage("first", (), (ready,)), Stage("second", ("first",), (x,)))
    vars(run).update(agrees)
    state.first_looks(run)
    assert engine_pending.pending(run).removes == ()
    apply.install(run)
    assert outcomes(seen) == {"first.ready": "changed", "second.x": outcome}
    assert (local_host.folder / "x").read_text() == ("mine" if outcome == "refused" else "1")
    assert (
        outcome == "changed"
        or "mine" in next(e for e in seen if isinstance(e, Done) and e.failures).failures[0].meaning
    )


@pytest.mark.parametrize(
    ("check", "outcome", "text"), [("grep -q new $file", "changed", "new"), ("false", "failed", "old")]
)
def test_a_new_file_takes_the_old_ones_place_only_if_it_does(
    local_host: LocalHost, check: str, outcome: str, text: str
) -> None:
    """A file with a check is tested next to the old one, and removed if it does not work."""
    path = local_host.folder / "x"
    path.write_text("old")
    step = replace(
        a_file(local_host, "x", "new"),
        change=lambda place, have, want: [Put(str(path), b"new", owner="root", check=check)],
    )
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    install(run)
    assert outcomes(seen) == {"files.x": outcome}
    assert {one.name: one.read_text() for one in local_host.folder.iterdir()} == {"x": text}


def test_a_wait_that_is_stopped_is_no_failure(local_host: LocalHost) -> None:
    """The note says what was awaited and blames no deadline: the fix is to run the command again."""
    waiting = replace(
        a_file(local_host, "x", "1"),
        change=None,
        settle_seconds=lambda site: 60.0,
        status_text=lambda have: "0 of 3 pods",
        hint="raise it",
    )
    run, seen = a_run(local_host, Stage("files", (), (waiting,)))
    stop_at(run, Awaiting)
    install(run)
    (done,) = (one for one in seen if isinstance(one, Done))
    assert (done.outcome, done.note) == ("skipped", "the run was stopped while it waited: 0 of 3 pods")
    assert done.failures == ()


def test_a_stopped_command_is_reported_as_stopped(local_host: LocalHost) -> None:
    """A script that a stopped run ended is reported without the step's hint."""
    step = replace(
        a_file(local_host, "x", "1"),
        change=lambda place, have, want: [RunScript("work", "exit 143")],
        hint="raise a deadline",
    )
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    stop_at(run, Began)
    install(run)
    (failure,) = next(one for one in seen if isinstance(one, Done)).failures
    assert (failure.meaning, failure.fix) == (apply.STOPPED, apply.CONTINUE)
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    run.done("m", "run.lock", "failed", 0.0)  # as when its lock is lost, which stops a run too
    stop_at(run, Began)
    install(run)
    (failure,) = next(one for one in seen if isinstance(one, Done) and one.step == "x").failures
    assert failure.meaning == apply.STOPPED_BY.format("run.lock")


@pytest.mark.parametrize(("there", "outcome"), [("1", "ok"), ("0", "would change")])
def test_a_plan_says_that_the_proof_runs_again(local_host: LocalHost, there: str, outcome: str) -> None:
    """A proof does not hold after a change: the plan shows that it will be repeated."""
    (local_host.folder / "x").write_text(there)
    (local_host.folder / "proof").write_text("1")
    proof = replace(a_file(local_host, "proof", "1"), repeat_text="a job proves it")
    run, seen = a_run(
        local_host, Stage("files", (), (a_file(local_host, "x", "1"),)), Stage("verify", ("files",), (proof,))
    )
    state.first_looks(run)
    engine_plan.plan(run)
    assert outcomes(seen) == {"files.x": outcome, "verify.proof": outcome}
    assert [one.note for one in seen if isinstance(one, Done)][1] == (
        "a job proves it" if outcome == "would change" else ""
    )


def taking(host: LocalHost) -> Step:
    """A step that removes what the file `list` names; each entry is words=thing."""

    def takes(place: StepContext, have: Value, want: Value) -> Sequence[Removal]:
        return [Removal(f"{len(have)} things, {time.monotonic()} s old", frozenset(have))] if have else ()

    return Step(
        "x",
        "master",
        lambda place: ShellLook("cat list", lambda out: out.decode().split()),
        lambda place: [],
        lambda place, have, want: [RunScript("take them away", ": >list")],
        removes=takes,
    )


@pytest.mark.parametrize(
    ("then", "outcome", "left"),
    [("a b", "changed", ""), ("b", "changed", ""), ("a b c", "refused", "a b c"), ("c", "refused", "c")],
)
def test_a_confirmation_covers_the_shown_object_and_not_its_successor(
    local_host: LocalHost, then: str, outcome: str, left: str
) -> None:
    """Removals are compared again right before the change: fewer may go than were confirmed, but none that is new."""
    (local_host.folder / "list").write_text("a b")
    change = RunScript("somebody else at work", f"echo {then} >list")
    first = replace(
        a_file(local_host, "first", "1"), change=lambda place, have, want: [change, RunScript("do", "printf 1 >first")]
    )
    run, seen = a_run(local_host, Stage("one", (), (first,)), Stage("two", ("one",), (taking(local_host),)))
    state.first_looks(run)
    run.confirmed |= engine_pending.pending(run).things
    assert not engine_pending.pending(run).removes
    apply.install(run)
    assert outcomes(seen) == {"one.first": "changed", "two.x": outcome}
    assert (local_host.folder / "list").read_text().strip() == left
    told = [one.meaning for e in seen if isinstance(e, Done) for one in e.failures]
    assert ("(new: c)" in "".join(told)) == (outcome == "refused")


def a_guard(host: LocalHost, role: str = "submitter") -> Check:
    """A check that refuses while the file `job` exists."""

    def judge(place: StepContext, have: Value) -> Sequence[Finding]:
        return (Finding("job-in-slurm", f"on {place.host}: {have}", "wait"),) if have else ()

    script = f"cd {shlex.quote(str(host.folder))}; cat job 2>/dev/null || true"
    return Check("jobs", role, lambda place: ShellLook(script, lambda out: out.decode().strip()), judge)


def test_a_finding_outside_the_limit_still_stops_the_run(local_host: LocalHost) -> None:
    """A finding on a host outside the limit is reported with the host; a host without findings is not."""
    roles = {"master": ("one",), "submitter": ("two",), "controller": ("two", "three")}
    quiet = replace(a_guard(local_host, "controller"), judge=lambda place, have: ())
    first = Stage("preflight", (), (a_guard(local_host), replace(quiet, name="quiet")))
    for job, right in (("", True), ("job 7", False)):
        (local_host.folder / "job").write_text(job)
        run, seen = a_run(local_host, first, roles=roles)
        run.site = run.board.site = replace(run.site, limit=frozenset({"one"}))
        state.first_looks(run)
        assert engine_plan.findings(run, first) is right
        assert [(e.host, e.outcome) for e in seen if isinstance(e, Done)] == ([] if right else [("two", "refused")])


def test_checks_run_again_right_before_the_change(local_host: LocalHost) -> None:
    """A check of a stage is repeated on another host, outside the limit, though nothing that the stage needs has changed."""
    check, deed = a_guard(local_host), a_file(local_host, "deed", "1")
    stages = (Stage("preflight", (), (check,)), Stage("removal", ("preflight",), (check, deed)))
    for job in ("", "job 7"):
        (local_host.folder / "deed").unlink(missing_ok=True)
        (local_host.folder / "job").unlink(missing_ok=True)
        run, seen = a_run(local_host, *stages, roles={"master": ("one",), "submitter": ("two",)})
        run.site = run.board.site = replace(run.site, limit=frozenset({"one"}))
        state.first_looks(run)
        assert engine_plan.findings(run, stages[0])
        (local_host.folder / "job").write_text(job)
        apply.install(run)
        assert (local_host.folder / "deed").exists() == (not job)
        done = [(e.host, e.stage, e.step, e.outcome) for e in seen if isinstance(e, Done) and e.stage == "removal"]
        refused = [("two", "removal", "jobs", "refused"), ("one", "removal", "deed", "skipped")]
        assert done == (refused if job else [("one", "removal", "deed", "changed")])


def test_a_check_that_can_never_say_does_not_pass(local_host: LocalHost) -> None:
    """A fact that is still unknown right before the change, though all stages that could provide it are complete, stops it."""

    def judge(place: StepContext, have: Value) -> Sequence[Finding]:
        raise NotYetKnown("removal")

    check = replace(a_guard(local_host), judge=judge)
    stages = (Stage("first", (), ()), Stage("removal", ("first",), (check, a_file(local_host, "deed", "1"))))
    run, seen = a_run(local_host, *stages, roles={"master": ("one",), "submitter": ("two",)})
    install(run)
    assert outcomes(seen) == {"removal.jobs": "failed", "removal.deed": "skipped"}
    assert not (local_host.folder / "deed").exists()


def test_what_a_run_found_first_is_known_however_often_it_looks(local_host: LocalHost) -> None:
    """The first facts stay for what was typed before; reading again under the lock replaces the other facts."""
    check = a_guard(local_host, "master")
    run, _ = a_run(local_host, Stage("preflight", (), (check,)))
    for text in ("first", "second", "third"):
        (local_host.folder / "job").write_text(text)
        state.first_looks(run)
        facts = run.board.facts
        assert (facts.one(Fact[Any]("preflight", "jobs")), facts.first["preflight.jobs"]) == (text, {"one": "first"})


# --- what comes last


def a_door(host: LocalHost, name: str, wanted: str) -> Step:
    """A step that wants the door, a file with "open" or "closed" in it, to be `wanted`."""
    change = RunScript(f"{name} it", f"echo {wanted} >{shlex.quote(str(host.folder / 'door'))}")
    return replace(
        a_file(host, "door", f"{wanted}\n"), name=name, change=lambda place, have, want: [change], repeat_text="again"
    )


def behind_a_door(host: LocalHost, *deeds: Step | Check, around: tuple[str, ...] = ("deed",)) -> tuple[Stage, ...]:
    """A stage that runs while the door is closed; the door is opened at the end."""
    return (
        Stage("close", (), (a_door(host, "close", "closed"),), around=around),
        Stage("deed", ("close",), deeds),
        Stage("open", ("close", "deed"), (a_door(host, "open", "open"),), ends="close"),
    )


def of_the_door(host: LocalHost, *deeds: Step | Check, stopping: bool = False) -> tuple[Run, dict[str, str]]:
    """Such a run, from its first look to its end."""
    (host.folder / "door").write_text("open\n")
    run, seen = a_run(host, *behind_a_door(host, *deeds))
    run.changing = True
    state.first_looks(run)
    if stopping:
        run.stopping.set()
    apply.install(run)
    apply.finish(run)
    return run, outcomes(seen)


def failing(host: LocalHost, script: str) -> Step:
    return replace(a_file(host, "deed", "1"), change=lambda place, have, want: [RunScript("do it", script)])


def test_what_a_stage_closed_is_opened_again_whatever_became_of_the_others(local_host: LocalHost) -> None:
    """After a refusal, a failure, a defect and Ctrl-C; the steps between saw the door closed."""

    def refuse(place: StepContext, have: Value, want: Value) -> Sequence[Action]:
        raise Refused(Finding("job-in-slurm", "a job", "wait"))

    def emit(event: Event) -> None:
        seen.append(event)
        if name == "stopped" and isinstance(event, Began) and event.title == "do it":
            run.stopping.set()

    saw = "cat door >seen; printf 1 >deed"
    deeds = {
        "changed": failing(local_host, saw),
        "failed": failing(local_host, f"{saw}; exit 1"),
        "refused": replace(failing(local_host, saw), change=refuse),
        "stopped": failing(local_host, f"{saw}; exit 143"),
    }
    for name, deed in deeds.items():
        for file in ("deed", "seen"):
            (local_host.folder / file).unlink(missing_ok=True)
        (local_host.folder / "door").write_text("open\n")
        run, seen = a_run(local_host, *behind_a_door(local_host, deed))
        run.changing, run.emit = True, emit
        state.first_looks(run)
        apply.install(run)
        assert (local_host.folder / "door").read_text() == "closed\n"
        apply.finish(run)
        assert outcomes(seen) == {
            "close.close": "changed",
            "deed.deed": "failed" if name == "stopped" else name,
            "open.open": "changed",
        }
        assert (local_host.folder / "door").read_text() == "open\n"
        assert name == "refused" or (local_host.folder / "seen").read_text() == "closed\n"


def test_dws_closed_by_a_failed_step_is_opened(local_host: LocalHost) -> None:
    """A step that failed may have done its work all the same: the last stage reads the state itself."""
    closing, deed, opening = behind_a_door(local_host, a_file(local_host, "deed", "1"))
    half = RunScript("close it", "echo closed >door; exit 1")
    step = replace(a_door(local_host, "close", "closed"), change=lambda place, have, want: [half])
    (local_host.folder / "door").write_text("open\n")
    run, seen = a_run(local_host, replace(closing, steps=(step,)), deed, opening)
    run.changing = True
    install(run)
    apply.finish(run)
    assert outcomes(seen) == {"close.close": "failed", "deed.deed": "skipped", "open.open": "changed"}
    assert (local_host.folder / "door").read_text() == "open\n" and not (local_host.folder / "deed").exists()


def test_a_stage_that_makes_way_for_others_does_nothing_where_they_have_nothing_to_do(local_host: LocalHost) -> None:
    """A stopped run closes nothing; a plan shows both closing and opening."""
    (local_host.folder / "deed").write_text("1")
    deed = a_file(local_host, "deed", "1")
    _, seen = of_the_door(local_host, deed)
    assert seen == {"close.close": "ok", "deed.deed": "ok", "open.open": "ok"}
    for there, outcome in ((True, "ok"), (False, "would change")):
        run, told = a_run(local_host, *behind_a_door(local_host, deed))
        if not there:
            (local_host.folder / "deed").unlink()
        state.first_looks(run)
        engine_plan.plan(run)
        assert outcomes(told) == {"close.close": outcome, "deed.deed": outcome, "open.open": outcome}
    _, seen = of_the_door(local_host, deed, stopping=True)
    assert seen == {"close.close": "skipped", "deed.deed": "skipped", "open.open": "ok"}


def test_final_stages_wait_for_running_work_and_survive_signals(local_host: LocalHost) -> None:
    """A stopped run waits for its remaining script before it opens the door; if the script does not end, the door stays closed."""
    at_work = replace(
        a_file(local_host, "rest", "none"),
        name="rest",
        change=None,
        settle_seconds=lambda site: 60.0,
        status_text=lambda have: str(have),
    )
    closing, deed, opening = behind_a_door(local_host, a_file(local_host, "deed", "1"))
    stages = (closing, deed, replace(opening, steps=(at_work, *opening.steps)))
    ended: list[str] = []

    class Session:
        host = "one"

        def stop(self) -> None:
            ended.append("ended")

    class Sessions:
        def open(self) -> list[Session]:
            return [Session()]

    (local_host.folder / "door").write_text("closed\n")
    (local_host.folder / "rest").write_text("at work")
    run, seen = a_run(local_host, *stages)
    signals = interrupt.Interrupts(lambda watched: None)
    signals.watch(run, Sessions())  # type: ignore[arg-type]
    run.changing = True
    state.first_looks(run)
    signals(2, None)
    apply.install(run)

    def emit(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Awaiting):
            assert ended == ["ended"], "what the signal was to end has not ended yet"
            run.stoppers.clear()
            signals._stop(run, Sessions())  # type: ignore[arg-type]
            for stopper in run.stoppers:
                stopper.join()
            assert ended == ["ended"] and (local_host.folder / "door").read_text() == "closed\n"
            (local_host.folder / "rest").write_text("none")

    run.emit = emit
    apply.finish(run)
    assert [one.why for one in seen if isinstance(one, Awaiting)] == ["at work"]
    assert outcomes(seen)["open.open"] == "changed" and (local_host.folder / "door").read_text() == "open\n"

    (local_host.folder / "door").write_text("closed\n")
    (local_host.folder / "rest").write_text("at work")
    stages = (closing, deed, replace(opening, steps=(replace(at_work, settle_seconds=None), *opening.steps)))
    run, seen = a_run(local_host, *stages)
    run.changing = True
    run.stopping.set()
    state.first_looks(run)
    apply.install(run)
    apply.finish(run)
    assert (outcomes(seen)["open.rest"], outcomes(seen)["open.open"]) == ("failed", "skipped")
    assert (local_host.folder / "door").read_text() == "closed\n"


@pytest.mark.parametrize("job", ["", "job 7"])
def test_a_check_may_need_what_a_later_step_of_its_stage_finds(local_host: LocalHost, job: str) -> None:
    """Also where it could not be read before the stage began: it is read first then, and the check refuses."""
    clone, deed, guard = (
        a_file(local_host, "clone", "1"),
        a_file(local_host, "deed", "1"),
        a_guard(local_host, "master"),
    )

    def late(place: StepContext) -> ShellLook:
        if place.facts.one(Fact[Any]("one", "clone")) != "1":
            raise NotYetKnown("one")
        made = deed.look(place)
        assert isinstance(made, ShellLook)
        return made

    def behind(place: StepContext) -> ShellLook:
        place.facts.one(Fact[Any]("two", "deed"))
        made = guard.look(place)
        assert isinstance(made, ShellLook)
        return made

    (local_host.folder / "job").write_text(job)
    two = Stage("two", ("one",), (replace(guard, look=behind), replace(deed, look=late)))
    run, seen = a_run(local_host, Stage("one", (), (clone,)), two)
    install(run)
    ends = ("refused", "skipped") if job else ("ok", "changed")
    assert outcomes(seen) == {"one.clone": "changed", "two.jobs": ends[0], "two.deed": ends[1]}


@pytest.mark.parametrize("fails", ["there", "here", "lock", "nothing"])
@pytest.mark.parametrize("cleared", [True, False])
def test_what_was_begun_elsewhere_is_abandoned_where_anything_after_it_fails(
    local_host: LocalHost, fails: str, cleared: bool
) -> None:
    """Its own script, the lock before the next action, or that action: its output says what there is to undo. What could not be
    undone stands in the step's failure."""
    there, undone = local_host.folder / "there", local_host.folder / "undone"
    undo = f'echo "$(cat {there})" >{undone}' if cleared else "echo no room >&2; exit 1"
    asked: list[bytes] = []

    def abandon(out: bytes) -> Sequence[RunElsewhere]:
        asked.append(out)
        return [
            RunElsewhere("undo it", "master", undo),
            RunElsewhere("and the rest", "master", f"echo rest >>{undone}"),
        ]

    ask = RunElsewhere(
        "ask", "master", f"echo 12 | tee {there}" + ("; exit 3" if fails == "there" else ""),
        lambda out: [RunScript("go on", "exit 4" if fails == "here" else f"printf 1 >{local_host.folder}/x")], abandon=abandon,
    )  # fmt: skip
    step = replace(a_file(local_host, "x", "1"), change=lambda place, have, want: [ask])
    run, seen = a_run(local_host, Stage("files", (), (step,)))

    def guard() -> None:
        if fails == "lock" and there.exists():
            raise LockLost("one", "this run has lost its lock")

    run.reach = replace(run.reach, guard=guard)
    install(run)
    (done,) = (event for event in seen if isinstance(event, Done))
    if fails == "nothing":
        assert asked == [] and not undone.exists()
        return
    (failure,) = done.failures
    assert done.outcome == "failed" and asked == [b"12\n"]
    assert (undone.read_text() if undone.exists() else "") == ("12\nrest\n" if cleared else "")
    assert ("not done: undo it: no room" in failure.meaning) is not cleared
    assert failure.code == {"there": 3, "here": 4, "lock": None}[fails]
    assert fails != "lock" or "lost its lock" in failure.meaning


def test_a_broken_connection_is_reported_with_its_own_fix(local_host: LocalHost) -> None:
    """Where a connection broke, the step's hint would lead elsewhere: the host is named, and how to see whether it responds."""

    def lost(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        raise Lost("one", "the connection broke while a script ran")

    step = replace(a_file(local_host, "x", "1"), change=lost, hint="check that the registry is not full")
    run, seen = a_run(local_host, Stage("files", (), (step,)))
    install(run)
    (done,) = (event for event in seen if isinstance(event, Done))
    (failure,) = done.failures
    assert failure.meaning == "one: the connection broke while a script ran"
    assert "`ssh one uptime`" in failure.fix and "run the same command again" in failure.fix


@pytest.mark.parametrize(("where", "fix"), [("one", "see the step"), ("master", "`ssh master ps -ef`")])
def test_the_hint_of_a_step_is_shown_for_its_own_host(local_host: LocalHost, where: str, fix: str) -> None:
    """An action that did not end on another host says so of that host: the hint of the step would lead to the wrong one."""

    def late(ctx: StepContext, have: Value, want: Value) -> Sequence[Action]:
        raise DeadlineExceeded(where, 120.0, ())

    run, seen = a_run(
        local_host, Stage("s", (), (replace(a_file(local_host, "x", "1"), change=late, hint="see the step"),))
    )
    install(run)
    (failure,) = (failure for event in seen if isinstance(event, Done) for failure in event.failures)
    assert failure.meaning == f"{where}: not finished after 120 s" and fix in failure.fix
