"""What the contracts of import-linter in pyproject.toml can't say of imports: who calls what."""

import ast

import pytest

from dws_on_csm.config.load import ROOT
from tests.unit import sources


def test_one_module_makes_connections() -> None:
    """A fabric.Connection is made in one module of the transport; repairs make one that is never opened, to read what `-H` says."""
    names = {
        path.name for path, call in sources.calls() if isinstance(call.func, ast.Name) and call.func.id == "Connection"
    }
    assert names == {"fabric_link.py", "repair.py"}


@pytest.mark.slow
def test_tests_use_what_modules_offer() -> None:
    """No test imports a private name, or takes or replaces one of a module: it holds however that is rewritten."""
    private = []
    for file in (ROOT / "tests").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        ours = [node for node in imports if (node.module or "").partition(".")[0] in ("dws_on_csm", "lab", "docs")]
        modules = {alias.asname or alias.name for node in ours for alias in node.names}
        private += [alias.name for node in ours for alias in node.names if alias.name.startswith("_")]
        private += [
            f"{node.value.id}.{node.attr}"
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
            if node.attr.startswith("_") and not node.attr.startswith("__")
        ]
        private += [
            ast.unparse(node)
            for node in nodes
            if isinstance(node, ast.Call) and sources.called(node) == "setattr" and len(node.args) == 3
            if ast.unparse(node.args[0]) in modules and ast.unparse(node.args[1]).startswith(("'_", '"_'))
        ]
    assert private == []
