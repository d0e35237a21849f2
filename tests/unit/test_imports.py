"""Imports go one way: tasks and repairs, then a run, the engine, what reads and changes hosts, and steps as data."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.config.load import ROOT

FABFILE = ROOT / "dws_on_csm"
DATA = {
    "model.step",
    "model.actions",
    "model.secret",
    "model.cluster_api",
    "config.load",
    "config.site",
    "model.render",
    "domain.certificates",
    "domain.names",
    "domain.slurm_conf",
    "redaction.secret_lines",
    "redaction.diff",
    "domain.compatibility",
    "model.lines",
    "kube.pods",
    "bundle.supply",
    "bundle.archive",
    "domain.dws_objects",
    "model.snapshot",
    "config.bundle_contents",
    "kube.objects",
}
"""What a stage may know beside other stages: data, texts and pure functions; `before` for names and paths."""
ABOVE = {
    "engine.apply",
    "runner.run",
    "runner.work",
    "runner.hosts",
    "runner.options",
    "runner.exit_codes",
    "display.select",
    "runner.journal",
    "transport.session",
    "transport.remote_shell",
    "runner.connections",
    "kube.client",
    "kube.api_call",
    "runner.inspect",
    "commands.doctor.command",
    "commands.repair",
    "commands.history.rollback",
}


def is_package(module: str) -> bool:
    """Whether a name is one of our packages."""
    return (ROOT / module.replace(".", "/")).is_dir()


def imported(file: Path) -> Iterator[str]:
    """The modules of this package that a file imports, without "dws_on_csm.": "model.step"."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and is_package(node.module):
            yield from (f"{node.module}.{one.name}".removeprefix("dws_on_csm.") for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dws_on_csm."):
            yield node.module.removeprefix("dws_on_csm.")


@pytest.mark.parametrize("file", sorted((FABFILE / "stages").rglob("*.py")), ids=lambda file: str(file.stem))
def test_stages_know_data_alone(file: Path) -> None:
    """No stage reaches a host, the engine or the screen: it says what is wanted and how to get there."""
    others = {one for one in imported(file) if not one.startswith("stages")}
    assert others - DATA - {"engine.before_images"} == set()


@pytest.mark.parametrize(
    "name",
    [
        "model.step",
        "engine.looks",
        "engine.plan",
        "engine.state",
        "engine.perform",
        "engine.apply",
        "model.actions",
        "model.secret",
        "model.cluster_api",
        "engine.host_script",
        "redaction.diff",
    ],
)
def test_the_engine_knows_no_stage_and_no_connection(name: str) -> None:
    """It is given both."""
    below = set(imported(FABFILE / f"{name.replace('.', '/')}.py"))
    assert not {one for one in below if one.startswith("stages")} and not below & (ABOVE - {"engine.apply"})


def test_one_module_makes_connections() -> None:
    """A fabric.Connection is made where a session is; repairs make one that is never opened, to read what `-H` says."""
    names = {
        file.name
        for file in FABFILE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Connection"
    }
    assert names == {"session.py", "repair.py"}
