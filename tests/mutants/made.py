"""Mutants that are made: of Python by its syntax tree, of shell by its lines."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A file's text with one change; `what` says where and which."""

    file: str
    what: str
    text: str


# --- Python

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def of_python(file: str, text: str) -> Iterator[Mutant]:
    """Comparisons turned or moved by one, and/or, not, constants, calls as statements and returns left out."""
    tree = ast.parse(text)
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            changed = copy.deepcopy(tree)
            victim = next(other for at, other in enumerate(ast.walk(changed)) if at == number)
            change(victim)
            yield Mutant(
                file, f"line {getattr(node, 'lineno', 0)}: {what}", ast.unparse(ast.fix_missing_locations(changed))
            )


def _changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    if isinstance(node, ast.Compare):
        kind = type(node.ops[0])
        if kind in _COMPARED:
            yield f"{kind.__name__} to {_COMPARED[kind].__name__}", _Change("ops", [_COMPARED[kind](), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield f"{type(node.op).__name__} to {type(other).__name__}", _Change("op", other)
    elif isinstance(node, ast.If | ast.IfExp):
        yield "the condition is turned", _Change("test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} to {not node.value}", _Change("value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"{node.value} to {node.value + 1}", _Change("value", node.value + 1)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield f"without {ast.unparse(node)[:60]}", _Change("value", ast.Constant(None))
    elif isinstance(node, ast.Return) and node.value is not None:
        yield f"returns None, not {ast.unparse(node.value)[:60]}", _Change("value", ast.Constant(None))
    elif isinstance(node, ast.Raise):
        yield f"does not {ast.unparse(node)[:60]}", _Change("exc", None, ast.Pass)


@dataclass(frozen=True)
class _Change:
    """Sets a field of a node; with `instead` the node becomes a statement of that kind."""

    field: str
    value: object
    instead: type[ast.stmt] | None = None

    def __call__(self, node: ast.AST) -> None:
        if self.instead is None:
            setattr(node, self.field, self.value)
        else:
            node.__class__ = self.instead


# --- shell

_TURNED = (
    (" && ", " || "),
    (" || ", " && "),
    (" = ", " != "),
    (" != ", " = "),
    ("-gt", "-ge"),
    ("-le", "-lt"),
    ("-lt", "-le"),
    ("[ -z ", "[ -n "),
    ("[ -n ", "[ -z "),
    ("[ -e ", "[ ! -e "),
    ("[ ! -e ", "[ -e "),
    ("if ! ", "if "),
    ("exit 1", "exit 0"),
    ("return 1", "return 0"),
)


def of_shell(file: str, text: str) -> Iterator[Mutant]:
    """A line left out, a test turned, a `sync` or `|| return` left out: whatever is still a script."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        for what, instead in _instead(line):
            changed = "\n".join([*lines[:number], *instead, *lines[number + 1 :]])
            if changed != text and _valid(changed):
                yield Mutant(file, f"line {number + 1}: {what}: {line.strip()[:90]}", changed)


def _instead(line: str) -> Iterator[tuple[str, list[str]]]:
    code = line.strip()
    if not code or code.startswith("#") or re.fullmatch(r"[\w]+\(\) [({].*|[)}]|fi|done|esac|else|then|;;", code):
        return
    if not re.search(r"\b(then|do|in|case)$", code):
        yield "left out", [":"]
    for one, other in _TURNED:
        if one in line:
            yield f"{one.strip()} to {other.strip()}", [line.replace(one, other, 1)]


def _valid(script: str) -> bool:
    return subprocess.run(["sh", "-n"], input=script.encode(), capture_output=True, check=False).returncode == 0
