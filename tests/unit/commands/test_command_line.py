"""Command lines: each wrong one ends with exit code 2 and says what to type, before any host is contacted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke import Program
from invoke.parser import Parser

from dws_on_csm.commands.command_line import EXIT_CODES
from dws_on_csm.config.load import ROOT
from dws_on_csm.model import exit_codes
from tasks import namespace
from tests.unit.commands import ready_program

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SITE = "master: {host: m.invalid}\ncontrollers: [{host: c.invalid}]\ntest_job: {user: joe}\n"

WRONG = (
    ("invoke bogus", "bogus is not a command. Run `invoke --list` for the commands."),
    ("invoke instal", "instal is not a command; did you mean install?"),
    ("invoke --bogus", "--bogus is not a command"),
    ("invoke upgrade", "upgrade is not a command; did you mean install?"),
    ("invoke scan", "scan is not a command; did you mean discover?"),
    ("invoke uninstall --yes", "uninstall is not a command; did you mean undeploy?"),
    ("invoke lab.nope", "lab.nope is not a command"),
    ("invoke help plan", "help is not a command"),
    ("invoke plan nope", "nope is not an argument of invoke plan. Run `invoke plan --help` for its options."),
    ("invoke plan --limt c", "--limt is not an option of invoke plan; did you mean --limit?"),
    ("invoke plan --site SITE", "--site is not an option of invoke plan; did you mean --hosts?"),
    ("invoke plan --inventory SITE", "did you mean --hosts?"),
    ("invoke undeploy --force", "did you mean --yes?"),
    ("invoke undeploy --orph", "did you mean --orphans?"),
    ("invoke --hosts SITE plan", "--hosts stands before the command. Write options after it: `invoke plan --hosts "),
    ("invoke --json plan", "Write options after it: `invoke plan --json`."),
    (
        "invoke --dry install --hosts SITE",
        "--dry has no effect here: nothing was run. To change nothing, run `invoke plan`",
    ),
    ("invoke install --hosts SITE --dry", "--dry has no effect here: nothing was run."),
    ("invoke install --hosts SITE -R", "--dry has no effect here: nothing was run."),
    ("invoke -e install --hosts SITE", "--echo has no effect here: nothing was run."),
    ("invoke -f SITE plan", "--config has no effect here: nothing was run. For another site file, add --hosts FILE"),
    ("fab -H m.invalid --dry repair plugin", "To change nothing, run `fab -H HOST look`."),
    ("invoke check SITE --hosts SITE", "both name a site file"),
    ("invoke check BROKEN", "unknown key"),
    ("invoke check nope", "nope: no such file"),
    ("invoke repair nope plugin --hosts SITE", "nope: not a host of"),
    ("invoke repair m.invalid bogus --hosts SITE", "bogus is not a stage"),
    ("invoke repair m.invalid", "invoke repair needs WHAT"),
    ("invoke look", "invoke look needs HOST"),
    ("invoke install -x", "-x is not an option of invoke install"),
    ("invoke plan --json=5", "5 is not an argument of invoke plan"),
    ("invoke rollback A B", "B is not an argument of invoke rollback"),
    ("invoke plan --limit", "--limit needs a value"),
    ("invoke plan --limit --json", "--limit needs a value"),
    ("invoke undeploy --delete-persistent-storage", "--delete-persistent-storage needs a value"),
    ("invoke install --bundle", "--bundle needs a value"),
    ("invoke bundle.show", "invoke bundle.show needs FILE"),
    ("invoke bundle.make --hosst SITE", "--hosst is not an option of invoke bundle.make; did you mean --hosts?"),
    ("invoke lab.ssh", "invoke lab.ssh needs HOST"),
    ("invoke lab.up --dws-repo /nonexistent/repository", "/nonexistent/repository does not exist"),
    ("invoke lab.up --image dws:1", "--image dws:1: expected NAME:TAG=ARCHIVE"),
    ("invoke undeploy plan", "Run one command at a time, not undeploy and plan."),
    ("invoke install --hosts plan", "'plan' is ambiguous"),
    ("invoke install --limit EMPTY", "--limit has an empty value"),
    ("invoke install --limit=", "--limit has an empty value"),
    ("invoke rollback EMPTY", "rollback has an empty value"),
    ("invoke plan --hosts /nonexistent/hosts.yaml", "/nonexistent/hosts.yaml: no such file"),
    ("invoke plan --hosts BROKEN", "unknown key"),
    ("invoke plan --hosts SITE --limit nope", "nope: not a host of"),
    ("invoke plan --hosts SITE --limit c[", "is not a node set"),
    ("invoke logs --hosts SITE --since soon", "--since soon: expected 30s"),
    ("invoke logs --hosts SITE --job x", "--job x: expected a job number"),
    ("invoke certs.rotate --hosts SITE --via nobody", "--via nobody: expected ca or csr"),
    ("invoke doctor --hosts SITE --archive /nonexistent/x.tar.gz", "/nonexistent is not a folder"),
    ("fab bogus", "bogus is not a command. Run `fab --list` for the commands."),
    ("fab look", "Name a host of the site file"),
    ("fab -H m.invalid,c.invalid look", "Name one host at a time"),
    ("fab -H nobody@m.invalid look --site SITE", "without a user or port"),
    ("fab -H nope look --site SITE", "nope: not a host of"),
    ("fab -H m.invalid look --site /nonexistent/hosts.yaml", "/nonexistent/hosts.yaml: no such file"),
    ("fab -H m.invalid look --bogus", "--bogus is not an option of fab look"),
    ("fab -H m.invalid repair", "fab repair needs WHAT"),
    ("fab -H m.invalid repair bogus --site SITE", "bogus is not a stage"),
    ("fab -H m.invalid repair plugin.bogus --site SITE", "bogus is not a step of plugin"),
    ("fab -H m.invalid look logs", "Run one command at a time, not look and logs."),
    ("fab -H m.invalid logs --site SITE --since soon", "--since soon: expected 30s"),
)


def words_of(line: str, folder: Path) -> list[str]:
    """A command line as a user types it; SITE, BROKEN and EMPTY stand for a site file, a wrong one, and no text."""
    (folder / "site.yaml").write_text(SITE)
    (folder / "broken.yaml").write_text(f"{SITE}bogus: 1\n")
    words = {"SITE": f"{folder}/site.yaml", "BROKEN": f"{folder}/broken.yaml", "EMPTY": ""}
    program, *rest = line.split()
    return [str(BIN / program), *(words.get(word, word) for word in rest)]


def typed(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process that begins with it."""
    command = words_of(line, folder)
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


Answers = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ready() -> Iterator[subprocess.Popen[str]]:
    """A process that runs command lines in forks of itself."""
    command = [sys.executable, str(Path(ready_program.__file__))]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


@pytest.fixture
def answered(ready: subprocess.Popen[str], tmp_path: Path) -> Answers:
    """Runs a command line, as `typed` does, in a fork of a process that has imported what programs begin with."""

    def answer(line: str) -> subprocess.CompletedProcess[str]:
        command, out, err = words_of(line, tmp_path), tmp_path / "out", tmp_path / "err"
        assert ready.stdin and ready.stdout
        ready.stdin.write(json.dumps({"argv": command, "out": str(out), "err": str(err)}) + "\n")
        ready.stdin.flush()
        code = int(ready.stdout.readline())
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())

    return answer


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_ends_with_2(line: str, message: str, answered: Answers) -> None:
    """Every wrong command, option, value and site file has exit code 2, no traceback, and a message that says what is wrong."""
    ended = answered(line)
    assert (ended.returncode, ended.stdout) == (exit_codes.USAGE, ""), ended.stderr
    assert message in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("line", ["invoke bogus", "fab bogus"])
def test_a_fork_answers_as_a_process_of_its_own(line: str, answered: Answers, tmp_path: Path) -> None:
    """So what holds for forks holds for users."""
    mine, its = typed(line, tmp_path), answered(line)
    assert (its.returncode, its.stdout, its.stderr) == (mine.returncode, mine.stdout, mine.stderr)


@pytest.mark.parametrize("program", ["invoke", "python -m invoke"], ids=["setup's", "invoke's own"])
@pytest.mark.parametrize(
    "place", ["{} --version", "{} -V", "{} install --version", "{} rollback RUN -V", "fab look -V"]
)
def test_the_version_is_this_tools_and_nothing_else_is_done(program: str, place: str, tmp_path: Path) -> None:
    """Wherever --version stands; invoke's own program has its own version where no command is named."""
    ended = typed(place.format(program), tmp_path)
    assert ended.returncode == 0, ended.stderr
    own = program != "invoke" and place.startswith("{} -")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert ended.stdout.startswith("Invoke ") if own else ended.stdout == f"dws-on-csm {version}\n"


@pytest.mark.parametrize("option", ["--plan", "--check", "--dry-run", "-n"])
@pytest.mark.parametrize("command", ["install", "undeploy", "rollback", "certs.rotate", "certs.revoke"])
def test_a_plan_is_asked_for_by_each_of_its_names(command: str, option: str) -> None:
    """Words of other tools mean --plan, for every command that has it."""
    assert parsed(command, option)["plan"].value is True


def test_yes_may_be_short() -> None:
    """-y is --yes, also beside another short option."""
    assert parsed("undeploy", "-y")["yes"].value is True
    both = parsed("undeploy", "-yn")
    assert (both["yes"].value, both["plan"].value) == (True, True)


def parsed(*words: str) -> Any:
    """The options of a command line, as invoke's parser reads it with our changes."""
    program = Program(namespace=namespace)
    parser = Parser(initial=program.initial_context, contexts=namespace.to_contexts())
    return parser.parse_argv(list(words))[1].args


def test_an_install_with_plan_is_a_plan(tmp_path: Path) -> None:
    """Also for the journal and the command that continues; here no host answers."""
    (tmp_path / "ssh_config").write_text("Host *\n  HostName 127.0.0.1\n  Port 1\n")
    (tmp_path / "refusing.yaml").write_text(f"{SITE}ssh: {{config: {tmp_path}/ssh_config}}\n")
    ended = typed(f"invoke install --dry-run --json --hosts {tmp_path}/refusing.yaml", tmp_path)
    assert ended.returncode == exit_codes.FAILED, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["next"].startswith("invoke plan ")


def test_the_site_file_is_checked_alone(answered: Answers) -> None:
    """`invoke check FILE`, or with --hosts, shows hosts and versions; the hosts of this file don't exist."""
    for line in ("invoke check SITE", "invoke check --hosts SITE"):
        ended = answered(line)
        assert (ended.returncode, ended.stderr) == (0, "")
        for words in ("site.yaml has no mistakes; no host was contacted", "m.invalid", "c.invalid", "0.0.20", "of joe"):
            assert words in ended.stdout


def from_elsewhere(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run bin/dws-on-csm in another folder, through a link, as a cron job would."""
    link = folder / "dws-on-csm"
    if not link.is_symlink():
        link.symlink_to(ROOT / "bin/dws-on-csm")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [str(link), *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_works_from_any_folder(tmp_path: Path) -> None:
    """A relative path is in the user's folder, also where that has Python files and tasks of its own."""
    (tmp_path / "mine.yaml").write_text(SITE)
    for name in ("tasks.py", "json.py", "invoke.py", "dws_on_csm.py"):
        (tmp_path / name).write_text("raise SystemExit('of the user')\n")
    ended = from_elsewhere(tmp_path, "check", "mine.yaml")
    assert (ended.returncode, ended.stderr) == (0, "") and "m.invalid" in ended.stdout
    wrong = from_elsewhere(tmp_path, "plan", "--hosts", "./other.yaml")
    assert wrong.returncode == 2 and wrong.stderr.startswith("other.yaml: no such file")


def test_the_programs_help_has_all_commands_and_exit_codes(tmp_path: Path) -> None:
    """`invoke --help`, `invoke` and `dws-on-csm --help` show the same, without options that have no effect."""
    shown = [typed("invoke --help", tmp_path), typed("invoke", tmp_path), from_elsewhere(tmp_path, "--help")]
    assert [ended.returncode for ended in shown] == [0, 0, 0]
    texts = [ended.stdout.replace("dws-on-csm", "invoke") for ended in shown]
    assert texts[0] == texts[1] == texts[2]
    assert EXIT_CODES in texts[0] and "bundle.make" in texts[0] and "--version" in texts[0]
    assert "--dry" not in texts[0] and "--echo" not in texts[0]


def test_a_shell_completes_half_an_option(tmp_path: Path) -> None:
    """As `invoke --print-completion-script` asks for it; the program may have been typed with a path."""
    for first in ("invoke", "/opt/x/.venv/bin/invoke"):
        ended = typed(f"invoke --complete -- {first} undeploy --or", tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "") and "--orphans" in ended.stdout.split()


def test_a_bundle_that_cannot_be_used_is_refused(answered: Answers) -> None:
    """A finding has exit code 3, whichever command reports it."""
    for line in (
        "install --hosts SITE --bundle /nonexistent",
        "plan --hosts SITE --bundle /nonexistent",
        "bundle.show /nonexistent",
    ):
        ended = answered(f"invoke {line}")
        assert ended.returncode == exit_codes.REFUSED and "bundle-unreadable" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    "line", ["invoke plan --help", "invoke bundle.show --help", "fab repair --help", "invoke --help certs.rotate"]
)
def test_the_help_shows_the_exit_codes(line: str, answered: Answers) -> None:
    """Each command's help lists them; a required argument may be missing there."""
    ended = answered(line)
    assert ended.returncode == 0 and " ".join(EXIT_CODES.split()) in " ".join(ended.stdout.split()), ended.stderr


def test_the_page_lists_every_exit_code() -> None:
    """docs/exit-codes.md has one row for each exit code."""
    text = (ROOT / "docs/exit-codes.md").read_text()
    codes = (
        exit_codes.CONVERGED,
        exit_codes.FAILED,
        exit_codes.USAGE,
        exit_codes.REFUSED,
        exit_codes.CHANGES,
        exit_codes.UNPROVEN,
        exit_codes.DEGRADED,
    )
    assert [line[:5] for line in text.splitlines() if line[2:3].isdigit()] == [f"| {code} |" for code in codes]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str, tmp_path: Path) -> None:
    """As from a daemon: nothing else gets the stream's number, and the command ends as ever."""
    line = f'"{BIN}/invoke" plan --hosts "{tmp_path}/missing.yaml" {closed}'
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["invoke certs --help", "invoke certs.show --help", "invoke bundle.make --help"])
def test_a_command_works_by_each_of_its_names(line: str, answered: Answers) -> None:
    """Also by the name of its group: `invoke certs` shows the certificates."""
    done = answered(line)
    assert done.returncode == 0 and "--hosts" in done.stdout, done
