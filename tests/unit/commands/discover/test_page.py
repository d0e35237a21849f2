"""The text of a generated site file: valid whatever hosts say, and each value beside its source."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dws_on_csm.commands.discover import page
from dws_on_csm.commands.discover.page import Value
from dws_on_csm.config.load import load

BASE = [Value("master.host", "m", "--master"), Value("controllers[0].host", "c", "seen")]


def text(*values: Value) -> str:
    """The file with these values behind the least that a site needs."""
    return page.text(["head"], [*BASE, *values])


def test_values_stand_beside_their_sources() -> None:
    """A short source is on the line of its value, under the schema's words for the section."""
    lines = text().splitlines()
    assert "  host: m  # --master" in lines
    assert "  - host: c  # seen" in lines
    assert lines[lines.index("master:") - 1] == (
        "# The CSM master. DWS is cloned, its images are pushed and `make deploy` runs here."
    )


def test_lists_and_nested_keys() -> None:
    """Entries of a list, and keys of keys, are where YAML wants them."""
    more = [
        Value("controllers[1]", None, "a pod"),
        Value("controllers[1].pod.namespace", "user", "x" * 200),
        Value("controllers[1].pod.selector", "app=slurmctld"),
        Value("computes[0].hosts", "nid[1-2]"),
        Value("computes[0].slurm_conf", "print"),
        Value("computes[1].hosts", "nid[3-4]"),
    ]
    data = yaml.safe_load(text(*more))
    pod = {"namespace": "user", "selector": "app=slurmctld"}
    assert data["controllers"] == [{"host": "c"}, {"pod": pod}]
    assert data["computes"] == [{"hosts": "nid[1-2]", "slurm_conf": "print"}, {"hosts": "nid[3-4]"}]


def test_a_question_leaves_the_default_as_a_comment() -> None:
    """Without an answer the file is a site file all the same; the key is there to be uncommented."""
    content = text(
        Value("test_job.user", question="Who?"),
        Value("registry.name", "r.local"),
        Value("registry.secret", question="Which?"),
    )
    assert yaml.safe_load(content).keys() == {"master", "controllers", "registry"}
    assert "# test_job:\n#   QUESTION: Who?\n#   user: nobody\n" in content
    assert "  # QUESTION: Which?\n  # secret: nexus/nexus-admin-credential\n" in content
    load(Path("/nowhere/site.yaml"), text=content)


@pytest.mark.parametrize(
    "word", ["a\nmaster: {host: evil}", "x: y # z", "\x1b[2J", "'", "- a", "@x", "yes", "\u2028k: v"]
)
def test_no_words_of_hosts_become_another_value(word: str) -> None:
    """Whatever a host says, in a value, a source or a question, stays in its place."""
    content = text(
        Value("registry.name", word, word, word), Value("slurm.service", question=word), Value("access", None, word)
    )
    assert yaml.safe_load(content) == {
        "master": {"host": "m"},
        "controllers": [{"host": "c"}],
        "registry": {"name": word},
    }
    assert "\x1b" not in content
