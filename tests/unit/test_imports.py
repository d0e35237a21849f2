"""What the contracts of import-linter in pyproject.toml can't say of imports: who calls what."""

import ast

from dws_on_csm.config.load import ROOT


def test_one_module_makes_connections() -> None:
    """A fabric.Connection is made in one module of the transport; repairs make one that is never opened, to read what `-H` says."""
    names = {
        file.name
        for file in (ROOT / "dws_on_csm").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Connection"
    }
    assert names == {"fabric_link.py", "repair.py"}
