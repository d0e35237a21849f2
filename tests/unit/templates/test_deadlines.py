"""Nothing waits without a deadline: each command of the templates that may wait for others says for how long."""

from __future__ import annotations

import re

import pytest

from dws_on_csm.model.render import TEMPLATES

BOUNDED = {
    "kubectl": r"--request-timeout|--timeout=|\btimeout |version --client",
    "flock": r"flock (-\w )*(-w|-n|-u)\b",
    "curl": r"--max-time|--connect-timeout",
}
"""A command that may wait for somebody else, and what bounds it."""
BY_OTHERS = {
    "controller/test_job.sh": "--watch",  # ended by the script that began it, which ends at its deadline
}
SPOKEN = re.compile(r"^\s*(echo|say|printf)\b")
"""Lines that only speak of a command."""
FACT = re.compile(r"\bfact \w+")
"""A word that a script tells of itself, and no command."""


CALLED = re.compile(r"(?:^|[\s(|;&!])(kubectl|flock|curl)\s+[-$\"\w]")


def commands(text: str) -> list[str]:
    """The lines of a script, continued ones joined, without comments and what is only said."""
    joined = (line.partition(" # ")[0] for line in text.replace("\\\n", " ").splitlines())
    return [line for line in joined if not line.lstrip().startswith("#") and not SPOKEN.match(line)]


def waiting(line: str) -> list[str]:
    """The commands of a line that have no bound."""
    called = sorted({one[1] for one in CALLED.finditer(FACT.sub("fact", line))})
    return [name for name in called if not re.search(BOUNDED[name], line)]


@pytest.mark.parametrize("name", sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.sh")))
def test_what_waits_has_a_deadline(name: str) -> None:
    """kubectl has a request timeout or a timeout around it, flock -w or -n, curl its longest time."""
    lines = commands((TEMPLATES / name).read_text())
    spared = BY_OTHERS.get(name)
    assert [line for line in lines if waiting(line) and not (spared and spared in line)] == []


def test_one_without_is_seen() -> None:
    """The test sees what it is there for."""
    assert waiting("    kubectl get pods") == ["kubectl"] and waiting("if ! flock 8; then") == ["flock"]
    assert waiting("x=$(kubectl --request-timeout=5s get pods)") == [] and waiting("exec 8>&-; flock -w 5 8") == []
    assert waiting("printf %s | curl --silent https://x") == ["curl"]
