"""The papers are true: what they quote is in the code, what they name exists, and the picture is the present one."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from docs import architecture
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.stages.install import procedure

ROOT = Path(__file__).parents[2]
PAPERS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("lab/**/README.md"), *ROOT.glob("tests/**/README.md")]
QUOTED = (
    *("dws_on_csm/stages/slurm/plugin.py", "tests/unit/stages/slurm/test_plugin.py", "tests/lab/test_drift.py"),
    *(
        "templates/controller/plugin_file.sh",
        "dws_on_csm/commands/doctor/nodes.py",
        "dws_on_csm/commands/doctor/rules.py",
    ),
    "tests/faults/faults.py",
)
"""The files whose code CONTRIBUTING.md quotes."""
CODE = r"\s+(def |\w+\(|\w+ = |\(\"|\[ )"
"""How a block of the page begins that is code of the tree, and no command to type."""


def test_the_picture_of_the_rooms_is_what_the_code_gives() -> None:
    """Run `python -m docs.architecture` when imports between rooms have changed."""
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture()


def test_an_import_that_also_leads_through_another_room_is_not_drawn() -> None:
    """The picture shows who builds on whom with as few arrows as possible."""
    found = {"a": frozenset({"b", "c"}), "b": frozenset({"c"})}
    assert architecture.arrows(found) == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(paper: Path) -> None:
    """Each relative link names a file, and each anchor a heading of it."""
    for target, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*)(?:#([^)]*))?\)", paper.read_text()):
        path = (paper.parent / target) if target else paper
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, (
            anchor
        )


def test_code_that_contributing_quotes_is_in_the_tree() -> None:
    """Whoever follows "Add a step", "Add a finding" or "Add a fault" sees the present code."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    code = [dedent(block).strip() for block in blocks if re.match(CODE, block)]
    there = "\n".join(dedented((ROOT / path).read_text()) for path in QUOTED)
    assert len(code) > 9
    assert [block for block in code if dedented(block) not in there] == []


def dedented(text: str) -> str:
    """The text with no line indented."""
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.mark.parametrize("paper", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_and_functions_that_papers_name_are_there(paper: str) -> None:
    """`engine/plan.py: plan()` names a function of dws_on_csm/engine/plan.py; a path alone names a file."""
    named = re.findall(r"`([\w/.]+\.(?:py|sh))(?:: (\w+)(?:\(\))?)?`", (ROOT / paper).read_text())
    assert named
    for file, name in named:
        path = next((base / file for base in (ROOT, ROOT / architecture.PACKAGE) if (base / file).exists()), None)
        assert path, f"there is no {file}"
        assert not name or name in names(path), f"there is no {name} in {file}"


def names(path: Path) -> set[str]:
    """The functions, classes and constants of a module."""
    body = ast.parse(path.read_text()).body
    targets = {ast.unparse(target) for node in body if isinstance(node, ast.Assign) for target in node.targets}
    targets |= {ast.unparse(node.target) for node in body if isinstance(node, ast.AnnAssign)}
    return targets | {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_the_page_of_an_install_has_each_stage() -> None:
    """A new stage gets its row in docs/install.md."""
    site = load(DEFAULT)
    every = procedure(replace(site, access=replace(site.access, create_namespace=True)))
    section = (ROOT / "docs/install.md").read_text().partition("## What happens\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \|", section, re.MULTILINE)[1:]
    assert set(rows) == {stage.name for stage in every} and len(rows) == len(set(rows))
