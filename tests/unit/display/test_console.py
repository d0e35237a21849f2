"""What hosts and the cluster say is shown to people in one place, and drives no terminal."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands import bundle, certificates, workflows
from dws_on_csm.commands.certificates import Problem, Status
from dws_on_csm.commands.doctor import command
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen
from dws_on_csm.commands.history import journal as history_journal
from dws_on_csm.commands.logs import command as logs_command
from dws_on_csm.commands.logs.entries import Entry
from dws_on_csm.config.load import DEFAULT, ROOT, load
from dws_on_csm.display import console, live, paint, select
from dws_on_csm.display.html import page
from dws_on_csm.display.select import Display
from dws_on_csm.display.style import Row
from dws_on_csm.engine.pending import Pending, Restarting
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Failure, Line, Opened, Summary
from dws_on_csm.model.step import Finding, Restart
from dws_on_csm.redaction import redact
from dws_on_csm.runner import confirmation, journal, run
from dws_on_csm.runner.past_runs import PastRun
from tests.unit import sources

EVIL = [
    "\x1b[2Jgone",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x7f\b\b\bback",
    "\rover",
    "\u202egnp.exe",
    "\u2066\u2028\x85",
    "\x00\x0b\x0c",
    "\udcff",
]
_OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[AK]|2K|1A)")
"""What rich writes by itself: styles, the cursor hidden and shown, lines drawn again."""


def harmless(text: str) -> bool:
    """Whether nothing but our own styles is in it that drives a terminal."""
    return all(c.isprintable() or c in "\n\t" for c in _OWN.sub("", text).replace("\r", ""))


# --- one place writes


_OUTSIDE = {
    "console.py": "it is the place",
    "api_relay.py": "runs on the master, and speaks to this program there",
    "interrupt.py": "gives the terminal its cursor back: a constant",
}
"""Files that may write otherwise, with the reason."""
_DRAWN = {"paint.py": "drawn", "live.py": "self.console"}
"""Files that print on a console of rich: only what console.styled made, which `wrapped` cuts."""


def written(tree: ast.Module) -> Iterator[str]:
    """The calls in a file that write for people."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (
                f"import {one.name}" for one in node.names if (node.module, one.name) == ("rich.console", "Console")
            )
        if not isinstance(node, ast.Call) or not _LAST_WORDS.fullmatch(sources.called(node)):
            continue
        name = ast.unparse(node.func)
        if _WRITES.fullmatch(name) or (name == "os.write" and ast.unparse(node.args[0]) in ("1", "2")):
            yield name
        elif name == "sys.exit" and node.args and _is_text(node.args[0]):
            yield f"{name} with a text"


_WRITES = re.compile(
    r"print|input|getpass\.getpass|traceback\.print_exc|warnings\.warn|Console|sys\.(stdout|stderr)(\.buffer)?\.writ\w+"
    r"|.*\.(print|print_exception|print_json|rule|input)"
)
_LAST_WORDS = re.compile(r"print\w*|input|getpass|warn|Console|writ\w+|rule|exit")
"""The last words of such calls: to see these takes less time than to write each call down."""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.slow
def test_nothing_else_writes_for_people() -> None:
    """Whatever is shown goes through dws_on_csm/display/console.py, which escapes it."""
    tasks = ROOT / "tasks.py"
    for file, tree in {**sources.trees(), tasks: ast.parse(tasks.read_text())}.items():
        found = set(written(tree))
        if file.name in _DRAWN:
            found -= {f"{_DRAWN[file.name]}.print", "import Console"}
        assert not found or file.name in _OUTSIDE, f"{file}: say it with console: {found}"


def test_the_search_finds_them() -> None:
    """It is no search that finds nothing."""
    text = (
        "print(1)\nsys.stdout.write('')\nsys.stderr.buffer.write(b'')\nos.write(2, b'')\ninput('')\nx.console.print(1)\n"
        "sys.exit(f'{x}')\nfrom rich.console import Console\nConsole()\nsys.exit(1)\nconsole.say(1)\n"
    )
    assert len(list(written(ast.parse(text)))) == 9


# --- every display


def shown_by(show: Callable[[], object]) -> str:
    """All that `show` writes to standard output and standard error."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", out)
        show()
    return out.getvalue()


def happened(evil: str) -> list[Event]:
    failures = (Failure(evil, 1, (evil,), evil, evil),)
    return [
        Opened("r", "install", {"master": ("m",)}, {"a": (), "b": ("a",)}, 1.0),
        Began("m", "a", evil, title=evil, at=1.0),
        Line("m", "a", evil, evil),
        Awaiting("m", "a", evil, why=evil, deadline=9.0),
        Done("m", "a", evil, "failed", 1.0, 2.0, diff=(f"+ {evil}",), note=evil, failures=failures),
        Done("m", "a", "x", "changed", 1.0, 2.0, (f"+ {evil}",), evil, table=((evil, "b"), (evil, "d"))),
        Done("m", "b", evil, "skipped", 1.0, 0.0, note=evil),
        Done("m", "b", "c", "would change", 1.0, 0.0, diff=(f"+ {evil}",), note=evil),
        Began("m", "b", "was at", title=evil, at=1.0),
        Summary("r", 1, {"failed": 1}, 1, 1, 1, 2.0, evil, evil, evil, lacking=(evil,)),
    ]


def played(evil: str, task: str, **how: Any) -> str:
    out = io.StringIO()
    with select.consumer(task, out=out, err=out, **how) as display:
        emit = run.redacting(lambda event: None, display)
        for event in happened(evil):
            emit(replace(event, task=task) if isinstance(event, Opened) else event)
    return out.getvalue()


def question(evil: str) -> None:
    asking: Any = type("Run", (), {"confirmed": set(), "asking": False})()
    restarting = Restarting(Restart(evil, evil, evil), (evil,), sure=False)
    asked = Pending(frozenset(), (f"delete {evil}",), side_effects=(evil,), restarts=(restarting,))
    confirmation.confirm(asking, Display(lambda event: None), asked)


def rows(evil: str) -> list[Row]:
    return [[(evil, "bold"), (f" {evil}", "")], [(f"    {evil} ", "dim"), (evil * 40, "")]]


def painted(evil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paint.printed(rows(evil))
    console_ = console.drawn_on(sys.stdout, force_terminal=True, width=40)
    for row in rows(evil):
        for line in live.wrapped(row, console_):
            console_.print(line, soft_wrap=True)


def told(evil: str) -> dict[str, Callable[[], object]]:
    """Whatever people are shown, by what shows it."""
    finding = Finding("name", evil, evil)
    reading: Any = SimpleNamespace(sessions=SimpleNamespace(open=list), run=SimpleNamespace(site=load(DEFAULT)))
    diagnosis = Diagnosis(
        findings=(HostFinding("m", finding),),
        unseen=(Unseen("m", "a.b", evil),),
        accepted=(HostFinding("m", finding),),
        notes=(evil,),
        checks=1,
    )
    run = PastRun(evil, evil, evil, 1.0, 1, evil, {evil: [evil]}, unreadable_records=[evil])
    certificate = Status(evil, evil, evil, evil, evil, 1, evil, True, evil, evil, evil, evil, (Problem(evil, evil),))
    entry = Entry(at=1.0, source=evil, text=f"{evil}\n{evil}")
    return {
        "say": lambda: console.say(evil, evil),
        "note": lambda: console.note(evil),
        "question": lambda: question(evil),
        "journal": lambda: console.say(*history_journal.journal_lines([run], evil)),
        "doctor": lambda: paint.printed(command.finding_rows(reading, diagnosis, True)),
        "certs": lambda: paint.printed(certificates.rows([certificate])),
        "logs": lambda: paint.printed(logs_command.entry_rows(entry, "cyan")),
        "bundle": lambda: bundle.download_lines(sys.stderr)(evil)(1, 1),
        "workflows": lambda: workflows.print_yaml(_Api([evil]), evil),  # type: ignore[arg-type]
        "plain": lambda: sys.stdout.write(played(evil, "install")),
        "screen": lambda: sys.stdout.write(played(evil, "install", terminal=True)),
        "plan": lambda: sys.stdout.write(played(evil, "plan")),
        "plan on a terminal": lambda: sys.stdout.write(played(evil, "plan", terminal=True)),
        "json": lambda: sys.stdout.write(played(evil, "install", json=True)),
    }


class _Api:
    """A cluster whose Workflows are called like that."""

    def __init__(self, found: list[str]) -> None:
        self.found = found

    def get(self, path: str, **query: str) -> Any:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("evil", EVIL, ids=ascii)
@pytest.mark.parametrize("what", told(""))
def test_nothing_drives_the_terminal(what: str, evil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters, of both sets, and those that turn a line around arrive as their escapes, wherever they come from."""
    monkeypatch.setenv("TERM", "xterm-256color")
    said = shown_by(told(evil)[what])
    assert said and harmless(said), ascii(said)


KIND = "PRIVATE" + " KEY"  # no file of the project has what looks like a key
PLANTED = {
    "kubectl, with a token": "error: the server said: Authorization: Bearer s3cr3tWort42: You must be logged in",
    "a kubeconfig": "users:\n- name: me\n  user:\n    token: s3cr3tWort42\n",
    "kubectl -v8": 'Response Body: {"env":[{"name":"DB_PASSWORD","value":"s3cr3tWort42"}]} [truncated 12 chars]',
    "podman, with a URL": 'Error: Get "https://admin:s3cr3tWort42@registry.local/v2/": x509: unknown authority',
    "podman, with a header": '> {"X-Registry-Auth": "s3cr3tWort42"}',
    "git": "fatal: unable to access 'https://joe:s3cr3tWort42@host/dws.git/': The requested URL returned error: 403",
    "a proxy": "HTTPS_PROXY=http://joe:s3cr3tWort42@proxy:3128",
    "curl": "curl: (22) failed: curl -u admin:s3cr3tWort42 https://registry.local/v2/",
    "a key": f"-----BEGIN RSA {KIND}-----\ns3cr3tWort42\ns3cr3tWort42\n-----END RSA {KIND}-----",
    "systemd": "Environment=NEXUS_PASSWORD=s3cr3tWort42",
}


def kept(planted: str, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Whatever is kept or shown of a run, by what writes it to standard output."""
    opened = journal.Journal("r", 3, tmp_path)
    emit = run.redacting(opened, lambda event: None)
    for event in happened(planted):
        emit(event)
    lines = tuple(planted.split("\n"))
    emit(Done("m", "a", "lines", "failed", 1.0, 2.0, lines, failures=(Failure("some", 1, lines),)))
    opened.report(page.render)
    failing = f"from dws_on_csm.display import console; console.guard(); raise ValueError({planted!r})"
    done = subprocess.run(
        [sys.executable, "-c", failing], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return {
        "journal for colleagues": lambda: sys.stdout.write(opened.text().decode()),
        "journal": lambda: sys.stdout.write((opened.folder / journal.NAME).read_text()),
        "report": lambda: sys.stdout.write(opened.page.read_text()),
        "records": lambda: console.records([{"found": planted, "lines": planted.split("\n")}]),
        "rows": lambda: paint.printed([[(line, "")] for line in planted.split("\n") if KIND not in planted]),
        "what nobody caught": lambda: sys.stdout.write(done.stderr),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_no_secret_is_shown_or_kept(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What programs say with a secret in it has none any more: on the terminal, in --json, journal, report and tracebacks."""
    monkeypatch.setenv("TERM", "xterm-256color")
    planted = PLANTED[name]
    assert "s3cr3t" in planted
    shows = {**told(planted), **kept(planted, tmp_path)}
    if KIND in planted:
        del shows["certs"]  # which shows a date's T as a blank: nothing is a key any more that has one
    for what, show in shows.items():
        said = shown_by(show)
        assert (said or what == "rows") and "s3cr3t" not in said, f"{what}: {said}"


def sentences() -> Iterator[str]:
    """What is said in dws_on_csm/, whatever is put into it."""
    for file, tree in sources.trees().items():
        if not file.name.startswith(("secret", "redact")):
            yield from sources.texts(tree, "some-name")


@pytest.mark.slow
def test_no_sentence_of_ours_loses_a_word() -> None:
    """What this program says of passwords, keys and Secrets arrives whole."""
    every = set(sentences())
    assert len(every) > 1000
    assert [one for one in every if redact.text(one) != one] == []


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_rows_on_a_terminal(evil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are escaped where they are drawn, whoever made them."""
    assert harmless(shown_by(lambda: painted(evil, monkeypatch)))


@pytest.mark.parametrize("markup", ["[bold red]no[/]", "[/]", "[link=http://x]y[/link]", ":smile:", "[@click=x]y[/]"])
def test_markup_of_hosts_is_text(markup: str) -> None:
    """What looks like rich's markup is shown as it is, and ends no display."""
    said = _OWN.sub("", played(markup, "install", terminal=True))
    assert said.count(markup) > 5
    bar = io.TextIOWrapper(io.BytesIO(), "utf-8")
    bar.isatty = lambda: True  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TERM", "xterm-256color")
        patched.setenv("COLUMNS", "120")
        with bundle.download_display(bar) as begin:
            begin(markup)(1, 1)
    bar.flush()
    assert markup in _OWN.sub("", bar.buffer.getvalue().decode())


def test_uncaught_errors_are_escaped() -> None:
    """A traceback with a host's words drives no terminal either."""
    script = "from dws_on_csm.display import console; console.guard(); raise ValueError('\\x1b[2J \\u202e')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1 and "ValueError: \\x1b[2J \\u202e" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_is_full_ends_no_run() -> None:
    """Standard output lies on a full disk: it is said once, and the exit code is the program's own."""
    script = "from dws_on_csm.display import console\nfor n in range(3): console.say(n)\nraise SystemExit(4)"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "Standard output cannot be written: No space left on device. The rest of it is lost."
    ]


def test_the_question_is_not_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """--json keeps standard output for its lines alone, also while something is asked."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        patched.setattr(sys, "stdin", io.StringIO("y\n"))
        assert console.ask("Go on? [y/N] ") == "y"
    assert (out.getvalue(), err.getvalue()) == ("", "Go on? [y/N] ")


def test_threads_of_paramiko_write_nothing() -> None:
    """An error in a thread of Paramiko's is its users' to report; one in another thread is written, without secrets."""
    script = """
import threading
from paramiko.agent import AgentRemoteProxy
from dws_on_csm.display import console
console.guard()
def fail(): raise ValueError("of ours")
for thread in (AgentRemoteProxy(None, None), threading.Thread(target=fail)):
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("ValueError: of ours\n")
