"""Command lines: each wrong one ends with exit code 2 and says what to type, before any host is contacted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dws_on_csm.commands.command_line import EXIT_CODES
from dws_on_csm.config.load import ROOT
from dws_on_csm.runner import exit_codes

BIN = Path(sys.executable).parent
SITE = "master: {host: m.invalid}\ncontrollers: [{host: c.invalid}]\ntest_job: {user: joe}\n"

WRONG = (
    ("invoke bogus", "bogus is not a command. Run `invoke --list` for the commands."),
    ("invoke instal", "instal is not a command; did you mean install?"),
    ("invoke --bogus", "--bogus is not a command"),
    ("invoke lab.nope", "lab.nope is not a command"),
    ("invoke help plan", "help is not a command"),
    ("invoke plan nope", "nope is not an argument of invoke plan. Run `invoke plan --help` for its options."),
    ("invoke plan --limt c", "--limt is not an option of invoke plan; did you mean --limit?"),
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


def typed(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line as a user types it; SITE, BROKEN and EMPTY stand for a site file, a wrong one, and no text."""
    (folder / "site.yaml").write_text(SITE)
    (folder / "broken.yaml").write_text(f"{SITE}bogus: 1\n")
    words = {"SITE": f"{folder}/site.yaml", "BROKEN": f"{folder}/broken.yaml", "EMPTY": ""}
    program, *rest = line.split()
    command = [str(BIN / program), *(words.get(word, word) for word in rest)]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_line_ends_with_2(line: str, message: str, tmp_path: Path) -> None:
    """Every wrong command, option, value and site file has exit code 2, no traceback, and a message that says what is wrong."""
    ended = typed(line, tmp_path)
    assert (ended.returncode, ended.stdout) == (exit_codes.USAGE, ""), ended.stderr
    assert message in ended.stderr and "Traceback" not in ended.stderr


def test_a_bundle_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A finding has exit code 3, whichever command reports it."""
    for line in (
        "install --hosts SITE --bundle /nonexistent",
        "plan --hosts SITE --bundle /nonexistent",
        "bundle.show /nonexistent",
    ):
        ended = typed(f"invoke {line}", tmp_path)
        assert ended.returncode == exit_codes.REFUSED and "bundle-unreadable" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    "line", ["invoke plan --help", "invoke bundle.show --help", "fab repair --help", "invoke --help certs.rotate"]
)
def test_the_help_shows_the_exit_codes(line: str, tmp_path: Path) -> None:
    """Each command's help lists them; a required argument may be missing there."""
    ended = typed(line, tmp_path)
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
    )
    assert [line[:5] for line in text.splitlines() if line[2:3].isdigit()] == [f"| {code} |" for code in codes]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str, tmp_path: Path) -> None:
    """As from a daemon: nothing else gets the stream's number, and the command ends as ever."""
    line = f'"{BIN}/invoke" plan --hosts "{tmp_path}/missing.yaml" {closed}'
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["invoke certs --help", "invoke certs.show --help", "invoke bundle.make --help"])
def test_a_command_works_by_each_of_its_names(line: str, tmp_path: Path) -> None:
    """Also by the name of its group: `invoke certs` shows the certificates."""
    done = typed(line, tmp_path)
    assert done.returncode == 0 and "--hosts" in done.stdout, done
