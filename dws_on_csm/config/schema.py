"""Read a YAML tree by a JSON schema: its values with the schema's defaults, and every problem in it, with its place.

hosts.schema.json, by which editors complete, is also what the loader obeys: keys, defaults and patterns exist once.
The loader knows the keywords in KEYWORDS; patterns match whole texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from dws_on_csm.config.nodeset import did_you_mean, expand, instead, is_host
from dws_on_csm.config.yaml_advice import spaced

Rule = Mapping[str, Any]
"""A part of a schema."""

KEYWORDS = frozenset(
    {"$schema", "$ref", "$defs", "title", "description", "default", "type", "oneOf", "enum", "pattern", "format"}
    | {"properties", "required", "additionalProperties", "items", "minItems", "minimum", "maximum"}
)
"""The keywords that a schema may use."""

TAG = "tag:yaml.org,2002:"
"""The prefix of the tags of YAML's own kinds."""

_KINDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "null": "null"}
"""YAML's tag -> JSON schema's type."""

_WORDS = {
    "object": "keys with values",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
"""JSON schema's type -> its name in messages."""


@dataclass(frozen=True, order=True)
class Problem:
    """A mistake at a key (`controllers[0].host`, "" for the file); line and column count from 1, 0 without a place."""

    line: int
    column: int
    key: str
    text: str


class Reader:
    """Reads one YAML tree by a schema.

    problems    the mistakes so far
    places      key -> (line, column) of every value that was read
    """

    def __init__(self, root: Rule) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.places: dict[str, tuple[int, int]] = {}

    def value(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        """The node's value, with defaults for missing keys; None, and a problem, where the rule does not allow it."""
        self.places[key] = (node.start_mark.line + 1, node.start_mark.column + 1)
        rule = self._resolved(rule)
        for branch in self._branches(rule):
            if _kind(node) in _kinds(branch):
                return self._typed(node, branch, key)
        return self._wrong(node, key, self._mismatch(node, rule))

    def defaults(self, rule: Rule) -> Any:
        """The value of a key that the file lacks: its default; for a section, the defaults of its keys; else None."""
        rule = self._resolved(rule)
        if "default" in rule or "null" not in _kinds(rule):
            return rule.get("default")
        return {name: self.defaults(part) for name, part in rule["properties"].items()}

    def _resolved(self, rule: Rule) -> Rule:
        name = rule.get("$ref", "").rpartition("/")[2]
        return {**self.root["$defs"][name], **rule} if name else rule

    def _branches(self, rule: Rule) -> list[Rule]:
        """The alternatives of a rule: at most one for each kind of node."""
        title = {"title": rule["title"]} if "title" in rule else {}
        return [{**title, **self._resolved(part)} for part in rule.get("oneOf", [rule])]

    def _wrong(self, node: yaml.Node, key: str, text: str) -> Any:
        self.problems.append(Problem(node.start_mark.line + 1, node.start_mark.column + 1, key, text))

    def _typed(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, rule, key)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, rule, key)
        if _kind(node) != "null":
            return self._scalar(node, rule, key)
        # An empty section is present: it gets the defaults of its keys, never the default of a missing section.
        return self.defaults({name: rule[name] for name in rule if name != "default" or "properties" not in rule})

    def _mapping(self, node: yaml.MappingNode, rule: Rule, key: str) -> dict[str, Any]:
        pairs, parts = self._pairs(node, key, ()), rule["properties"]
        for name in pairs.keys() - parts.keys():
            self._wrong(pairs[name][0], _member(key, name), f"unknown key{self._suggestion(name, parts)}")
        for name in set(rule.get("required", ())) - pairs.keys():
            self._wrong(node, _member(key, name), f"missing: {self._expected(parts[name])}")
        return {
            name: self.value(pairs[name][1], part, _member(key, name)) if name in pairs else self.defaults(part)
            for name, part in parts.items()
        }

    def _pairs(
        self, node: yaml.MappingNode, key: str, above: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Name -> (node of the key, node of the value), those of `<<` included; a duplicate key is a problem."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name, value in node.value:
            if name.tag == TAG + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = self._merged(part, key, (*above, node)) | merged
            elif not isinstance(name, yaml.ScalarNode):
                self._wrong(name, key, "a key must be a single word")
            elif name.value in own:
                line = own[name.value][0].start_mark.line + 1
                self._wrong(name, _member(key, name.value), f"duplicate key: line {line} already has it")
            else:
                own[name.value] = (name, value)
        return merged | own

    def _merged(
        self, node: yaml.Node, key: str, above: tuple[yaml.Node, ...]
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if isinstance(node, yaml.MappingNode) and node not in above:
            return self._pairs(node, key, above)
        self._wrong(node, _member(key, "<<"), "expected an alias of other keys with values")
        return {}

    def _list(self, node: yaml.SequenceNode, rule: Rule, key: str) -> Any:
        if len(node.value) < rule.get("minItems", 0):
            return self._wrong(node, key, "the list is empty: add at least one entry")
        return [self.value(item, rule["items"], f"{key}[{i}]") for i, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, rule: Rule, key: str) -> Any:
        try:
            value = yaml.SafeLoader("").construct_object(node)
            form = rule.get("format")
            if form in ("host", "nodeset") and isinstance(value, str) and (advice := instead(value)):
                return self._wrong(node, key, f"{self._mismatch(node, rule)}: {advice}")
            if not _allowed(value, rule) or (form == "host" and not is_host(value)):
                return self._wrong(node, key, self._mismatch(node, rule))
            if form == "nodeset":
                expand(value)
        except ValueError as error:
            return self._wrong(node, key, f"expected {self._expected(rule)}, not {_node_text(node)}: {error}")
        return value

    def _mismatch(self, node: yaml.Node, rule: Rule) -> str:
        """The message for a value that the rule does not allow; suggests quotes where these are all that is missing."""
        texts = [part for part in self._branches(rule) if "string" in _kinds(part)]
        plain = isinstance(node, yaml.ScalarNode) and _kind(node) not in ("string", "null")
        if plain and any(_allowed(node.value, part) for part in texts):
            expected = _WORDS.get(_kind(node), f"a {_kind(node)}")
            return f'expected a text, but YAML reads {node.value} as {expected}: write "{node.value}"'
        return f"expected {self._expected(rule)}, not {_node_text(node)}{self._form(node, rule)}"

    def _form(self, node: yaml.Node, rule: Rule) -> str:
        """How to write what was meant, where only a space or brackets are missing."""
        branches = {kind: part for part in self._branches(rule) for kind in _kinds(part)}
        if isinstance(node, yaml.ScalarNode) and "object" in branches and (pair := spaced(str(node.value))):
            return f": a space is missing after the colon: write `{pair}`"
        if isinstance(node, yaml.MappingNode) and "object" not in branches and node.value:
            key = spaced(str(node.value[0][0].value))
            return f": a space is missing after the dash: write `{key}`" if key else ""
        items = self._resolved(branches.get("array", {}).get("items", {}))
        if isinstance(node, yaml.ScalarNode) and node.value and "string" in _kinds(items) and "@" not in node.value:
            return f": write [{', '.join(str(node.value).replace(',', ' ').split())}]"
        return ""

    def _expected(self, rule: Rule) -> str:
        """The values that a rule allows, in words."""
        rule = self._resolved(rule)
        if "title" in rule:
            return str(rule["title"])
        if "enum" in rule:
            return ", ".join(rule["enum"][:-1]) + " or " + str(rule["enum"][-1])
        word, high = _WORDS[_kinds(rule)[0]], rule.get("maximum")
        return f"{word} from {rule['minimum']} to {high}" if high is not None else word

    def _suggestion(self, name: str, parts: Rule) -> str:
        """For an unknown key: similar known keys, and the sections that have this one."""
        sections = self.root["properties"]
        homes = [home for home, rule in sections.items() if name in rule.get("properties", ())]
        section = f"; {name} is a section: write it at the left margin" if name in sections else ""
        return did_you_mean(name, parts) + section + (f"; it belongs to {' or '.join(homes)}" if homes else "")


def _member(key: str, name: str) -> str:
    """The key `name` of the mapping `key`: `master.host`."""
    return f"{key}.{name}" if key else name


def _kind(node: yaml.Node) -> str:
    """The node's type in JSON schema; its YAML tag (`timestamp`, `!mine`) where JSON schema has no such type."""
    if isinstance(node, yaml.ScalarNode):
        tag = str(node.tag).removeprefix(TAG)
        return _KINDS.get(tag, tag)
    return "object" if isinstance(node, yaml.MappingNode) else "array"


def _kinds(rule: Rule) -> list[str]:
    """The types that a rule allows."""
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    return [*kinds, "integer"] if "number" in kinds else kinds


def _allowed(value: Any, rule: Rule) -> bool:
    """Whether the rule allows this scalar of an allowed type."""
    if isinstance(value, str):
        return value in rule.get("enum", [value]) and bool(re.fullmatch(rule.get("pattern", "(?s:.*)"), value))
    low, high = rule.get("minimum"), rule.get("maximum")
    # Each comparison must be true: for a NaN every comparison is false, so it is refused.
    return (low is None or value >= low) and (high is None or value <= high)


def _node_text(node: yaml.Node) -> str:
    """A wrong value for a message: short, and without a password in a URL."""
    if not isinstance(node, yaml.ScalarNode):
        return _WORDS[_kind(node)]
    text = "" if _kind(node) == "null" else re.sub(r"//.*@", "//***@", str(node.value))
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=False) if text else "nothing"
