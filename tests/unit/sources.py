"""The product's own source, parsed once for all tests that look for something in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from dws_on_csm.config.load import ROOT

PRODUCT = ROOT / "dws_on_csm"


@cache
def trees() -> Mapping[Path, ast.Module]:
    """Each file of the product, by its path, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(PRODUCT.rglob("*.py"))}


@cache
def calls() -> tuple[tuple[Path, ast.Call], ...]:
    """Each call in the product, with the file in which it is."""
    return tuple(
        (path, node) for path, tree in trees().items() for node in ast.walk(tree) if isinstance(node, ast.Call)
    )


def called(call: ast.Call) -> str:
    """The last name of what is called: "Finding" of `step.Finding(...)`; "" where that is no name."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def texts(node: ast.AST, value: str) -> Iterator[str]:
    """The texts in an expression or a module, without docstrings; what is put into one is `value`."""
    parts = list(ast.walk(node))
    inside = {id(part.value) for part in parts if isinstance(part, ast.Expr)}
    for part in parts:
        if isinstance(part, ast.JoinedStr):
            inside |= {id(piece) for piece in part.values}
            yield "".join(str(piece.value) if isinstance(piece, ast.Constant) else value for piece in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in inside:
            yield part.value
