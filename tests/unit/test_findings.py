"""Every finding, from the source: it has a fix, what the fix tells to type or to set exists, and the page has its name."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from invoke import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser

import fabfile
import tasks
from dws_on_csm.config.load import ROOT
from tests.unit import sources
from tests.unit.config.test_acceptable import finding_names
from tests.unit.sources import PRODUCT, called

PAGE = ROOT / "docs" / "when-it-fails.md"

VALUE = "VALUE"
"""Stands for what a text says of a site."""


def test_the_page_has_every_finding() -> None:
    """Whoever sees a name looks it up in docs/when-it-fails.md; and the page has no name that no finding has."""
    table = set(re.findall(r"`([a-z0-9.-]+)`", "\n".join(_first_cells(PAGE.read_text()))))
    assert set(finding_names()) - table == set(), "add these to docs/when-it-fails.md"
    assert {name for name in table if "-" in name} - set(finding_names()) - {"nobody-signs"} == set(), (
        "no finding has these names"
    )


def _first_cells(page: str) -> Iterator[str]:
    """The first cells of the tables whose head is `name`: those of findings."""
    inside = False
    for line in page.splitlines():
        cells = line.split(" | ")
        inside = line.startswith("| name |") or (inside and line.startswith("|"))
        if inside:
            yield cells[0]


# --- the fixes


@cache
def functions(path: Path) -> list[ast.FunctionDef]:
    """The functions of a file."""
    return [node for node in ast.walk(sources.trees()[path]) if isinstance(node, ast.FunctionDef)]


def fixes() -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """Of each finding: where it is made, its fix, and the function or module in which it is made."""
    for path, call in sources.calls():
        if called(call) == "Finding" and not isinstance(call.args[0], ast.Starred):
            around = [one for one in functions(path) if one.lineno <= call.lineno <= (one.end_lineno or 0)]
            (fix,) = call.args[2:] or [word.value for word in call.keywords if word.arg == "fix"]
            yield f"{path.name}:{call.lineno}", fix, around[-1] if around else sources.trees()[path]


def written(fix: ast.expr, around: ast.AST) -> list[str]:
    """The texts of which a fix is put together, as far as they are in the function itself."""
    used = {node.id for node in ast.walk(fix) if isinstance(node, ast.Name)}
    found = [*sources.texts(fix, VALUE)]
    for node in ast.walk(around):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AugAssign) and used & {ast.unparse(at) for at in targets if at}:
            found += sources.texts(node.value, VALUE)
    return found


def test_every_finding_has_a_fix() -> None:
    """None is written without one; one that a function puts together is not empty either."""
    made = list(fixes())
    assert len(made) > 150
    assert [at for at, fix, around in made if isinstance(fix, ast.Constant) and not str(fix.value).strip()] == []
    assert [at for at, fix, around in made if isinstance(fix, ast.Name) and written(fix, around) == [""]] == []


def site_file_keys() -> set[str]:
    """The keys of the site file, as people write them: access.namespace, controllers.pod.job."""
    schema = json.loads((PRODUCT / "config" / "hosts.schema.json").read_text())

    def below(node: dict[str, Any], path: str) -> Iterator[str]:
        node = schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
        for other in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
            yield from below(other, path)
        if "items" in node:
            yield from below(node["items"], path)
        for key, value in node.get("properties", {}).items():
            yield f"{path}{key}"
            yield from below(value, f"{path}{key}.")

    return set(below(schema, ""))


OTHERS = {"slurm.conf", "slurm.key", "slurm.jwks", "plugin.lua"}
"""Names of files, and a step, that look like keys of the site file."""


def test_a_key_that_a_fix_names_is_one_of_the_site_file() -> None:
    """`set access.namspace` would send people to look for it in vain."""
    known = site_file_keys()
    sections = {key for key in known if any(other.startswith(f"{key}.") for other in known)}
    key = re.compile(rf"(?<![\w./-])((?:{'|'.join(sorted(sections))})\.[a-z_]+(?:\.[a-z_]+)?)(?![\w-])")
    named = [(at, word) for at, fix, around in fixes() for text in written(fix, around) for word in key.findall(text)]
    assert len(named) > 20
    assert [(at, word) for at, word in named if word not in known | OTHERS] == []


# --- commands of ours, in any message


def commands() -> set[str]:
    """The commands of this tool between backticks in the product's texts."""
    every = [text for tree in sources.trees().values() for text in sources.texts(tree, VALUE)]
    return {command for text in every for command in re.findall(r"`((?:invoke|fab) [^`]+)`", text)} - {
        f"fab -H {VALUE}"
    }


def test_a_command_in_a_message_exists_with_its_options() -> None:
    """invoke's own parser takes it, as it takes what is pasted."""
    every = commands()
    assert len(every) > 20
    assert [command for command in sorted(every) if not is_command(command)] == []


def is_command(command: str) -> bool:
    """Whether invoke's parser takes it, and takes all of it."""
    program, *words = shlex.split(command.replace("[", "").replace("]", ""))
    collection: Collection = tasks.namespace if program == "invoke" else fabfile.namespace
    if program == "fab" and not (words.pop(0) == "-H" and words.pop(0)):
        return False
    if words == ["--list"]:
        return True
    try:
        parsed = Parser(contexts=collection.to_contexts()).parse_argv(words)
    except (ParseError, SystemExit):  # the second from our own changes of the parser
        return False
    return any(context.name for context in parsed) and not parsed.unparsed
