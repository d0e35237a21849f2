"""The program starts fast: what only a command needs is loaded by that command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dws_on_csm.config.load import ROOT

HEAVY = (
    *("fabric", "paramiko", "kubernetes", "rich", "cryptography", "jinja2", "ClusterShell"),
    *("dws_on_csm.config.load", "dws_on_csm.stages", "dws_on_csm.engine", "dws_on_csm.runner"),
    *("dws_on_csm.kube", "dws_on_csm.transport", "dws_on_csm.bundle"),
)
"""What takes most of a start."""
TYPED = """
import sys
sys.argv[:] = ["invoke", *sys.argv[1:]]
from dws_on_csm.commands.program import main
try:
    main("invoke")
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [("--list",), ("--help",), ("install", "--help"), ("instal",)], ids=" ".join)
def test_a_start_loads_no_more_than_its_command_needs(words: tuple[str, ...]) -> None:
    """A list, a help or a wrong command answers without SSH, the API's client, the screen, our stages and the run."""
    done = subprocess.run(
        [sys.executable, "-c", TYPED, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    loaded = done.stderr.splitlines()[-1].split()
    assert done.returncode == (2 if words == ("instal",) else 0) and "tasks" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_what_is_called_heavy_exists() -> None:
    """The test above would also hold if the names were wrong."""
    assert [name for name in HEAVY if find_spec(name) is None] == []


@pytest.mark.parametrize("program", ["invoke", "fab"])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_start_compiles_nothing_that_the_one_before_it_has_compiled(
    program: str, wanted: bool, tmp_path: Path
) -> None:
    """Also what a command imports late is kept, unless PYTHONDONTWRITEBYTECODE says otherwise."""
    words = {"invoke": ["check", "--hosts", "./missing.yaml"], "fab": ["-H", "one", "look", "--site", "./missing.yaml"]}
    kept = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "" if wanted else "1"}
    start = [sys.executable, str(Path(sys.executable).with_name(program)), *words[program]]
    done = subprocess.run(start, cwd=ROOT, env=os.environ | kept, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    names = {file.name.partition(".")[0] for file in tmp_path.rglob("dws_on_csm/config/*.pyc")}
    assert ("load" in names) == wanted
