"""The mutation tests themselves: their mutants are ones, and can be made. What they find says `make mutants`."""

from __future__ import annotations

import ast
import subprocess

import pytest

from dws_on_csm.config.load import ROOT
from tests.mutants.__main__ import main, with_names
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


def test_those_with_a_name_can_be_chosen_by_file() -> None:
    """Of a file its own, and of no file all; each file that has some can be named on the command line."""
    assert {mutant.file for mutant, _ in with_names(["templates/lib/fence.sh"])} == {"templates/lib/fence.sh"}
    assert len(with_names([])) == len(NAMED)
    assert all(with_names([one.file]) and one.file in TESTS for one in NAMED)


@pytest.mark.parametrize("given", [["templates/nosuch.sh"], ["--named", "dws_on_csm/transport/output.py"]])
def test_nothing_to_try_is_reported(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not end well with nothing tried."""
    monkeypatch.setattr("sys.argv", ["mutants", *given])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_each_file_has_its_tests() -> None:
    """The table names files that are there."""
    assert all((ROOT / one).exists() for file in TESTS for one in (file, *paths(TESTS[file])))


def test_mutations_of_python() -> None:
    """Each mutant differs from the program and from the others in one place."""
    text = "def f(a):\n    if a < 1 and True:\n        g(a)\n        raise ValueError(a)\n    return a\n"
    found = [one.text for one in of_python("f.py", text)]
    assert len(found) == len({*found}) == 8
    assert all(ast.parse(one) and one != ast.unparse(ast.parse(text)) for one in found)
    assert sum("raise" not in one for one in found) == 1


def test_mutations_of_shell() -> None:
    """Lines left out and tests turned, none of which is no script."""
    text = 'set -eu\nif [ -e "$a" ] && [ "$b" = c ]; then\n    rm -f "$a" || exit 1\nfi\n'
    found = {one.text for one in of_shell("f.sh", text)}
    assert {"[ ! -e", "exit 0", '"$b" != c'} <= {
        piece for piece in ("[ ! -e", "exit 0", '"$b" != c') if any(piece in x for x in found)
    }
    assert any("rm -f" not in one for one in found) and text not in found
