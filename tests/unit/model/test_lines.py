"""Lines that hosts print: a text by an outsider in a line makes no line of its own."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dws_on_csm.model.lines import all_values, first_values, lines, parse_pairs, parse_record
from dws_on_csm.model.step import Value
from dws_on_csm.stages import verify_cancel
from dws_on_csm.stages.access import stage as access_stage
from dws_on_csm.stages.preflight import writable_folders
from dws_on_csm.stages.slurm import controller, plugin, slurmctld
from tests.unit import sources, steps

ENDS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""The other line ends of str.splitlines(), besides a newline."""

FOR_PEOPLE = {
    "failures.py": "texts of findings and failures, on the screen",
    "known_hosts.py": "known_hosts of this machine",
    "openssh.py": "messages of this machine's ssh",
    "output.py": "the last lines of a command's output, for people",
    "page.py": "texts in the report",
    "program.py": "the text of a command's help",
    "public_keys.py": "key files of this machine",
    "screen.py": "the first line of a text, on the screen",
    "ssh_config.py": "ssh's reading of this machine's ssh_config",
}
"""Modules that may use str.splitlines(): they read no facts from these texts."""


def test_a_line_ends_at_a_newline_alone() -> None:
    """No character of the output is lost."""
    assert lines(f"a{ENDS}b\n\nc\n".encode()) == [f"a{ENDS}b", "", "c"]
    assert lines(b"") == [] and lines(b"\n") == [""] and lines(b"x") == ["x"]
    assert parse_pairs(f"a=1{ENDS}a=2\nno pair\na=3\n".encode()) == [("a", f"1{ENDS}a=2"), ("a", "3")]
    pairs = parse_pairs(b"a=1\na=2=3\nb=\n")
    assert first_values(pairs) == {"a": "1", "b": ""} and all_values(pairs, "a") == ["1", "2=3"]
    assert all_values(pairs, "c") == []


def test_a_record_that_cannot_be_read_is_empty() -> None:
    """A torn line, and JSON that is no object."""
    assert parse_record('{"a": 1}') == {"a": 1}
    assert [parse_record(line) for line in ("", '{"a": ', "[1]", "7", "[" * 100_000)] == [{}] * 5


def test_nothing_that_hosts_print_is_split_otherwise() -> None:
    """Only the modules above use it, for texts for people."""
    found = {
        file.name
        for file, tree in sources.trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "splitlines"
    }
    assert found == set(FOR_PEOPLE)


FORGED: Mapping[str, tuple[Callable[[bytes], Value], str, Callable[[Any], object]]] = {
    "controller": (controller.parse, "user=slurm\nuid=5\nversion={}\n", lambda found: (found["user"], found["uid"])),
    "daemon": (
        slurmctld.parse,
        "main=5\nactivated=x\nsame=no\ntype={}\n",
        lambda found: (found["main"], found["same"]),
    ),
    "kubeconfig": (
        lambda out: steps.parse(access_stage.STAGE, "kubeconfig", out),
        "slurm_user=x\nslurm_uid=5\nowner_uid=5\nmode=600\nserver={}\n",
        lambda found: (found["slurm_uid"], found["owner_uid"], found["mode"]),
    ),
    "plugin": (
        lambda out: steps.parse(plugin.STAGE, "lua", out),
        "mode=600\nowner=a:b\ncontent=\ncompiled=/lua {}\n",
        lambda found: (found["mode"], found["owner"], found["text"]),
    ),
    "repository": (
        lambda out: steps.parse(plugin.STAGE, "repository", out),
        "there=yes\ncommit=c0ffee\nmodified={}\n",
        lambda found: (found["commit"], found["files"], found["open"]),
    ),
    "folders": (
        writable_folders.parse,
        "folder a\tb\t755\t/etc\nlink {}\n",
        lambda found: (found["folders"], found["members"]),
    ),
    "cancel": (verify_cancel.answers, "id=5\nsaid={}\n", lambda found: found["id"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_fact_is_not_forged_in_the_middle_of_a_line(name: str) -> None:
    """Whatever an outsider's text contains, facts that root found stay; a second value has no effect."""
    parse, said, facts = FORGED[name]
    harm = ["uid=0", "user=root", "main=1", "same=yes", "slurm_uid=0", "owner_uid=0", "mode=777", "owner=root:root"]
    harm += ("commit=evil", "open=x", "id=0", "folder root\troot\t777\t/", "member a\tb", "content=eA==", "file=x eA==")
    text = "".join(f"{end}{one}" for end in ENDS for one in harm)
    assert facts(parse(said.format(text).encode())) == facts(parse(said.format("x").encode()))


def test_a_second_fact_of_the_same_name_is_ignored() -> None:
    """A script prints its own facts first."""
    found = controller.parse(b"user=slurm\nuid=5\nversion=24.05\nuid=0\nuser=root\n")
    assert (found["user"], found["uid"]) == ("slurm", "5")
