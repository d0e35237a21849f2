"""Imports go one way: tasks and repairs, then a run, the engine, what reads and changes hosts, and steps as data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.inventory import ROOT

FABFILE = ROOT / "fabfile"
DATA = {
    "step",
    "actions",
    "secret",
    "api",
    "inventory",
    "site",
    "render",
    "record",
    "pki",
    "names",
    "slurmconf",
    "secret_lines",
    "diff",
    "compatibility",
    "lines",
    "pods",
    "supply",
    "bundle",
}
"""What a stage may know beside other stages: data, texts and pure functions; `before` for names and paths."""
ABOVE = {
    "engine",
    "run",
    "work",
    "reached",
    "options",
    "summary",
    "report",
    "journal",
    "session",
    "shell",
    "connect",
    "cluster",
    "apicall",
    "reading",
    "doctor",
    "repairs",
    "rollback",
}


def imported(file: Path) -> Iterator[str]:
    """The modules of this package that a file imports, without "fabfile.": "step", "stages.plugin"."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in ("fabfile", "fabfile.stages"):
            yield from (f"{node.module}.{one.name}".removeprefix("fabfile.") for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fabfile."):
            yield node.module.removeprefix("fabfile.")


@pytest.mark.parametrize("file", sorted((FABFILE / "stages").glob("*.py")), ids=lambda file: str(file.stem))
def test_stages_know_data_alone(file: Path) -> None:
    """No stage reaches a host, the engine or the screen: it says what is wanted and how to get there."""
    others = {one for one in imported(file) if not one.startswith("stages")}
    assert others - DATA - {"before"} == set()


@pytest.mark.parametrize(
    "name", ["step", "look", "judging", "running", "perform", "engine", "actions", "secret", "api", "script", "diff"]
)
def test_the_engine_knows_no_stage_and_no_connection(name: str) -> None:
    """It is given both."""
    below = set(imported(FABFILE / f"{name}.py"))
    assert not {one for one in below if one.startswith("stages")} and not below & (ABOVE - {"engine"})


def test_one_module_makes_connections() -> None:
    """A fabric.Connection is made where a session is; repairs make one that is never opened, to read what `-H` says."""
    names = {
        file.name
        for file in FABFILE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Connection"
    }
    assert names == {"session.py", "repairs.py"}
