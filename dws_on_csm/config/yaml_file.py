"""A site file as it stands: its YAML, read with places, and the error that tells everything that is wrong with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dws_on_csm.config.schema import Problem, Walk


class SiteError(Exception):
    """A site file that can't be used: all its problems, in the file's order."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self._line(problem) for problem in self.problems)

    def _line(self, problem: Problem) -> str:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        return f"{shown(self.path)}{place}: {f'{problem.key}: ' if problem.key else ''}{problem.text}"


@dataclass(frozen=True)
class Content:
    """What a file says: every key of the schema, missing ones with their default, None where there is none.

    problems    what is wrong; the values of those keys are None
    places      key -> (line, column) of every value that the file has
    """

    data: dict[str, Any]
    problems: tuple[Problem, ...]
    places: Mapping[str, tuple[int, int]]

    def problem(self, key: str, text: str) -> Problem:
        """A further problem with `key`: where the file has it, or else what it belongs to."""
        place = key
        while place and place not in self.places:
            place = re.sub(r"(\.[^.]*|\[\d+\]|^[^.\[]*)$", "", place)
        return Problem(*self.places[place], key, text)


def read(path: Path, schema: Path, option: str = "--hosts") -> Content:
    """The file's content by this schema, problems included. SiteError where there is no YAML to read.

    `option` is how whoever reads it is told of another file.
    """
    rules: dict[str, Any] = json.loads(schema.read_text())
    walk = Walk(rules)
    data = walk.value(_compose(path, option) or _nothing(), rules, "")
    return Content(data or {}, tuple(sorted(set(walk.problems))), walk.places)


def shown(path: Path) -> str:
    """A path as people want to read it: relative to the current folder where it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def local(path: Path, name: str) -> Path:
    """A path of this machine that the site file names, absolute: `~` is a home, others are the file's siblings."""
    return path.absolute().parent / Path(name).expanduser()


def _nothing() -> yaml.Node:
    """What stands in an empty file."""
    start = yaml.Mark("", 0, 0, 0, "", 0)
    return yaml.MappingNode("tag:yaml.org,2002:map", [], start, start)


def _compose(path: Path, option: str) -> yaml.Node | None:
    """The file's nodes, or None for an empty file. SiteError for no file and for no YAML."""
    try:
        return yaml.compose(path.read_bytes().decode(), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        text = f"no such file: begin with a copy of the project's hosts.yaml, or say {option} PATH"
        problem = Problem(0, 0, "", text)
    except OSError as error:
        problem = Problem(0, 0, "", f"{os.strerror(error.errno or 0)}: expected a file that can be read")
    except UnicodeDecodeError as error:
        before = bytes(error.object[: error.start])
        place = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        problem = Problem(*place, "", "this byte is not UTF-8: save the file in that encoding")
    except yaml.YAMLError as error:
        problem = _syntax(error)
    raise SiteError(path, (problem,))


def _syntax(error: yaml.YAMLError) -> Problem:
    """What the YAML parser says, in one line."""
    context, text = getattr(error, "context", None), getattr(error, "problem", None) or " ".join(str(error).split())
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(line, column, "", "not YAML: " + ", ".join(part for part in (context, text) if part))
