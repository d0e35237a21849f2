"""The mutation tests themselves: their mutants are ones, and can be made. What they find says `make mutants`."""

from __future__ import annotations

import ast
import subprocess

import pytest

from fabfile.inventory import ROOT
from tests.mutants.made import of_python, of_shell
from tests.mutants.named import NAMED, TESTS, Named, paths


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.name)
def test_a_named_mutant_is_of_the_code_of_today(named: Named) -> None:
    """Its text is there once, what stands there instead is still a program, and its tests exist."""
    mutant = named.mutant()
    assert mutant.text != (ROOT / named.file).read_text()
    if named.file.endswith(".sh"):
        subprocess.run(["sh", "-n"], input=mutant.text.encode(), check=True, timeout=60)
    else:
        ast.parse(mutant.text)
    assert all((ROOT / one).exists() for one in paths(named.tests))


def test_each_file_has_its_tests() -> None:
    """The table names files that are there."""
    assert all((ROOT / one).exists() for file in TESTS for one in (file, *paths(TESTS[file])))


def test_what_is_made_of_python() -> None:
    """Each mutant differs from the program and from the others in one place."""
    text = "def f(a):\n    if a < 1 and True:\n        g(a)\n        raise ValueError(a)\n    return a\n"
    found = [one.text for one in of_python("f.py", text)]
    assert len(found) == len({*found}) == 8
    assert all(ast.parse(one) and one != ast.unparse(ast.parse(text)) for one in found)
    assert sum("raise" not in one for one in found) == 1


def test_what_is_made_of_shell() -> None:
    """Lines left out and tests turned, none of which is no script."""
    text = 'set -eu\nif [ -e "$a" ] && [ "$b" = c ]; then\n    rm -f "$a" || exit 1\nfi\n'
    found = {one.text for one in of_shell("f.sh", text)}
    assert {"[ ! -e", "exit 0", '"$b" != c'} <= {
        piece for piece in ("[ ! -e", "exit 0", '"$b" != c') if any(piece in x for x in found)
    }
    assert any("rm -f" not in one for one in found) and text not in found
