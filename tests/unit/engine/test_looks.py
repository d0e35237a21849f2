"""Reading several hosts at once, and what the board knows of them."""

import base64
import gzip
import json
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.engine import looks as engine_looks
from dws_on_csm.engine import perform, plan
from dws_on_csm.engine.looks import Board, Frame, LookFailed
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import Run, look_again
from dws_on_csm.model.actions import RunScript
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import SudoRefused
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import ApiLook, Check, Constant, Fact, ShellLook, StepContext
from dws_on_csm.stages.slurm import computes
from tests.unit.conftest import LocalHost

HOSTS = 3000


@pytest.fixture
def hurried() -> Iterator[None]:
    """Let threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
def test_one_host_is_noted_while_another_goes_through_all(hurried: None) -> None:
    """A fact stored meanwhile neither breaks the iteration nor is lost."""
    board = Board(load(DEFAULT))
    board.store("a.step", "first", 0)

    def note(of: str) -> None:
        for number in range(HOSTS):
            board.store("a.step", f"{of}{number}", number)

    noting = [threading.Thread(target=note, args=(of,)) for of in "xy"]
    for one in noting:
        one.start()
    while any(one.is_alive() for one in noting):
        assert sum(1 for value in board.facts.all(Fact[Any]("a", "step")).values() if value == 0) >= 1
    assert len(board.facts.all(Fact[Any]("a", "step"))) == 2 * HOSTS + 1


def test_one_step_is_through_while_another_asks_what_failed(hurried: None, local_host: LocalHost) -> None:
    """A stage that begins checks what it needs while other stages record their outcomes."""
    reach = Reach(lambda name: local_host, lambda: None, lambda role: "one")
    run = Run("run-1", load(DEFAULT), [], reach, lambda event: None, {})
    run.done("first", "deploy.step", "failed", 0.0)

    def note() -> None:
        for number in range(HOSTS):
            run.done(f"host{number}", "other.step", "ok", 0.0)

    noting = threading.Thread(target=note)
    noting.start()
    while noting.is_alive():
        assert run.troubled("deploy") == ("first",)


def test_each_change_has_a_number_of_its_own(hurried: None) -> None:
    """A look that is older than one of several simultaneous changes is stale."""
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


# --- answers that are not made as they should be


def _recursing(out: bytes) -> object:
    return _recursing(out)


@pytest.mark.parametrize(
    ("parse", "out", "named"),
    [
        (lambda out: dict[str, int]()["content"], b"", "KeyError"),
        (lambda out: out.decode().split()[3], b"one two", "IndexError"),
        (lambda out: out.decode(), b"\xff", "UnicodeDecodeError"),
        (lambda out: json.loads(out), b"{", "JSONDecodeError"),
        (lambda out: json.loads(out)["x"], b"[]", "TypeError"),
        (lambda out: json.loads(out).get("x"), b"[]", "AttributeError"),
        (lambda out: json.loads(out), b"[" * 100_000, "RecursionError"),
        (_recursing, b"", "RecursionError"),
        (lambda out: zlib.decompress(out), b"x", "error"),
        (computes.parse, b"644 root:root -", "ValueError"),
        (computes.parse, b"644 root:root - !", "ValueError"),
        (computes.parse, b"888 root:root - H4sI", "ValueError"),
        (
            computes.parse,
            b"644 root:root - " + base64.b64encode(gzip.compress(b"x" * 1000, mtime=0)[:15]),
            "ValueError",
        ),
    ],
)
def test_what_a_host_answers_fails_that_hosts_look_alone(
    parse: Callable[[bytes], object], out: bytes, named: str
) -> None:
    """Whatever a parser raises: the look fails, the message names host and error, and the others continue."""
    board = Board(load(DEFAULT))
    looks = {"a.bad": ShellLook("true", parse), "a.good": ShellLook("true", lambda out: 1)}
    frame = Frame(out, b"", 0)
    engine_looks.read_shell(board, "h", looks, {"a.bad": frame, "a.good": frame}, "")
    with pytest.raises(
        engine_looks.LookFailed, match=rf"^the answer of h could not be read: the check a.bad ended in {named}"
    ):
        board.have("a.bad", "h")
    assert board.have("a.good", "h") == 1


def test_what_an_api_server_answers_fails_that_look_alone() -> None:
    """A malformed answer fails one look; an unreachable server is still an error of the run."""
    board = Board(load(DEFAULT))

    def away(cluster: object) -> object:
        raise ClusterError(0, "no answer")

    item = Check(
        "x", "master", lambda place: ApiLook(lambda cluster: dict[str, int]()["items"]), lambda place, found: ()
    )
    engine_looks.read_api(board, "m", {"a.x": item}, lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(engine_looks.LookFailed, match="the answer of m could not be read"):
        board.have("a.x", "m")
    gone = Check("x", "master", lambda place: ApiLook(away), lambda place, found: ())
    with pytest.raises(ClusterError):
        engine_looks.read_api(board, "m", {"a.x": gone}, lambda: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("before", "now", "found"), [(b"calm", b"busy", "asked"), (b"busy", b"calm", None)])
def test_a_look_that_follows_from_another_one_follows_from_its_new_answer(
    before: bytes, now: bytes, found: str | None
) -> None:
    """Both are made again at once: whether the API is asked at all depends on what the host answers now, not on what it did."""
    state = Fact[bytes]("a", "state")

    def why(ctx: StepContext) -> ApiLook | Constant:
        return ApiLook(lambda cluster: "asked") if ctx.facts.on(state, ctx.host) == b"busy" else Constant(None)

    items = {
        "a.state": Check("state", "master", lambda ctx: ShellLook("true", lambda out: out), lambda ctx, have: ()),
        "a.why": Check("why", "master", why, lambda ctx, have: ()),
    }
    board = Board(load(DEFAULT))
    board.store("a.state", "m", before)
    shell, rest = engine_looks.snippets(board, items, "m")
    engine_looks.read_shell(board, "m", shell, {"a.state": Frame(now, b"", 0)}, "")
    engine_looks.read_api(board, "m", rest, lambda: None)  # type: ignore[arg-type, return-value]
    assert board.have("a.why", "m") == found


@pytest.mark.slow
def test_a_small_answer_that_unpacks_to_more_than_memory_is_not_unpacked() -> None:
    """A node's slurm.conf comes compressed: one that unpacks to more than the limit is refused there."""
    bomb = base64.b64encode(gzip.compress(bytes(400_000_000), 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="larger than 2 MB"):
        computes.parse(b"644 root:root - " + bomb)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60_000_000
    told = computes.parse(b"644 root:root - " + base64.b64encode(gzip.compress(b"ClusterName=x\n")))
    assert told == {"mode": "644", "owner": "root:root", "acl": False, "text": "ClusterName=x\n"}


@pytest.mark.parametrize("number", ["7", "-1", "x", "", "1" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_an_action_that_was_not_sent_is_not_at_work(number: str) -> None:
    """Root on a host can print that any action begins: only an action that was sent is shown, and nothing breaks."""
    began: list[str] = []
    at: Any = SimpleNamespace(began=began.append, line=lambda text: None)
    watch = perform.ScriptProgress(at, [RunScript("one", "true", 1.0)], "M")
    watch.line("M action 0")
    watch.line(f"M action {number}")
    assert began == ["one"] and watch.number == 0


@pytest.mark.parametrize("ends", ["x", "", "-1", "1" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_a_frame_without_an_exit_code_never_ended(ends: str) -> None:
    """A host that forges the end of a look fails that look, and the others are read."""
    out = f"\nM one\nsaid\nM = {ends}\n\nM two\nmore\nM = 0\n".encode()
    assert {name: frame.out for name, frame in engine_looks.split(out, b"", "M").items()} == {"two": b"more"}


MARK = "--mark"


def run(**snippets: str) -> subprocess.CompletedProcess[bytes]:
    script = engine_looks.script({key: ShellLook(text, bytes.decode) for key, text in snippets.items()}, MARK)
    return subprocess.run(["sh", "-c", script], capture_output=True, timeout=30, check=False)


def test_each_snippet_has_a_frame_whatever_becomes_of_the_others() -> None:
    """Output, standard error and exit code of each; none sees what another one reads or sets."""
    done = run(one="cat; echo 1; x=5; exit 3", two="echo 2; echo why >&2; echo x=$x")
    assert engine_looks.split(done.stdout, done.stderr, MARK) == {
        "one": Frame(b"1\n", b"", 3),
        "two": Frame(b"2\nx=\n", b"why\n", 0),
    }


def test_the_last_output_of_an_unfinished_look_is_known() -> None:
    """It has no frame, nor have those after it; its last words are reported without the marks of frames."""
    done = run(one="echo early >&2", two="echo out of memory >&2; kill -9 $$", three="echo 3")
    assert list(engine_looks.split(done.stdout, done.stderr, MARK)) == ["one"]
    assert engine_looks.last_words(done.stderr, MARK) == "out of memory"
    assert engine_looks.last_words(b"sh: not found\n", MARK) == "sh: not found"


def run_behind(library: str, **bodies: str) -> dict[str, Frame]:
    """The frames of looks with the same library, and of one without it."""
    looks = {key: ShellLook(text, bytes.decode, library) for key, text in bodies.items()}
    return frames_of({**looks, "other": ShellLook("echo other; echo x=$x", bytes.decode)})


def frames_of(looks: Mapping[str, ShellLook]) -> dict[str, Frame]:
    """The frames of these looks."""
    done = subprocess.run(["sh", "-c", engine_looks.script(looks, MARK)], capture_output=True, timeout=30, check=False)
    return engine_looks.split(done.stdout, done.stderr, MARK)


def test_a_library_runs_once_and_is_nobody_elses(tmp_path: Path) -> None:
    """What it sets, all looks behind it see, and no other look; nor does one see what another one changes."""
    library = f"echo ran >>{tmp_path}/runs; x=5; trap 'echo never' EXIT; said() {{ echo $x; }}; trap - EXIT; echo lost"
    frames = run_behind(library, one="said; x=6; exit 3", two="said; echo why >&2; cat", three="false")
    assert frames == {
        "one": Frame(b"5\n", b"", 3),
        "two": Frame(b"5\n", b"why\n", 0),
        "three": Frame(b"", b"", 1),
        "other": Frame(b"other\nx=\n", b"", 0),
    }
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert run_behind(library, one="said")["one"] == Frame(b"lost\n5\n", b"", 0)


def test_a_library_that_continues_another_one_runs_behind_it(tmp_path: Path) -> None:
    """Each runs once, and what the longer one changes is not seen by looks of the shorter one."""
    short = f"echo short >>{tmp_path}/runs; x=1\n"
    long = f"{short}echo long >>{tmp_path}/runs; x=2\n"
    libraries = {"a": short, "b": long, "c": short, "d": long, "e": ""}
    looks = {key: ShellLook("echo ${x-none}", bytes.decode, library) for key, library in libraries.items()}
    said = {key: frame.out for key, frame in frames_of(looks).items()}
    assert said == {"a": b"1\n", "b": b"2\n", "c": b"1\n", "d": b"2\n", "e": b"none\n"}
    assert (tmp_path / "runs").read_text() == "short\nlong\n"


def test_where_the_longer_library_fails_looks_of_the_shorter_one_do_not() -> None:
    """Its frame is that of the looks that build on it alone."""
    short, long = "x=1\n", "x=1\necho why >&2; exit 4\n"
    libraries = {"a": short, "b": long, "c": long, "d": short}
    looks = {key: ShellLook("echo $x", bytes.decode, library) for key, library in libraries.items()}
    frames = frames_of(looks)
    assert {key: frame.code for key, frame in frames.items()} == {"a": 0, "b": 4, "c": 4, "d": 0}
    assert (frames["d"].out, frames["b"].err) == (b"1\n", b"why\n")


def test_a_library_that_fails_fails_each_look_that_builds_on_it() -> None:
    """With its exit code and its words; the others are read. One that did not finish gives no look an answer."""
    frames = run_behind("echo why >&2; exit 1", one="echo 1", two="echo 2")
    failed = Frame(b"", b"why\n", 1)
    assert frames == {"one": failed, "two": failed, "other": Frame(b"other\nx=\n", b"", 0)}
    frames = run_behind("sh -c 'kill -9 $PPID'", one="echo 1", two="echo 2", three="echo 3")
    assert {key: frame.code for key, frame in frames.items()} == {"one": 137, "two": 137, "three": 137, "other": 0}


def test_a_look_that_takes_others_with_it_gives_none_of_them_an_answer(tmp_path: Path) -> None:
    """Of looks behind one library, those after it did not finish."""
    library = f"sh -c 'echo $PPID' >{tmp_path}/shell"
    frames = run_behind(library, one="echo 1", two=f"kill -9 $(cat {tmp_path}/shell)", three="echo 3")
    assert {key: frame.code for key, frame in frames.items()} == {"one": 0, "two": 137, "other": 0}


def test_what_to_do_about_a_host_is_kept_with_what_failed_there() -> None:
    """Each step that needs the look then fails with the cause and its fix."""

    class NoSudo:
        host = "one"

        def run(self, *args: object, **kwargs: object) -> None:
            raise SudoRefused("one", "me is not in the sudoers file", "add this line")

    reach = Reach(lambda name: NoSudo(), lambda: None, lambda role: "one")
    check = Check("login", "controller", lambda ctx: ShellLook("id -u", lambda out: out), lambda ctx, have: ())
    seen: list[Event] = []
    run = Run("run-1", load(DEFAULT), (), reach, seen.append, {"controller": ("one",)})
    look_again(run, "one", {"preflight.login": check})
    with pytest.raises(LookFailed, match="one: me is not in the sudoers file") as caught:
        run.board.have("preflight.login", "one")
    assert caught.value.fix == "add this line"
    plan.judge(run, "preflight.login", check, "one")
    (failure,) = [failure for event in seen if isinstance(event, Done) for failure in event.failures]
    assert (failure.meaning, failure.fix) == ("one: me is not in the sudoers file", "add this line")


@pytest.mark.parametrize(("status", "broken"), [(403, False), (404, False), (500, True), (503, True)])
def test_an_api_server_that_fails_is_told_from_one_that_refuses(status: int, broken: bool) -> None:
    """An error of its own, as without etcd, says nothing about the rights of who asked."""

    def read(cluster: object) -> object:
        raise ClusterError(status, "etcdserver: request timed out")

    board = Board(load(DEFAULT))
    item = Check("nodes", "master", lambda ctx: ApiLook(read), lambda ctx, have: ())
    engine_looks.read_api(board, "m", {"a.nodes": item}, lambda: SimpleNamespace())
    failed = board.failed["a.nodes", "m"]
    assert (failed.cluster, "etcdserver: request timed out" in failed.text) == (broken, True)
