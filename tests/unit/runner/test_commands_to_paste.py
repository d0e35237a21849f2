"""The command that a message gives to run again, or to repair a step."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

import tasks
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model.events import Done, Event, Failure, Summary
from dws_on_csm.runner import commands_to_paste, run
from dws_on_csm.runner.options import Options


@pytest.mark.parametrize(
    ("path", "limit", "options"),
    [
        ("/etc/site.yaml", None, "--hosts /etc/site.yaml"),
        ("/etc/site.yaml", {"m"}, "--hosts /etc/site.yaml --limit m"),
        ("/etc/site.yaml", {"c1", "c2"}, "--hosts /etc/site.yaml --limit 'c[1-2]'"),
        (str(DEFAULT), {"c1", "c2"}, "--hosts 'c[1-2]'"),
    ],
)
def test_the_command_to_continue_changes_no_more_hosts(path: str, limit: set[str] | None, options: str) -> None:
    """After a refused run on some hosts the shown command is for these hosts alone."""
    site = replace(load(DEFAULT), path=Path(path), limit=None if limit is None else frozenset(limit))
    assert commands_to_paste.again(Options("install"), site) == f"invoke install {options}"


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("run `invoke install`", "run `invoke install --hosts /etc/site.yaml`"),
        ("`invoke certs.rotate`, then `invoke doctor`", None),
        ("run `fab -H c1 repair access`", "run `fab -H c1 repair access --site /etc/site.yaml`"),
        ("run `invoke plan --hosts x`; `kubectl get pods`; `invoke --list`; invoke install", "the same"),
    ],
)
def test_a_command_in_a_message_is_for_the_same_site_file(text: str, completed: str | None) -> None:
    """A command of ours between backticks gets the site file that was given; other commands, and those for hosts.yaml, stay."""
    site = load(DEFAULT)
    assert commands_to_paste.with_site(text, site) == text
    other = commands_to_paste.with_site(text, replace(site, path=Path("/etc/site.yaml")))
    if completed is None:
        assert other == "`invoke certs.rotate --hosts /etc/site.yaml`, then `invoke doctor --hosts /etc/site.yaml`"
    else:
        assert other == (text if completed == "the same" else completed)


def test_a_command_of_ssh_logs_in_as_the_site_file_says() -> None:
    """With its ssh_config and the host's user; a name that is no host's, as in `ssh-add`, and a command with both stay."""
    site = load(DEFAULT)
    (one,) = site.controllers
    site = replace(site, controllers=(replace(one, name="c1", user="me"),), ssh=replace(site.ssh, config=Path("/a b")))
    text = "`ssh -o BatchMode=yes c1`, `ssh me@c1 true`, `ssh-add`"
    told = "`ssh -F '/a b' -l me -o BatchMode=yes c1`, `ssh -F '/a b' me@c1 true`, `ssh-add`"
    assert commands_to_paste.with_site(text, site) == told
    assert commands_to_paste.with_site(told, site) == told
    assert commands_to_paste.with_site("`ssh other`", replace(site, ssh=load(DEFAULT).ssh)) == "`ssh other`"


def test_a_refusal_names_the_site_file_in_its_fix() -> None:
    """Each event of a run whose failure has a command is completed before anybody sees it."""
    seen: list[Event] = []
    site = replace(load(DEFAULT), path=Path("/etc/site.yaml"))
    failure = Failure(command="name", meaning="m", fix="run `invoke install`")
    commands_to_paste.completing(site, seen.append)(Done("m", "a", "b", "refused", 0.0, 0.0, failures=(failure,)))
    assert [event.failures[0].fix for event in seen if isinstance(event, Done)] == [
        "run `invoke install --hosts /etc/site.yaml`"
    ]


def test_a_command_is_of_the_program_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """dws-on-csm works from any folder, where invoke and fab find no commands."""
    site, path = load(DEFAULT), "/etc/site.yaml"
    other = replace(site, path=Path(path))
    monkeypatch.setattr(sys, "argv", ["/opt/x/bin/dws-on-csm", "doctor"])
    assert commands_to_paste.with_site("run `invoke verify`", site) == "run `dws-on-csm verify`"
    text = "`fab -H c1 repair access`, `fab -H c1 repair access --site b`, `kubectl get pods`"
    repaired = (
        f"`dws-on-csm repair c1 access --hosts {path}`, `dws-on-csm repair c1 access --hosts b`, `kubectl get pods`"
    )
    assert commands_to_paste.with_site(text, other) == repaired
    assert commands_to_paste.repair(other, "c1", "access") == f"dws-on-csm repair c1 access --hosts {path}"
    assert commands_to_paste.again(Options("install"), other) == f"dws-on-csm install --hosts {path}"
    for shown in (repaired, "run `dws-on-csm verify`"):
        assert commands_to_paste.with_site(shown, other) == shown


def test_notes_and_the_end_of_a_run_name_the_site_file() -> None:
    """Not its failures alone."""
    seen: list[Any] = []
    site = replace(load(DEFAULT), path=Path("/etc/site.yaml"))
    emit = commands_to_paste.completing(site, seen.append)
    emit(Done("m", "a", "b", "ok", 0.0, 0.0, note="`invoke certs.rotate`"))
    emit(Summary("1", 1, {}, 1, 1, 1, 1.0, message="`invoke doctor` looks"))
    assert [seen[0].note, seen[1].message] == [
        "`invoke certs.rotate --hosts /etc/site.yaml`",
        "`invoke doctor --hosts /etc/site.yaml` looks",
    ]


EVIL = "/tmp/a site; touch harm/hosts.yaml"


@pytest.mark.parametrize(
    "options",
    [
        Options("install"),
        Options("rollback", words=("1 2",)),
        Options("repair", words=("plugin.lua",), host="c1; reboot", yes=True),
    ],
)
def test_each_word_of_a_command_stays_one_word(options: Options) -> None:
    """A path or an argument with spaces, quotes and semicolons is one word for the shell that it is pasted into."""
    site = replace(load(DEFAULT), path=Path(EVIL), limit=None)
    words = shlex.split(commands_to_paste.again(options, site))
    assert EVIL in words and set(options.words) <= set(words) and (options.host or "invoke") in words
    words = shlex.split(commands_to_paste.repair(site, "c1", "plugin.lua"))
    assert words == ["fab", "-H", "c1", "repair", "plugin.lua", "--site", EVIL]


GIVEN: dict[str, Callable[[], Any]] = {
    "install --verify --yes": lambda: tasks.install.body(None, verify=True, yes=True),
    "install --delete-persistent-storage='a b,c' --json": lambda: tasks.install.body(
        None, delete_persistent_storage="a b,c", json=True
    ),
    "install --prepare --json": lambda: tasks.install.body(None, prepare=True, json=True),
    "plan --prepare --diff": lambda: tasks.plan.body(None, prepare=True, diff=True),
    "plan --json": lambda: tasks.plan.body(None, json=True),
    "verify": lambda: tasks.verify.body(None),
    "verify --cancel": lambda: tasks.verify.body(None, cancel=True),
    "undeploy --slurm --all-jobs --plan": lambda: tasks.undeploy.body(None, slurm=True, all_jobs=True, plan=True),
    "certs.rotate --via csr --plan": lambda: tasks.rotate.body(None, via="csr", plan=True),
    "certs.revoke 'an old name' --yes": lambda: tasks.revoke.body(None, "an old name", yes=True),
}


@pytest.mark.parametrize("given", GIVEN)
def test_all_options_that_were_given_are_repeated(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is lost, so that the same command runs again; the site file is named besides."""
    seen = []

    def not_run(site: Any, stages: Any, options: Options) -> NoReturn:
        seen.append(commands_to_paste.again(options, site))
        sys.exit(0)

    monkeypatch.setattr(run, "run", not_run)
    with pytest.raises(SystemExit):
        GIVEN[given]()
    (command,) = seen
    words = shlex.split(command)
    assert words[0] == "invoke" and words.pop(words.index("--hosts") + 1) == str(DEFAULT)
    assert sorted(words[1:]) == sorted([*shlex.split(given), "--hosts"])


@pytest.mark.parametrize("more", [{"verify": True}, {"delete_persistent_storage": "a"}])
def test_a_preparation_takes_no_option_of_the_window(more: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The test job and a deletion belong into the change window: the command line is refused, and says so."""
    with pytest.raises(SystemExit) as ended:
        tasks.install.body(None, prepare=True, **more)
    assert ended.value.code == 2 and "in the change window" in capsys.readouterr().err
