"""The site file as text: its values with their places, and the error that lists all mistakes in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dws_on_csm.config.schema import Problem, Reader
from dws_on_csm.config.yaml_advice import advice


class SiteError(Exception):
    """A site file with mistakes: all its problems, in the file's order."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self._line(problem) for problem in self.problems)

    def _line(self, problem: Problem) -> str:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        return f"{relative(self.path)}{place}: {f'{problem.key}: ' if problem.key else ''}{problem.text}"


@dataclass(frozen=True)
class Content:
    """The values of a file: every key of the schema, missing keys with their default or None.

    problems    the mistakes; the values of their keys are None
    places      key -> (line, column) of every value that is in the file
    """

    data: dict[str, Any]
    problems: tuple[Problem, ...]
    places: Mapping[str, tuple[int, int]]

    def problem(self, key: str, text: str) -> Problem:
        """A further problem of `key`, at its place in the file, or at the place of its section."""
        place = key
        while place and place not in self.places:
            place = re.sub(r"(\.[^.]*|\[\d+\]|^[^.\[]*)$", "", place)
        return Problem(*self.places[place], key, text)


def read(path: Path, schema: Path, option: str = "--hosts", text: str | None = None) -> Content:
    """The file's content by this schema, problems included. SiteError for a missing file and for invalid YAML.

    option  the command's option that names another site file, for the message
    text    the content, where the file is not written yet
    """
    rules: dict[str, Any] = json.loads(schema.read_text())
    reader = Reader(rules)
    data = reader.value(_compose(path, option, text) or _empty(), rules, "")
    return Content(data or {}, tuple(sorted(set(reader.problems))), reader.places)


def relative(path: Path) -> str:
    """A path for messages: relative to the current folder if it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def local_path(path: Path, name: str) -> Path:
    """The absolute path of a local file that the site file `path` names: `~` is a home; relative to the site file's folder."""
    return path.absolute().parent / Path(name).expanduser()


def _empty() -> yaml.Node:
    """The node of an empty file."""
    start = yaml.Mark("", 0, 0, 0, "", 0)
    return yaml.MappingNode("tag:yaml.org,2002:map", [], start, start)


def _compose(path: Path, option: str, text: str | None) -> yaml.Node | None:
    """The file's root node, or None for an empty file. SiteError for a missing file and for invalid YAML."""
    try:
        content = path.read_bytes().decode() if text is None else text
        return yaml.compose(content, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        why = "no such file: run `invoke discover` to make one, start with a copy of the project's hosts.yaml, "
        problem = Problem(0, 0, "", f"{why}or pass {option} PATH")
    except OSError as error:
        problem = Problem(0, 0, "", f"{os.strerror(error.errno or 0)}: expected a readable file")
    except UnicodeDecodeError as error:
        before = bytes(error.object[: error.start])
        place = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        problem = Problem(*place, "", "this byte is not UTF-8: save the file as UTF-8")
    except yaml.YAMLError as error:
        problem = _syntax(error, content)
    raise SiteError(path, (problem,))


def _syntax(error: yaml.YAMLError, content: str) -> Problem:
    """What to write instead of what the YAML parser refuses; where that is unknown, the parser's own message, in one line."""
    context, text = getattr(error, "context", None), getattr(error, "problem", None) or " ".join(str(error).split())
    began = _place(getattr(error, "context_mark", None))
    line, column = _place(getattr(error, "problem_mark", None)) if getattr(error, "problem_mark", None) else began
    if isinstance(error, yaml.reader.ReaderError):
        before = content[: error.position]
        text = f"the character #x{ord(content[error.position]):02x} cannot be in a text file: remove it"
        return Problem(before.count("\n") + 1, len(before) - before.rfind("\n"), "", text)
    if known := advice(content, line, column, began):
        return Problem(known[0], known[1], "", known[2])
    return Problem(line, column, "", "invalid YAML: " + ", ".join(part for part in (context, text) if part))


def _place(mark: yaml.Mark | None) -> tuple[int, int]:
    """Line and column of a place in the file, from 1; zeros without one."""
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)
